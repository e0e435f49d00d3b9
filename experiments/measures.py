"""What a run measured, as samples, and what they say: a value with its interval.

Two kinds. A *median* (of times) has a bootstrap interval: 2000 resamples, the middle 95 % of their
medians (Efron 1979, percentile method). A *share* (of requests lost, of texts read) has Wilson's
interval of 95 % (Wilson 1927), which tells something at 0 of 4 as well. One sample alone has no
interval, and what was not measured is no measure.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

RESAMPLES: Final = 2000
Z: Final = 1.959964  # of the normal distribution, for 95 %
DRAWN: Final = 1 << 20  # samples drawn at once: 8 MB
PAIRS: Final = 30  # beyond so many pairs of hosts, all of them together are told


@dataclass(frozen=True, slots=True)
class Measure:
    """Samples of one thing: times of a kind "median"; 0 or 1 each of a kind "share"; or a "count".

    name -- what, in words; unit -- "ms", "s", "%" or "" (of a count).
    """

    name: str
    unit: str
    kind: Literal["median", "share", "count"]
    samples: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and where it lies with 95 %; low and high are None for a single sample."""

    value: float
    low: float | None
    high: float | None
    n: int

    def overlaps(self, other: Estimate) -> bool | None:
        """Tell whether the two intervals have a value in common; None where one has none."""
        if self.low is None or self.high is None or other.low is None or other.high is None:
            return None
        return self.low <= other.high and other.low <= self.high


def estimate(measure: Measure) -> Estimate:
    """Return what the samples say; the same samples say the same."""
    samples, count = measure.samples, len(measure.samples)
    if measure.kind == "share":
        return share(round(sum(samples)), count)
    return median(samples, measure.name)


def median(samples: Sequence[float], name: str = "") -> Estimate:
    """Return the median with its bootstrap interval; chance is seeded with the name."""
    values = np.asarray(samples, np.float64)
    middle = float(np.median(values))
    if len(values) < 2:  # noqa: PLR2004 - of one sample there are no others to draw
        return Estimate(middle, None, None, len(values))
    chance = np.random.default_rng(zlib.crc32(name.encode()))
    at_once = max(1, DRAWN // len(values))
    medians = np.concatenate(
        [
            np.median(values[chance.integers(0, len(values), (rows, len(values)))], axis=1)
            for start in range(0, RESAMPLES, at_once)
            for rows in [min(at_once, RESAMPLES - start)]
        ]
    )
    low, high = np.percentile(medians, [2.5, 97.5])
    return Estimate(middle, float(low), float(high), len(values))


def share(hits: int, count: int) -> Estimate:
    """Return hits of count in per cent with Wilson's interval; count is 1 at least."""
    part = hits / count
    spread = Z / (1 + Z * Z / count)
    half = spread * math.sqrt(part * (1 - part) / count + Z * Z / (4 * count * count))
    centre = (part + Z * Z / (2 * count)) / (1 + Z * Z / count)
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    low, high = (0.0 if not hits else low), (1.0 if hits == count else high)
    return Estimate(100 * part, 100 * low, 100 * high, count)


def of_run(
    results: Mapping[str, Any], analysis: Mapping[str, Any], manifest: Mapping[str, Any]
) -> list[Measure]:
    """Return what a run measured: ping, loss, delivery of messages, texts read, frames, times."""
    found = [*_ping(results.get("ping", [])), *_delivery(results), *_read(analysis)]
    found += [
        Measure(f"frames at {row['name']}", "", "count", (row["packets"],))
        for row in analysis["observers"]
    ]
    found += [
        Measure(f"duration of {phase}", "s", "median", (seconds,))
        for phase, seconds in sorted(manifest["durations_s"].items())
    ]
    return [measure for measure in found if measure.samples]


def _ping(rows: Sequence[Mapping[str, Any]]) -> Iterator[Measure]:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        pair = f" {row['source']} → {row['target']}" if len(rows) <= PAIRS else ""
        groups.setdefault(pair, []).append(row)
    for pair, group in groups.items():
        times = tuple(reply["time_ms"] for row in group for reply in row["replies"])
        lost = [float(n >= row["received"]) for row in group for n in range(row["sent"])]
        yield Measure(f"ping{pair}", "ms", "median", times)
        yield Measure(f"ping lost{pair}", "%", "share", tuple(lost))


def _delivery(results: Mapping[str, Any]) -> Iterator[Measure]:
    lines = (results.get("chat") or {}).get("lines", ())
    yield Measure("delivery", "ms", "median", tuple(1000 * line["latency_s"] for line in lines))


def _read(analysis: Mapping[str, Any]) -> Iterator[Measure]:
    """Return how many of the planted messages and secrets somebody read who listened.

    Where nothing was found at an observer whose capture is not whole, nothing is known: such a
    text is no sample.
    """
    for kind in ("message", "password", "user"):
        samples = []
        for row in analysis["planted"]:
            if row["kind"] != kind or not row["wire"]:
                continue
            read = any(seen["hits"] for seen in row["observers"].values())
            states = {seen["state"] for seen in row["observers"].values()}
            if read or "inconclusive" not in states:
                samples.append(float(read))
        yield Measure(f"{kind}s read", "%", "share", tuple(samples))
