"""From a frame to the conversation in it. Compiled.

`decode` goes over the records of a window. For each it peels one header after the other
(link.py) until it comes to TCP, UDP (transport.py) or what it does not know, and writes the
row of the packet.

A fragment of IPv4 or IPv6 is handed out (PIECE); the pass goes on with the whole datagram, which
then lies in the window's upper part, or without (SKIP).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from experiments.analysis.capture.layout import (
    CUT,
    FRAGMENT,
    MALFORMED,
    NONE,
    QUOTED,
    REASSEMBLED,
    TCP,
    UDP,
    UNKNOWN_LINK,
)
from experiments.analysis.capture.link import (
    ETHERNET,
    IP,
    IPV4,
    IPV6,
    LINK,
    LLC,
    gre,
    known,
    link,
    shim,
    u16,
    u32,
)
from experiments.analysis.capture.state import (
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
    R_MORE,
    R_NEXT,
    R_OFFSET,
    R_OUTER,
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
from experiments.analysis.capture.transport import datagram, segment
from experiments.analysis.compiled.jit import Row, i64, kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DEEPEST: Final = 24  # headers in one frame; more are an attack
WORD: Final = 0xFFFFFFFF
_ROOM: Final = 16  # flows that one frame can add: fewer than _DEEPEST


@kernel
def decode(
    window: NDArray[Any], records: NDArray[Any], count: int, packets: NDArray[Any],
    flows: NDArray[Any], slots: NDArray[Any], pending: NDArray[Any],
    extents: NDArray[Any], state: NDArray[Any],
) -> int:  # fmt: skip
    """Read records[state[NEXT]:count] into packets of the same places; see the module."""
    for index in range(state[NEXT], count):
        state[NEXT] = index
        record, packet = records[index], packets[index]
        frame = i64(state[ROWS]) + index + 1
        if state[FLOWS] + _ROOM > len(flows) or 2 * (state[FLOWS] + _ROOM) > len(slots):
            return NEED_FLOWS
        if state[FREE] < 0 and state[FRESH] >= len(pending):
            return NEED_PENDING
        if state[USED] + 2 * state[WAITING] + 2 * _DEEPEST > len(extents):
            return NEED_EXTENTS
        at = i64(record["position"])
        origin = at
        captured, length = i64(record["captured"]), i64(record["length"])
        base = i64(record["address"]) - at
        end, wire = at + captured, at + max(length, captured)
        what = LINK + i64(record["link"])
        vlan = i64(0)
        source = target = version = i64(0)
        outer = i64(NONE)
        depth = i64(0)
        whole, quoted = True, False
        resume = i64(state[RESUME])
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
            at, end, wire = i64(state[R_AT]), i64(state[R_END]), i64(state[R_WIRE])
            source, target = i64(state[R_FROM]), i64(state[R_TO])
            version = i64(state[R_VERSION])
            what = IP + i64(state[R_NEXT])
            outer = i64(state[R_OUTER])
            depth = i64(state[R_DEPTH])
            base = i64(state[SIDE_BASE]) - i64(state[SIDE_FROM])
            packet["status"] = (i64(packet["status"]) & (WORD ^ FRAGMENT)) | REASSEMBLED
        while what >= 0 and depth < _DEEPEST:
            depth += 1
            left = end - at
            if left < 0:
                break
            if what == ETHERNET:
                if left < 14:
                    packet["status"] |= MALFORMED if wire - at < 14 else 0
                    break
                what = u16(window, at + 12)
                at += 14
                if what <= 1500:
                    if at + what < wire:
                        wire = at + what
                        end = min(end, wire)
                    what = i64(LLC)
                continue
            if what == IPV4:
                packet["net"] = IPV4
                packet["layer"] = (at - origin) & 0xFFFF if resume == FRESH_START else 0
                if left < 20 or i64(window[at]) >> 4 != 4:
                    if left >= 1 and (wire - at < 20 or i64(window[at]) >> 4 != 4):
                        packet["status"] |= MALFORMED
                    break
                header = (i64(window[at]) & 15) * 4
                total = u16(window, at + 2)
                # Length 0: the sender's card was to cut it into segments and fill it in.
                if header < 20 or (total < header and (total or quoted)):
                    packet["status"] |= MALFORMED
                    break
                if total and not quoted and at + total > wire:
                    packet["status"] |= MALFORMED if whole else 0
                if total:
                    wire = min(wire, at + total)
                    end = min(end, wire)
                version = i64(4)
                source, target = at + 12, at + 16
                fraction = u16(window, at + 6)
                protocol = i64(window[at + 9])
                packet["protocol"] = protocol
                start = at + header
                if start > end:
                    break
                if fraction & 0x3FFF and not quoted:
                    packet["status"] |= FRAGMENT
                    if end == wire and (total == 0 or at + total == wire):
                        state[R_ID] = u16(window, at + 4)
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
                what = IP + protocol
                continue
            if what == IPV6:
                packet["net"] = IPV6
                packet["layer"] = (at - origin) & 0xFFFF if resume == FRESH_START else 0
                if left < 40 or i64(window[at]) >> 4 != 6:
                    if left >= 1 and (wire - at < 40 or i64(window[at]) >> 4 != 6):
                        packet["status"] |= MALFORMED
                    break
                total = u16(window, at + 4)
                version = i64(6)
                source, target = at + 8, at + 24
                protocol = i64(window[at + 6])
                if total or protocol:  # 0 and options by hop: a jumbogram (RFC 2675)
                    wire = min(wire, at + 40 + total)
                    end = min(end, wire)
                packet["protocol"] = protocol
                at += 40
                what = IP + protocol
                continue
            if what >= IP and what < LLC - 1:
                protocol = what - IP
                packet["protocol"] = protocol
                if protocol == TCP and version:
                    segment(
                        window, at, end, wire, source, target, version, base, whole, quoted, outer,
                        frame, packet, flows, slots, pending, extents, state,
                    )  # fmt: skip
                    break
                if protocol in (UDP, 136) and version:
                    what, at, end, wire = datagram(
                        window, at, end, wire, source, target, version, base, whole, quoted,
                        outer, frame, packet, flows, slots, extents, state,
                    )  # fmt: skip
                    if what >= 0:
                        outer = i64(packet["flow"])
                    continue
                if protocol in (0, 43, 60) and version == 6:
                    if left < 8:
                        break
                    size = (i64(window[at + 1]) + 1) * 8
                    what = IP + i64(window[at])
                    at += size
                    continue
                if protocol == 44 and version == 6:
                    if left < 8:
                        break
                    fraction = u16(window, at + 2)
                    following = i64(window[at])
                    packet["protocol"] = following
                    at += 8
                    if fraction & 0xFFF9 and not quoted:
                        packet["status"] |= FRAGMENT
                        if end == wire:
                            state[R_ID] = u32(window, at - 4)
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
                    what = IP + following
                    continue
                if protocol == 51:  # authentication header (RFC 4302)
                    if left < 12:
                        break
                    what = IP + i64(window[at])
                    at += (i64(window[at + 1]) + 2) * 4
                    continue
                if protocol == 4:
                    what = i64(IPV4)
                    continue
                if protocol == 41:
                    what = i64(IPV6)
                    continue
                if protocol == 47:
                    what, at = gre(window, at, end)
                    continue
                if protocol == 137:
                    what = i64(0x8847)
                    continue
                if protocol == 97:
                    what = i64(ETHERNET)
                    at += 2
                    continue
                if not quoted and whole:
                    start = _quoted(window, protocol, version, at, end)
                    if start >= 0:
                        quoted = True
                        packet["status"] |= QUOTED
                        at = start
                        what = i64(IPV4 if protocol == 1 else IPV6)
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
            if what >= LINK and what < IP:
                kind = what - LINK
                what, at = link(window, kind, at, end)
                if what < 0 and depth == 1 and not known(kind):
                    packet["status"] |= UNKNOWN_LINK
                continue
            if what < LINK:
                packet["net"] = what
                packet["layer"] = (at - origin) & 0xFFFF if resume == FRESH_START else 0
                if what in (0x8100, 0x88A8, 0x9100) and left >= 2:
                    vlan = u16(window, at) & 0x0FFF
            what, at = shim(window, what, at, end)
    state[NEXT] = count
    return DONE


@kernel
def _piece(
    at: int, end: int, source: int, target: int, version: int, protocol: int, outer: int,
    depth: int, state: NDArray[Any],
) -> int:  # fmt: skip
    state[R_AT], state[R_END], state[R_WIRE] = at, end, end
    state[R_FROM], state[R_TO], state[R_VERSION] = source, target, version
    state[R_NEXT], state[R_OUTER] = protocol, outer
    state[R_DEPTH] = depth
    return PIECE


@kernel
def _quoted(window: NDArray[Any], protocol: int, version: int, at: int, end: int) -> int:
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
    window: NDArray[Any], at: int, end: int, wire: int, base: int, outer: int, frame: int,
    packet: Row, flows: NDArray[Any], slots: NDArray[Any],
    pending: NDArray[Any], extents: NDArray[Any], state: NDArray[Any],
) -> None:  # fmt: skip
    """Find the flow of a quoted packet, as Wireshark does; nothing of it goes into a stream."""
    if end - at < 20:
        return
    version = i64(window[at]) >> 4
    if version == 4:
        header = (i64(window[at]) & 15) * 4
        if header < 20 or u16(window, at + 6) & 0x1FFF:
            return
        protocol = i64(window[at + 9])
        source, target = at + 12, at + 16
        start = at + header
    elif version == 6 and end - at >= 40:
        protocol = i64(window[at + 6])
        source, target = at + 8, at + 24
        start = at + 40
        # At most a few extension headers; fragments other than the first say no ports.
        for _ in range(4):
            if protocol in (0, 43, 60) and end - start >= 8:
                protocol = i64(window[start])
                start += (i64(window[start + 1]) + 1) * 8
            elif protocol == 44 and end - start >= 8:
                if u16(window, start + 2) & 0xFFF8:
                    return
                protocol = i64(window[start])
                start += 8
            else:
                break
    else:
        return
    if start > end:
        return
    if protocol == TCP:
        segment(window, start, end, wire, source, target, version, base, False, True, outer,
                 frame, packet, flows, slots, pending, extents, state)  # fmt: skip
    elif protocol in (UDP, 136):
        datagram(window, start, end, wire, source, target, version, base, False, True, outer,
                  frame, packet, flows, slots, extents, state)  # fmt: skip
