"""IPv4 packets by hand, as no kernel would send them for a program (RFC 791, 768, 9293)."""

from __future__ import annotations

import socket
import struct

SYN, ACK, PSH = 0x02, 0x10, 0x08
UDP, TCP = 17, 6


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _pseudo(source: str, target: str, protocol: int, size: int) -> bytes:
    ends = socket.inet_aton(source) + socket.inet_aton(target)
    return ends + struct.pack(">BBH", 0, protocol, size)


def ip(source: str, target: str, protocol: int, body: bytes) -> bytes:
    """Return a packet; the kernel fills in its own checksum (raw(7))."""
    size = 20 + len(body)
    ends = socket.inet_aton(source) + socket.inet_aton(target)
    return struct.pack(">BBHHHBBH", 0x45, 0, size, 0, 0, 64, protocol, 0) + ends + body


def udp(source: tuple[str, int], target: tuple[str, int], data: bytes) -> bytes:
    """Return a datagram that claims to come from `source`."""
    size = 8 + len(data)
    head = struct.pack(">HHHH", source[1], target[1], size, 0)
    total = checksum(_pseudo(source[0], target[0], UDP, size) + head + data)
    head = struct.pack(">HHHH", source[1], target[1], size, total or 0xFFFF)
    return ip(source[0], target[0], UDP, head + data)


def tcp(  # noqa: PLR0913, PLR0917 -- a segment has these
    source: tuple[str, int],
    target: tuple[str, int],
    sequence: int,
    acknowledged: int,
    flags: int,
    data: bytes = b"",
) -> bytes:
    """Return a segment that claims to come from `source`."""
    fields = (source[1], target[1], sequence, acknowledged, 5 << 4, flags, 8192)
    head = struct.pack(">HHIIBBHHH", *fields, 0, 0)
    total = checksum(_pseudo(source[0], target[0], TCP, len(head + data)) + head + data)
    head = struct.pack(">HHIIBBHHH", *fields, total, 0)
    return ip(source[0], target[0], TCP, head + data)
