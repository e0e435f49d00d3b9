"""What a lab may take of the machine, for labs of people who do not know each other.

Plain data and control groups as files. Only the standard library: keeper processes import this.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import NamedTuple

_MIB = 1 << 20
_PERIOD_US = 100_000
WORDS = ("memory", "pids", "cpu")


class Share(NamedTuple):
    """A lab's share of the machine.

    memory_mib -- of the whole lab, with what its hosts have written: their disks are in memory.
    processes  -- of each host; threads count.
    cpus       -- processors' worth of time.
    """

    memory_mib: int
    processes: int
    cpus: float = 1.0


def groups_for(name: str, proc: Path = Path("/proc/self")) -> list[str]:
    """Return the folders of control groups that a lab of that name can have here; [] if none.

    Below the groups that this process is in (v1), so that a lab stays within what holds for who
    put it up; with v2 below a group of our own at the top, since a group with processes in it can
    have no others below (cgroups(7), "no internal processes").
    """
    mounts = [line.split() for line in (proc / "mounts").read_text().splitlines()]
    own = [line.split(":", 2) for line in (proc / "cgroup").read_text().splitlines()]
    found = []
    for _, controllers, path in own:
        words = set(controllers.split(",")) & set(WORDS)
        if controllers == "":
            point = next((Path(m[1]) for m in mounts if m[2] == "cgroup2"), None)
            words = _second_version(point) if point else set()
            if words and point:
                found.append(str(point / "imlab" / name))
            continue
        where = [Path(m[1]) for m in mounts if m[2] == "cgroup" and words & set(m[3].split(","))]
        if words and where and os.access(folder := Path(f"{where[0]}{path}"), os.W_OK):
            found.append(str(folder / name))
    return found


def _second_version(point: Path) -> set[str]:
    """Return which of the controllers a v2 hierarchy would give us."""
    with contextlib.suppress(OSError):
        there = set((point / "cgroup.controllers").read_text().split()) & set(WORDS)
        if "memory" in there and os.access(point / "cgroup.subtree_control", os.W_OK):
            return there
    return set()


def make(folders: list[str], share: Share) -> None:
    """Make the control groups of a lab and set their limits. Raises OSError."""
    for path in map(Path, folders):
        if path.parent.name == "imlab":
            path.parent.mkdir(exist_ok=True)
            enable = " ".join(f"+{word}" for word in sorted(_second_version(path.parent.parent)))
            for above in (path.parent.parent, path.parent):
                (above / "cgroup.subtree_control").write_text(enable)
        path.mkdir()
        quota = round(share.cpus * _PERIOD_US)
        for name, value in (
            ("memory.limit_in_bytes", share.memory_mib * _MIB),
            ("memory.max", share.memory_mib * _MIB),
            ("memory.swap.max", 0),
            ("pids.max", share.processes * 4),  # all hosts; each has its own limit besides
            ("cpu.cfs_quota_us", quota),
            ("cpu.max", f"{quota} {_PERIOD_US}"),
        ):
            if (path / name).exists():
                (path / name).write_text(str(value))


def enter(folders: list[str]) -> None:
    """Move the calling process into the groups; its children will be in them. Raises OSError."""
    for path in map(Path, folders):
        (path / "cgroup.procs").write_text("0")


def remove(folders: list[str], patience: float = 5.0) -> None:
    """Remove the groups, once the processes that were killed have gone; safe to repeat."""
    end = time.monotonic() + patience
    for path in map(Path, folders):
        while path.exists():
            try:
                path.rmdir()
            except OSError:
                if time.monotonic() > end:
                    break
                time.sleep(0.005)


def used(folders: list[str]) -> dict[str, int]:
    """Return what a lab uses by its groups: "memory" in bytes, "processes"; {} without groups."""
    seen = {}
    for path in map(Path, folders):
        for word, names in (
            ("memory", ("memory.usage_in_bytes", "memory.current")),
            ("processes", ("pids.current",)),
        ):
            for name in names:
                with contextlib.suppress(OSError, ValueError):
                    seen[word] = int((path / name).read_text())
    return seen
