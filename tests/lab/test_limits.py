"""Where a lab's control groups would be, and what is written into them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab import limits

if TYPE_CHECKING:
    from pathlib import Path


def proc(folder: Path, mounts: str, cgroup: str) -> Path:
    """Return a folder that tells of a machine as /proc/self does."""
    made = folder / "proc"
    made.mkdir()
    (made / "mounts").write_text(mounts)
    (made / "cgroup").write_text(cgroup)
    return made


def test_groups_of_the_first_version_are_below_our_own(tmp_path: Path) -> None:
    """Each hierarchy that bounds something, below the group that this process is in."""
    for name in ("memory/mine", "pids", "freezer"):
        (tmp_path / name).mkdir(parents=True)
    mounts = "".join(f"cgroup {tmp_path}/{w} cgroup rw,{w} 0 0\n" for w in ("memory", "pids"))
    seen = proc(tmp_path, mounts, "3:pids:/\n2:memory:/mine\n1:freezer:/\n")
    assert limits.groups_for("lab", seen) == [
        f"{tmp_path}/pids/lab",
        f"{tmp_path}/memory/mine/lab",
    ]


def test_a_group_of_the_second_version_is_at_the_top(tmp_path: Path) -> None:
    """With controllers there; the way down to it has them enabled before limits are set."""
    top = tmp_path / "unified"
    top.mkdir()
    (top / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    (top / "cgroup.subtree_control").write_text("")
    seen = proc(tmp_path, f"cgroup2 {top} cgroup2 rw 0 0\n", "0::/user.slice/session-1.scope\n")
    folders = limits.groups_for("lab", seen)
    assert folders == [f"{top}/imlab/lab"]
    limits.make(folders, limits.Share(100, 50))
    for above in (top, top / "imlab"):
        assert (above / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    limits.remove(folders)
    assert not (top / "imlab" / "lab").exists()


def test_without_controllers_there_are_no_groups(tmp_path: Path) -> None:
    """A hierarchy that bounds nothing, or that is not ours to write to, is none."""
    top = tmp_path / "unified"
    top.mkdir()
    (top / "cgroup.controllers").write_text("hugetlb\n")
    (top / "cgroup.subtree_control").write_text("")
    seen = proc(tmp_path, f"cgroup2 {top} cgroup2 rw 0 0\n", "0::/\n")
    assert limits.groups_for("lab", seen) == []
