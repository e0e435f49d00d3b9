"""What is counted over all packets of a capture, a window of rows at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from experiments.analysis.capture import layout
from experiments.analysis.capture.words import network

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from experiments.analysis.capture import Followed, Reading

ROWS: Final = 1 << 18


@dataclass(frozen=True)
class Figures:
    """Counts. first, last: ns since 1970 of the earliest and the latest packet (0, 0: none).

    wire -- bytes of frames by flow and by who sent them ([0]: who sent the first packet), as
    Wireshark's conversations count them. kinds -- frames by what they carry.
    """

    packets: int
    bytes: int
    captured: int
    first: int
    last: int
    kinds: dict[str, int]
    wire: NDArray[np.int64]


def count(reading: Reading) -> Figures:
    """Go over the packet table once."""
    packets = reading.packets
    wire = np.zeros((reading.streams, 2), np.int64)
    kinds: dict[tuple[int, int, int], int] = {}
    total = captured = 0
    first, last = np.iinfo(np.int64).max, np.iinfo(np.int64).min
    for start in range(0, len(packets), ROWS):
        rows = packets[start : start + ROWS]
        lengths = rows["length"].astype(np.int64)
        total += int(lengths.sum())
        captured += int(rows["captured"].sum(dtype=np.int64))
        first = min(first, int(rows["time"].min()))
        last = max(last, int(rows["time"].max()))
        _add_wire(wire, rows, lengths)
        keys = (
            (rows["net"].astype(np.int64) << 24)
            | (rows["protocol"].astype(np.int64) << 16)
            | rows["link"]
        )
        for key, number in zip(*np.unique(keys, return_counts=True), strict=True):
            kind = int(key) >> 24, int(key) >> 16 & 0xFF, int(key) & 0xFFFF
            kinds[kind] = kinds.get(kind, 0) + int(number)
    named: dict[str, int] = {}
    for (net, protocol, link), number in kinds.items():
        name = network(net, protocol, link)
        named[name] = named.get(name, 0) + number
    ordered = dict(sorted(named.items(), key=lambda item: -item[1]))
    if not len(packets):
        first = last = 0
    return Figures(len(packets), total, captured, first, last, ordered, wire)


def wire_of(reading: Reading, followed: Followed) -> tuple[int, int]:
    """Return the bytes of one stream's frames, forward and back."""
    numbers = np.asarray(followed.all_frames, np.int64) - 1
    packets = reading.packets[numbers]
    packets = packets[(packets["status"] & layout.QUOTED) == 0]
    there = packets["direction"] == reading.flows[followed.flow]["flipped"]
    lengths = packets["length"].astype(np.int64)
    return int(lengths[there].sum()), int(lengths[~there].sum())


def _add_wire(wire: NDArray[np.int64], rows: NDArray[Any], lengths: NDArray[np.int64]) -> None:
    """Add the lengths of frames to their flows; what an ICMP error quotes does not count."""
    mine = (rows["flow"] != layout.NONE) & ((rows["status"] & layout.QUOTED) == 0)
    if not mine.any():
        return
    keys = rows["flow"][mine].astype(np.int64) * 2 + rows["direction"][mine]
    low = int(keys.min())
    sums = np.bincount(keys - low, weights=lengths[mine].astype(np.float64))
    wire.reshape(-1)[low : low + len(sums)] += sums.astype(np.int64)
