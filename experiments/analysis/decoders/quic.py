"""QUIC (RFC 9000, RFC 9001, RFC 9369): the server name in a client's first packets.

These are encrypted with keys that everybody can derive (RFC 9001, 5.2), so what they say is public.
Google's QUIC before it (Q0xx) has the name in the clear.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from experiments.analysis import tls_hello, tls_names
from experiments.analysis.model import Decoded, Exposure, Passage, Span

if TYPE_CHECKING:
    from collections.abc import Iterator

    from experiments.analysis.model import Stream


@dataclass(frozen=True, slots=True)
class _Version:
    name: str
    salt: bytes
    prefix: bytes
    initial: int


_VERSIONS: Final = {
    1: _Version("1", bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a"), b"quic ", 0),
    0x6B3343CF: _Version(
        "2", bytes.fromhex("0dede3def700a6db819381be6e269dcbf9bd2ed9"), b"quicv2 ", 1
    ),
}
_DRAFTS: Final = {
    23: bytes.fromhex("c3eef712c72ebb5a11a7d2432bb46365bef9f502"),
    29: bytes.fromhex("afbfec289993d24c9e9786f19c6111e04390a899"),
}
_GOOGLE: Final = re.compile(rb"Q0[2-5][0-9]")
_SENT: Final = True
# Datagrams of a client that are looked at: a hello may take several.
_MOST: Final = 8
_LONGEST_HELLO: Final = 64 * 1024


class Quic:
    """QUIC as far as it is public."""

    name = "quic"

    def recognises(self, stream: Stream) -> bool:
        """Whether the first datagram opens a connection in a version that is known."""
        if stream.protocol != "udp" or not stream.chunks:
            return False
        data = stream.chunks[0].data
        return _google(data) is not None or _first(data) is not None

    def decode(self, stream: Stream) -> Decoded:
        """Read the hello of the client."""
        data = stream.chunks[0].data
        version = _google(data)
        if version:
            found, facts = _chlo(data), {"version": f"Google QUIC {version}"}
        else:
            found, facts = _hello(stream)
        facts["sealed"] = "yes"
        names = [exposure.text for exposure in found if exposure.kind == "server_name"]
        if names:
            facts["server name"] = names[0]
        return Decoded("quic", (), tuple(found), complete=bool(found), facts=facts)


def _google(data: bytes) -> str | None:
    """Return the version of Google's QUIC, up to the last that did not encrypt its hello."""
    for at in (1, 9):
        match = _GOOGLE.match(data, at)
        if match and (data[0] & 0x80 if at == 1 else data[0] & 0x01) and data[at + 4 :]:
            return match[0].decode()
    return None


def _chlo(data: bytes) -> list[Exposure]:
    """Read the tags of a hello of Google's QUIC: each has the end of its value beside it."""
    start = data.find(b"CHLO", 0, 128)
    if start < 0:
        return []
    count = int.from_bytes(data[start + 4 : start + 6], "little")
    table, values = start + 8, start + 8 + count * 8
    found, begin = [], 0
    for index in range(min(count, 256)):
        row = data[table + index * 8 : table + index * 8 + 8]
        end = int.from_bytes(row[4:8], "little")
        first, last = values + begin, values + end
        if len(row) < 8 or end < begin or last > len(data):  # noqa: PLR2004 (a row)
            break
        kind = {b"SNI\0": "server_name", b"UAID": "browser"}.get(row[:4])
        text = data[first:last].decode("utf-8", "replace")
        if kind and text:
            found.append(Exposure(kind, text, "QUIC hello", _SENT, first, last))
        begin = end
    return found


@dataclass(frozen=True, slots=True)
class _Packet:
    """A client's Initial packet: where its parts are in the datagram."""

    version: _Version
    destination: bytes
    number_at: int
    start: int
    end: int


def _first(data: bytes, position: int = 0) -> _Packet | None:
    """Read the header of an Initial packet (RFC 9000, 17.2.2)."""
    if len(data) < position + 7 or data[position] & 0xC0 != 0xC0:  # noqa: PLR2004 (a long header)
        return None
    version = _version(int.from_bytes(data[position + 1 : position + 5], "big"))
    if not version or data[position] >> 4 & 3 != version.initial:
        return None
    at = position + 5
    destination = data[at + 1 : at + 1 + data[at]]
    at += 1 + data[at]
    if len(destination) > 20 or at >= len(data):  # noqa: PLR2004 (RFC 9000, 17.2)
        return None
    at += 1 + data[at]
    token = _number(data, at)
    length = _number(data, token[1] + token[0]) if token else None
    if not length or length[0] < 20 or length[1] + length[0] > len(data):  # noqa: PLR2004
        return None
    return _Packet(version, destination, length[1], position, length[1] + length[0])


def _version(number: int) -> _Version | None:
    """Return a version, or one of the drafts before the first: two salts were in use."""
    draft = number - 0xFF000000
    for first, last in ((23, 28), (29, 34)):
        if first <= draft <= last:
            return _Version(f"draft {draft}", _DRAFTS[first], b"quic ", 0)
    return _VERSIONS.get(number)


def _number(data: bytes, at: int) -> tuple[int, int] | None:
    """Return a number of variable length and where it ends (RFC 9000, 16)."""
    if at >= len(data):
        return None
    width = 1 << (data[at] >> 6)
    if at + width > len(data):
        return None
    value = int.from_bytes(data[at : at + width], "big") & (1 << (width * 8 - 2)) - 1
    return value, at + width


def _hello(stream: Stream) -> tuple[list[Exposure], dict[str, str]]:
    first = _first(stream.chunks[0].data)
    if not first:
        return [], {}
    facts = {"version": f"QUIC {first.version.name}"}
    pieces: dict[int, tuple[bytes, int]] = {}
    offset = 0
    mine = [chunk for chunk in stream.chunks if chunk.forward]
    for chunk in mine[:_MOST]:
        for at, piece, inside in _crypto(chunk.data, first):
            pieces.setdefault(at, (piece, offset + inside))
        offset += len(chunk.data)
    passage = _joined(pieces)
    message = next(tls_hello.messages(passage.content), None)
    hello = tls_hello.client_hello(message.body) if message else None
    if not message or not hello:
        return [], facts
    found = []
    if hello.name:
        name, begin, end = hello.name
        place = passage.place(message.start + begin, message.start + end)
        found.append(Exposure("server_name", name, "QUIC ClientHello", _SENT, *place, ("quic",)))
    whole = passage.place(message.start, message.start + len(message.body))
    text, where = tls_hello.ja4(hello, "q"), "QUIC ClientHello, JA4"
    found.append(Exposure("fingerprint", text, where, _SENT, *whole, ("quic",)))
    facts["versions offered"] = ", ".join(map(tls_names.version, sorted(hello.versions)))
    if hello.protocols:
        facts["protocols offered"] = ", ".join(hello.protocols)
    return found, facts


def _joined(pieces: dict[int, tuple[bytes, int]]) -> Passage:
    """Put the pieces of the hello in order, up to the first that is missing."""
    content, spans = bytearray(), []
    for at, (data, place) in sorted(pieces.items()):
        if at > len(content) or at > _LONGEST_HELLO:
            break
        known = len(content) - at
        if known < len(data):
            spans.append(Span(len(content), place + known, len(data) - known))
            content += data[known:]
    return Passage("QUIC hello", _SENT, bytes(content), 0, 0, (), tuple(spans))


def _crypto(data: bytes, first: _Packet) -> Iterator[tuple[int, bytes, int]]:
    """Yield (offset, bytes, place in the datagram) of the CRYPTO frames of a datagram."""
    position = 0
    while packet := _first(data, position):
        opened = _opened(data, packet, first.destination)
        if opened:
            plain, start = opened
            for at, piece, where in _frames(plain):
                yield at, piece, start + where
        position = packet.end


def _opened(data: bytes, packet: _Packet, secret_of: bytes) -> tuple[bytes, int] | None:
    """Remove the protection of a packet; return its frames and their place."""
    # Loaded only where there is such a packet: it takes longer than all decoders together.
    from experiments.analysis import quic_keys  # noqa: PLC0415 (as above)

    version = packet.version
    keys = quic_keys.client(version.salt, version.prefix, secret_of)
    return quic_keys.opened(data, packet.start, packet.number_at, packet.end, keys)


def _frames(plain: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Yield the CRYPTO frames; PADDING, PING and ACK are passed over (RFC 9000, 19)."""
    position = 0
    while position < len(plain):
        kind = plain[position]
        position += 1
        if kind in {0, 1}:
            continue
        if kind in {2, 3}:
            end = _acknowledged(plain, position, counts=kind == 3)  # noqa: PLR2004 (with ECN)
            if end is None:
                return
            position = end
            continue
        offset = _number(plain, position) if kind == 6 else None  # noqa: PLR2004 (CRYPTO)
        length = _number(plain, offset[1]) if offset else None
        if not offset or not length or length[1] + length[0] > len(plain):
            return
        position = length[1] + length[0]
        yield offset[0], plain[length[1] : position], length[1]


def _acknowledged(plain: bytes, position: int, *, counts: bool) -> int | None:
    """Return where an ACK frame ends."""
    values = []
    for _ in range(4):
        number = _number(plain, position)
        if not number:
            return None
        values.append(number[0])
        position = number[1]
    rest = min(values[2], len(plain)) * 2 + (3 if counts else 0)
    for _ in range(rest):
        number = _number(plain, position)
        if not number:
            return None
        position = number[1]
    return position


DECODER = Quic()
