"""From the bytes of a capture file to the frames in them: pcap and pcapng. Compiled.

Both walkers go over one window of a file and fill rows of layout.RECORD until the window holds no
further whole record (MORE), the rows are full (FULL), something has to be read in Python (BLOCK: a
section, an interface, secrets) or what stands there cannot be (DAMAGED). `walk[AT]` is the position
that they came to.

Sources: the IETF drafts draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from experiments.analysis.capture.layout import DIVIDE, MULTIPLY, NOTED
from experiments.analysis.capture.walking import (
    AT,
    BASE,
    BIG,
    BLOCK,
    COUNT,
    DAMAGED,
    END,
    EXTRA,
    FULL,
    INTERFACES,
    LARGEST,
    LARGEST_BLOCK,
    LINK,
    MORE,
    NANO,
    ROOM,
    TIME,
    WHY,
)
from experiments.analysis.compiled.jit import i64, kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SECTION: Final = 0x0A0D0D0A
_DESCRIPTION: Final = 1
_OLD_PACKET: Final = 2
_SIMPLE_PACKET: Final = 3
_PACKET: Final = 6
_SECRETS: Final = 10
_STATISTICS: Final = 5
_SECOND: Final = 1_000_000_000


@kernel
def _u32(window: NDArray[Any], at: int, big: int) -> int:
    a, b = i64(window[at]), i64(window[at + 1])
    c, d = i64(window[at + 2]), i64(window[at + 3])
    if big:
        return (a << 24) | (b << 16) | (c << 8) | d
    return (d << 24) | (c << 16) | (b << 8) | a


@kernel
def _u16(window: NDArray[Any], at: int, big: int) -> int:
    a, b = i64(window[at]), i64(window[at + 1])
    if big:
        return (a << 8) | b
    return (b << 8) | a


@kernel
def pcap(window: NDArray[Any], rows: NDArray[Any], walk: NDArray[Any]) -> int:
    """Read records of a pcap file."""
    at, end, count = walk[AT], walk[END], walk[COUNT]
    big, extra, room = walk[BIG], walk[EXTRA], walk[ROOM]
    outcome = MORE
    while True:
        if count >= room:
            outcome = FULL
            break
        if end - at < 16 + extra:
            break
        captured = _u32(window, at + 8, big)
        if captured > LARGEST:
            walk[WHY] = 1
            outcome = DAMAGED
            break
        start = at + 16 + extra
        if end - start < captured:
            break
        fraction = _u32(window, at + 4, big)
        if not walk[NANO]:
            fraction *= 1000
        rows[count]["time"] = _u32(window, at, big) * _SECOND + fraction
        rows[count]["address"] = walk[BASE] + start
        rows[count]["position"] = start
        rows[count]["captured"] = captured
        rows[count]["length"] = _u32(window, at + 12, big)
        rows[count]["status"] = 0
        rows[count]["link"] = walk[LINK]
        rows[count]["interface"] = walk[INTERFACES]
        count += 1
        at = start + captured
    walk[AT], walk[COUNT] = at, count
    return outcome


@kernel
def _nanoseconds(stamp: int, interface: NDArray[Any], index: int) -> int:
    factor = i64(interface[index]["factor"])
    offset = i64(interface[index]["offset"])
    how = i64(interface[index]["how"])
    if how == MULTIPLY:
        return stamp * factor + offset
    if how == DIVIDE:
        return stamp // max(factor, 1) + offset
    second = stamp >> factor
    rest = stamp & ((i64(1) << factor) - 1)
    if factor > 30:  # so that the product fits 63 bits; 2**-30 s is a nanosecond
        rest >>= factor - 30
        factor = i64(30)
    return second * _SECOND + ((rest * _SECOND) >> factor) + offset


@kernel
def pcapng(
    window: NDArray[Any],
    rows: NDArray[Any],
    interfaces: NDArray[Any],
    walk: NDArray[Any],
) -> int:
    """Read blocks of a pcapng file, skipping those that say nothing of packets."""
    at, end, count = walk[AT], walk[END], walk[COUNT]
    big, room = walk[BIG], walk[ROOM]
    outcome = MORE
    while True:
        if count >= room:
            outcome = FULL
            break
        if end - at < 12:
            break
        kind = _u32(window, at, big)
        if kind in (_SECTION, _DESCRIPTION, _SECRETS, _STATISTICS):
            outcome = BLOCK
            break
        size = _u32(window, at + 4, big)
        if size < 12 or size % 4 or size > LARGEST_BLOCK:  # Wireshark refuses the same
            walk[WHY] = 2
            outcome = DAMAGED
            break
        if end - at < size:
            break
        if _u32(window, at + size - 4, big) != size:
            walk[WHY] = 3
            outcome = DAMAGED
            break
        head = 0
        index = i64(0)
        stamp = i64(-1)
        captured = length = i64(0)
        if kind in (_PACKET, _OLD_PACKET):
            if size < 32:
                walk[WHY] = 2
                outcome = DAMAGED
                break
            head = 28
            index = _u32(window, at + 8, big) if kind == _PACKET else _u16(window, at + 8, big)
            # Masked: the highest bit of 64 would make it a time before the epoch.
            stamp = ((_u32(window, at + 12, big) & 0x7FFFFFFF) << 32) | _u32(window, at + 16, big)
            captured = _u32(window, at + 20, big)
            length = _u32(window, at + 24, big)
        elif kind == _SIMPLE_PACKET:
            if size < 16:
                walk[WHY] = 2
                outcome = DAMAGED
                break
            head = 12
            length = _u32(window, at + 8, big)
            captured = min(length, size - 16)
        if head:
            if index >= walk[INTERFACES]:
                walk[WHY] = 5
                outcome = DAMAGED
                break
            snap = i64(interfaces[index]["snap"])
            if kind == _SIMPLE_PACKET and snap and captured > snap:
                captured = snap
            if captured > LARGEST:
                walk[WHY] = 1
                outcome = DAMAGED
                break
            if captured > size - head - 4:
                walk[WHY] = 4
                outcome = DAMAGED
                break
            if stamp >= 0:
                walk[TIME] = _nanoseconds(stamp, interfaces, index)
            padded = head + ((captured + 3) & ~3)
            rows[count]["time"] = walk[TIME]
            rows[count]["address"] = walk[BASE] + at + head
            rows[count]["position"] = at + head
            rows[count]["captured"] = captured
            rows[count]["length"] = length
            noted = kind != _SIMPLE_PACKET and size - padded >= 8
            rows[count]["status"] = NOTED if noted else 0
            rows[count]["link"] = interfaces[index]["link"]
            rows[count]["interface"] = interfaces[index]["number"]
            count += 1
        at += size
    walk[AT], walk[COUNT] = at, count
    return outcome
