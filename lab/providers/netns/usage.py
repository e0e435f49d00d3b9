"""What the hosts of a lab use, as seen from the lab's first process.

Memory is the proportional share (PSS): a page that ten processes of ten labs have in common counts
a tenth in each. What a host has written lies in memory too, and counts as disk.
"""

from __future__ import annotations

import contextlib
import os


def of_hosts(first: dict[int, str]) -> dict[str, dict[str, int]]:
    """Return processes, memory and disk (bytes) by host; first: pids of their first processes."""
    spaces = {}
    found = {name: {"processes": 0, "memory": 0, "disk": 0} for name in first.values()}
    for pid, name in first.items():
        with contextlib.suppress(OSError):
            spaces[os.stat(f"/proc/{pid}/ns/uts").st_ino] = name
            seen = os.statvfs(f"/proc/{pid}/root/")
            found[name]["disk"] = (seen.f_blocks - seen.f_bfree) * seen.f_frsize
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError, KeyError, ValueError):
            row = found[spaces[os.stat(f"/proc/{entry}/ns/uts").st_ino]]
            row["processes"] += 1
            row["memory"] += _pss(entry)
    return found


def _pss(pid: str) -> int:
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as stream:
        for line in stream:
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    return 0
