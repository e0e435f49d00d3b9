"""What is counted over all packets of a capture, a window of rows at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from experiments.analysis.capture.words import network

if TYPE_CHECKING:
    from experiments.analysis.capture import Reading

ROWS: Final = 1 << 18


@dataclass(frozen=True)
class Figures:
    """Counts. first, last: ns since 1970 of the earliest and the latest packet (0, 0: none).

    kinds -- frames by what they carry.
    """

    packets: int
    bytes: int
    captured: int
    first: int
    last: int
    kinds: dict[str, int]


def count(reading: Reading) -> Figures:
    """Go over the packet table once."""
    packets = reading.packets
    kinds: dict[tuple[int, int, int], int] = {}
    total = captured = 0
    first, last = np.iinfo(np.int64).max, np.iinfo(np.int64).min
    for start in range(0, len(packets), ROWS):
        rows = packets[start : start + ROWS]
        total += int(rows["length"].sum(dtype=np.int64))
        captured += int(rows["captured"].sum(dtype=np.int64))
        first = min(first, int(rows["time"].min()))
        last = max(last, int(rows["time"].max()))
        keys = (
            (rows["net"].astype(np.int64) << 24)
            | (rows["protocol"].astype(np.int64) << 16)
            | rows["link"]
        )
        for key, number in zip(*np.unique(keys, return_counts=True), strict=True):
            kind = int(key) >> 24, int(key) >> 16 & 0xFF, int(key) & 0xFFFF
            kinds[kind] = kinds.get(kind, 0) + int(number)
        reading.forget()
    named: dict[str, int] = {}
    for (net, protocol, link), number in kinds.items():
        name = network(net, protocol, link)
        named[name] = named.get(name, 0) + number
    ordered = dict(sorted(named.items(), key=lambda item: -item[1]))
    if not len(packets):
        first = last = 0
    return Figures(len(packets), total, captured, first, last, ordered)
