"""User namespaces: who gets which ids, and what happens in a mapped child."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lab import userns
from lab.errors import Fault, LabError
from lab.userns import CLONE_NEWPID, IdRange, ids_for_current_user, parse_ranges, run_mapped

PROJECT = Path(__file__).parents[2]

SUBUID = """# a comment
anna:100000:65536
1001:165536:65536
anna:900000:10
broken:x:65536
short:1
"""


def test_ranges_are_found_by_name_and_by_number() -> None:
    """subuid(5) allows a user name or a numeric id; both count, other users' do not."""
    assert parse_ranges(SUBUID, ["anna", "1000"]) == [IdRange(100000, 65536), IdRange(900000, 10)]
    assert parse_ranges(SUBUID, ["bert", "1001"]) == [IdRange(165536, 65536)]


def test_broken_lines_give_no_range() -> None:
    """A line that is not name:number:number is passed over, as shadow-utils does."""
    assert parse_ranges(SUBUID, ["broken"]) == []
    assert parse_ranges(SUBUID, ["short"]) == []


def test_the_callers_own_id_is_never_in_the_range() -> None:
    """Nothing in a lab is the user: neither uid nor gid lies in what is mapped."""
    ids = ids_for_current_user()
    for ranged, own in ((ids.uids, os.getuid()), (ids.gids, os.getgid())):
        assert not ranged.first <= own < ranged.first + ranged.count
        assert ranged.count == 65536


@pytest.mark.lab
def test_work_is_root_over_all_ids() -> None:
    """The work is uid 0 and gid 0, without other groups, and 65534 (nogroup) is mapped."""
    seen = run_mapped(
        lambda: [
            os.getresuid(),
            os.getresgid(),
            os.getgroups(),
            Path("/proc/self/uid_map").read_text().split(),
        ]
    )
    first = str(ids_for_current_user().uids.first)
    assert seen == [[0, 0, 0], [0, 0, 0], [], ["0", first, "65536"]]


@pytest.mark.lab
def test_mapped_root_is_nobody_outside(tmp_path: Path) -> None:
    """Root in the namespace may not read what the caller keeps private."""
    private = tmp_path / "private"
    private.write_text("mine")
    private.chmod(0o600)

    def read() -> str:
        try:
            return private.read_text()
        except PermissionError:
            return "refused"

    assert run_mapped(read) == "refused"


@pytest.mark.lab
def test_what_is_opened_as_the_caller_can_be_used_as_mapped_root(tmp_path: Path) -> None:
    """as_caller runs in the child with the caller's rights still."""
    private = tmp_path / "private"
    private.write_text("mine")
    private.chmod(0o600)
    opened: list[int] = []

    def read() -> str:
        return os.read(opened[0], 10).decode()

    assert (
        run_mapped(read, as_caller=lambda: opened.append(os.open(private, os.O_RDONLY))) == "mine"
    )
    assert opened == []


@pytest.mark.lab
def test_an_error_arrives_as_it_was_raised() -> None:
    """A LabError keeps its four parts on the way out of the child."""

    def fail() -> None:
        raise LabError("doing", "saw", fault=Fault.GUEST, todo="todo")

    with pytest.raises(LabError) as caught:
        run_mapped(fail)
    assert caught.value.args == ("doing", "saw", Fault.GUEST, "todo")


@pytest.mark.lab
def test_a_crash_of_the_work_is_ours_and_shows_where() -> None:
    """Any other exception is told as a fault of imlab, with its type and text."""
    with pytest.raises(LabError, match="ZeroDivisionError") as caught:
        run_mapped(lambda: 1 // 0)
    assert caught.value.fault is Fault.US


@pytest.mark.lab
def test_a_child_that_is_killed_is_told_so() -> None:
    """A work that ends without a result is an error that names its exit code."""
    with pytest.raises(LabError, match=r"ended early \(exit code -9\)"):
        run_mapped(lambda: os.kill(os.getpid(), signal.SIGKILL))


@pytest.mark.lab
def test_no_descriptor_and_no_zombie_is_left() -> None:
    """A hundred calls leave this process with what it had."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    there = children.read_text()  # a lab of another test may be up
    before = os.listdir("/proc/self/fd")  # noqa: PTH208 -- names are all that is compared
    for _ in range(100):
        run_mapped(os.getpid, namespaces=CLONE_NEWPID)
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208 -- as above
    assert children.read_text() == there


@pytest.mark.lab
@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_nothing_outlives_its_caller(tmp_path: Path, sig: signal.Signals) -> None:
    """However the caller ends, what the work had started ends too: it holds a pipe's last end."""
    program = f"""
import os, subprocess, sys
sys.path.insert(0, {str(PROJECT)!r})
from lab.userns import CLONE_NEWPID, run_mapped
held = {{}}
def work():
    process = subprocess.Popen(["sleep", "1000"], pass_fds=[1], start_new_session=True)
    os.write(1, b"started")
    process.wait()
run_mapped(work, namespaces=CLONE_NEWPID)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
    ) as caller:
        assert caller.stdout is not None
        assert os.read(caller.stdout.fileno(), 100) == b"started"
        os.kill(caller.pid, sig)
        # End of file comes when the last process with the pipe's other end has gone.
        assert select.select([caller.stdout], [], [], 5)[0], "something outlived the caller"
        assert os.read(caller.stdout.fileno(), 100) == b""


def test_without_a_range_the_command_that_gives_one_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An ordinary user without subordinate ids is told the usermod line."""
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    monkeypatch.setattr(userns, "ETC", tmp_path)
    with pytest.raises(LabError, match="no range of 65536 ids") as caught:
        ids_for_current_user()
    assert "usermod --add-subuids" in caught.value.todo
    (tmp_path / "subuid").write_text("54321:200000:65536\n")
    (tmp_path / "subgid").write_text("54321:300000:65536\n")
    assert ids_for_current_user() == userns.Ids(IdRange(200000), IdRange(300000), privileged=False)
