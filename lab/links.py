"""Conditions of a link, as declared and as measured: whether one is what the other says.

A declaration has any of rate_mbit (Mbit/s), loss_percent and delay_ms; each holds in either
direction of the cable for itself.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

RATE_SHARE: Final = 0.1  # a rate holds within 10 %
DELAY_SHARE, DELAY_MS = 0.1, 3.0  # a delay within 10 % and what a busy machine adds
DEVIATIONS: Final = 4.5  # a loss, within so many of its standard deviations …
LOSS_FRAMES: Final = 3  # … and so many frames


def departures(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return where what was measured is not what was declared, a sentence each."""
    return [
        f"{row['host']}/{row['adapter']} {direction}: {fault}"
        for row in rows
        for direction in ("sending", "receiving")
        for fault in _of(row["declared"], row[direction])
    ]


def _of(declared: Mapping[str, float], found: Mapping[str, float | None]) -> list[str]:
    faults = []
    wanted, seen = declared.get("rate_mbit"), found["rate_mbit"]
    if wanted is not None and (seen is None or abs(seen - wanted) > RATE_SHARE * wanted):
        faults.append(f"{_told(seen, 'Mbit/s')} instead of {wanted:g} Mbit/s")
    wanted, seen = declared.get("delay_ms"), found["delay_ms"]
    if wanted is not None:
        room = DELAY_SHARE * wanted + DELAY_MS
        if seen is None or not wanted - 0.1 <= seen <= wanted + room:
            faults.append(f"a delay of {_told(seen, 'ms')} instead of {wanted:g} ms")
    wanted, seen, frames = declared.get("loss_percent"), found["loss_percent"], found["loss_frames"]
    if wanted is not None and frames:
        part = wanted / 100
        room = 100 * (DEVIATIONS * math.sqrt(part * (1 - part) / frames) + LOSS_FRAMES / frames)
        if seen is None or abs(seen - wanted) > room:
            faults.append(f"{_told(seen, '%')} lost instead of {wanted:g} %")
    return faults


def _told(value: float | None, unit: str) -> str:
    return "nothing measured" if value is None else f"{value:g} {unit}"


def told(row: Mapping[str, Any]) -> str:
    """Return in words what a link does: what was measured, both ways."""
    parts = []
    for key, unit in (("rate_mbit", "Mbit/s"), ("delay_ms", "ms"), ("loss_percent", "% lost")):
        if key in row["declared"]:
            both = " / ".join(
                "–" if row[way][key] is None else f"{row[way][key]:.3g}"
                for way in ("sending", "receiving")
            )
            parts.append(f"{both} {unit}")
    return f"{row['adapter']} measured {', '.join(parts)} (sending / receiving)"
