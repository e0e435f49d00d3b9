"""A plot a measure: the levels of a factor from left to right, medians, intervals, single runs.

Pure layout in the units of the picture, as drawing.py: no markup.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

WIDTH: Final = 360
HEIGHT: Final = 200
LEFT: Final = 56
RIGHT: Final = 12
TOP: Final = 12
BOTTOM: Final = 34
TICKS: Final = 4
JITTER: Final = 7.0  # how far apart single runs of a level are drawn
SMALLEST: Final = 1e-12
_NICE: Final = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True, slots=True)
class Tick:
    """A line of the scale: where, and what it stands for."""

    y: float
    label: str


@dataclass(frozen=True, slots=True)
class Level:
    """A level: where, its label, its runs, and its median with the interval (None without)."""

    x: float
    label: str
    dots: tuple[tuple[float, float], ...]
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Plot:
    """One measure over the levels of one factor."""

    title: str
    ticks: tuple[Tick, ...]
    levels: tuple[Level, ...]

    @property
    def line(self) -> str:
        """The medians as SVG's polyline wants them."""
        return " ".join(f"{one.x:g},{one.value:g}" for one in self.levels if one.value is not None)

    @property
    def told(self) -> str:
        """The plot in words, for who cannot see it."""
        return f"{self.title}: " + "; ".join(level.label for level in self.levels)


def step_of(span: float) -> float:
    """Return a round step by which a span has few ticks."""
    raw = span / TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    return next(nice * power for nice in _NICE if nice * power >= raw * 0.999)


def plot(measure: dict[str, Any]) -> Plot:
    """Lay a measure of `side_by_side`'s factors out. The scale begins at zero."""
    rows = measure["levels"]
    numbers = [0.0]
    for row in rows:
        numbers += row["values"]
        if row["estimate"] and row["estimate"]["high"] is not None:
            numbers.append(row["estimate"]["high"])
    highest = max(numbers)
    highest = highest if highest > SMALLEST else 1.0  # nothing to see: an empty scale
    step = step_of(highest)
    top = math.ceil(highest / step - 1e-9) * step

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * value / top, 2)

    each = (WIDTH - LEFT - RIGHT) / len(rows)
    ticks = tuple(Tick(y(n * step), f"{n * step:g}") for n in range(round(top / step) + 1))
    levels = []
    for number, row in enumerate(rows):
        x, found = LEFT + each * (number + 0.5), row["estimate"]
        spread = min(JITTER, each / 3 / max(len(row["values"]), 1))
        dots = tuple(
            (round(x + spread * (n - (len(row["values"]) - 1) / 2), 2), y(value))
            for n, value in enumerate(row["values"])
        )
        low, high = (found["low"], found["high"]) if found else (None, None)
        levels.append(
            Level(
                round(x, 2),
                row["label"],
                dots,
                y(found["value"]) if found else None,
                None if low is None else y(low),
                None if high is None else y(high),
            )
        )
    unit = f", {measure['unit']}" if measure["unit"] else ""
    return Plot(f"{measure['name']}{unit}", ticks, tuple(levels))
