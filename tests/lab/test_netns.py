"""Labs of namespaces, for real."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from real_labs import images, small_plan

from lab import lifecycle
from lab.errors import LabError
from lab.ledger import Ledger
from lab.lifecycle import State
from lab.userns import ids_for_current_user
from provisioning.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import Callable

    from real_labs import LabMaker, OpenLab

pytestmark = pytest.mark.lab

VSOCK = 'socket(S, 40, 1, 0) and die "made one\\n"; print 0 + $!, "\\n"'
IO_URING = 'my $p = "\\0" x 256; print syscall(425, 1, $p), " ", 0 + $!, "\\n"'
EAFNOSUPPORT, EPERM = 97, 1


def out(lab: OpenLab, host: str, *argv: str) -> str:
    """Return what a command printed on a host."""
    return lab.session(host).run(argv).stdout.decode()


def until(condition: Callable[[], bool], deadline: float = 30.0) -> None:
    """Wait until something holds, or fail."""
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end, "did not come true in time"
        time.sleep(0.01)


@pytest.mark.parametrize("source", ["host", "guest", "peer"])
@pytest.mark.parametrize(("address", "ttl"), [(30, 128), (10, 128), (20, 64)])
def test_every_host_reaches_every_host(
    small_lab: OpenLab, source: str, address: int, ttl: int
) -> None:
    """Replies come with the TTL of Figure 7."""
    said = out(small_lab, source, "ping", "-nc", "1", "-W", "2", f"192.168.1.{address}")
    assert f"ttl={ttl}" in said


def test_the_hosts_wired_adapter_sees_the_guests_frames(small_lab: OpenLab) -> None:
    """The hypervisor's adapter is where an observer of the guest can stand."""
    stream = small_lab.session("host").stream(
        ["/bin/sh", "-c", "exec tcpdump -lni eth0 -c 1 'icmp and src 192.168.1.10'"]
    )
    assert b"listening" in stream.stderr.readline() + stream.stderr.readline()
    assert "1 received" in out(small_lab, "guest", "ping", "-nc", "1", "192.168.1.20")
    assert b"192.168.1.10 > 192.168.1.20: ICMP echo request" in stream.stdout.readline()


@pytest.mark.parametrize("host", ["host", "guest", "peer"])
def test_there_is_no_route_out(small_lab: OpenLab, host: str) -> None:
    """A host knows its own network only, and the kernel refuses to look further."""
    routes = out(small_lab, host, "ip", "-json", "route", "show", "table", "all")
    destinations = {row["dst"] for row in json.loads(routes) if row.get("type") != "broadcast"}
    assert all(dst.startswith(("192.168.1.", "127.")) for dst in destinations), destinations
    refused = small_lab.session(host).run(["ip", "route", "get", "192.0.2.1"], check=False)
    assert b"unreachable" in refused.stderr


def test_the_labs_own_namespace_has_switches_and_nothing_else(small_lab: OpenLab) -> None:
    """No cable leads from the switches to the machine."""
    keeper = small_lab.lab.ledger.read()["keeper"]
    parent = int(Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()[0])
    supervisor = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()[0]
    links = Path(f"/proc/{supervisor}/net/dev").read_text().splitlines()[2:]
    names = {line.split(":")[0].strip() for line in links}
    assert names == {"lo", "sw0", "p0", "p2"}
    assert Path(f"/proc/{supervisor}/net/route").read_text().splitlines()[1:] == []


def test_vsock_and_io_uring_are_refused(small_lab: OpenLab) -> None:
    """Neither a socket to the hypervisor nor the way round the filter can be had."""
    assert out(small_lab, "guest", "perl", "-e", VSOCK) == f"{EAFNOSUPPORT}\n"
    assert out(small_lab, "guest", "perl", "-e", IO_URING) == f"-1 {EPERM}\n"


def test_root_in_a_lab_host_is_nobody_outside(small_lab: OpenLab) -> None:
    """Every process of a lab runs under an id of the lab's own range."""
    keeper = small_lab.lab.ledger.read()["keeper"]
    parent = int(Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()[0])
    supervisor = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()[0]
    hosts = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    first = ids_for_current_user().uids.first
    owners = {Path(f"/proc/{pid}").stat().st_uid for pid in (str(parent), supervisor, *hosts)}
    assert len(hosts) == 3
    assert owners == {first}
    refused = small_lab.session("guest").run(["mknod", "/tmp/disk", "b", "254", "0"], check=False)
    assert b"Operation not permitted" in refused.stderr


def test_hosts_do_not_see_each_other_or_the_machine(small_lab: OpenLab) -> None:
    """Processes, host names and files are a host's own."""
    assert out(small_lab, "guest", "hostname") == "guest\n"
    commands = out(small_lab, "guest", "ps", "-eo", "comm=").split()
    assert commands[0] == "tini"
    assert set(commands) <= {"tini", "sshd", "ps", "sh", "tcpdump"}
    out(small_lab, "guest", "touch", "/root/mine")
    gone = small_lab.session("peer").run(["test", "-e", "/root/mine"], check=False)
    assert gone.exit_code == 1
    mounts = out(small_lab, "guest", "cat", "/proc/mounts")
    assert " /oldroot" not in mounts
    assert mounts.splitlines()[0].startswith("overlay / overlay")


def test_the_wire_shows_real_checksums_and_frames(small_lab: OpenLab) -> None:
    """Segmentation and checksum offloads are off on every adapter."""
    said = out(small_lab, "peer", "ethtool", "-k", "eth0")
    for feature in ("tx-checksumming", "tx-tcp-segmentation", "generic-segmentation-offload"):
        assert f"{feature}: off" in said


def test_labs_of_the_same_addresses_run_side_by_side(labs: LabMaker) -> None:
    """Two labs, the same plan but for the name, and neither hears the other."""
    first, second = labs.up(small_plan("first")), labs.up(small_plan("second"))
    with Sessions(first, ["peer"]) as one, Sessions(second, ["peer"]) as two:
        one["peer"].run(["ip", "link", "set", "eth0", "down"])
        assert two["peer"].run(["ping", "-nc", "1", "192.168.1.10"]).exit_code == 0
    assert {status.name for status in lifecycle.all_status(labs.root)} == {"first", "second"}


def test_up_twice_is_safe_and_says_so(labs: LabMaker) -> None:
    """The second time gives the same lab and makes nothing."""
    lab = labs.up(small_plan())
    again, new = lifecycle.up(small_plan(), images, root=labs.root)
    assert not new
    assert again.hosts == lab.hosts


def test_up_with_another_plan_is_refused_and_down_needs_no_plan(labs: LabMaker) -> None:
    """A spec that was edited meanwhile changes nothing about the lab that is up."""
    lab = labs.up(small_plan())
    with pytest.raises(LabError, match="another spec"):
        lifecycle.up(small_plan(extra=1), images, root=labs.root)
    other = tuple(replace(host, image="debian-lamp") for host in lab.plan.hosts)
    with pytest.raises(LabError, match="on images debian-base; wanted are debian-lamp"):
        lifecycle.up(replace(lab.plan, hosts=other), images, root=labs.root)
    assert lifecycle.down(lab.name, labs.root)
    assert not lifecycle.down(lab.name, labs.root)


def test_a_lab_of_which_a_host_died_is_degraded_and_goes_down(labs: LabMaker) -> None:
    """status tells who died and why; up refuses; down works."""
    lab = labs.up(small_plan())
    with Sessions(lab, ["peer"]) as sessions, contextlib.suppress(LabError):
        sessions["peer"].run(["pkill", "-o", "-x", "sshd"])  # the branch we sit on
    until(lambda: lifecycle.status(lab.name, labs.root).state is State.DEGRADED)
    hosts = lifecycle.status(lab.name, labs.root).hosts
    assert hosts["guest"] is None
    assert "ended" in (hosts["peer"] or "")
    with pytest.raises(LabError, match="have died"):
        lifecycle.up(small_plan(), images, root=labs.root)
    lifecycle.down(lab.name, labs.root)
    assert lifecycle.status(lab.name, labs.root).state is State.ABSENT


@pytest.mark.parametrize("victim", ["keeper", "parent", "supervisor"])
def test_killing_any_of_a_labs_own_processes_ends_all_of_it(labs: LabMaker, victim: str) -> None:
    """The chain of deaths leaves no process; what is left on disk lab-down removes."""
    lab = labs.up(small_plan())
    keeper = lab.ledger.read()["keeper"]
    parent = int(Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()[0])
    supervisor = int(Path(f"/proc/{parent}/task/{parent}/children").read_text().split()[0])
    hosts = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    os.kill({"keeper": keeper, "parent": parent, "supervisor": supervisor}[victim], signal.SIGKILL)
    for pid in (parent, supervisor, *map(int, hosts)):
        until(lambda pid=pid: _ended(pid))
    state = lifecycle.status(lab.name, labs.root).state
    assert state in ({State.LOST} if victim == "keeper" else {State.ABSENT, State.LOST})
    lifecycle.down(lab.name, labs.root)
    assert Ledger.all_labs(labs.root) == []


def test_a_lab_outlives_the_terminal(labs: LabMaker) -> None:
    """The keeper has a session of its own and ignores a hang-up."""
    lab = labs.up(small_plan())
    keeper = lab.ledger.read()["keeper"]
    assert os.getsid(keeper) == keeper
    os.kill(keeper, signal.SIGHUP)
    os.kill(keeper, signal.SIGINT)
    assert lifecycle.status(lab.name, labs.root).state is State.CREATED


def test_a_missing_image_leaves_nothing(labs: LabMaker, tmp_path: Path) -> None:
    """What cannot be made is refused whole, with the cause."""

    def nowhere(form: str, wanted: set[str]):  # noqa: ANN202 - as images()
        found = images(form, wanted)
        return {name: type(image)(name, "0", tmp_path / "none", image.lock)
                for name, image in found.items()}  # fmt: skip

    with pytest.raises(LabError, match="No such file"):
        lifecycle.up(small_plan(), nowhere, root=labs.root)
    assert Ledger.all_labs(labs.root) == []


def test_a_hundred_hosts(labs: LabMaker) -> None:
    """A hundred hosts are up, wired and answering SSH."""
    lab = labs.up(small_plan("hundred", extra=97))
    assert len(lab.hosts) == 100
    with Sessions(lab, ["h96"]) as sessions:
        assert sessions["h96"].run(["ping", "-nc", "1", "192.168.1.10"]).exit_code == 0


@pytest.mark.slow
def test_fifty_kills_of_lab_up_at_random_leave_nothing(tmp_path: Path) -> None:
    """kill -9 at any moment: before the commit nothing is there, after it a lab that goes down."""
    script = Path(__file__).with_name("kill_lab_up.py")
    done = subprocess.run(
        [os.sys.executable, str(script), str(tmp_path), "50"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["kills"] == 50
    assert result["left"] == []
    assert result["before_commit"] > 0
    assert result["after_commit"] > 0


def _ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
