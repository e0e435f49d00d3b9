"""One TCP segment: what Wireshark's analysis says of it, and what it adds to its stream. Compiled.

Two things are kept apart, as Wireshark keeps them apart:

- `analyse` compares a segment with what the connection did so far and names what it is: a
  retransmission, out of order, a keep-alive, …  (Wireshark: "TCP Analysis").
- `deliver` puts the bytes into the stream in the order of their numbers (RFC 9293, 3.10.7.4; of
  bytes that came twice the first copy counts). What comes early waits; when the other end
  acknowledges bytes beyond a hole, they were there and the capture lacks them, so the hole is
  recorded and the stream goes on behind it (Wireshark: "Follow TCP Stream").

Sequence numbers are compared modulo 2**32 (RFC 9293, 3.4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from experiments.analysis.capture.jit import kernel
from experiments.analysis.capture.layout import (
    ACK,
    ACKED_UNSEEN,
    DATA,
    DUPLICATE_ACK,
    FAST_RETRANSMISSION,
    FIN,
    GAP,
    KEEP_ALIVE,
    KEEP_ALIVE_ACK,
    LOST_BEFORE,
    NO_SCALE,
    OUT_OF_ORDER,
    RETRANSMISSION,
    RST,
    SIDE_AGAIN,
    SIDE_FIN,
    SIDE_ISN,
    SIDE_RST,
    SIDE_SACK,
    SIDE_STARTED,
    SIDE_SYN,
    SIDE_UNSCALED,
    SPURIOUS_RETRANSMISSION,
    SYN,
    UNKNOWN_SCALE,
    WINDOW_FULL,
    WINDOW_UPDATE,
    ZERO_WINDOW,
    ZERO_WINDOW_PROBE,
    ZERO_WINDOW_PROBE_ACK,
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

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WORD: Final = 0xFFFFFFFF
_HALF: Final = 0x80000000
_CONTROL: Final = SYN | FIN | RST
# Wireshark's times, in ns: until when a segment is out of order and not sent again while the round
# trip is unknown, and how soon after the last duplicate ACK a retransmission is a fast one.
_CLOSE: Final = 3_000_000
_FAST: Final = 20_000_000


@kernel
def before(one: int, other: int) -> bool:
    """Whether a sequence number lies before another."""
    return ((one - other) & _WORD) >= _HALF


@kernel
def options(
    window: NDArray[np.uint8], at: int, end: int, flags: int, flow: int, direction: int,
    flows: NDArray[np.void],
) -> None:  # fmt: skip
    """Read MSS, window scale and SACK permitted of a SYN (RFC 9293, 3.2; RFC 7323; RFC 2018)."""
    side = flows[flow]["side"][direction]
    other = flows[flow]["side"][1 - direction]
    found = UNKNOWN_SCALE
    while at < end:
        kind = window[at]
        if kind == 0:
            break
        if kind == 1:
            at += 1
            continue
        if end - at < 2:
            break
        size = np.int64(window[at + 1])
        if size < 2 or at + size > end:
            break
        if kind == 2 and size == 4:
            side["mss"] = (np.int64(window[at + 2]) << 8) | np.int64(window[at + 3])
        elif kind == 3 and size == 3:
            found = min(np.int64(window[at + 2]), 14)
        elif kind == 4 and size == 2:
            side["flags"] |= SIDE_SACK
        at += size
    side["shift"] = found
    if found >= 0:
        side["scale"] = found
    # Scaling is in force only if both SYNs asked for it (RFC 7323, 2.2).
    if side["scale"] == UNKNOWN_SCALE:
        side["scale"] = NO_SCALE
        other["scale"] = NO_SCALE
    elif flags & ACK and other["scale"] == NO_SCALE:
        side["scale"] = NO_SCALE


@kernel
def analyse(
    seq: int, ack: int, length: int, flags: int, width: int, frame: int, time: int, status: int,
    flow: int, direction: int, flows: NDArray[np.void],
) -> int:  # fmt: skip
    """Name what a segment is, and remember what the next one is compared with."""
    row = flows[flow]
    side, other = row["side"][direction], row["side"][1 - direction]
    if not side["flags"] & SIDE_ISN:
        side["isn"] = seq if flags & SYN else (seq - 1) & _WORD
        side["flags"] |= SIDE_ISN
    if not other["flags"] & SIDE_ISN and flags & ACK:
        other["isn"] = (ack - 1) & _WORD
        other["flags"] |= SIDE_ISN
    next_seq = np.int64(side["next_seq"])
    control = flags & _CONTROL
    if length == 1 and seq == next_seq and other["window"] == 0:
        status |= ZERO_WINDOW_PROBE
    else:
        status |= _state_of(seq, ack, length, flags, width, flow, direction, flows)
    if ack != side["last_ack"]:
        side["duplicates"] = 0
    to_ack = np.int64(other["to_ack"])
    if to_ack and before(to_ack, ack) and flags & ACK:
        # Told once for each hole, not again by every repetition of the same ACK.
        if to_ack != other["next_seq"]:
            other["to_ack"] = other["next_seq"]
            status |= ACKED_UNSEEN
        else:
            if other["duplicates"] == 0:
                status |= ACKED_UNSEEN
            other["duplicates"] = -1
    if (length > 0 or flags & (SYN | FIN)) and not status & KEEP_ALIVE:
        status |= _again(seq, length, flags, time, flow, direction, flows)
    end = (seq + length) & _WORD
    if flags & (SYN | FIN):
        end = (end + 1) & _WORD
    if not status & ZERO_WINDOW_PROBE:
        if next_seq == 0 or before(next_seq, end):
            side["next_seq"] = end
            side["next_frame"] = frame
            side["next_time"] = time
        if side["to_ack"] == 0 or seq == side["to_ack"]:
            side["to_ack"] = side["next_seq"]
    side["window"] = width
    side["last_ack"] = ack
    side["ack_time"] = time
    side["status"] = status
    if control:
        side["flags"] |= (
            (SIDE_SYN if flags & SYN else 0)
            | (SIDE_FIN if flags & FIN else 0)
            | (SIDE_RST if flags & RST else 0)
        )
    return status


@kernel
def _state_of(
    seq: int, ack: int, length: int, flags: int, width: int,
    flow: int, direction: int, flows: NDArray[np.void],
) -> int:  # fmt: skip
    """Name what a segment says of windows, holes, keep-alives and duplicates."""
    row = flows[flow]
    side, other = row["side"][direction], row["side"][1 - direction]
    next_seq = np.int64(side["next_seq"])
    plain = flags & _CONTROL == 0
    status = 0
    if width == 0 and plain:
        status |= ZERO_WINDOW
    if next_seq and before(next_seq, seq) and not flags & RST:
        status |= LOST_BEFORE
    if length <= 1 and seq == (next_seq - 1) & _WORD and plain:
        status |= KEEP_ALIVE
    known = np.int64(side["window"])
    repeats = length == 0 and seq == next_seq and ack == side["last_ack"] and plain
    if repeats and width and width != known:
        status |= WINDOW_UPDATE
    scale = np.int64(other["scale"])
    if length > 0 and plain and scale != UNKNOWN_SCALE:
        if other["flags"] & SIDE_UNSCALED or scale < 0:
            scale = np.int64(0)
        if (seq + length - np.int64(other["last_ack"]) - (np.int64(other["window"]) << scale)) & (
            _WORD
        ) == 0:
            status |= WINDOW_FULL
    if not repeats or width != known:
        return status
    if width and other["status"] & KEEP_ALIVE:
        return status | KEEP_ALIVE_ACK
    if width == 0:
        if other["status"] & ZERO_WINDOW_PROBE:
            status |= ZERO_WINDOW_PROBE_ACK
        return status
    side["duplicates"] = 1 if side["duplicates"] == -1 else side["duplicates"] + 1
    return status | DUPLICATE_ACK


@kernel
def _sooner(since: int, bound: int) -> bool:
    """Compare times as Wireshark does, which has no sign: one that ran backwards is a long one."""
    if (since < 0) != (bound < 0):
        return bound < 0
    return since < bound


@kernel
def _again(
    seq: int, length: int, flags: int, time: int,
    flow: int, direction: int, flows: NDArray[np.void],
) -> int:  # fmt: skip
    """Tell whether a segment repeats what was there, and how."""
    row = flows[flow]
    side, other = row["side"][direction], row["side"][1 - direction]
    next_seq = np.int64(side["next_seq"])
    last_ack = np.int64(other["last_ack"])
    old = next_seq != 0 and before(seq, next_seq)
    if length > 1 and (next_seq - 1) & _WORD == seq:
        old = False  # perhaps the byte of a zero window probe, now with the rest
    end = (seq + length) & _WORD
    if length > 0 and last_ack and not before(last_ack, end):
        return SPURIOUS_RETRANSMISSION
    if not old:
        return 0
    since = time - np.int64(other["ack_time"])
    # -1 is many to Wireshark, which counts without a sign.
    repeated = other["duplicates"] >= 2 or other["duplicates"] < 0
    if repeated and last_ack == seq and _sooner(since, np.int64(_FAST)):
        return FAST_RETRANSMISSION
    since = time - np.int64(side["next_time"])
    close = np.int64(row["round_trip"])
    if close == 0:
        close = np.int64(_CLOSE)
    if flags & (SYN | FIN):
        end = (end + 1) & _WORD
    if _sooner(since, close) and next_seq != end:
        return OUT_OF_ORDER
    return RETRANSMISSION


@kernel
def _extent(
    address: int, length: int, frame: int, kind: int,
    flow: int, direction: int, flows: NDArray[np.void],
    extents: NDArray[np.void], state: NDArray[np.int64],
) -> None:  # fmt: skip
    row = flows[flow]
    side = row["side"][direction]
    used = np.int64(state[USED])
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
    row["last_extent"] = np.int64(state[EXTENTS]) + used
    state[USED] = used + 1
    if kind == DATA:
        side["stream"] += length
    else:
        side["missing"] += length
        row["gaps"] += 1


@kernel
def datagram(
    address: int, length: int, frame: int,
    flow: int, direction: int, flows: NDArray[np.void],
    extents: NDArray[np.void], state: NDArray[np.int64],
) -> None:  # fmt: skip
    """Add what a UDP datagram carries to its stream."""
    _extent(address, length, frame, DATA, flow, direction, flows, extents, state)


@kernel
def _take(
    expected: int, flow: int, direction: int, flows: NDArray[np.void], pending: NDArray[np.void],
    state: NDArray[np.int64],
) -> int:  # fmt: skip
    """Take the waiting segment that fits out of the list and return its row, or -1.

    The list is in order of sequence numbers; of those that fit, the one that came first is taken,
    so that of bytes that came twice the first copy counts.
    """
    side = flows[flow]["side"][direction]
    best = np.int64(-1)
    best_before = last = np.int64(-1)
    at = np.int64(side["pending"])
    while at >= 0 and not before(expected, np.int64(pending[at]["seq"])):
        if best < 0 or pending[at]["arrival"] < pending[best]["arrival"]:
            best, best_before = at, last
        last = at
        at = np.int64(pending[at]["next"])
    if best >= 0:
        after = np.int64(pending[best]["next"])
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
    acknowledged: int, by_frame: int, flow: int, direction: int, flows: NDArray[np.void],
    pending: NDArray[np.void], extents: NDArray[np.void], state: NDArray[np.int64],
) -> None:  # fmt: skip
    """Put into the stream what waits and fits; by_frame > 0: skip holes before `acknowledged`."""
    side = flows[flow]["side"][direction]
    while side["pending"] >= 0:
        expected = np.int64(side["expected"])
        at = _take(expected, flow, direction, flows, pending, state)
        if at >= 0:
            node = pending[at]
            # As much as was captured of it: what was cut off may still come again.
            captured = np.int64(node["captured"])
            skip = (expected - np.int64(node["seq"])) & _WORD
            if captured > skip:
                side["expected"] = (expected + captured - skip) & _WORD
                _extent(np.int64(node["address"]) + skip, captured - skip, node["frame"], DATA,
                        flow, direction, flows, extents, state)  # fmt: skip
            continue
        lowest = np.int64(pending[side["pending"]]["seq"])
        if by_frame <= 0 or not before(lowest, acknowledged):
            break
        _extent(0, (lowest - expected) & _WORD, by_frame, GAP, flow, direction, flows, extents,
                state)  # fmt: skip
        side["expected"] = lowest


@kernel
def _wait(
    seq: int, captured: int, address: int, frame: int,
    flow: int, direction: int, flows: NDArray[np.void], pending: NDArray[np.void],
    state: NDArray[np.int64],
) -> None:  # fmt: skip
    """Put a segment that came early into the list, behind all that do not come after it."""
    side = flows[flow]["side"][direction]
    at = np.int64(state[FREE])
    if at >= 0:
        state[FREE] = pending[at]["next"]
    else:
        at = np.int64(state[FRESH])
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
    tail = np.int64(side["last_pending"])
    if tail < 0:
        side["pending"] = at
        side["last_pending"] = at
        return
    if not before(seq, np.int64(pending[tail]["seq"])):
        pending[tail]["next"] = at
        side["last_pending"] = at
        return
    last = np.int64(-1)
    here = np.int64(side["pending"])
    while here >= 0 and not before(seq, np.int64(pending[here]["seq"])):
        last = here
        here = np.int64(pending[here]["next"])
    node["next"] = here
    if last < 0:
        side["pending"] = at
    else:
        pending[last]["next"] = at


@kernel
def _forward(
    frame: int, flow: int, direction: int, flows: NDArray[np.void], pending: NDArray[np.void],
    extents: NDArray[np.void], state: NDArray[np.int64],
) -> None:  # fmt: skip
    """Put all that waits into the stream, with the holes between."""
    side = flows[flow]["side"][direction]
    while side["pending"] >= 0:
        lowest = np.int64(pending[side["pending"]]["seq"])
        _settle((lowest + 1) & _WORD, frame, flow, direction, flows, pending, extents, state)


@kernel
def deliver(
    seq: int, ack: int, length: int, captured: int, flags: int, address: int, frame: int,
    flow: int, direction: int, flows: NDArray[np.void], pending: NDArray[np.void],
    extents: NDArray[np.void], state: NDArray[np.int64],
) -> None:  # fmt: skip
    """Put the bytes of a segment into the stream, and those that waited for them."""
    row = flows[flow]
    side, other = row["side"][direction], row["side"][1 - direction]
    if flags & SYN:
        seq = (seq + 1) & _WORD
    if other["pending"] >= 0 and flags & ACK:
        _settle(ack, frame, flow, 1 - direction, flows, pending, extents, state)
    if side["flags"] & SIDE_AGAIN and length > 0 and seq == side["again"]:
        _forward(frame, flow, direction, flows, pending, extents, state)
        side["expected"] = seq
        side["flags"] = (side["flags"] & ~SIDE_AGAIN & 0xFFFF) | SIDE_STARTED
    if not side["flags"] & SIDE_STARTED:
        side["expected"] = seq
        side["flags"] |= SIDE_STARTED
    expected = np.int64(side["expected"])
    skip = np.int64(0)
    if before(seq, expected):
        end = (seq + length) & _WORD
        if not before(expected, end):
            return
        skip = (expected - seq) & _WORD
        seq = expected
        length = (end - expected) & _WORD
    if captured <= skip:
        return
    if seq == expected:
        side["expected"] = (seq + length) & _WORD
        _extent(
            address + skip, captured - skip, frame, DATA, flow, direction, flows, extents, state
        )
        if side["pending"] >= 0:
            _settle(0, 0, flow, direction, flows, pending, extents, state)
        return
    if side["waiting"] >= MOST_WAITING or state[WAITING] >= ALL_WAITING:
        # A hole that nobody will fill, or an attack: go on behind it rather than grow.
        _settle((expected + _HALF - 1) & _WORD, frame, flow, direction, flows, pending, extents,
                state)  # fmt: skip
        gap = (seq - np.int64(side["expected"])) & _WORD
        if 0 < gap < _HALF:
            _extent(0, gap, frame, GAP, flow, direction, flows, extents, state)
            side["expected"] = (seq + length) & _WORD
            _extent(address, captured, frame, DATA, flow, direction, flows, extents, state)
        return
    _wait(seq, captured - skip, address + skip, frame, flow, direction, flows, pending, state)


@kernel
def flush(
    flow: int, frame: int, flows: NDArray[np.void], pending: NDArray[np.void],
    extents: NDArray[np.void], state: NDArray[np.int64],
) -> None:  # fmt: skip
    """At the end of the capture: what still waits is there too, behind a hole."""
    for direction in range(2):
        _forward(frame, flow, direction, flows, pending, extents, state)


@kernel
def opened(
    flags: int, frame: int, time: int, flow: int, direction: int, flows: NDArray[np.void]
) -> None:
    """Follow the handshake: note its frames and the round trip."""
    row = flows[flow]
    kind = flags & (SYN | ACK)
    if kind == SYN:
        if row["syn_frame"] == 0:
            row["syn_frame"] = frame
        row["syn_time"] = time
    elif kind == SYN | ACK:
        if row["syn_frame"] and row["answer_frame"] == 0 and direction == 1 - _client(row):
            row["answer_frame"] = frame
    elif kind == ACK:
        if row["answer_frame"] and row["ack_frame"] == 0 and direction == _client(row):
            row["ack_frame"] = frame
        if row["syn_time"] != 0 and row["round_trip"] == 0:
            row["round_trip"] = time - row["syn_time"]
        row["side"][direction]["flags"] &= ~SIDE_UNSCALED & 0xFFFF
    if flags & SYN:
        row["side"][direction]["flags"] |= SIDE_UNSCALED


@kernel
def _client(row: np.void) -> int:
    return np.int64(row["flipped"])


@kernel
def reused(
    flags: int, seq: int, ack: int, flow: int, direction: int, flows: NDArray[np.void]
) -> int:
    """Judge a SYN on a flow that exists: 0 nothing, 1 a new connection, 2 another answer to it.

    The same ends with another initial number are another connection (RFC 9293, 3.4.1). A second
    SYN, ACK with another number is not to Wireshark, whose relative numbers count from it: it may
    be a stray one, or that of a connection whose SYN was not captured. Which, the next segment
    tells: see SIDE_AGAIN in `deliver`.
    """
    side = flows[flow]["side"][direction]
    if not side["flags"] & SIDE_ISN:
        return 0
    kind = flags & (SYN | ACK)
    if kind == SYN:
        if seq != side["isn"]:
            return 1
        side["next_seq"] = side["to_ack"]  # the opening is tried again
        return 0
    if kind == SYN | ACK and seq != side["isn"]:
        other = flows[flow]["side"][1 - direction]
        side["isn"] = seq
        side["again"] = (seq + 1) & _WORD
        other["again"] = ack
        side["flags"] |= SIDE_AGAIN
        other["flags"] |= SIDE_AGAIN
        return 2
    return 0


@kernel
def relative(number: int, flow: int, direction: int, flows: NDArray[np.void]) -> int:
    """Return a sequence number counted from the initial one of a direction."""
    side = flows[flow]["side"][direction]
    return (number - np.int64(side["isn"])) & _WORD if side["flags"] & SIDE_ISN else number
