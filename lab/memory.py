"""How much memory the machine has, as its kernel says (proc_meminfo(5))."""

from __future__ import annotations

from pathlib import Path


def figures() -> dict[str, int]:
    """Return the figures of /proc/meminfo in bytes: MemTotal, MemAvailable and the others."""
    rows = {}
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        name, _, rest = line.partition(":")
        rows[name] = int(rest.split()[0]) << 10
    return rows


def available() -> int:
    """Return how many bytes can be had without swapping."""
    return figures()["MemAvailable"]
