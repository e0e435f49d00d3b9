"""What a student does as root of a lab host stays in that lab, and takes no more than its share.

Each attack is bounded in time and count; it works on a lab of the test's own, beside another one.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import simulated

from commands import classroom
from commands.classes import Class
from lab import lifecycle, limits
from lab.errors import LabError
from lab.ledger import Ledger
from provisioning.sessions import Sessions
from teaching import exercise
from teaching.roster import Student

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.lab, pytest.mark.slow]
EVE, BEN = Student("eve", "Eve"), Student("ben", "Ben")
#: Ends by itself after 8 s, whatever becomes of the shell that began it.
BOMB = "for i in $(seq 400); do (sleep 8) & done 2>/dev/null; wait"
needs_groups = pytest.mark.skipif(
    not any("memory" in path for path in limits.groups_for("probe")),
    reason="no control groups of memory can be made here: nothing bounds a lab's memory",
)


@pytest.fixture
def klass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Class]:
    """Give a class of two with their labs up."""
    monkeypatch.setenv("IMLAB_STATE", str(tmp_path / "state"))
    (tmp_path / "course").mkdir(mode=0o700)
    made = Class((EVE, BEN), exercise.find("1"), simulated.COURSE, tmp_path / "course")
    try:
        for student in made.students:
            classroom.bring_up(made, student)
        yield made
    finally:
        classroom.down_all(made, [], keep=False)


def groups(state: Path) -> list[str]:
    """Return the control groups of eve's lab."""
    return list(Ledger.find(state, "1-eve").read().get("groups", []))


@pytest.mark.usefixtures("klass")
def test_a_fork_bomb_stops_at_its_host() -> None:
    """It gets its host's 160 processes; that lab's other hosts and the other lab still log in."""
    lab = lifecycle.attach("1-eve")
    with Sessions(lab) as at:
        with at["guest"].stream(["/bin/sh", "-c", BOMB]) as bomb:
            seen = 0
            for _ in range(200):
                seen = max(seen, hosts_of("1-eve")["guest"]["processes"])
                if seen >= classroom.PROCESSES - 5:
                    break
            assert classroom.PROCESSES - 5 <= seen <= classroom.PROCESSES
            with Sessions(lab, ["peer", "host"]) as others:
                assert others["peer"].run(["id", "-u"]).stdout == b"0\n"
            with Sessions(lifecycle.attach("1-ben")) as neighbours:
                assert neighbours["guest"].run(["id", "-u"]).stdout == b"0\n"
            bomb.close()
        with contextlib.suppress(LabError):  # full, it may refuse even that
            at["guest"].run(["id"], check=False)


def hosts_of(name: str) -> dict[str, dict[str, int]]:
    """Return what each host of a lab uses."""
    from lab.ledger import state_root
    from lab.providers.netns.provider import PROVIDER

    return PROVIDER.usage(Ledger.find(state_root(), name))


@pytest.mark.usefixtures("klass")
def test_limits_cannot_be_raised_from_inside() -> None:
    """Root of a host raises no limit, writes to no control group, and makes few namespaces."""
    with Sessions(lifecycle.attach("1-eve"), ["guest"]) as at:
        shell = at["guest"]
        many = (
            "n=0; while [ $n -lt 100 ] && unshare -u true 2>/dev/null; do n=$((n+1)); done; echo $n"
        )
        held = (
            "n=0; pids=; for i in $(seq 90); do"
            " pid=$(unshare -n sh -c 'sleep 60 >/dev/null 2>&1 & echo $!' 2>/dev/null)"
            ' && n=$((n+1)) && pids="$pids $pid"; done; kill $pids; echo $n'
        )
        # One after the other is free. Of the kind "uts": those of the kind "net" are given back by
        # the kernel some time after their end, and a hundred quick ones are more than it allows.
        assert shell.run(["/bin/sh", "-c", many]).stdout == b"100\n"
        assert 0 < int(shell.run(["/bin/sh", "-c", held]).stdout) <= 64
        for command in (
            "prlimit --pid $$ --nproc=100000:100000",
            "echo 100000 > /sys/fs/cgroup/pids/pids.max",
            "mount -t cgroup -o pids none /mnt",
            "mount -t cgroup2 none /mnt && echo 1 > /mnt/cgroup.procs",
            "echo 100000 > /proc/sys/kernel/threads-max",
        ):
            done = shell.run(["/bin/sh", "-c", command], check=False)
            assert done.exit_code != 0, command


@pytest.mark.usefixtures("klass")
def test_a_full_disk_is_full_for_its_host_alone() -> None:
    """Its file system ends at what the spec says, and the next host writes on."""
    with Sessions(lifecycle.attach("1-eve")) as at:
        fill = ["/bin/sh", "-c", "head -c 200000000 /dev/zero > /root/full; stat -c %s /root/full"]
        done = at["guest"].run(fill, check=False)
        assert b"No space left" in done.stderr
        assert int(done.stdout) <= 64 << 20
        at["peer"].run(["/bin/sh", "-c", "echo here > /root/x"])
    with Sessions(lifecycle.attach("1-ben")) as at:
        at["guest"].run(["/bin/sh", "-c", "head -c 10000000 /dev/zero > /root/x"])


@needs_groups
def test_memory_ends_with_the_labs_share(klass: Class, tmp_path: Path) -> None:
    """File systems in memory and processes that eat it are stopped at the lab's limit."""
    share = classroom.share_of(exercise.assign(klass.exercise, EVE, klass.course))
    with contextlib.suppress(LabError), Sessions(lifecycle.attach("1-eve"), ["guest"]) as at:
        at["guest"].run(
            ["/bin/sh", "-c", ("head -c 62000000 /dev/zero > /root/a; head -c 60000000 /dev/zero >"
             " /dev/shm/a; head -c 400000000 /dev/zero | tail -c 400000000 > /dev/null")],
            check=False, deadline=60,
        )  # fmt: skip
    for path in groups(tmp_path / "state"):
        for name in ("memory.max_usage_in_bytes", "memory.peak"):
            if (Path(path) / name).exists():
                assert int((Path(path) / name).read_text()) <= share.memory_mib << 20
    with Sessions(lifecycle.attach("1-ben")) as at:
        assert at["guest"].run(["id", "-u"]).stdout == b"0\n"


@pytest.mark.usefixtures("klass")
def test_one_host_is_nobody_in_another() -> None:
    """Hosts of a lab are in user namespaces of their own, with control over themselves alone."""
    with Sessions(lifecycle.attach("1-eve")) as at:
        spaces = {
            host: at[host].run(["readlink", "/proc/self/ns/user"]).stdout
            for host in ("host", "guest", "peer")
        }
        assert len(set(spaces.values())) == 3
    with Sessions(lifecycle.attach("1-ben")) as at:
        other = at["guest"].run(["readlink", "/proc/self/ns/user"]).stdout
    assert other not in spaces.values()


@pytest.mark.usefixtures("klass")
def test_control_groups_go_with_the_lab(tmp_path: Path) -> None:
    """Also when its keeper is killed: lab-down removes what is left."""
    made = groups(tmp_path / "state")
    assert all(Path(path).is_dir() for path in made)
    keeper = Ledger.find(tmp_path / "state", "1-eve").keeper()
    assert keeper is not None
    import os
    import signal

    os.kill(keeper[0], signal.SIGKILL)
    lifecycle.down("1-eve")
    assert not [path for path in made if Path(path).exists()]
