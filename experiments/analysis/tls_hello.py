"""TLS records and the messages that open a connection (RFC 5246, RFC 8446), out of stream bytes.

Pure: bytes in, frozen values out; what is cut or broken gives None or nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from experiments.analysis import tls_names
from experiments.analysis.model import Passage, Span

if TYPE_CHECKING:
    from collections.abc import Iterator

CHANGE_CIPHER, ALERT, HANDSHAKE, APPLICATION = 20, 21, 22, 23
CLIENT_HELLO, SERVER_HELLO, CERTIFICATE = 1, 2, 11
# Plain text of 2^14 bytes and what encryption may add to it (RFC 5246, 6.2.3).
LONGEST: Final = 2**14 + 2048
_HEADER: Final = 5
_MESSAGES: Final = frozenset({0, 1, 2, 4, 5, 8, 11, 12, 13, 14, 15, 16, 20, 21, 22, 24})
# This random makes a ServerHello a HelloRetryRequest (RFC 8446, 4.1.3).
_RETRY: Final = hashlib.sha256(b"HelloRetryRequest").digest()
_SNI, _GROUPS, _FORMATS, _SIGNATURES, _ALPN, _PSK, _SUPPORTED = 0, 10, 11, 13, 16, 41, 43


@dataclass(frozen=True, slots=True)
class Record:
    """A record: its body are the stream bytes start to end; whole is False when it is cut off."""

    kind: int
    version: int
    start: int
    end: int
    whole: bool


@dataclass(frozen=True, slots=True)
class Message:
    """A handshake message; start is where its body begins in the handshake's bytes."""

    kind: int
    body: bytes
    start: int


@dataclass(frozen=True, slots=True)
class Hello:
    """A ClientHello or ServerHello. name is the server name and its place in the body."""

    version: int
    random: bytes
    session: bytes
    ciphers: tuple[int, ...]
    extensions: tuple[tuple[int, bytes], ...]
    name: tuple[str, int, int] | None = None

    def extension(self, kind: int) -> bytes | None:
        """Return an extension's content; None where it is not there."""
        return next((data for number, data in self.extensions if number == kind), None)

    @property
    def versions(self) -> tuple[int, ...]:
        """The versions that are offered, or the one that was chosen."""
        data = self.extension(_SUPPORTED)
        if data is None:
            return (self.version,)
        numbers = _numbers(data[1:] if len(data) != 2 else data)  # noqa: PLR2004 (a server's choice)
        return tuple(n for n in numbers if not tls_names.grease(n)) or (self.version,)

    @property
    def protocols(self) -> tuple[str, ...]:
        """The application protocols (RFC 7301)."""
        return tuple(name.decode("latin-1") for name in _names(self.extension(_ALPN) or b""))

    @property
    def retry(self) -> bool:
        """Whether it asks for another ClientHello."""
        return self.random == _RETRY

    @property
    def presents_key(self) -> bool:
        """Whether a key of an earlier session is offered or taken."""
        return self.extension(_PSK) is not None


def records(data: bytes) -> Iterator[Record]:
    """Yield the records of a side until something else comes."""
    position = 0
    while position + _HEADER <= len(data):
        kind, version = data[position], data[position + 1] << 8 | data[position + 2]
        length = data[position + 3] << 8 | data[position + 4]
        if kind not in {20, 21, 22, 23, 24} or version >> 8 != 3 or length > LONGEST:  # noqa: PLR2004
            return
        if version & 0xFF > 4:  # noqa: PLR2004 (TLS 1.3 is the last)
            return
        start, end = position + _HEADER, position + _HEADER + length
        yield Record(kind, version, start, min(end, len(data)), end <= len(data))
        position = end


def handshake(data: bytes, *, forward: bool) -> Passage:
    """Return the bytes of a side's handshake up to where it is encrypted."""
    content, spans = bytearray(), []
    for record in records(data):
        if record.kind in {CHANGE_CIPHER, APPLICATION}:
            break
        if record.kind == HANDSHAKE:
            spans.append(Span(len(content), record.start, record.end - record.start))
            content += data[record.start : record.end]
    end = spans[-1].stream + spans[-1].length if spans else 0
    start = spans[0].stream if spans else 0
    return Passage("TLS handshake", forward, bytes(content), start, end, (), tuple(spans))


def messages(content: bytes) -> Iterator[Message]:
    """Yield the complete messages of a handshake."""
    position = 0
    while position + 4 <= len(content):
        kind, length = (
            content[position],
            int.from_bytes(content[position + 1 : position + 4], "big"),
        )
        start, end = position + 4, position + 4 + length
        if kind not in _MESSAGES or end > len(content):
            return
        yield Message(kind, content[start:end], start)
        position = end


def client_hello(body: bytes) -> Hello | None:
    """Read a ClientHello (RFC 8446, 4.1.2)."""
    reader = _Bytes(body)
    version, random, session = reader.number(2), reader.take(32), reader.vector(1)
    ciphers = _numbers(reader.vector(2))
    reader.vector(1)
    return _hello(reader, version, random, session, ciphers)


def server_hello(body: bytes) -> Hello | None:
    """Read a ServerHello (RFC 8446, 4.1.3)."""
    reader = _Bytes(body)
    version, random, session = reader.number(2), reader.take(32), reader.vector(1)
    cipher = reader.number(2)
    reader.take(1)
    return _hello(reader, version, random, session, (cipher,))


def certificates(body: bytes) -> list[tuple[bytes, int]]:
    """Return the certificates of a message of TLS 1.2 or before, each with its place in it."""
    reader, found = _Bytes(body), []
    reader.take(3)
    while not reader.short and reader.position < len(body):
        certificate = reader.vector(3)
        if certificate and not reader.short:
            found.append((certificate, reader.position - len(certificate)))
    return found


def ja3(hello: Hello) -> str:
    """Return the fingerprint of a client that Wireshark calls JA3."""
    kept = [n for n in hello.ciphers if not tls_names.grease(n)]
    kinds = [n for n, _ in hello.extensions if not tls_names.grease(n)]
    groups = [n for n in _numbers((hello.extension(_GROUPS) or b"")[2:]) if not tls_names.grease(n)]
    formats = list((hello.extension(_FORMATS) or b"")[1:])
    parts = ("-".join(map(str, numbers)) for numbers in (kept, kinds, groups, formats))
    text = ",".join((str(hello.version), *parts))
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def ja4(hello: Hello, transport: str = "t") -> str:
    """Return the fingerprint of a client that is known as JA4; transport is t (TCP) or q (QUIC)."""
    kept = [n for n in hello.ciphers if not tls_names.grease(n)]
    kinds = [n for n, _ in hello.extensions if not tls_names.grease(n)]
    newest = {0x0304: "13", 0x0303: "12", 0x0302: "11", 0x0301: "10", 0x0300: "s3"}
    version = newest.get(max(hello.versions), "00")
    protocols = hello.protocols
    edge = protocols[0][0] + protocols[0][-1] if protocols and protocols[0] else "00"
    if not edge.isalnum() or not edge.isascii():
        raw = protocols[0].encode("latin-1").hex() if protocols else "00"
        edge = raw[0] + raw[-1]
    name = "d" if _SNI in kinds else "i"
    head = f"{transport}{version}{name}{min(len(kept), 99):02}{min(len(kinds), 99):02}{edge}"
    signatures = _numbers((hello.extension(_SIGNATURES) or b"")[2:])
    rest = ",".join(sorted(f"{n:04x}" for n in kinds if n not in {_SNI, _ALPN}))
    if signatures:
        rest += "_" + ",".join(f"{n:04x}" for n in signatures)
    return f"{head}_{_short(','.join(sorted(f'{n:04x}' for n in kept)))}_{_short(rest)}"


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else "0" * 12


class _Bytes:
    """Reads numbers and vectors one after the other; `short` once there was too little."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0
        self.short = False

    def take(self, count: int) -> bytes:
        piece = self.data[self.position : self.position + count]
        self.position += len(piece)
        self.short = self.short or len(piece) < count
        return piece

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "big")

    def vector(self, width: int) -> bytes:
        return self.take(self.number(width))


def _hello(
    reader: _Bytes, version: int, random: bytes, session: bytes, ciphers: tuple[int, ...]
) -> Hello | None:
    if reader.short:
        return None
    found: list[tuple[int, bytes]] = []
    name = None
    until = len(reader.data)
    if reader.position < until:
        reader.number(2)
    while reader.position < until and not reader.short:
        kind = reader.number(2)
        data = reader.vector(2)
        if reader.short:
            break
        found.append((kind, data))
        if kind == _SNI and not name:
            name = _server_name(data, reader.position - len(data))
    return Hello(version, random, session, ciphers, tuple(found), name)


def _server_name(data: bytes, at: int) -> tuple[str, int, int] | None:
    """Return the host name of an extension and its place (RFC 6066, 3)."""
    reader = _Bytes(data)
    reader.take(2)
    kind, name = reader.number(1), reader.vector(2)
    if reader.short or kind or not name:
        return None
    end = at + reader.position
    return name.decode("utf-8", "replace"), end - len(name), end


def _numbers(data: bytes) -> tuple[int, ...]:
    return tuple(data[i] << 8 | data[i + 1] for i in range(0, len(data) - 1, 2))


def _names(data: bytes) -> Iterator[bytes]:
    position = 2
    while position < len(data):
        length = data[position]
        name = data[position + 1 : position + 1 + length]
        if len(name) < length:
            return
        yield name
        position += 1 + length
