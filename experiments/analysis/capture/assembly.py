"""Putting the bytes of segments into streams. Compiled.

Bytes go into the stream in the order of their numbers (RFC 9293, 3.10.7.4); of bytes that came
twice the first copy counts. What comes early waits; when the other end acknowledges bytes beyond a
hole, they were there and the capture lacks them, so the hole is recorded and the stream goes on
behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from experiments.analysis.capture.layout import (
    ACK,
    DATA,
    GAP,
    SIDE_AGAIN,
    SIDE_STARTED,
    SYN,
)
from experiments.analysis.capture.state import (
    ALL_WAITING,
    ARRIVALS,
    EXTENTS,
    FREE,
    FRESH,
    MOST_WAITING,
    USED,
    WAITING,
)
from experiments.analysis.capture.tcp import HALF, WORD, before
from experiments.analysis.compiled.jit import i64, kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CLOSE: Final = 1 << 20  # bytes: as much as a connection has on its way


@kernel
def _extent(
    address: int, length: int, frame: int, kind: int,
    flow: int, direction: int, flows: NDArray[Any],
    extents: NDArray[Any], state: NDArray[Any],
) -> None:  # fmt: skip
    row = flows[flow]
    side = row["side"][direction]
    used = i64(state[USED])
    extents[used]["address"] = address
    extents[used]["offset"] = side["stream"]
    extents[used]["length"] = length
    extents[used]["frame"] = frame
    extents[used]["flow"] = flow
    extents[used]["prev"] = row["last_extent"]
    extents[used]["direction"] = direction
    extents[used]["kind"] = kind
    extents[used]["spare"] = 0
    extents[used]["spare2"] = 0
    row["last_extent"] = i64(state[EXTENTS]) + used
    state[USED] = used + 1
    if kind == DATA:
        side["stream"] = i64(side["stream"]) + length
    else:
        side["missing"] = i64(side["missing"]) + length
        row["gaps"] += 1


@kernel
def datagram(
    address: int, length: int, frame: int,
    flow: int, direction: int, flows: NDArray[Any],
    extents: NDArray[Any], state: NDArray[Any],
) -> None:  # fmt: skip
    """Add what a UDP datagram carries to its stream."""
    _extent(address, length, frame, DATA, flow, direction, flows, extents, state)


@kernel
def _take(
    expected: int, flow: int, direction: int, flows: NDArray[Any], pending: NDArray[Any],
    state: NDArray[Any],
) -> int:  # fmt: skip
    """Take the waiting segment that fits out of the list and return its row, or -1.

    The list is in order of sequence numbers; of those that fit, the one that came first is taken,
    so that of bytes that came twice the first copy counts.
    """
    side = flows[flow]["side"][direction]
    best = i64(-1)
    best_before = last = i64(-1)
    at = i64(side["pending"])
    while at >= 0 and not before(expected, i64(pending[at]["seq"])):
        if best < 0 or pending[at]["arrival"] < pending[best]["arrival"]:
            best, best_before = at, last
        last = at
        at = i64(pending[at]["next"])
    if best >= 0:
        after = i64(pending[best]["next"])
        if best_before < 0:
            side["pending"] = after
        else:
            pending[best_before]["next"] = after
        if after < 0:
            side["last_pending"] = best_before
        side["waiting"] -= 1
        pending[best]["next"] = state[FREE]
        state[FREE] = best
        state[WAITING] -= 1
    return best


@kernel
def _settle(
    acknowledged: int, by_frame: int, flow: int, direction: int, flows: NDArray[Any],
    pending: NDArray[Any], extents: NDArray[Any], state: NDArray[Any],
) -> None:  # fmt: skip
    """Put into the stream what waits and fits; by_frame > 0: skip holes before `acknowledged`."""
    side = flows[flow]["side"][direction]
    while side["pending"] >= 0:
        expected = i64(side["expected"])
        at = _take(expected, flow, direction, flows, pending, state)
        if at >= 0:
            node = pending[at]
            # As much as was captured of it: what was cut off may still come again.
            captured = i64(node["captured"])
            skip = (expected - i64(node["seq"])) & WORD
            if captured > skip:
                side["expected"] = (expected + captured - skip) & WORD
                _extent(i64(node["address"]) + skip, captured - skip, node["frame"], DATA,
                        flow, direction, flows, extents, state)  # fmt: skip
            continue
        lowest = i64(pending[side["pending"]]["seq"])
        if by_frame <= 0 or not before(lowest, acknowledged):
            break
        _extent(0, (lowest - expected) & WORD, by_frame, GAP, flow, direction, flows, extents,
                state)  # fmt: skip
        side["expected"] = lowest


@kernel
def _wait(
    seq: int, captured: int, address: int, frame: int,
    flow: int, direction: int, flows: NDArray[Any], pending: NDArray[Any],
    state: NDArray[Any],
) -> None:  # fmt: skip
    """Put a segment that came early into the list, behind all that do not come after it."""
    side = flows[flow]["side"][direction]
    at = i64(state[FREE])
    if at >= 0:
        state[FREE] = pending[at]["next"]
    else:
        at = i64(state[FRESH])
        state[FRESH] = at + 1
    node = pending[at]
    node["address"] = address
    node["arrival"] = state[ARRIVALS]
    node["seq"] = seq
    node["captured"] = captured
    node["frame"] = frame
    node["next"] = -1
    state[ARRIVALS] += 1
    state[WAITING] += 1
    side["waiting"] += 1
    tail = i64(side["last_pending"])
    if tail < 0:
        side["pending"] = at
        side["last_pending"] = at
        return
    if not before(seq, i64(pending[tail]["seq"])):
        pending[tail]["next"] = at
        side["last_pending"] = at
        return
    last = i64(-1)
    here = i64(side["pending"])
    while here >= 0 and not before(seq, i64(pending[here]["seq"])):
        last = here
        here = i64(pending[here]["next"])
    node["next"] = here
    if last < 0:
        side["pending"] = at
    else:
        pending[last]["next"] = at


@kernel
def _forward(
    frame: int, flow: int, direction: int, flows: NDArray[Any], pending: NDArray[Any],
    extents: NDArray[Any], state: NDArray[Any],
) -> None:  # fmt: skip
    """Put all that waits into the stream, with the holes between."""
    side = flows[flow]["side"][direction]
    while side["pending"] >= 0:
        lowest = i64(pending[side["pending"]]["seq"])
        _settle((lowest + 1) & WORD, frame, flow, direction, flows, pending, extents, state)


@kernel
def deliver(
    seq: int, ack: int, length: int, captured: int, flags: int, address: int, frame: int,
    flow: int, direction: int, flows: NDArray[Any], pending: NDArray[Any],
    extents: NDArray[Any], state: NDArray[Any],
) -> None:  # fmt: skip
    """Put the bytes of a segment into the stream, and those that waited for them."""
    row = flows[flow]
    side, other = row["side"][direction], row["side"][1 - direction]
    if flags & SYN:
        seq = (seq + 1) & WORD
    if other["pending"] >= 0 and flags & ACK:
        _settle(ack, frame, flow, 1 - direction, flows, pending, extents, state)
    if side["flags"] & SIDE_AGAIN and length > 0:
        anew = i64(side["again"])
        ahead = (seq - i64(side["expected"])) & WORD
        far = ahead >= _CLOSE and WORD - ahead >= _CLOSE
        if seq == anew or (far and (seq - anew) & WORD < _CLOSE):
            # What waits closely behind it belongs to it, what does not to what was before.
            at = i64(side["pending"])
            if at < 0 or (i64(pending[at]["seq"]) - anew) & WORD >= _CLOSE:
                _forward(frame, flow, direction, flows, pending, extents, state)
            side["expected"] = anew
            side["flags"] = (i64(side["flags"]) & (0xFFFF ^ SIDE_AGAIN)) | SIDE_STARTED
        elif ahead == 0 or anew == side["expected"]:
            # It was a stray one, or told nothing new.
            side["flags"] = i64(side["flags"]) & (0xFFFF ^ SIDE_AGAIN)
    if not side["flags"] & SIDE_STARTED:
        side["expected"] = seq
        side["flags"] |= SIDE_STARTED
    expected = i64(side["expected"])
    skip = i64(0)
    if before(seq, expected):
        end = (seq + length) & WORD
        if not before(expected, end):
            return
        skip = (expected - seq) & WORD
        seq = expected
        length = (end - expected) & WORD
    if captured <= skip:
        return
    if seq == expected:
        side["expected"] = (seq + length) & WORD
        _extent(
            address + skip, captured - skip, frame, DATA, flow, direction, flows, extents, state
        )
        if side["pending"] >= 0:
            _settle(0, 0, flow, direction, flows, pending, extents, state)
        return
    if side["waiting"] >= MOST_WAITING or state[WAITING] >= ALL_WAITING:
        # A hole that nobody will fill, or an attack: go on behind it rather than grow.
        _settle((expected + HALF - 1) & WORD, frame, flow, direction, flows, pending, extents,
                state)  # fmt: skip
        expected = i64(side["expected"])
        if before(seq, expected):
            # What waited went further than where this one begins: only the rest of it is new.
            skip += (expected - seq) & WORD
            end = (seq + length) & WORD
            seq = expected
            length = (end - expected) & WORD
            if captured <= skip or length >= HALF:
                return
        elif seq != expected:
            gap = (seq - expected) & WORD
            _extent(0, gap, frame, GAP, flow, direction, flows, extents, state)
        side["expected"] = (seq + length) & WORD
        _extent(
            address + skip, captured - skip, frame, DATA, flow, direction, flows, extents, state
        )
        return
    _wait(seq, captured - skip, address + skip, frame, flow, direction, flows, pending, state)


@kernel
def flush(
    flow: int, frame: int, flows: NDArray[Any], pending: NDArray[Any],
    extents: NDArray[Any], state: NDArray[Any],
) -> None:  # fmt: skip
    """At the end of the capture: what still waits is there too, behind a hole."""
    for direction in range(2):
        _forward(frame, flow, direction, flows, pending, extents, state)
