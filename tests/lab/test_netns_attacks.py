"""Attempts to break labs of namespaces, or to break out of one."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from real_labs import PROJECT, images, small_plan

from lab import lifecycle
from lab.errors import Fault, LabError
from lab.ledger import LOCK, Ledger, start_time
from lab.lifecycle import State
from lab.making import unmake
from lab.plan import Plan, PlannedAdapter, PlannedHost, PlannedNetwork
from lab.providers.base import Image
from lab.providers.netns.provider import PROVIDER, _control
from provisioning.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from real_labs import LabMaker, OpenLab

pytestmark = pytest.mark.lab

#: Ups and downs of one name for a while; says what else than "somebody is faster" went wrong.
HAMMER = """
import sys, time, random
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from real_labs import images, small_plan
from lab import lifecycle
from lab.errors import LabError
root, chance = Path(sys.argv[1]), random.Random(sys.argv[2])
end = time.monotonic() + 4
while time.monotonic() < end:
    try:
        if chance.random() < 0.6:
            lifecycle.up(small_plan(), images, root=root)
        else:
            lifecycle.down("small", root)
    except LabError as error:
        expected = ("another lab-up", "taken down", "have died")
        if not any(words in error.saw for words in expected):
            print(error)
"""


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """Give a process that has nothing to do with any lab."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def test_ups_and_downs_of_one_name_at_once_never_corrupt(tmp_path: Path) -> None:
    """Whoever comes second is told so; at the end nothing is left, and the name works."""
    root = tmp_path / "state"
    images("rootfs", {"debian-base"})
    paths = [str(PROJECT), str(PROJECT / "tests")]
    hammers = [
        subprocess.Popen(
            [sys.executable, "-c", HAMMER, str(root), str(n), *paths],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for n in range(3)
    ]  # fmt: skip
    said = [hammer.communicate(timeout=60)[0] for hammer in hammers]
    lifecycle.down("small", root)
    assert said == ["", "", ""]
    assert [path.name for path in (root / "labs").iterdir()] == [".lock"]
    lifecycle.up(small_plan(), images, root=root)
    assert lifecycle.down("small", root)


@pytest.mark.parametrize("started", ["another time", "unreadable"])
def test_a_stranger_with_the_keepers_pid_is_not_killed(
    tmp_path: Path, stranger: subprocess.Popen[bytes], started: str
) -> None:
    """After a crash the pid on record may be anybody's; even a lock that is held proves nothing."""
    ledger, lock = Ledger.create(tmp_path, "small", {"plan": small_plan().to_json(secrets=True)})
    when = str(start_time(stranger.pid) - 1) if started == "another time" else "?"
    (ledger.folder / LOCK).write_text(f"{ledger.lab_id} {stranger.pid} {when}\n")
    ledger.update(state="created", keeper=stranger.pid)
    with pytest.raises(LabError, match="not the process on record"):
        PROVIDER.destroy(ledger, 0.4)
    assert stranger.poll() is None
    os.close(lock)
    assert lifecycle.status("small", tmp_path).state is State.LOST
    assert lifecycle.down("small", tmp_path)
    assert stranger.poll() is None
    assert Ledger.all_labs(tmp_path) == []


@pytest.mark.parametrize("victim", ["keeper", "parent", "supervisor"])
def test_a_stopped_process_of_a_lab_does_not_keep_it_up(labs: LabMaker, victim: str) -> None:
    """SIGSTOP is not an end, but lab-down is."""
    lab = labs.up(small_plan())
    keeper = lab.ledger.read()["keeper"]
    parent = int(Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()[0])
    supervisor = int(Path(f"/proc/{parent}/task/{parent}/children").read_text().split()[0])
    os.kill({"keeper": keeper, "parent": parent, "supervisor": supervisor}[victim], signal.SIGSTOP)
    unmake(lab.ledger)
    assert Ledger.all_labs(labs.root) == []


def test_a_supervisor_survives_what_it_does_not_understand(labs: LabMaker) -> None:
    """Nonsense on the control socket, and a down that is meant for another lab, change nothing."""
    lab = labs.up(small_plan())
    for packet in (b"[]", b"\xff", b"3", b"{}", b'{"op": "dial"}', b'{"op": ["x"], "host": []}',
                   b'{"op": "down"}', b'{"op": "down", "id": "of another"}'):  # fmt: skip
        with _control(lab.ledger) as control:
            control.send(packet)
            control.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                control.recv(4096)
    assert lifecycle.status(lab.name, labs.root).state is State.CREATED


def test_an_image_removed_meanwhile_is_said_and_leaves_nothing(
    labs: LabMaker, tmp_path: Path
) -> None:
    """The lock that is held at last may be of a file that its remover has removed."""

    def removed(form: str, wanted: set[str]) -> Mapping[str, Image]:
        return {name: Image(image.name, image.key, image.path, tmp_path / "gone.lock")
                for name, image in images(form, wanted).items()}  # fmt: skip

    with pytest.raises(LabError, match="removed a moment ago"):
        lifecycle.up(small_plan(), removed, root=labs.root)
    assert Ledger.all_labs(labs.root) == []


def test_a_state_folder_that_cannot_be_written_to_is_said(tmp_path: Path) -> None:
    """A full disk, here one of 4 KiB, leaves nothing and names IMLAB_STATE."""
    small = tmp_path / "full"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(small)], check=False
    )
    if mounted.returncode:
        pytest.skip("no right to mount a small disk")
    try:
        with pytest.raises(LabError) as caught:
            lifecycle.up(small_plan(), images, root=small)
        assert "No space left" in caught.value.saw
        assert "IMLAB_STATE" in caught.value.todo
        assert [path.name for path in (small / "labs").iterdir()] == [".lock"]
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def two_networks(**sysctls: str) -> Plan:
    """Return a plan of two networks with a host on both between a host on either."""

    def host(name: str, *addresses: str, sysctls: Mapping[str, str] | None = None) -> PlannedHost:
        adapters = tuple(
            PlannedAdapter(
                f"eth{n}", f"02:00:00:0{address[5]}:00:0{address[-1]}", "wired", "",
                f"{address}/24", f"n{address[5]}",
            )
            for n, address in enumerate(addresses)
        )  # fmt: skip
        return PlannedHost(
            name, "debian-base", "debian", 64, 256, 1, 64, None, adapters, (), "",
            dict(sysctls or {}),
        )  # fmt: skip

    networks = tuple(PlannedNetwork(f"n{n}", f"10.0.{n}.0/24") for n in (1, 2))
    middle = host("middle", "10.0.1.1", "10.0.2.1", sysctls=sysctls)
    ends = host("left", "10.0.1.2"), host("right", "10.0.2.2")
    return Plan("two", "", networks, (middle, *ends), (), ())


@pytest.mark.parametrize("forward", ["0", "1"])
def test_a_host_on_two_networks_forwards_only_when_told(labs: LabMaker, forward: str) -> None:
    """Whatever the machine does: a namespace would take the machine's setting over."""
    lab = labs.up(two_networks(**({"net.ipv4.ip_forward": "1"} if forward == "1" else {})))
    with Sessions(lab) as sessions:
        for host, net, gateway in (("left", 2, "10.0.1.1"), ("right", 1, "10.0.2.1")):
            sessions[host].run(["ip", "route", "add", f"10.0.{net}.0/24", "via", gateway])
        ping = sessions["left"].run(["ping", "-nc1", "-W1", "10.0.2.2"], check=False)
        names = ("route_localnet", "proxy_arp", "rp_filter")
        files = [f"/proc/sys/net/ipv4/conf/{scope}/{n}" for scope in ("all", "eth0") for n in names]
        settings = sessions["middle"].run(["cat", *files])
    assert ping.exit_code == (0 if forward == "1" else 1)
    assert settings.stdout.split() == [b"0"] * 6


def test_a_setting_of_an_adapter_finds_its_adapter(labs: LabMaker) -> None:
    """It is written when the adapter is there."""
    lab = labs.up(two_networks(**{"net.ipv4.conf.eth1.rp_filter": "1"}))
    with Sessions(lab, ["middle"]) as sessions:
        said = sessions["middle"].run(["cat", "/proc/sys/net/ipv4/conf/eth1/rp_filter"])
    assert said.stdout == b"1\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [("net.ipv4.ip_default_ttl", "999"), ("net.ipv4.nonesuch", "1"),
     ("net.core.bpf_jit_enable", "0")],
)  # fmt: skip
def test_a_setting_that_the_kernel_refuses_is_a_fault_of_the_spec(
    labs: LabMaker, name: str, value: str
) -> None:
    """A wrong value, a wrong name, a setting of the machine: one clear error, nothing left."""
    with pytest.raises(LabError, match=f"host middle: .*{name} = {value}") as caught:
        labs.up(two_networks(**{name: value}))
    assert caught.value.fault is Fault.SPEC
    assert Ledger.all_labs(labs.root) == []


def test_odd_adapters_come_up_and_answer(labs: LabMaker) -> None:
    """Names like those of our own bridges and ports, fifteen characters, a long model."""
    names = ("eth0", "br-eth0", "br0", "vm5", "adapter-long-00", "adapter-long-01")
    plan = two_networks()
    own = tuple(
        PlannedAdapter(name, f"02:00:00:00:01:{n:02x}", "wired", "適" * 128,
                       f"10.0.1.{10 + n}/24", "n1")
        for n, name in enumerate(names)
    )  # fmt: skip
    guest = replace(
        plan.hosts[1], name="g" * 63, on="middle",
        adapters=tuple(
            PlannedAdapter(f"e{n}", f"02:00:00:00:02:{n:02x}", "wired", "", f"10.0.1.{100 + n}/24",
                           None, name)
            for n, name in enumerate(("eth0", "adapter-long-00", "adapter-long-01"))
        ),
    )  # fmt: skip
    lab = labs.up(replace(plan, hosts=(replace(plan.hosts[0], adapters=own), plan.hosts[1], guest)))
    with Sessions(lab, ["left"]) as sessions:
        for last in (10, 14, 15, 100, 101, 102):
            sessions["left"].run(["ping", "-nc1", "-W1", f"10.0.1.{last}"])


REFUSED = """
for my $call (248, 249, 250, 321, 298, 103, 425) {
    my $room = "\\0" x 256;
    print syscall($call, 0, $room, 0, 0, 0) == -1 ? 0 + $! : "allowed", " ";
}
for my $family (1 .. 46) {
    for my $kind (1, 2, 3, 5) {
        if (socket(my $made, $family, $kind, 0)) { print "family $family "; last }
    }
}
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86-64")
def test_what_has_no_namespace_is_out_of_reach(small_lab: OpenLab) -> None:
    """Keyrings, BPF, counters, the kernel's log, io_uring; and every unconfined family."""
    said = small_lab.session("guest").run(["perl", "-e", REFUSED]).stdout.decode().split()
    assert said[:7] == ["1"] * 7
    assert said[7:] == [
        "family",
        "1",
        "family",
        "2",
        "family",
        "10",
        "family",
        "16",
        "family",
        "17",
    ]


def test_nothing_of_the_lab_is_open_in_a_host(small_lab: OpenLab) -> None:
    """The first process has its log and /dev/null; a login has its pipes; neither has a secret."""
    session = small_lab.session("host")
    listed = session.run(["sh", "-c", "ls -l /proc/1/fd | sed -n 's/.* -> //p'"]).stdout.split()
    assert listed == [b"/dev/null", b"/var/log/sshd.log", b"/var/log/sshd.log"]
    mine = session.run(["sh", "-c", "exec ls -l /proc/self/fd"]).stdout.decode()
    assert not {"socket:", "anon_inode", "/ns/"} & set(mine.split())
    environment = session.run(["cat", "/proc/1/environ"]).stdout.rstrip(b"\0").split(b"\0")
    assert {line.split(b"=")[0] for line in environment} == {b"PATH", b"HOME", b"LANG"}


def test_secrets_are_nobody_elses(labs: LabMaker) -> None:
    """Key files are 0600 in folders of 0700; no command line has a key in it."""
    before = os.umask(0)
    try:
        lab = labs.up(small_plan())
        with lifecycle.working(lab, patience=0):
            modes = {path: path.stat().st_mode & 0o777 for path in labs.root.rglob("*")}
    finally:
        os.umask(before)
    assert labs.root.stat().st_mode & 0o777 == 0o700
    assert all(mode & 0o077 == 0 for mode in modes.values()), modes
    keeper = lab.ledger.read()["keeper"]
    assert b"PRIVATE" not in Path(f"/proc/{keeper}/cmdline").read_bytes()
    assert "PRIVATE" not in (lab.ledger.folder / "keeper.log").read_text()
    assert "PRIVATE" not in repr(lab) + str(lab)


def test_hosts_are_worked_on_by_one_at_a_time(labs: LabMaker) -> None:
    """The second is told so, and may go on when the first has ended."""
    lab = labs.up(small_plan())
    with (
        lifecycle.working(lab, patience=0),
        pytest.raises(LabError, match="another lab-up or run"),
        lifecycle.working(lab, patience=0.1),
    ):
        pass
    with lifecycle.working(lab, patience=0):
        lifecycle.down(lab.name, labs.root)
    with pytest.raises(LabError, match="taken down"), lifecycle.working(lab, patience=0):
        pass


def test_what_a_killed_run_began_goes_with_the_lab(labs: LabMaker, tmp_path: Path) -> None:
    """Unless somebody still writes it, or has finished it."""
    lab = labs.up(small_plan())
    begun, written, done = (tmp_path / name for name in ("begun", "written", "done"))
    for folder in (begun, written, done):
        folder.mkdir()
        lab.ledger.expect(folder)
    lab.ledger.finished(done)
    writer = os.open(written, os.O_RDONLY)
    fcntl.flock(writer, fcntl.LOCK_EX)
    lifecycle.down(lab.name, labs.root)
    assert [folder.exists() for folder in (begun, written, done)] == [False, True, True]
    os.close(writer)


def test_a_lab_of_somebody_else_is_not_taken_for_ours(labs: LabMaker) -> None:
    """A run takes down only what this very process made."""
    lab = labs.up(small_plan())
    assert lifecycle.made_here(lab.name, labs.root)
    lab.ledger.update(maker="another process")
    assert not lifecycle.made_here(lab.name, labs.root)


def test_twenty_labs_at_once(tmp_path: Path) -> None:
    """Each is whole, whoever else is being made; --all then takes all of them down."""
    command = (
        "import sys; from pathlib import Path; sys.path[:0] = sys.argv[3:]\n"
        "from real_labs import images, small_plan\n"
        "from lab import lifecycle\n"
        "lifecycle.up(small_plan(sys.argv[2]), images, root=Path(sys.argv[1]))\n"
    )
    paths = [str(PROJECT), str(PROJECT / "tests")]
    makers = [
        subprocess.Popen([sys.executable, "-c", command, str(tmp_path), f"lab-{n}", *paths])
        for n in range(20)
    ]
    assert [maker.wait(timeout=120) for maker in makers] == [0] * 20
    assert {status.state for status in lifecycle.all_status(tmp_path)} == {State.CREATED}
    done = subprocess.run(
        [sys.executable, "-m", "invoke", "--search-root", str(PROJECT), "lab-down", "--all",
         "--json"],
        env={**os.environ, "IMLAB_STATE": str(tmp_path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert len(json.loads(done.stdout)) == 20
    assert [path.name for path in (tmp_path / "labs").iterdir()] == [".lock"]


def test_a_long_path_with_spaces_and_letters(tmp_path: Path) -> None:
    """A socket's path may have 108 bytes (unix(7)); a state folder's may have more."""
    root = tmp_path / ("a state folder " * 8) / ("δοκιμή" * 6)
    lifecycle.up(small_plan(), images, root=root)
    with socket.socket(socket.AF_UNIX), lifecycle.attach("small", root).dial("peer")(22) as sshd:
        assert sshd.recv(4) == b"SSH-"
    assert lifecycle.down("small", root)
