"""What a cell cost: latency, bytes on the wire, processor time, and the way to the first message.

A median and a 95th percentile stand with an interval that covers the true one with 95 %, by order
statistics: between which two of the sorted values it lies follows from the binomial distribution
alone, whatever the distribution of the values (H. A. David, H. N. Nagaraja, Order Statistics, 7.1).
Where there are too few values for one, there is none: None.

An interval tells of chance and not of a machine that was busier in one cell than in the next. For
that there is a yardstick: how long the same command over SSH took on the same hosts, in between.
"""

from __future__ import annotations

from itertools import pairwise
from math import comb
from typing import TYPE_CHECKING, Any, Final

from experiments.analysis import capture as captures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experiments.analysis.capture import Reading
    from experiments.judge import Run
    from experiments.matrix.secrets import Person, Truth

COVERAGE: Final = 0.95
TICKS_OF_DOUBT: Final = 0.02  # seconds: two of the kernel's hundredths
WORTH_TELLING: Final = 0.01  # of what was used at a place


def ranks(number: int, share: float) -> tuple[int, int] | None:
    """Return the ranks, from 1, between which a quantile lies with COVERAGE; None: too few values.

    Of all such pairs one of the narrowest, and of these the one most in the middle.
    """
    at_most = [0.0]
    for index in range(number):
        chance = comb(number, index) * share**index * (1 - share) ** (number - index)
        at_most.append(at_most[-1] + chance)  # [r] is the chance of fewer than r below it
    pairs = [
        (high - low, abs(at_most[low] - (1 - at_most[high])), low, high)
        for low in range(1, number + 1)
        for high in range(low + 1, number + 1)
        if at_most[high] - at_most[low] >= COVERAGE
    ]
    return min(pairs)[2:] if pairs else None


def quantile(values: Sequence[float], share: float) -> dict[str, Any]:
    """Return {value, low, high, n}: the smallest value that `share` of them do not exceed."""
    rows = sorted(values)
    if not rows:
        return {"value": None, "low": None, "high": None, "n": 0}
    place = max(-(-len(rows) * share // 1), 1)
    between = ranks(len(rows), share)
    low, high = (rows[between[0] - 1], rows[between[1] - 1]) if between else (None, None)
    value = rows[int(place) - 1]
    if share == 0.5 and len(rows) % 2 == 0:  # noqa: PLR2004 - the median
        value = (rows[len(rows) // 2 - 1] + rows[len(rows) // 2]) / 2
    return {"value": value, "low": low, "high": high, "n": len(rows)}


def cost(run: Run, truth: Truth) -> dict[str, Any]:
    """Return what is told of a cell's cost; seconds and bytes."""
    latencies = [line.latency_s for line in truth.lines]
    away = next((person for person in truth.people if person.at != person.server), None)
    wire: dict[str, Any] = {"bytes": quantile([], 0.5), "setup": None}
    if away is not None:
        rows = [row for row in run.results["captures"] if row["host"] == away.at]
        for row in rows[:1]:
            with captures.read([run.folder.path / row["file"]]) as reading:
                wire = _wire(reading, truth, away)
            wire["observer"] = f"{row['host']}/{row['adapter']}"
            if row["dropped"] != 0:
                wire = {"bytes": quantile([], 0.5), "setup": None}
    return {
        "latency_s": {"median": quantile(latencies, 0.5), "p95": quantile(latencies, 0.95)},
        "bytes": wire["bytes"],
        "observer": wire.get("observer"),
        "setup": wire["setup"],
        "cpu_s": _processor(run),
        "yardstick_s": quantile(
            [took for part in run.results["chat"]["talk"]["parts"] for took in part["looks_s"]], 0.5
        ),
    }


def _wire(reading: Reading, truth: Truth, away: Person) -> dict[str, Any]:
    """Count the bytes of frames from each line to the next, and the way to the first message.

    A round trip is something that the client sends, and what the server answers to it before the
    client sends again: the handshake of TCP is the first of each connection.
    """
    start = reading.start / 1e9
    packets = [(start + packet.time, packet.length) for packet in reading.rows()]
    starts = [line.at for line in truth.lines]
    last = truth.lines[-1]
    ends = [*starts[1:], last.at + last.latency_s]
    sizes = [
        float(sum(length for time, length in packets if one <= time < other))
        for one, other in zip(starts, ends, strict=True)
    ]
    setup = {
        "round_trips": _round_trips(reading, away, start),
        "bytes": sum(n for time, n in packets if away.joined <= time < away.ready),
        "seconds": round(away.ready - away.joined, 6),
    }
    return {"bytes": quantile(sizes, 0.5), "setup": setup}


def _round_trips(reading: Reading, away: Person, start: float) -> int:
    """Count them from somebody's first SYN to when he had signed in."""
    turns = 0
    for stream in reading.followed():
        if stream.protocol != "tcp" or stream.client.rpartition(":")[0] != away.address:
            continue
        chunks = [chunk for chunk in stream.chunks if start + chunk.time < away.ready]
        if not chunks or start + chunks[0].time < away.joined:
            continue
        turns += 1 + sum(one.forward and not other.forward for one, other in pairwise(chunks))
    return turns


def _processor(run: Run) -> dict[str, Any]:
    """Return the processor seconds a message, by place: the median of the conversation's parts.

    Of a program whose threads come and go, those that are there at a look tell too little; then
    the coarser count of all of them is taken (experiments.processor_time).
    """
    parts = run.results["chat"]["talk"]["parts"]
    places: dict[str, list[float]] = {}
    shares: dict[str, dict[str, float]] = {}
    for place in parts[0]["cpu_s"]:
        names = sorted({name for part in parts for name in part["cpu_s"][place]})
        values = [0.0] * len(parts)
        for name in names:
            counts = [part["cpu_s"][place].get(name, [0.0, 0.0]) for part in parts]
            exact, coarse = (sum(count[way] for count in counts) for way in (0, 1))
            way = int(coarse > exact + TICKS_OF_DOUBT)
            for number, count in enumerate(counts):
                values[number] += count[way] / parts[number]["lines"]
            if (coarse, exact)[not way]:
                shares.setdefault(place, {})[name] = sum(count[way] for count in counts)
        places[place] = values
    programs = [
        f"{place}: {name}"
        for place, used in shares.items()
        for name, seconds in used.items()
        if seconds > WORTH_TELLING * sum(used.values())
    ]
    return {
        "places": {place: quantile(values, 0.5) for place, values in places.items()},
        "programs": programs,
    }
