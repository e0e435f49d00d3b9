"""From a frame to the conversation in it: link layers, tunnels, IP. Compiled.

`decode` goes over the records of a window. For each it peels one header after the other; `what` is
the header that comes next: an EtherType, or one of the other name spaces moved out of its way by
_LINK, _IP or the _… codes below. It ends at TCP, UDP or what it does not know, and writes the row
of the packet.

A fragment of IPv4 or IPv6 is handed out (PIECE); the pass goes on with the whole datagram, which
then lies in the window's upper part, or without (SKIP).

Sources: the RFCs named beside each header; IEEE 802.1Q, 802.11; www.tcpdump.org/linktypes.html.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from experiments.analysis.capture import flows as table
from experiments.analysis.capture import tcp
from experiments.analysis.capture.jit import kernel
from experiments.analysis.capture.layout import (
    ACK,
    CUT,
    FRAGMENT,
    MALFORMED,
    NONE,
    PORTS_REUSED,
    QUOTED,
    REASSEMBLED,
    SYN,
    TCP,
    TUNNELLED,
    UDP,
    UNKNOWN_LINK,
)
from experiments.analysis.capture.state import (
    DATAGRAM,
    DONE,
    FLOWS,
    FREE,
    FRESH,
    FRESH_START,
    NEED_EXTENTS,
    NEED_FLOWS,
    NEED_PENDING,
    NEXT,
    PIECE,
    R_AT,
    R_DEPTH,
    R_END,
    R_FROM,
    R_ID,
    R_LAYER,
    R_MORE,
    R_NEXT,
    R_OFFSET,
    R_OUTER,
    R_QUOTED,
    R_STATUS,
    R_TO,
    R_VERSION,
    R_VLAN,
    R_WIRE,
    RESUME,
    ROWS,
    SIDE_BASE,
    SIDE_FROM,
    SKIP,
    USED,
    WAITING,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LINK: Final = 0x10000
_IP: Final = 0x20000
_LLC: Final = 0x30001
_PPP: Final = 0x30002
_EITHER_IP: Final = 0x30003
_STOP: Final = -1
_IPV4: Final = 0x0800
_IPV6: Final = 0x86DD
_ETHERNET: Final = _LINK + 1
_DEEPEST: Final = 24  # headers in one frame; more are an attack
_ROOM: Final = 16  # flows that one frame can add: fewer than _DEEPEST / 2


@kernel
def _u16(window: NDArray[np.uint8], at: int) -> int:
    return (np.int64(window[at]) << 8) | np.int64(window[at + 1])


@kernel
def _u32(window: NDArray[np.uint8], at: int) -> int:
    return (_u16(window, at) << 16) | _u16(window, at + 2)


@kernel
def _link(window: NDArray[np.uint8], kind: int, at: int, end: int) -> tuple[int, int]:
    """Return what follows the header of a link type, and where; _STOP, where it is cut off."""
    left = end - at
    if kind in (12, 14, 101):  # raw IP
        return _EITHER_IP, at
    if kind == 228:
        return _IPV4, at
    if kind == 229:
        return _IPV6, at
    if kind == 113 and left >= 16:  # Linux cooked, version 1
        return _cooked(_u16(window, at + 14), at + 16)
    if kind == 276 and left >= 20:  # Linux cooked, version 2
        return _cooked(_u16(window, at), at + 20)
    if kind in (0, 108) and left >= 4:  # BSD loopback: a family in the order of the host
        family = _u32(window, at)
        if family > 0xFFFF:
            family = np.int64(window[at]) | (np.int64(window[at + 1]) << 8)
        if family == 2:
            return _IPV4, at + 4
        if family in (10, 24, 28, 30):
            return _IPV6, at + 4
        return family if family > 1536 else _STOP, at + 4
    if kind in (9, 50):
        return _PPP, at
    if kind == 51 and left >= 6:  # PPPoE without Ethernet
        return 0x8864, at
    if kind == 104 and left >= 4:  # Cisco HDLC
        return _u16(window, at + 2), at + 4
    if kind == 109 and left >= 12:  # OpenBSD's encapsulating device
        family = _u32(window, at)
        if family > 0xFFFF:
            family = np.int64(window[at]) | (np.int64(window[at + 1]) << 8)
        return _IPV4 if family == 2 else _IPV6 if family == 24 else _STOP, at + 12
    if kind == 105:
        return _wireless(window, at, end)
    if kind == 127 and left >= 8:  # radiotap: a little-endian length
        size = np.int64(window[at + 2]) | (np.int64(window[at + 3]) << 8)
        return _wireless(window, at + size, end) if size >= 8 else (_STOP, at)
    if kind == 119 and left >= 144:  # Prism
        return _wireless(window, at + 144, end)
    if kind == 192 and left >= 8:  # PPI: length and link type, little-endian
        size = np.int64(window[at + 2]) | (np.int64(window[at + 3]) << 8)
        inner = np.int64(window[at + 4])
        if size < 8 or inner == 192:
            return _STOP, at
        return _LINK + inner, at + size
    if kind == 10 and left >= 13:  # FDDI
        return _LLC, at + 13
    if kind == 6 and left >= 14:  # token ring; a source route where the first address bit is set
        route = 0
        if window[at + 8] & 0x80 and left >= 16:
            route = np.int64(window[at + 14]) & 0x1F
        return _LLC, at + 14 + route
    return _STOP, at


@kernel
def _cooked(protocol: int, at: int) -> tuple[int, int]:
    if protocol == 4:
        return _LLC, at
    return (protocol if protocol > 1536 else _STOP), at


@kernel
def _wireless(window: NDArray[np.uint8], at: int, end: int) -> tuple[int, int]:
    """Skip an 802.11 data header; what is protected, or is no data, stops here."""
    if end - at < 24:
        return _STOP, at
    control, flags = np.int64(window[at]), np.int64(window[at + 1])
    if control & 0x0F != 0x08 or control & 0x40 or flags & 0x40:
        return _STOP, at  # not data, without data, or encrypted
    size = 24
    if flags & 0x03 == 0x03:
        size += 6
    if control & 0x80:
        if end - at < size + 2 or window[at + size] & 0x80:
            return _STOP, at  # several frames in one
        size += 2
        if flags & 0x80:
            size += 4
    return _LLC, at + size


@kernel
def _shim(window: NDArray[np.uint8], what: int, at: int, end: int) -> tuple[int, int]:
    """Return what follows a header between link and network, and where; _STOP where none does."""
    left = end - at
    if what in (0x8100, 0x88A8, 0x9100) and left >= 4:  # 802.1Q
        inner = _u16(window, at + 2)
        return (inner if inner > 1500 else _LLC), at + 4
    if what == _LLC and left >= 3:
        if window[at] == 0xAA and window[at + 1] == 0xAA and left >= 8:  # SNAP
            if window[at + 3] == 0 and window[at + 4] == 0 and window[at + 5] == 0:
                return _u16(window, at + 6), at + 8
            return _STOP, at
        if window[at] == 6 and window[at + 1] == 6:
            return _IPV4, at + 3
        return _STOP, at
    if what in (0x8847, 0x8848) and left >= 4:  # MPLS (RFC 3032)
        bottom = window[at + 2] & 1
        at += 4
        if not bottom:
            return what, at
        if end <= at:
            return _STOP, at
        first = np.int64(window[at]) >> 4
        if first == 4:
            return _IPV4, at
        if first == 6:
            return _IPV6, at
        if first == 0 and end - at >= 18:  # a pseudowire's control word (RFC 4448)
            return _ETHERNET, at + 4
        return _STOP, at
    if what == 0x8864 and left >= 6:  # PPPoE session (RFC 2516)
        return _PPP, at + 6
    if what in (_PPP, 0x880B) and left >= 2:  # RFC 1661, 1662
        if window[at] == 0xFF and window[at + 1] == 0x03:
            at += 2
        if end - at < 2:
            return _STOP, at
        inner = np.int64(window[at])
        if inner & 1:
            at += 1
        else:
            inner = _u16(window, at)
            at += 2
        if inner == 0x21:
            return _IPV4, at
        if inner == 0x57:
            return _IPV6, at
        if inner == 0x281:
            return 0x8847, at
        return _STOP, at
    if what == 0x6558:
        return _ETHERNET, at
    if what == 0x8926 and left >= 6:  # VN-Tag
        return _u16(window, at + 4), at + 6
    if what == 0x88E7 and left >= 4:  # provider backbone
        return _ETHERNET, at + 4
    if what == _EITHER_IP and left >= 1:
        first = np.int64(window[at]) >> 4
        return (_IPV4 if first == 4 else _IPV6 if first == 6 else _STOP), at
    return _STOP, at


@kernel
def _gre(window: NDArray[np.uint8], at: int, end: int) -> tuple[int, int]:
    """Skip a GRE header (RFC 2784, 2890; version 1: RFC 2637)."""
    if end - at < 4:
        return _STOP, at
    flags, protocol = _u16(window, at), _u16(window, at + 2)
    at += 4
    if flags & 0x4000:
        return _STOP, at  # source routes (RFC 1701)
    if flags & 0x8000:
        at += 4
    if flags & 0x2000:
        at += 4
    if flags & 0x1000:
        at += 4
    if flags & 0x7 == 1 and flags & 0x0080:
        at += 4
    if protocol == 0x88BE:  # ERSPAN: with a sequence number there is a header of its own
        return _ETHERNET, at + (8 if flags & 0x1000 else 0)
    if protocol == 0x883E:  # WCCP: a header of four bytes may come before the packet
        if end - at >= 4 and np.int64(window[at]) >> 4 != 4:
            at += 4
        return _IPV4, at
    return protocol, at


@kernel
def _udp_tunnel(
    window: NDArray[np.uint8], source: int, target: int, at: int, end: int
) -> tuple[int, int]:
    """Return what a tunnel over UDP carries and where it begins; _STOP when it is none."""
    left = end - at
    if target == 4789 and left >= 8:  # VXLAN (RFC 7348)
        return (_ETHERNET, at + 8) if window[at] & 0x08 else (_STOP, at)
    if target == 6081 and left >= 8:  # Geneve (RFC 8926)
        if window[at] >> 6:
            return _STOP, at
        return _u16(window, at + 2), at + 8 + (np.int64(window[at]) & 0x3F) * 4
    if 2152 in (source, target) and left >= 8:  # GTP-U (3GPP TS 29.281)
        flags = np.int64(window[at])
        if flags >> 5 != 1 or not flags & 0x10 or window[at + 1] != 255:
            return _STOP, at
        at += 8
        if flags & 0x07:
            if end - at < 4:
                return _STOP, at
            following = np.int64(window[at + 3]) if flags & 0x04 else np.int64(0)
            at += 4
            while following:
                if at >= end or window[at] == 0:
                    return _STOP, at
                size = np.int64(window[at]) * 4
                if end - at < size:
                    return _STOP, at
                following = np.int64(window[at + size - 1])
                at += size
        return _EITHER_IP, at
    if 3544 in (source, target) and left >= 8:  # Teredo (RFC 4380)
        if window[at] == 0 and window[at + 1] == 1:
            size = 13 + np.int64(window[at + 2]) + np.int64(window[at + 3])
            if left < size + 8:
                return _STOP, at
            at += size
        if window[at] == 0 and window[at + 1] == 0:
            at += 8
        if end - at < 40 or np.int64(window[at]) >> 4 != 6:
            return _STOP, at
        return _IPV6, at
    if 1701 in (source, target) and left >= 6:  # L2TP (RFC 2661): data messages of version 2
        flags = _u16(window, at)
        if flags & 0x800F != 2:
            return _STOP, at
        at += 2
        if flags & 0x4000:
            at += 2
        at += 4
        if flags & 0x0800:
            at += 4
        if flags & 0x0200:
            if end - at < 2:
                return _STOP, at
            at += 2 + _u16(window, at)
        return (_PPP, at) if at <= end else (_STOP, at)
    if target == 6635 and left >= 4:  # MPLS (RFC 7510)
        return 0x8847, at
    if target == 4754 and left >= 4:  # GRE (RFC 8086)
        return _IP + 47, at
    return _STOP, at


@kernel
def _segment(
    window: NDArray[np.uint8], at: int, end: int, wire: int, source: int, target: int,
    version: int, base: int, whole: bool, quoted: bool, outer: int, frame: int,
    packet: np.void, flows: NDArray[np.void], slots: NDArray[np.uint32],
    pending: NDArray[np.void], extents: NDArray[np.void], state: NDArray[np.int64],
) -> None:  # fmt: skip
    """Read a TCP header, find its flow, analyse and deliver."""
    time = np.int64(packet["time"])
    if end - at < 16:
        packet["status"] |= MALFORMED if wire - at < 16 else 0
        return
    source_port, target_port = _u16(window, at), _u16(window, at + 2)
    seq, ack = _u32(window, at + 4), _u32(window, at + 8)
    flags = _u16(window, at + 12) & 0x0FFF
    header = (np.int64(window[at + 12]) >> 4) * 4
    width = _u16(window, at + 14)
    flow, direction, slot = table.find(
        window, source, target, version, TCP, source_port, target_port, flows, slots, state
    )
    status = 0
    if flow >= 0:
        judged = tcp.reused(flags, seq, ack, flow, direction, flows)
        if judged:
            status |= PORTS_REUSED
        if judged == 1:
            flow = -1
    if flow < 0:
        direction = np.int64(0)
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
    side["bytes"] += length
    side["frames"] += np.int64(packet["length"])
    if header < 20:
        packet["status"] |= MALFORMED
        return
    start = at + header
    tcp.opened(flags, frame, time, flow, direction, flows)
    if end < start:
        return  # its options are cut off; Wireshark says nothing of such a segment either
    packet["status"] |= status
    if flags & SYN:
        tcp.options(window, at + 20, start, flags, flow, direction, flows)
    captured = min(end, wire) - start
    packet["payload"] = base + start
    packet["payload_captured"] = captured
    tcp.deliver(
        seq, ack, length, captured, flags, base + start, frame, flow, direction, flows, pending,
        extents, state,
    )  # fmt: skip


@kernel
def _datagram(
    window: NDArray[np.uint8], at: int, end: int, wire: int, source: int, target: int,
    version: int, base: int, whole: bool, quoted: bool, outer: int, frame: int,
    packet: np.void, flows: NDArray[np.void], slots: NDArray[np.uint32],
    extents: NDArray[np.void], state: NDArray[np.int64],
) -> tuple[int, int, int, int]:  # fmt: skip
    """Read a UDP header and find its flow. Return what it carries (a tunnel), where, and ends."""
    if end - at < 8:
        packet["status"] |= MALFORMED if wire - at < 8 else 0
        return _STOP, at, end, wire
    source_port, target_port = _u16(window, at), _u16(window, at + 2)
    told = _u16(window, at + 4)
    if told < 8 and (told != 0 or version == 4):  # 0: a jumbogram (RFC 2675)
        packet["status"] |= MALFORMED
        return _STOP, at, end, wire
    if told and not quoted and whole:
        if at + told > wire:
            packet["status"] |= MALFORMED
        wire = min(wire, at + told)
        end = min(end, wire)
    flow, direction, slot = table.find(
        window, source, target, version, UDP, source_port, target_port, flows, slots, state
    )
    time = np.int64(packet["time"])
    if flow < 0:
        direction = np.int64(0)
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
        return _STOP, at, end, wire
    start = at + 8
    side = row["side"][direction]
    side["packets"] += 1
    side["bytes"] += max(wire - start, 0)
    side["frames"] += np.int64(packet["length"])
    packet["payload"] = base + start
    packet["payload_captured"] = max(end - start, 0)
    packet["payload_length"] = max(wire - start, 0)
    if end > start:
        tcp.datagram(base + start, end - start, frame, flow, direction, flows, extents, state)
    if not whole:
        return _STOP, at, end, wire
    what, inner = _udp_tunnel(window, source_port, target_port, start, end)
    return what, inner, end, wire


@kernel
def decode(
    window: NDArray[np.uint8], records: NDArray[np.void], count: int, packets: NDArray[np.void],
    flows: NDArray[np.void], slots: NDArray[np.uint32], pending: NDArray[np.void],
    extents: NDArray[np.void], state: NDArray[np.int64],
) -> int:  # fmt: skip
    """Read records[state[NEXT]:count] into packets of the same places; see the module."""
    for index in range(state[NEXT], count):
        state[NEXT] = index
        record, packet = records[index], packets[index]
        frame = np.int64(state[ROWS]) + index + 1
        if state[FLOWS] + _ROOM > len(flows) or 2 * (state[FLOWS] + _ROOM) > len(slots):
            return NEED_FLOWS
        if state[FREE] < 0 and state[FRESH] >= len(pending):
            return NEED_PENDING
        if state[USED] + 2 * state[WAITING] + 2 * _DEEPEST > len(extents):
            return NEED_EXTENTS
        at = np.int64(record["position"])
        origin = at
        captured, length = np.int64(record["captured"]), np.int64(record["length"])
        base = np.int64(record["address"]) - at
        end, wire = at + captured, at + max(length, captured)
        what = np.int64(_LINK + record["link"])
        vlan = np.int64(0)
        source = target = version = np.int64(0)
        outer = np.int64(NONE)
        depth = np.int64(0)
        whole, quoted = True, False
        resume = np.int64(state[RESUME])
        state[RESUME] = FRESH_START
        if resume == FRESH_START:
            packet["time"] = record["time"]
            packet["address"] = record["address"]
            packet["payload"] = 0
            packet["captured"] = captured
            packet["length"] = length
            packet["flow"] = NONE
            packet["outer"] = NONE
            packet["prev"] = NONE
            packet["seq"] = 0
            packet["ack"] = 0
            packet["payload_captured"] = 0
            packet["payload_length"] = 0
            packet["status"] = record["status"] | (CUT if captured < length else 0)
            packet["net"] = 0
            packet["tcp_flags"] = 0
            packet["window"] = 0
            packet["link"] = record["link"]
            packet["interface"] = record["interface"]
            packet["protocol"] = 255
            packet["direction"] = 0
            packet["layer"] = 0
            packet["spare"] = 0
        elif resume == SKIP:
            continue
        else:
            at, end, wire = np.int64(state[R_AT]), np.int64(state[R_END]), np.int64(state[R_WIRE])
            source, target = np.int64(state[R_FROM]), np.int64(state[R_TO])
            version = np.int64(state[R_VERSION])
            what = _IP + np.int64(state[R_NEXT])
            outer = np.int64(state[R_OUTER])
            depth = np.int64(state[R_DEPTH])
            base = np.int64(state[SIDE_BASE]) - np.int64(state[SIDE_FROM])
            packet["status"] = (packet["status"] & ~np.int64(FRAGMENT)) | REASSEMBLED
        while what >= 0 and depth < _DEEPEST:
            depth += 1
            left = end - at
            if left < 0:
                break
            if what == _ETHERNET:
                if left < 14:
                    packet["status"] |= MALFORMED if wire - at < 14 else 0
                    break
                what = _u16(window, at + 12)
                at += 14
                if what <= 1500:
                    if at + what < wire:
                        wire = at + what
                        end = min(end, wire)
                    what = np.int64(_LLC)
                continue
            if what == _IPV4:
                packet["net"] = _IPV4
                packet["layer"] = (at - origin) & 0xFFFF if resume == FRESH_START else 0
                if left < 20 or np.int64(window[at]) >> 4 != 4:
                    if left >= 1 and (wire - at < 20 or np.int64(window[at]) >> 4 != 4):
                        packet["status"] |= MALFORMED
                    break
                header = (np.int64(window[at]) & 15) * 4
                total = _u16(window, at + 2)
                # Length 0: the sender's card was to cut it into segments and fill it in.
                if header < 20 or (total < header and (total or quoted)):
                    packet["status"] |= MALFORMED
                    break
                if total and not quoted and at + total > wire:
                    packet["status"] |= MALFORMED if whole else 0
                if total:
                    wire = min(wire, at + total)
                    end = min(end, wire)
                version = np.int64(4)
                source, target = at + 12, at + 16
                fraction = _u16(window, at + 6)
                protocol = np.int64(window[at + 9])
                packet["protocol"] = protocol
                start = at + header
                if start > end:
                    break
                if fraction & 0x3FFF and not quoted:
                    packet["status"] |= FRAGMENT
                    if end == wire and (total == 0 or at + total == wire):
                        state[R_ID] = _u16(window, at + 4)
                        state[R_OFFSET] = (fraction & 0x1FFF) * 8
                        state[R_MORE] = 1 if fraction & 0x2000 else 0
                        # As in Wireshark: VLANs keep fragments of IPv4 apart, not those of IPv6.
                        state[R_VLAN] = vlan
                        return _piece(start, end, source, target, version, protocol, outer, depth,
                                      state)  # fmt: skip
                    if fraction & 0x1FFF:
                        break
                    whole = False
                elif fraction & 0x1FFF:
                    break
                at = start
                what = _IP + protocol
                continue
            if what == _IPV6:
                packet["net"] = _IPV6
                packet["layer"] = (at - origin) & 0xFFFF if resume == FRESH_START else 0
                if left < 40 or np.int64(window[at]) >> 4 != 6:
                    if left >= 1 and (wire - at < 40 or np.int64(window[at]) >> 4 != 6):
                        packet["status"] |= MALFORMED
                    break
                total = _u16(window, at + 4)
                version = np.int64(6)
                source, target = at + 8, at + 24
                protocol = np.int64(window[at + 6])
                if total or protocol:  # 0 and options by hop: a jumbogram (RFC 2675)
                    wire = min(wire, at + 40 + total)
                    end = min(end, wire)
                packet["protocol"] = protocol
                at += 40
                what = _IP + protocol
                continue
            if what >= _IP and what < _LLC - 1:
                protocol = what - _IP
                packet["protocol"] = protocol
                if protocol == TCP and version:
                    _segment(window, at, end, wire, source, target, version, base, whole, quoted,
                             outer, frame, packet, flows, slots, pending, extents, state)  # fmt: skip
                    break
                if protocol in (UDP, 136) and version:
                    what, at, end, wire = _datagram(
                        window, at, end, wire, source, target, version, base, whole, quoted,
                        outer, frame, packet, flows, slots, extents, state,
                    )  # fmt: skip
                    if what >= 0:
                        outer = np.int64(packet["flow"])
                    continue
                if protocol in (0, 43, 60) and version == 6:
                    if left < 8:
                        break
                    size = (np.int64(window[at + 1]) + 1) * 8
                    what = _IP + np.int64(window[at])
                    at += size
                    continue
                if protocol == 44 and version == 6:
                    if left < 8:
                        break
                    fraction = _u16(window, at + 2)
                    following = np.int64(window[at])
                    packet["protocol"] = following
                    at += 8
                    if fraction & 0xFFF9 and not quoted:
                        packet["status"] |= FRAGMENT
                        if end == wire:
                            state[R_ID] = _u32(window, at - 4)
                            state[R_OFFSET] = fraction & 0xFFF8
                            state[R_MORE] = fraction & 1
                            state[R_VLAN] = 0
                            return _piece(at, end, source, target, version, following,
                                          outer, depth, state)  # fmt: skip
                        if fraction & 0xFFF8:
                            break
                        whole = False
                    elif fraction & 0xFFF8:
                        break
                    what = _IP + following
                    continue
                if protocol == 51:  # authentication header (RFC 4302)
                    if left < 12:
                        break
                    what = _IP + np.int64(window[at])
                    at += (np.int64(window[at + 1]) + 2) * 4
                    continue
                if protocol == 4:
                    what = np.int64(_IPV4)
                    continue
                if protocol == 41:
                    what = np.int64(_IPV6)
                    continue
                if protocol == 47:
                    what, at = _gre(window, at, end)
                    continue
                if protocol == 137:
                    what = np.int64(0x8847)
                    continue
                if protocol == 97:
                    what = np.int64(_ETHERNET)
                    at += 2
                    continue
                if not quoted and whole:
                    start = _quoted(window, protocol, version, at, end)
                    if start >= 0:
                        quoted = True
                        packet["status"] |= QUOTED
                        at = start
                        what = np.int64(_IPV4 if protocol == 1 else _IPV6)
                        if protocol == 1 and window[at - 8] == 5:
                            # Of a redirect Wireshark reads what RFC 792 promises: 64 bits.
                            end = min(end, at + 28)
                        keep_net, keep = packet["net"], packet["layer"]
                        _quote(window, at, end, wire, base, outer, frame, packet, flows, slots,
                               pending, extents, state)  # fmt: skip
                        packet["protocol"] = protocol
                        packet["net"] = keep_net
                        packet["layer"] = keep
                break
            if what >= _LINK and what < _IP:
                kind = what - _LINK
                what, at = _link(window, kind, at, end)
                if what < 0 and depth == 1 and not _known(kind):
                    packet["status"] |= UNKNOWN_LINK
                continue
            if what < _LINK:
                packet["net"] = what
                packet["layer"] = (at - origin) & 0xFFFF if resume == FRESH_START else 0
                if what in (0x8100, 0x88A8, 0x9100) and left >= 2:
                    vlan = _u16(window, at) & 0x0FFF
            what, at = _shim(window, what, at, end)
    state[NEXT] = count
    return DONE


@kernel
def _known(kind: int) -> bool:
    return kind in (
        0, 1, 6, 9, 10, 12, 14, 50, 51, 101, 104, 105, 108, 109, 113, 119, 127, 192, 228, 229, 276,
    )  # fmt: skip


@kernel
def _piece(
    at: int, end: int, source: int, target: int, version: int, protocol: int, outer: int,
    depth: int, state: NDArray[np.int64],
) -> int:  # fmt: skip
    state[R_AT], state[R_END], state[R_WIRE] = at, end, end
    state[R_FROM], state[R_TO], state[R_VERSION] = source, target, version
    state[R_NEXT], state[R_OUTER] = protocol, outer
    state[R_DEPTH] = depth
    return PIECE


@kernel
def _quoted(window: NDArray[np.uint8], protocol: int, version: int, at: int, end: int) -> int:
    """Return where the packet begins that an ICMP error quotes, or -1 (RFC 792, 4443)."""
    if end - at < 8:
        return -1
    kind = window[at]
    if protocol == 1 and version == 4 and kind in (3, 4, 5, 11, 12):
        return at + 8
    if protocol == 58 and version == 6 and kind in (1, 2, 3, 4):
        return at + 8
    return -1


@kernel
def _quote(
    window: NDArray[np.uint8], at: int, end: int, wire: int, base: int, outer: int, frame: int,
    packet: np.void, flows: NDArray[np.void], slots: NDArray[np.uint32],
    pending: NDArray[np.void], extents: NDArray[np.void], state: NDArray[np.int64],
) -> None:  # fmt: skip
    """Find the flow of a quoted packet, as Wireshark does; nothing of it goes into a stream."""
    if end - at < 20:
        return
    version = np.int64(window[at]) >> 4
    if version == 4:
        header = (np.int64(window[at]) & 15) * 4
        if header < 20 or _u16(window, at + 6) & 0x1FFF:
            return
        protocol = np.int64(window[at + 9])
        source, target = at + 12, at + 16
        start = at + header
    elif version == 6 and end - at >= 40:
        protocol = np.int64(window[at + 6])
        source, target = at + 8, at + 24
        start = at + 40
        # At most a few extension headers; fragments other than the first say no ports.
        for _ in range(4):
            if protocol in (0, 43, 60) and end - start >= 8:
                protocol = np.int64(window[start])
                start += (np.int64(window[start + 1]) + 1) * 8
            elif protocol == 44 and end - start >= 8:
                if _u16(window, start + 2) & 0xFFF8:
                    return
                protocol = np.int64(window[start])
                start += 8
            else:
                break
    else:
        return
    if start > end:
        return
    if protocol == TCP:
        _segment(window, start, end, wire, source, target, version, base, False, True, outer,
                 frame, packet, flows, slots, pending, extents, state)  # fmt: skip
    elif protocol in (UDP, 136):
        _datagram(window, start, end, wire, source, target, version, base, False, True, outer,
                  frame, packet, flows, slots, extents, state)  # fmt: skip
