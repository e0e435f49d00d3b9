"""Frames and capture files made by hand, to the byte, for the tests of the engine.

Nothing here is the engine's: what it writes is written a second time, from the RFCs.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
WORD = 0xFFFFFFFF


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip4(  # noqa: PLR0913 - each by its name
    source: str,
    target: str,
    protocol: int,
    data: bytes,
    *,
    ident: int = 1,
    offset: int = 0,
    more: bool = False,
    options: bytes = b"",
    total: int | None = None,
) -> bytes:
    """Return an IPv4 packet; offset is in bytes."""
    options += bytes(-len(options) % 4)
    header = struct.pack(
        ">BBHHHBBH4s4s",
        0x45 + len(options) // 4,
        0,
        20 + len(options) + len(data) if total is None else total,
        ident,
        (0x2000 if more else 0) | offset // 8,
        64,
        protocol,
        0,
        ipaddress.IPv4Address(source).packed,
        ipaddress.IPv4Address(target).packed,
    )
    summed = checksum(header + options)
    return header[:10] + struct.pack(">H", summed) + header[12:] + options + data


def ip6(source: str, target: str, following: int, data: bytes) -> bytes:
    """Return an IPv6 packet."""
    return (
        struct.pack(">IHBB", 6 << 28, len(data), following, 64)
        + ipaddress.IPv6Address(source).packed
        + ipaddress.IPv6Address(target).packed
        + data
    )


def ip(source: str, target: str, protocol: int, data: bytes) -> bytes:
    """Return an IPv4 or IPv6 packet, as the addresses are."""
    make = ip6 if ":" in source else ip4
    return make(source, target, protocol, data)


def tcp(  # noqa: PLR0913, PLR0917 - in the order of the header
    sport: int,
    dport: int,
    seq: int,
    ack: int,
    flags: int,
    data: bytes = b"",
    *,
    window: int = 1000,
    options: bytes = b"",
) -> bytes:
    """Return a TCP segment; its checksum is 0."""
    options += bytes(-len(options) % 4)
    return (
        struct.pack(
            ">HHIIHHHH",
            sport,
            dport,
            seq & WORD,
            ack & WORD,
            (5 + len(options) // 4) << 12 | flags,
            window,
            0,
            0,
        )
        + options
        + data
    )


def udp(sport: int, dport: int, data: bytes) -> bytes:
    """Return a UDP datagram; its checksum is 0."""
    return struct.pack(">HHHH", sport, dport, 8 + len(data), 0) + data


def ethernet(data: bytes, kind: int | None = None, tags: tuple[tuple[int, int], ...] = ()) -> bytes:
    """Return an Ethernet frame; tags are (EtherType, VLAN)."""
    if kind is None:
        kind = 0x86DD if data[0] >> 4 == 6 else 0x0800
    head = bytes.fromhex("0200000000020200000000 01".replace(" ", ""))
    for tag, vlan in tags:
        head += struct.pack(">HH", tag, vlan)
    return head + struct.pack(">H", kind) + data


def fragments4(packet: bytes, size: int, ident: int) -> list[bytes]:
    """Cut an IPv4 packet without options into fragments of `size` bytes, a multiple of 8."""
    source, target = (str(ipaddress.IPv4Address(packet[n : n + 4])) for n in (12, 16))
    data = packet[20:]
    return [
        ip4(
            source,
            target,
            packet[9],
            data[at : at + size],
            ident=ident,
            offset=at,
            more=at + size < len(data),
        )
        for at in range(0, len(data), size)
    ]


def fragments6(packet: bytes, size: int, ident: int) -> list[bytes]:
    """Cut an IPv6 packet without extension headers into fragments."""
    source, target = (str(ipaddress.IPv6Address(packet[n : n + 16])) for n in (8, 24))
    data, out = packet[40:], []
    for at in range(0, len(data), size):
        more = at + size < len(data)
        head = struct.pack(">BBHI", packet[6], 0, at | more, ident)
        out.append(ip6(source, target, 44, head + data[at : at + size]))
    return out


# --- link layers ------------------------------------------------------------------------------


def _version(data: bytes) -> int:
    return 0x86DD if data[0] >> 4 == 6 else 0x0800


LINKS = {
    "ethernet": (1, ethernet),
    "vlan": (1, lambda d: ethernet(d, tags=((0x8100, 5),))),
    "qinq": (1, lambda d: ethernet(d, tags=((0x88A8, 7), (0x8100, 5)))),
    "snap": (
        1,
        lambda d: (
            bytes.fromhex("020000000002020000000001")
            + struct.pack(">H", len(d) + 8)
            + b"\xaa\xaa\x03\0\0\0"
            + struct.pack(">H", _version(d))
            + d
        ),
    ),
    "pppoe": (
        1,
        lambda d: ethernet(
            struct.pack(">BBHHH", 0x11, 0, 7, len(d) + 2, 0x57 if d[0] >> 4 == 6 else 0x21) + d,
            0x8864,
        ),
    ),
    "mpls": (1, lambda d: ethernet(struct.pack(">II", 16 << 12, 17 << 12 | 0x100) + d, 0x8847)),
    "raw": (101, lambda d: d),
    "raw bsd": (12, lambda d: d),
    "ipv4 or 6": (228, lambda d: d),
    "null little": (0, lambda d: struct.pack("<I", 24 if d[0] >> 4 == 6 else 2) + d),
    "null big": (0, lambda d: struct.pack(">I", 30 if d[0] >> 4 == 6 else 2) + d),
    "loop": (108, lambda d: struct.pack(">I", 24 if d[0] >> 4 == 6 else 2) + d),
    "cooked": (113, lambda d: struct.pack(">HHH8sH", 0, 1, 6, bytes(8), _version(d)) + d),
    "cooked 2": (276, lambda d: struct.pack(">HHIHBB8s", _version(d), 0, 1, 1, 0, 6, bytes(8)) + d),
    "ppp": (9, lambda d: struct.pack(">BBH", 0xFF, 3, 0x57 if d[0] >> 4 == 6 else 0x21) + d),
    "hdlc": (104, lambda d: struct.pack(">BBH", 0x0F, 0, _version(d)) + d),
    "wireless": (
        105,
        lambda d: (
            bytes.fromhex("08010000")
            + bytes.fromhex("020000000001020000000002020000000003")
            + b"\x10\x00\xaa\xaa\x03\0\0\0"
            + struct.pack(">H", _version(d))
            + d
        ),
    ),
    "radiotap": (
        127,
        lambda d: (
            bytes.fromhex("0000080000000000")
            + bytes.fromhex("88010000")
            + bytes.fromhex("020000000001020000000002020000000003")
            + b"\x10\x00\0\0\xaa\xaa\x03\0\0\0"
            + struct.pack(">H", _version(d))
            + d
        ),
    ),
}

OUTER = ("192.0.2.1", "192.0.2.2")
TUNNELS = {
    "ip in ip": lambda d: ip4(*OUTER, 41 if d[0] >> 4 == 6 else 4, d),
    "6 in 6": lambda d: ip6("2001:db8::1", "2001:db8::2", 41 if d[0] >> 4 == 6 else 4, d),
    "gre": lambda d: ip4(*OUTER, 47, struct.pack(">HH", 0, _version(d)) + d),
    "gre key": lambda d: ip4(
        *OUTER, 47, struct.pack(">HHHHII", 0xB000, _version(d), 0, 0, 5, 6) + d
    ),
    "gre ethernet": lambda d: ip4(*OUTER, 47, struct.pack(">HH", 0, 0x6558) + ethernet(d)),
    "vxlan": lambda d: ip4(
        *OUTER, 17, udp(33333, 4789, struct.pack(">II", 0x08000000, 77 << 8) + ethernet(d))
    ),
    "geneve": lambda d: ip4(
        *OUTER, 17, udp(33333, 6081, struct.pack(">BBHI", 0, 0, 0x6558, 77 << 8) + ethernet(d))
    ),
    "gtp": lambda d: ip4(
        *OUTER, 17, udp(2152, 2152, struct.pack(">BBHI", 0x30, 255, len(d), 9) + d)
    ),
    "hop by hop": lambda d: (
        ip6(
            str(ipaddress.IPv6Address(d[8:24])),
            str(ipaddress.IPv6Address(d[24:40])),
            0,
            struct.pack(">BB", d[6], 0) + b"\x01\x04\0\0\0\0" + d[40:],
        )
        if d[0] >> 4 == 6
        else d
    ),
    "authenticated": lambda d: (
        ip4(
            str(ipaddress.IPv4Address(d[12:16])),
            str(ipaddress.IPv4Address(d[16:20])),
            51,
            struct.pack(">BBHII", d[9], 4, 0, 1, 1) + bytes(12) + d[20:],
        )
        if d[0] >> 4 == 4
        else d
    ),
}


# --- capture files ----------------------------------------------------------------------------

Record = tuple[int, bytes, int]  # ns, captured bytes, length on the wire


def pcap(records: list[Record], link: int = 1, *, order: str = "<", nano: bool = False) -> bytes:
    """Return a pcap file."""
    magic = 0xA1B23C4D if nano else 0xA1B2C3D4
    out = [struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 262144, link)]
    for time, data, length in records:
        fraction = time % 10**9 // (1 if nano else 1000)
        out.append(struct.pack(f"{order}IIII", time // 10**9, fraction, len(data), length) + data)
    return b"".join(out)


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    """Return a pcapng block."""
    body += bytes(-len(body) % 4)
    size = len(body) + 12
    return struct.pack(f"{order}II", kind, size) + body + struct.pack(f"{order}I", size)


def option(code: int, value: bytes, order: str = "<") -> bytes:
    """Return an option of a pcapng block."""
    return struct.pack(f"{order}HH", code, len(value)) + value + bytes(-len(value) % 4)


def section(order: str = "<") -> bytes:
    """Return a section header block."""
    return block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(link: int, order: str = "<", *, resolution: int = 6, snap: int = 0) -> bytes:
    """Return an interface description block."""
    options = option(9, bytes([resolution]), order) + option(0, b"", order)
    return block(1, struct.pack(f"{order}HHI", link, 0, snap) + options, order)


def packet_block(
    record: Record,
    number: int = 0,
    order: str = "<",
    *,
    resolution: int = 6,
    comment: str = "",
) -> bytes:
    """Return an enhanced packet block."""
    time, data, length = record
    if resolution & 0x80:
        stamp = (time << (resolution & 0x7F)) // 10**9
    else:
        stamp = time * 10**resolution // 10**9
    body = (
        struct.pack(f"{order}IIIII", number, stamp >> 32, stamp & WORD, len(data), length)
        + data
        + bytes(-len(data) % 4)
    )
    if comment:
        body += option(1, comment.encode(), order) + option(0, b"", order)
    return block(6, body, order)


def pcapng(records: list[Record], link: int = 1, *, order: str = "<", resolution: int = 6) -> bytes:
    """Return a pcapng file of one interface."""
    return (
        section(order)
        + interface(link, order, resolution=resolution)
        + b"".join(packet_block(r, 0, order, resolution=resolution) for r in records)
    )


# --- conversations ----------------------------------------------------------------------------


@dataclass
class Talk:
    """A TCP connection that goes wrong in every way that a network can make it."""

    random: Random
    client: tuple[str, int] = ("10.0.0.1", 30000)
    server: tuple[str, int] = ("10.0.0.2", 30001)
    packets: list[bytes] = field(default_factory=list)

    def send(self, side: int, seq: int, ack: int, flags: int, data: bytes = b"", **more) -> None:  # noqa: ANN003 - as tcp()
        """Append a segment; side 0 is the client."""
        ends = (self.client, self.server) if side == 0 else (self.server, self.client)
        segment = tcp(ends[0][1], ends[1][1], seq, ack, flags, data, **more)
        self.packets.append(ip(ends[0][0], ends[1][0], 6, segment))

    def run(self, turns: int = 12) -> list[bytes]:
        """Return the packets of a whole connection, in the order in which they are captured."""
        random = self.random
        near_wrap = random.random() < 0.3
        isn = [WORD - random.randrange(3000) if near_wrap else random.randrange(WORD) for _ in "ab"]
        options = b"\x02\x04\x05\xb4\x01\x03\x03\x07\x04\x02" if random.random() < 0.7 else b""
        if random.random() < 0.85:
            self.send(0, isn[0], 0, SYN, options=options)
            if random.random() < 0.9:
                self.send(1, isn[1], isn[0] + 1, SYN | ACK, options=options)
            if random.random() < 0.9:
                self.send(0, isn[0] + 1, isn[1] + 1, ACK)
        at = [isn[0] + 1, isn[1] + 1]  # next to send
        sent: list[list[tuple[int, bytes]]] = [[], []]
        for _ in range(turns):
            side = random.randrange(2)
            count = random.randrange(1, 5)
            for _ in range(count):
                data = random.randbytes(random.choice((1, 2, 10, 100, 536)))
                sent[side].append((at[side], data))
                chance = random.random()
                if chance < 0.82:
                    self.send(side, at[side], at[1 - side], ACK | PSH, data, window=self._window())
                at[side] += len(data)
            self._trouble(side, at, sent)
            if random.random() < 0.7:
                self.send(1 - side, at[1 - side], at[side], ACK, window=self._window())
        self._end(at)
        return self._shuffled()

    def _window(self) -> int:
        return self.random.choice((1000, 1000, 1000, 2000, 0, 536))

    def _trouble(self, side: int, at: list[int], sent: list[list[tuple[int, bytes]]]) -> None:
        random = self.random
        chance = random.random()
        other = 1 - side
        if chance < 0.15 and sent[side]:  # the same again
            seq, data = random.choice(sent[side])
            self.send(side, seq, at[other], ACK, data)
        elif chance < 0.3 and len(sent[side]) > 1:  # the same again, cut differently
            start = random.randrange(len(sent[side]) - 1)
            seq, data = sent[side][start][0], b"".join(d for _, d in sent[side][start:])
            skip = random.randrange(len(data))
            self.send(side, seq + skip, at[other], ACK, data[skip:][:1400])
        elif chance < 0.4 and sent[side]:  # other bytes in the same place
            seq, data = random.choice(sent[side])
            self.send(side, seq, at[other], ACK, random.randbytes(len(data) + random.randrange(9)))
        elif chance < 0.5:  # keep-alives
            byte = random.choice((b"", b"\0"))
            self.send(side, at[side] - 1, at[other], ACK, byte)
            self.send(other, at[other], at[side], ACK)
        elif chance < 0.6:  # duplicate ACKs and a fast retransmission
            seq = sent[side][-1][0] if sent[side] else at[side]
            for _ in range(3):
                self.send(other, at[other], seq, ACK)
            if sent[side]:
                self.send(side, seq, at[other], ACK, sent[side][-1][1])
        elif chance < 0.65:  # a probe of a closed window
            self.send(other, at[other], at[side], ACK, window=0)
            self.send(side, at[side], at[other], ACK, b"p")
            self.send(other, at[other], at[side], ACK, window=0)
        elif chance < 0.7:  # bytes that nobody captured
            at[side] += random.randrange(1, 5000)

    def _end(self, at: list[int]) -> None:
        chance = self.random.random()
        if chance < 0.5:
            self.send(0, at[0], at[1], FIN | ACK, b"bye" if chance < 0.1 else b"")
            self.send(1, at[1], at[0] + 1 + (3 if chance < 0.1 else 0), FIN | ACK)
        elif chance < 0.7:
            self.send(self.random.randrange(2), at[0], at[1], RST | ACK)

    def _shuffled(self) -> list[bytes]:
        """Return the packets with some lost, some twice and some a few places late."""
        keyed = []
        for index, packet in enumerate(self.packets):
            if self.random.random() < 0.04:
                continue
            late = self.random.randrange(1, 6) if self.random.random() < 0.12 else 0
            keyed.append((index + late + 0.5 * bool(late), packet))
            if self.random.random() < 0.03:
                keyed.append((index + 0.2, packet))
        return [packet for _, packet in sorted(keyed, key=lambda pair: pair[0])]


def talks(random: Random, pairs: list[tuple[str, str]], count: int = 6) -> list[list[bytes]]:
    """Return conversations; of the same ends one after the other, so that ports are used again."""
    by_ends: dict[tuple[tuple[str, int], tuple[str, int]], list[bytes]] = {}
    for _ in range(count):
        source, target = random.choice(pairs)
        ends = (source, 30000 + random.randrange(3)), (target, 30010 + random.randrange(2))
        by_ends.setdefault(ends, []).extend(Talk(random, *ends).run(random.randrange(3, 14)))
    return list(by_ends.values())


def mixed(streams: list[list[bytes]], random: Random) -> list[bytes]:
    """Return the packets of several conversations in one order that keeps each one's own."""
    queues = [list(reversed(stream)) for stream in streams if stream]
    out = []
    while queues:
        queue = random.choice(queues)
        out.append(queue.pop())
        if not queue:
            queues.remove(queue)
    return out


def timed(
    frames: list[bytes], random: Random, start: int = 1_700_000_000_000_000_000
) -> list[Record]:
    """Give frames times, some close together and some far apart, in whole microseconds."""
    records, time = [], start
    for frame in frames:
        time += random.choice(
            (1_000, 50_000, 900_000, 5_000_000, 60_000_000, -400_000, -30_000_000)
        )
        records.append((time, frame, len(frame)))
    return records
