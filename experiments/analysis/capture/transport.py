"""TCP segments and UDP datagrams: their flow, and what they add to it. Compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from experiments.analysis.capture import assembly, tcp
from experiments.analysis.capture import flows as table
from experiments.analysis.capture.layout import (
    ACK,
    FIN,
    MALFORMED,
    NONE,
    PORTS_REUSED,
    RST,
    SYN,
    TCP,
    TUNNELLED,
    UDP,
)
from experiments.analysis.capture.link import STOP, u16, u32, udp_tunnel
from experiments.analysis.compiled.jit import Row, i64, kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray


@kernel
def segment(
    window: NDArray[Any], at: int, end: int, wire: int, source: int, target: int,
    version: int, base: int, whole: bool, quoted: bool, outer: int, frame: int,
    packet: Row, flows: NDArray[Any], slots: NDArray[Any],
    pending: NDArray[Any], extents: NDArray[Any], state: NDArray[Any],
) -> None:  # fmt: skip
    """Read a TCP header, find its flow, analyse and deliver."""
    time = i64(packet["time"])
    if end - at < 16:
        packet["status"] |= MALFORMED if wire - at < 16 else 0
        return
    source_port, target_port = u16(window, at), u16(window, at + 2)
    seq, ack = u32(window, at + 4), u32(window, at + 8)
    flags = u16(window, at + 12) & 0x0FFF
    header = (i64(window[at + 12]) >> 4) * 4
    width = u16(window, at + 14)
    flow, direction, slot = table.find(
        window, source, target, version, TCP, source_port, target_port, flows, slots, state
    )
    status = judged = 0
    if flow >= 0:
        judged = tcp.reused(flags, seq, ack, flow, direction, flows)
        if judged:
            status |= PORTS_REUSED
        if judged == 1:
            flow = -1
    if flow < 0:
        direction = i64(0)
        flow = table.add(
            window, source, target, version, TCP, source_port, target_port, slot, frame, time,
            flows, slots, state,
        )  # fmt: skip
        if flags & SYN and flags & ACK:
            flows[flow]["flipped"] = 1
    packet["flow"] = flow
    packet["direction"] = direction
    packet["seq"] = seq
    packet["ack"] = ack
    packet["tcp_flags"] = flags
    packet["window"] = width
    if outer != NONE:
        packet["outer"] = outer
        packet["status"] |= TUNNELLED
    row = flows[flow]
    packet["prev"] = row["last_packet"]
    row["last_packet"] = frame - 1
    row["last_frame"] = frame
    row["last_time"] = time
    if quoted or not whole:
        return
    if wire - at < header:
        packet["status"] |= MALFORMED
        if header >= 20:  # flags and time are there all the same
            tcp.opened(flags, frame, time, flow, direction, flows)
        return
    length = wire - at - header
    packet["payload_length"] = length
    status = tcp.analyse(
        seq, ack, length, flags, width, frame, time, status, flow, direction, flows
    )
    packet["seq"] = tcp.relative(seq, flow, direction, flows)
    if flags & ACK:
        packet["ack"] = tcp.relative(ack, flow, 1 - direction, flows)
    side = row["side"][direction]
    side["packets"] += 1
    side["bytes"] = i64(side["bytes"]) + length
    side["frames"] = i64(side["frames"]) + i64(packet["length"])
    if header < 20:
        packet["status"] |= MALFORMED
        return
    start = at + header
    tcp.opened(flags, frame, time, flow, direction, flows)
    if flags & SYN:
        tcp.options(window, at + 20, min(start, end), end >= start, flags, flow, direction, flows)
    if end < start:
        return  # its options are cut off; Wireshark says nothing of such a segment either
    packet["status"] |= status
    if judged == 2 and flags & (FIN | RST):
        return  # and nobody takes its bytes (RFC 9293, 3.10.7.4)
    captured = min(end, wire) - start
    packet["payload"] = base + start
    packet["payload_captured"] = captured
    assembly.deliver(
        seq, ack, length, captured, flags, base + start, frame, flow, direction, flows, pending,
        extents, state,
    )  # fmt: skip


@kernel
def datagram(
    window: NDArray[Any], at: int, end: int, wire: int, source: int, target: int,
    version: int, base: int, whole: bool, quoted: bool, outer: int, frame: int,
    packet: Row, flows: NDArray[Any], slots: NDArray[Any],
    extents: NDArray[Any], state: NDArray[Any],
) -> tuple[int, int, int, int]:  # fmt: skip
    """Read a UDP header and find its flow. Return what it carries (a tunnel), where, and ends."""
    if end - at < 8:
        packet["status"] |= MALFORMED if wire - at < 8 else 0
        return STOP, at, end, wire
    source_port, target_port = u16(window, at), u16(window, at + 2)
    told = u16(window, at + 4)
    if told < 8 and (told != 0 or version == 4):  # 0: a jumbogram (RFC 2675)
        packet["status"] |= MALFORMED
        return STOP, at, end, wire
    if told and not quoted and whole:
        if at + told > wire:
            packet["status"] |= MALFORMED
        wire = min(wire, at + told)
        end = min(end, wire)
    flow, direction, slot = table.find(
        window, source, target, version, UDP, source_port, target_port, flows, slots, state
    )
    time = i64(packet["time"])
    if flow < 0:
        direction = i64(0)
        flow = table.add(
            window, source, target, version, UDP, source_port, target_port, slot, frame, time,
            flows, slots, state,
        )  # fmt: skip
    packet["flow"] = flow
    packet["direction"] = direction
    if outer != NONE:
        packet["outer"] = outer
        packet["status"] |= TUNNELLED
    row = flows[flow]
    packet["prev"] = row["last_packet"]
    row["last_packet"] = frame - 1
    row["last_frame"] = frame
    row["last_time"] = time
    if quoted:
        return STOP, at, end, wire
    start = at + 8
    side = row["side"][direction]
    side["packets"] += 1
    side["bytes"] = i64(side["bytes"]) + max(wire - start, 0)
    side["frames"] = i64(side["frames"]) + i64(packet["length"])
    packet["payload"] = base + start
    packet["payload_captured"] = max(end - start, 0)
    packet["payload_length"] = max(wire - start, 0)
    if end > start:
        assembly.datagram(base + start, end - start, frame, flow, direction, flows, extents, state)
    if not whole:
        return STOP, at, end, wire
    what, inner = udp_tunnel(window, source_port, target_port, start, end)
    return what, inner, end, wire
