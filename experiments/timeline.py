"""A timeline: how much went over the wire when, and what was read at which moment.

Pure layout in the units of the picture: bars of a histogram, and marks on the time axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

WIDTH: Final = 1000
HEIGHT: Final = 120
BARS: Final = 125


@dataclass(frozen=True, slots=True)
class Bar:
    """A part of the time: where it is drawn, and what it held."""

    x: float
    y: float
    width: float
    height: float
    packets: int


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that was read: kind, what is told of it, and the frame it leads to."""

    x: float
    kind: str
    text: str
    frame: int


@dataclass(frozen=True, slots=True)
class Timeline:
    """A picture. seconds: what it spans; highest: the packets of the highest bar."""

    bars: tuple[Bar, ...]
    marks: tuple[Mark, ...]
    seconds: float
    each: float
    highest: int


def counts(seconds: float) -> tuple[NDArray[np.int64], float]:
    """Return an empty histogram over so many seconds, and what one bar spans."""
    return np.zeros(BARS, np.int64), max(seconds, 1e-6) / BARS


def add(histogram: NDArray[np.int64], each: float, times: NDArray[np.float64]) -> None:
    """Count times (s since the earliest packet)."""
    places = np.clip((times / each).astype(np.int64), 0, BARS - 1)
    histogram += np.bincount(places, minlength=BARS)


def draw(
    histogram: NDArray[np.int64],
    each: float,
    marks: Iterable[tuple[float, str, str, int]],
) -> Timeline:
    """Return the picture; marks are (s since the earliest packet, kind, text, frame)."""
    highest = int(histogram.max())
    step = WIDTH / BARS
    bars = tuple(
        Bar(
            round(index * step, 2),
            round(HEIGHT - _height(packets, highest), 2),
            round(step - 1, 2),
            round(_height(packets, highest), 2),
            packets,
        )
        for index, packets in enumerate(histogram.tolist())
        if packets
    )
    seconds = each * BARS
    placed = [
        Mark(round(min(max(when / seconds, 0), 1) * WIDTH, 2), kind, text, frame)
        for when, kind, text, frame in marks
    ]
    return Timeline(bars, tuple(placed), seconds, each, highest)


def of_rows(rows: list[list[Any]], marks: Iterable[tuple[int, str, str]]) -> Timeline | None:
    """Return the timeline of a packet list; marks are (frame, kind, text). None for no packets."""
    if not rows:
        return None
    times = np.array([row[1] for row in rows], np.float64)
    first = float(times.min())
    histogram, each = counts(float(times.max()) - first)
    add(histogram, each, times - first)
    placed = [
        (float(times[frame - 1]) - first, kind, text, frame)
        for frame, kind, text in marks
        if 0 < frame <= len(times)
    ]
    return draw(histogram, each, placed)


def _height(packets: int, highest: int) -> float:
    """Return a bar's height: the square root keeps the small ones visible."""
    return max(float(np.sqrt(packets / highest)) * (HEIGHT - 2), 1.5)
