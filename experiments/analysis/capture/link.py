"""Headers between the wire and the network, and tunnels: what follows, and where. Compiled.

`what` is the header that comes next: an EtherType, or one of the other name spaces moved out of
its way by LINK (link types) and IP (protocols of IP), or a code of its own. Every function takes
one and returns the next, STOP where nothing is known to follow.

Sources: the RFCs named beside each header; IEEE 802.1Q, 802.11; www.tcpdump.org/linktypes.html.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from experiments.analysis.compiled.jit import i64, kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The name spaces of `what`.
LINK: Final = 0x10000
IP: Final = 0x20000
LLC: Final = 0x30001
PPP: Final = 0x30002
EITHER_IP: Final = 0x30003
STOP: Final = -1
IPV4: Final = 0x0800
IPV6: Final = 0x86DD
ETHERNET: Final = LINK + 1


@kernel
def u16(window: NDArray[Any], at: int) -> int:
    """Return two bytes as a number, in network order."""
    return (i64(window[at]) << 8) | i64(window[at + 1])


@kernel
def u32(window: NDArray[Any], at: int) -> int:
    """Return four bytes as a number, in network order."""
    return (u16(window, at) << 16) | u16(window, at + 2)


@kernel
def link(window: NDArray[Any], kind: int, at: int, end: int) -> tuple[int, int]:
    """Return what follows the header of a link type, and where; STOP, where it is cut off."""
    left = end - at
    if kind in (12, 14, 101):  # raw IP
        return EITHER_IP, at
    if kind == 228:
        return IPV4, at
    if kind == 229:
        return IPV6, at
    if kind == 113 and left >= 16:  # Linux cooked, version 1
        return _cooked(u16(window, at + 14), at + 16)
    if kind == 276 and left >= 20:  # Linux cooked, version 2
        return _cooked(u16(window, at), at + 20)
    if kind in (0, 108) and left >= 4:  # BSD loopback: a family in the order of the host
        family = u32(window, at)
        if family > 0xFFFF:
            family = i64(window[at]) | (i64(window[at + 1]) << 8)
        if family == 2:
            return IPV4, at + 4
        if family in (10, 24, 28, 30):
            return IPV6, at + 4
        return family if family > 1536 else STOP, at + 4
    if kind in (9, 50):
        return PPP, at
    if kind == 51 and left >= 6:  # PPPoE without Ethernet
        return 0x8864, at
    if kind == 104 and left >= 4:  # Cisco HDLC
        return u16(window, at + 2), at + 4
    if kind == 109 and left >= 12:  # OpenBSD's encapsulating device
        family = u32(window, at)
        if family > 0xFFFF:
            family = i64(window[at]) | (i64(window[at + 1]) << 8)
        return IPV4 if family == 2 else IPV6 if family == 24 else STOP, at + 12
    if kind == 105:
        return _wireless(window, at, end)
    if kind == 127 and left >= 8:  # radiotap: a little-endian length
        size = i64(window[at + 2]) | (i64(window[at + 3]) << 8)
        return _wireless(window, at + size, end) if size >= 8 else (STOP, at)
    if kind == 119 and left >= 144:  # Prism
        return _wireless(window, at + 144, end)
    if kind == 192 and left >= 8:  # PPI: length and link type, little-endian
        size = i64(window[at + 2]) | (i64(window[at + 3]) << 8)
        inner = i64(window[at + 4])
        if size < 8 or inner == 192:
            return STOP, at
        return LINK + inner, at + size
    if kind == 10 and left >= 13:  # FDDI
        return LLC, at + 13
    if kind == 6 and left >= 14:  # token ring; a source route where the first address bit is set
        route = 0
        if window[at + 8] & 0x80 and left >= 16:
            route = i64(window[at + 14]) & 0x1F
        return LLC, at + 14 + route
    return STOP, at


@kernel
def _cooked(protocol: int, at: int) -> tuple[int, int]:
    if protocol == 4:
        return LLC, at
    return (protocol if protocol > 1536 else STOP), at


@kernel
def _wireless(window: NDArray[Any], at: int, end: int) -> tuple[int, int]:
    """Skip an 802.11 data header; what is protected, or is no data, stops here."""
    if end - at < 24:
        return STOP, at
    control, flags = i64(window[at]), i64(window[at + 1])
    if control & 0x0F != 0x08 or control & 0x40 or flags & 0x40:
        return STOP, at  # not data, without data, or encrypted
    size = 24
    if flags & 0x03 == 0x03:
        size += 6
    if control & 0x80:
        if end - at < size + 2 or window[at + size] & 0x80:
            return STOP, at  # several frames in one
        size += 2
        if flags & 0x80:
            size += 4
    return LLC, at + size


@kernel
def known(kind: int) -> bool:
    """Whether a link type is one that `link` reads."""
    return kind in (
        0, 1, 6, 9, 10, 12, 14, 50, 51, 101, 104, 105, 108, 109, 113, 119, 127, 192, 228, 229, 276,
    )  # fmt: skip


@kernel
def shim(window: NDArray[Any], what: int, at: int, end: int) -> tuple[int, int]:
    """Return what follows a header between link and network, and where; STOP where none does."""
    left = end - at
    if what in (0x8100, 0x88A8, 0x9100) and left >= 4:  # 802.1Q
        inner = u16(window, at + 2)
        return (inner if inner > 1500 else LLC), at + 4
    if what == LLC and left >= 3:
        if window[at] == 0xAA and window[at + 1] == 0xAA and left >= 8:  # SNAP
            if window[at + 3] == 0 and window[at + 4] == 0 and window[at + 5] == 0:
                return u16(window, at + 6), at + 8
            return STOP, at
        if window[at] == 6 and window[at + 1] == 6:
            return IPV4, at + 3
        return STOP, at
    if what in (0x8847, 0x8848) and left >= 4:  # MPLS (RFC 3032)
        bottom = window[at + 2] & 1
        at += 4
        if not bottom:
            return what, at
        if end <= at:
            return STOP, at
        first = i64(window[at]) >> 4
        if first == 4:
            return IPV4, at
        if first == 6:
            return IPV6, at
        if first == 0 and end - at >= 18:  # a pseudowire's control word (RFC 4448)
            return ETHERNET, at + 4
        return STOP, at
    if what == 0x8864 and left >= 6:  # PPPoE session (RFC 2516)
        return PPP, at + 6
    if what in (PPP, 0x880B) and left >= 2:  # RFC 1661, 1662
        if window[at] == 0xFF and window[at + 1] == 0x03:
            at += 2
        if end - at < 2:
            return STOP, at
        inner = i64(window[at])
        if inner & 1:
            at += 1
        else:
            inner = u16(window, at)
            at += 2
        if inner == 0x21:
            return IPV4, at
        if inner == 0x57:
            return IPV6, at
        if inner == 0x281:
            return 0x8847, at
        return STOP, at
    if what == 0x6558:
        return ETHERNET, at
    if what == 0x8926 and left >= 6:  # VN-Tag
        return u16(window, at + 4), at + 6
    if what == 0x88E7 and left >= 4:  # provider backbone
        return ETHERNET, at + 4
    if what == EITHER_IP and left >= 1:
        first = i64(window[at]) >> 4
        return (IPV4 if first == 4 else IPV6 if first == 6 else STOP), at
    return STOP, at


@kernel
def gre(window: NDArray[Any], at: int, end: int) -> tuple[int, int]:
    """Skip a GRE header (RFC 2784, 2890; version 1: RFC 2637)."""
    if end - at < 4:
        return STOP, at
    flags, protocol = u16(window, at), u16(window, at + 2)
    at += 4
    if flags & 0x4000:
        return STOP, at  # source routes (RFC 1701)
    if flags & 0x8000:
        at += 4
    if flags & 0x2000:
        at += 4
    if flags & 0x1000:
        at += 4
    if flags & 0x7 == 1 and flags & 0x0080:
        at += 4
    if protocol == 0x88BE:  # ERSPAN: with a sequence number there is a header of its own
        return ETHERNET, at + (8 if flags & 0x1000 else 0)
    if protocol == 0x883E:  # WCCP: a header of four bytes may come before the packet
        if end - at >= 4 and i64(window[at]) >> 4 != 4:
            at += 4
        return IPV4, at
    return protocol, at


@kernel
def udp_tunnel(
    window: NDArray[Any], source: int, target: int, at: int, end: int
) -> tuple[int, int]:
    """Return what a tunnel over UDP carries and where it begins; STOP when it is none."""
    left = end - at
    if target == 4789 and left >= 8:  # VXLAN (RFC 7348)
        return (ETHERNET, at + 8) if window[at] & 0x08 else (STOP, at)
    if target == 6081 and left >= 8:  # Geneve (RFC 8926)
        if window[at] >> 6:
            return STOP, at
        return u16(window, at + 2), at + 8 + (i64(window[at]) & 0x3F) * 4
    if 2152 in (source, target) and left >= 8:  # GTP-U (3GPP TS 29.281)
        flags = i64(window[at])
        if flags >> 5 != 1 or not flags & 0x10 or window[at + 1] != 255:
            return STOP, at
        at += 8
        if flags & 0x07:
            if end - at < 4:
                return STOP, at
            following = i64(window[at + 3]) if flags & 0x04 else i64(0)
            at += 4
            while following:
                if at >= end or window[at] == 0:
                    return STOP, at
                size = i64(window[at]) * 4
                if end - at < size:
                    return STOP, at
                following = i64(window[at + size - 1])
                at += size
        return EITHER_IP, at
    if 3544 in (source, target) and left >= 8:  # Teredo (RFC 4380)
        if window[at] == 0 and window[at + 1] == 1:
            size = 13 + i64(window[at + 2]) + i64(window[at + 3])
            if left < size + 8:
                return STOP, at
            at += size
        if window[at] == 0 and window[at + 1] == 0:
            at += 8
        if end - at < 40 or i64(window[at]) >> 4 != 6:
            return STOP, at
        return IPV6, at
    if 1701 in (source, target) and left >= 6:  # L2TP (RFC 2661): data messages of version 2
        flags = u16(window, at)
        if flags & 0x800F != 2:
            return STOP, at
        at += 2
        if flags & 0x4000:
            at += 2
        at += 4
        if flags & 0x0800:
            at += 4
        if flags & 0x0200:
            if end - at < 2:
                return STOP, at
            at += 2 + u16(window, at)
        return (PPP, at) if at <= end else (STOP, at)
    if target == 6635 and left >= 4:  # MPLS (RFC 7510)
        return 0x8847, at
    if target == 4754 and left >= 4:  # GRE (RFC 8086)
        return IP + 47, at
    return STOP, at
