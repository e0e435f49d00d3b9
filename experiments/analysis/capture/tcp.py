"""What one TCP segment is, as Wireshark's analysis names it. Compiled.

A segment is compared with what the connection did so far: it may repeat, come late, keep the
connection alive, … Sequence numbers are compared modulo 2**32 (RFC 9293, 3.4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from experiments.analysis.capture.layout import (
    ACK,
    ACKED_UNSEEN,
    DUPLICATE_ACK,
    FAST_RETRANSMISSION,
    FIN,
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
from experiments.analysis.compiled.jit import Row, i64, kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

WORD: Final = 0xFFFFFFFF
HALF: Final = 0x80000000
_CONTROL: Final = SYN | FIN | RST
# Wireshark's times, in ns: until when a segment is out of order and not sent again while the round
# trip is unknown, and how soon after the last duplicate ACK a retransmission is a fast one.
_CLOSE: Final = 3_000_000
_FAST: Final = 20_000_000
# A SYN that lies so few bytes before the first byte that was captured belongs to it.
_CLOSE_BY: Final = 1 << 20


@kernel
def before(one: int, other: int) -> bool:
    """Whether a sequence number lies before another."""
    return ((one - other) & WORD) >= HALF


@kernel
def options(
    window: NDArray[Any], at: int, end: int, whole: bool, flags: int, flow: int, direction: int,
    flows: NDArray[Any],
) -> None:  # fmt: skip
    """Read MSS, window scale and SACK permitted of a SYN (RFC 9293, 3.2; RFC 7323; RFC 2018).

    Where the capture cut it, not whole, what is not there may still have been sent.
    """
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
        size = i64(window[at + 1])
        if size < 2 or at + size > end:
            break
        if kind == 2 and size == 4:
            side["mss"] = (i64(window[at + 2]) << 8) | i64(window[at + 3])
        elif kind == 3 and size == 3:
            found = min(i64(window[at + 2]), 14)
        elif kind == 4 and size == 2:
            side["flags"] |= SIDE_SACK
        at += size
    side["shift"] = found
    if found >= 0:
        side["scale"] = found
    if not whole:
        return
    # Scaling is in force only if both SYNs asked for it (RFC 7323, 2.2).
    if side["scale"] == UNKNOWN_SCALE:
        side["scale"] = NO_SCALE
        other["scale"] = NO_SCALE
    elif flags & ACK and other["scale"] == NO_SCALE:
        side["scale"] = NO_SCALE


@kernel
def analyse(
    seq: int, ack: int, length: int, flags: int, width: int, frame: int, time: int, status: int,
    flow: int, direction: int, flows: NDArray[Any],
) -> int:  # fmt: skip
    """Name what a segment is, and remember what the next one is compared with."""
    row = flows[flow]
    side, other = row["side"][direction], row["side"][1 - direction]
    if not side["flags"] & SIDE_ISN:
        side["isn"] = seq if flags & SYN else (seq - 1) & WORD
        side["flags"] |= SIDE_ISN
    if not other["flags"] & SIDE_ISN and flags & ACK:
        other["isn"] = (ack - 1) & WORD
        other["flags"] |= SIDE_ISN
    next_seq = i64(side["next_seq"])
    control = flags & _CONTROL
    if length == 1 and seq == next_seq and other["window"] == 0:
        status |= ZERO_WINDOW_PROBE
    else:
        status |= _state_of(seq, ack, length, flags, width, flow, direction, flows)
    if ack != side["last_ack"]:
        side["duplicates"] = 0
    to_ack = i64(other["to_ack"])
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
    end = (seq + length) & WORD
    if flags & (SYN | FIN):
        end = (end + 1) & WORD
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
    flow: int, direction: int, flows: NDArray[Any],
) -> int:  # fmt: skip
    """Name what a segment says of windows, holes, keep-alives and duplicates."""
    row = flows[flow]
    side, other = row["side"][direction], row["side"][1 - direction]
    next_seq = i64(side["next_seq"])
    plain = flags & _CONTROL == 0
    status = 0
    if width == 0 and plain:
        status |= ZERO_WINDOW
    if next_seq and before(next_seq, seq) and not flags & RST:
        status |= LOST_BEFORE
    if length <= 1 and seq == (next_seq - 1) & WORD and plain:
        status |= KEEP_ALIVE
    known = i64(side["window"])
    repeats = length == 0 and seq == next_seq and ack == side["last_ack"] and plain
    if repeats and width and width != known:
        status |= WINDOW_UPDATE
    scale = i64(other["scale"])
    if length > 0 and plain and scale != UNKNOWN_SCALE:
        if other["flags"] & SIDE_UNSCALED or scale < 0:
            scale = i64(0)
        if (seq + length - i64(other["last_ack"]) - (i64(other["window"]) << scale)) & (WORD) == 0:
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
    flow: int, direction: int, flows: NDArray[Any],
) -> int:  # fmt: skip
    """Tell whether a segment repeats what was there, and how."""
    row = flows[flow]
    side, other = row["side"][direction], row["side"][1 - direction]
    next_seq = i64(side["next_seq"])
    last_ack = i64(other["last_ack"])
    old = next_seq != 0 and before(seq, next_seq)
    if length > 1 and (next_seq - 1) & WORD == seq:
        old = False  # perhaps the byte of a zero window probe, now with the rest
    end = (seq + length) & WORD
    if length > 0 and last_ack and not before(last_ack, end):
        return SPURIOUS_RETRANSMISSION
    if not old:
        return 0
    since = time - i64(other["ack_time"])
    # -1 is many to Wireshark, which counts without a sign.
    repeated = other["duplicates"] >= 2 or other["duplicates"] < 0
    if repeated and last_ack == seq and _sooner(since, i64(_FAST)):
        return FAST_RETRANSMISSION
    since = time - i64(side["next_time"])
    close = i64(row["round_trip"])
    if close == 0:
        close = i64(_CLOSE)
    if flags & (SYN | FIN):
        end = (end + 1) & WORD
    if _sooner(since, close) and next_seq != end:
        return OUT_OF_ORDER
    return RETRANSMISSION


@kernel
def opened(
    flags: int, frame: int, time: int, flow: int, direction: int, flows: NDArray[Any]
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
        row["side"][direction]["flags"] &= 0xFFFF ^ SIDE_UNSCALED
    if flags & SYN:
        row["side"][direction]["flags"] |= SIDE_UNSCALED


@kernel
def _client(row: Row) -> int:
    return i64(row["flipped"])


@kernel
def reused(flags: int, seq: int, ack: int, flow: int, direction: int, flows: NDArray[Any]) -> int:
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
        late = (i64(side["isn"]) - seq) & WORD < _CLOSE_BY
        side["isn"] = seq
        if flags & (FIN | RST):
            return 2  # nobody sends that to open a connection
        if not late or i64(side["stream"]) + i64(side["missing"]) == 0:
            side["again"] = (seq + 1) & WORD
            side["flags"] |= SIDE_AGAIN
        # Where it acknowledges what the other end sent before, that end goes on as it was.
        first = (i64(other["isn"]) + 1) & WORD
        known = other["flags"] & SIDE_ISN and not before(ack, first)
        if not known or (
            before(i64(other["next_seq"]), ack) and before(i64(side["last_ack"]), ack)
        ):
            other["again"] = ack
            other["flags"] |= SIDE_AGAIN
        return 2
    return 0


@kernel
def relative(number: int, flow: int, direction: int, flows: NDArray[Any]) -> int:
    """Return a sequence number counted from the initial one of a direction."""
    side = flows[flow]["side"][direction]
    return (number - i64(side["isn"])) & WORD if side["flags"] & SIDE_ISN else number
