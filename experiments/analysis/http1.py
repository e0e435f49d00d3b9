"""HTTP/1 messages out of stream bytes (RFC 9112), with the place of everything in the stream.

Pure: bytes in, frozen values out. Made for reading what was captured: a message that the capture
cuts off yields what there is of it, marked as not complete, and nothing here raises for its input.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import brotli
import zstandard

from experiments.analysis.model import Span

if TYPE_CHECKING:
    from collections.abc import Iterable

METHODS: Final = (
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "CONNECT",
    "OPTIONS",
    "TRACE",
    "PATCH",
)  # RFC 9110, 9.1, and RFC 5789
_REQUEST_LINE: Final = re.compile(rb"([A-Z]+) (\S+) HTTP/1\.[01]\r?\n")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] (\d{3})[^\r\n]*\r?\n")
# Possessive, and the blanks at the end are taken off afterwards: else a field of blanks that never
# ends would be tried from each of them.
_HEADER: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]++):[ \t]*+([^\r\n]*+)\r?\n")
_BLANK: Final = re.compile(rb"\r?\n")
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,8})[^\r\n]*\r?\n")
# A body that unpacks to more is cut here: a capture must not fill the memory of who judges it.
LONGEST_BODY: Final = 16 * 2**20
_DIGITS: Final = 18
# What a sender may have a reader of zstd keep (RFC 9659).
_ZSTD_WINDOW: Final = 8 * 2**20
SWITCHING: Final = 101
_OK, _NO_CONTENT, _REDIRECT, _NOT_MODIFIED = 200, 204, 300, 304


@dataclass(frozen=True, slots=True)
class Header:
    """A field; start and end are the stream bytes of its value."""

    name: str
    value: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Body:
    """A body with its codings undone; start and end are its bytes in the stream.

    spans maps content to stream bytes, () when it was compressed. codings are those undone;
    undone is False when one is not known or was broken (then content is what there is).
    """

    content: bytes
    start: int
    end: int
    codings: tuple[str, ...]
    spans: tuple[Span, ...]
    undone: bool = True


@dataclass(frozen=True, slots=True)
class Message:
    """A request or a response. method and target are "" in a response, status is 0 in a request."""

    method: str
    target: str
    status: int
    start: int
    line_end: int
    headers: tuple[Header, ...]
    body: Body
    complete: bool

    def header(self, name: str) -> str:
        """Return a field's value, the first if it is there several times, "" if it is not."""
        return _value(self.headers, name)


def _value(headers: Iterable[Header], name: str) -> str:
    wanted, size = name.lower(), len(name)
    for header in headers:
        if len(header.name) == size and header.name.lower() == wanted:
            return header.value
    return ""


def requests(data: bytes) -> tuple[list[Message], bool]:
    """Return the requests of a stream side, and whether all of it was understood."""
    found: list[Message] = []
    position = 0
    while position < len(data):
        line = _REQUEST_LINE.match(data, position)
        if not line or line[1].decode() not in METHODS:
            return found, False
        method, target = line[1].decode(), line[2].decode(errors="replace")
        message = _message(data, line, method=method, target=target, bodiless=False, status=0)
        found.append(message)
        position = message.body.end
        if not message.complete:
            return found, False
    return found, True


def responses(data: bytes, asked: list[Message]) -> tuple[list[tuple[Message, int]], bool]:
    """Return the responses of a stream side with the index of the request that each answers.

    A response to HEAD has no body whatever its fields say (RFC 9112, 6.3), so the requests are
    needed. Reading ends where the connection turns to another protocol (status 101, or CONNECT).
    The second value tells whether all up to there was understood.
    """
    found: list[tuple[Message, int]] = []
    position = index = 0
    while position < len(data):
        line = _STATUS_LINE.match(data, position)
        if not line:
            return found, False
        status = int(line[1])
        method = asked[index].method if index < len(asked) else ""
        interim = status < _OK and status != SWITCHING
        tunnel = status == SWITCHING or (method == "CONNECT" and _OK <= status < _REDIRECT)
        bodiless = interim or tunnel or status in {_NO_CONTENT, _NOT_MODIFIED} or method == "HEAD"
        message = _message(data, line, method="", target="", bodiless=bodiless, status=status)
        found.append((message, index))
        position = message.body.end
        if not message.complete or tunnel:
            return found, message.complete
        index += not interim
    return found, True


def _message(  # noqa: PLR0913 (what the two start lines differ in)
    data: bytes, line: re.Match[bytes], *, method: str, target: str, bodiless: bool, status: int
) -> Message:
    headers, position = [], line.end()
    while match := _HEADER.match(data, position):
        value = match[2].rstrip(b" \t")
        end = match.start(2) + len(value)
        text = value.decode("utf-8", "replace")
        headers.append(Header(match[1].decode(), text, match.start(2), end))
        position = match.end()
    blank = _BLANK.match(data, position)
    if blank:
        place = blank.end()
        body, complete = _body(data, place, headers, bodiless=bodiless, answer=bool(status))
    else:
        body, complete = Body(b"", position, position, (), ()), False
    return Message(method, target, status, line.start(), line.end(), tuple(headers), body, complete)


def _body(
    data: bytes, start: int, headers: list[Header], *, bodiless: bool, answer: bool
) -> tuple[Body, bool]:
    if bodiless:
        return Body(b"", start, start, (), ()), True
    codings = [
        coding
        for name in ("Transfer-Encoding", "Content-Encoding")
        if (value := _value(headers, name))
        for coding in (word.strip().lower() for word in value.split(","))
        if coding and coding != "identity"
    ]
    length = _value(headers, "Content-Length")
    if "chunked" in codings:
        content, spans, end, complete = _dechunk(data, start)
    elif length.isdecimal():
        # A number of more digits than any length has is one that is never reached.
        size = int(length[:_DIGITS])
        end = min(start + size, len(data))
        content, complete = data[start:end], end == start + size
        spans = (Span(0, start, end - start),)
    elif answer:
        # Until the connection closes (RFC 9112, 6.3, rule 8).
        content, end, complete = data[start:], len(data), True
        spans = (Span(0, start, end - start),)
    else:
        return Body(b"", start, start, (), ()), True
    undone = [coding for coding in codings if coding == "chunked"]
    known = True
    for coding in [c for c in reversed(codings) if c != "chunked"]:
        unpacked = _unpack(coding, content)
        if unpacked is None:
            known = False
            break
        content, spans = unpacked, ()
        undone.append(coding)
    return Body(content, start, end, tuple(undone), spans, known), complete


def _dechunk(data: bytes, start: int) -> tuple[bytes, tuple[Span, ...], int, bool]:
    content, position = bytearray(), start
    spans: list[Span] = []
    while size := _CHUNK_SIZE.match(data, position):
        length = int(size[1], 16)
        position = size.end()
        if length == 0:
            while trailer := _HEADER.match(data, position):
                position = trailer.end()
            blank = _BLANK.match(data, position)
            return bytes(content), tuple(spans), blank.end() if blank else position, bool(blank)
        piece = data[position : position + length]
        spans.append(Span(len(content), position, len(piece)))
        content += piece
        position += len(piece)
        blank = _BLANK.match(data, position)
        if len(piece) < length or not blank:
            return bytes(content), tuple(spans), position, False
        position = blank.end()
    return bytes(content), tuple(spans), position, False


def _unpack(coding: str, content: bytes) -> bytes | None:
    """Undo a content coding; None for one that is not known or does not fit the bytes.

    "deflate" is a zlib stream, but some servers send bare deflate (RFC 9110, 8.4.1.2, note).
    """
    if coding in {"br", "zstd"}:
        return _brotli(content) if coding == "br" else _zstd(content)
    widths = {"gzip": [31], "x-gzip": [31], "deflate": [15, -15]}.get(coding, [])
    for width in widths:
        try:
            return zlib.decompressobj(width).decompress(content, LONGEST_BODY)
        except zlib.error:
            continue
    return None


def _brotli(content: bytes) -> bytes | None:
    """Undo Brotli (RFC 7932); what was cut gives what there is."""
    unpacker, out = brotli.Decompressor(), bytearray()
    try:
        piece = unpacker.process(content, output_buffer_limit=LONGEST_BODY)
        while piece and len(out) < LONGEST_BODY:
            out += piece
            piece = unpacker.process(b"", output_buffer_limit=LONGEST_BODY - len(out) + 1)
    except brotli.error:
        return None
    return bytes(out[:LONGEST_BODY])


def _zstd(content: bytes) -> bytes | None:
    """Undo Zstandard (RFC 8878); what was cut gives what there is."""
    unpacker = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    try:
        with unpacker.stream_reader(content, read_across_frames=True) as reader:
            return reader.read(LONGEST_BODY)
    except zstandard.ZstdError:
        return None
