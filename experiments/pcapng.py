"""From the classic pcap stream that tcpdump writes to pcapng, packet by packet.

`tcpdump -w - -U` speaks classic pcap (draft-ietf-opsawg-pcap), which says neither which adapter
was listened on nor how many packets were lost. pcapng (draft-ietf-opsawg-pcapng) says both.
The converter is fed chunks of any size and returns what can already be written, so that a live
capture can be piped into Wireshark; nothing is read, written or timed here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from lab.errors import Fault, LabError

# Block types and option codes, in the draft's own names (sections 4.1 to 4.6).
_SHB: Final = 0x0A0D0D0A
_IDB: Final = 0x00000001
_ISB: Final = 0x00000005
_EPB: Final = 0x00000006
_BYTE_ORDER_MAGIC: Final = 0x1A2B3C4D
_SECTION_LENGTH_UNKNOWN: Final = 0xFFFF_FFFF_FFFF_FFFF
_SHB_HARDWARE, _SHB_OS, _SHB_USERAPPL = 2, 3, 4
_IF_NAME, _IF_DESCRIPTION, _IF_TSRESOL = 2, 3, 9
_ISB_STARTTIME, _ISB_ENDTIME, _ISB_IFRECV, _ISB_IFDROP = 2, 3, 4, 5

_PCAP_HEADER: Final = 24
_RECORD_HEADER: Final = 16
# libpcap's MAXIMUM_SNAPLEN; a longer record means that this is not a pcap stream any more.
_LONGEST_PACKET: Final = 262_144

# First four bytes of a classic pcap file: byte order and ticks in a second.
_MAGICS: Final[dict[bytes, tuple[str, int]]] = {
    b"\xd4\xc3\xb2\xa1": ("<", 6),
    b"\xa1\xb2\xc3\xd4": (">", 6),
    b"\x4d\x3c\xb2\xa1": ("<", 9),
    b"\xa1\xb2\x3c\x4d": (">", 9),
}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a capture was taken; what Wireshark shows under capture file properties.

    name        -- interface name, e.g. "eth0".
    description -- for people, e.g. "guest eth0".
    hardware, os, application -- of the machine that captured; empty ones are left out.
    """

    name: str
    description: str
    hardware: str = ""
    os: str = ""
    application: str = "imlab"


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + b"\0" * (-len(value) % 4)


def _options(*options: bytes) -> bytes:
    present = b"".join(options)
    return present + struct.pack("<HH", 0, 0) if present else b""


def _text(code: int, value: str) -> bytes:
    # An option's length is 16 bits; a description that long is cut, on a character's edge.
    return _option(code, value.encode()[:65_535].decode(errors="ignore").encode()) if value else b""


def _block(kind: int, body: bytes) -> bytes:
    length = len(body) + 12
    return struct.pack("<II", kind, length) + body + struct.pack("<I", length)


class Converter:
    """Turns one classic pcap stream into one pcapng section with one interface.

    `packets` counts the packets written so far; `link_type` is the LINKTYPE_ number, known once
    the first 24 bytes were fed (-1 before). Raises LabError from `feed` when the bytes are no
    pcap stream, ValueError when used after `finish`.
    """

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._pending = bytearray()
        self._order = ""
        self._digits = 6
        self._finished = False
        self._first: int | None = None
        self._last = 0
        self.packets = 0
        self.link_type = -1

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes of the pcap stream; return the pcapng bytes that are complete."""
        if self._finished:
            message = "feed() after finish()"
            raise ValueError(message)
        self._pending += chunk
        out: list[bytes] = []
        if not self._order:
            if len(self._pending) < _PCAP_HEADER:
                self._check_magic()
                return b""
            out.append(self._header())
        position = 0
        record = struct.Struct(self._order + "IIII")
        while len(self._pending) - position >= _RECORD_HEADER:
            seconds, fraction, captured, original = record.unpack_from(self._pending, position)
            if captured > _LONGEST_PACKET:
                raise self._not_pcap(f"a packet of {captured} bytes after {self.packets} packets")
            end = position + _RECORD_HEADER + captured
            if len(self._pending) < end:
                break
            data = bytes(self._pending[position + _RECORD_HEADER : end])
            out.append(self._packet(seconds * 10**self._digits + fraction, original, data))
            position = end
        del self._pending[:position]
        return b"".join(out)

    def finish(self, *, received: int | None = None, dropped: int | None = None) -> bytes:
        """End the section with an interface statistics block.

        received, dropped -- what the kernel says it delivered and lost ("packets received by
        filter" and "packets dropped by kernel" of tcpdump); None where nobody knows, which is
        written as no option at all and never as 0.

        A packet that was cut short by the end of the stream is left out. Returns b"" when not
        even the pcap header arrived.
        """
        if self._finished:
            message = "finish() twice"
            raise ValueError(message)
        self._finished = True
        if not self._order:
            return b""
        counts = b"".join(
            _option(code, struct.pack("<Q", value))
            for code, value in ((_ISB_IFRECV, received), (_ISB_IFDROP, dropped))
            if value is not None
        )
        times = b"".join(
            _option(code, self._timestamp(value))
            for code, value in ((_ISB_STARTTIME, self._first), (_ISB_ENDTIME, self._last))
            if self._first is not None and value is not None
        )
        body = struct.pack("<I", 0) + self._timestamp(self._last) + _options(times, counts)
        return _block(_ISB, body)

    def _check_magic(self) -> None:
        head = bytes(self._pending[:4])
        if not any(magic.startswith(head) for magic in _MAGICS):
            raise self._not_pcap(f"a stream that starts with {head.hex(' ')}")

    def _header(self) -> bytes:
        self._check_magic()
        self._order, self._digits = _MAGICS[bytes(self._pending[:4])]
        snaplen, network = struct.unpack_from(self._order + "II", self._pending, 16)
        del self._pending[:_PCAP_HEADER]
        # The upper bits hold the length of the frame check sequence, not the link type.
        self.link_type = network & 0xFFFF
        section = struct.pack("<IHHQ", _BYTE_ORDER_MAGIC, 1, 0, _SECTION_LENGTH_UNKNOWN)
        section += _options(
            _text(_SHB_HARDWARE, self._origin.hardware),
            _text(_SHB_OS, self._origin.os),
            _text(_SHB_USERAPPL, self._origin.application),
        )
        interface = struct.pack("<HHI", self.link_type, 0, snaplen)
        interface += _options(
            _text(_IF_NAME, self._origin.name),
            _text(_IF_DESCRIPTION, self._origin.description),
            _option(_IF_TSRESOL, bytes([self._digits])),
        )
        return _block(_SHB, section) + _block(_IDB, interface)

    def _packet(self, time: int, original: int, data: bytes) -> bytes:
        self.packets += 1
        self._first = time if self._first is None else min(self._first, time)
        self._last = max(self._last, time)
        body = struct.pack("<I", 0) + self._timestamp(time)
        body += struct.pack("<II", len(data), original) + data + b"\0" * (-len(data) % 4)
        return _block(_EPB, body)

    @staticmethod
    def _timestamp(ticks: int) -> bytes:
        """Return a timestamp as the draft wants it: the high 32 bits before the low ones."""
        return struct.pack("<II", ticks >> 32, ticks & 0xFFFF_FFFF)

    def _not_pcap(self, saw: str) -> LabError:
        return LabError(
            f"reading the capture of {self._origin.description}",
            saw,
            fault=Fault.GUEST,
            todo="Check that what is piped in is the output of `tcpdump -U -w -`.",
        )
