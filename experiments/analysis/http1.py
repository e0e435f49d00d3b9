"""HTTP/1 messages out of stream bytes (RFC 9112), with the place of everything in the stream.

Pure: bytes in, frozen values out. Made for reading what was captured: a message that the capture
cuts off yields what there is of it, marked as not complete, and nothing here raises for its input.
"""

from __future__ import annotations

import re
import zlib
from contextlib import suppress
from typing import Final

import brotli
import zstandard
from isal import isal_zlib
from msgspec import Struct

from experiments.analysis.model import Span

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
_NAMES: Final[dict[bytes, tuple[str, str]]] = {}
_MOST_NAMES: Final = 1000
SWITCHING: Final = 101
_OK, _NO_CONTENT, _REDIRECT, _NOT_MODIFIED = 200, 204, 300, 304


class Header(Struct, frozen=True, gc=False):
    """A field; start and end are the stream bytes of its value; key is its name in lower case."""

    name: str
    value: str
    start: int
    end: int
    key: str


class Body(Struct, frozen=True, gc=False):
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


class Message(Struct, frozen=True, gc=False):
    """A request or a response. method and target are "" in a response, status is 0 in a request.

    first -- by name in lower case, the value of a field, the first if it is there several times.
    """

    method: str
    target: str
    status: int
    start: int
    line_end: int
    headers: tuple[Header, ...]
    first: dict[str, str]
    body: Body
    complete: bool

    def header(self, name: str) -> str:
        """Return a field's value, the first if it is there several times, "" if it is not."""
        return self.first.get(name.lower(), "")


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
        name, value = match.groups()
        start, position = match.start(2), match.end()
        value = value.rstrip(b" \t")
        called, key = _NAMES.get(name) or _name(name)
        text = value.decode("utf-8", "replace")
        headers.append(Header(called, text, start, start + len(value), key))
    first = {header.key: header.value for header in reversed(headers)}
    blank = _BLANK.match(data, position)
    if blank:
        place = blank.end()
        body, complete = _body(data, place, first, bodiless=bodiless, answer=bool(status))
    else:
        body, complete = Body(b"", position, position, (), ()), False
    line_end = line.end()
    place = line.start()
    return Message(method, target, status, place, line_end, tuple(headers), first, body, complete)


def _name(name: bytes) -> tuple[str, str]:
    """Return a field's name as it is and in lower case; most that are met are known."""
    written = name.decode()
    if len(_NAMES) < _MOST_NAMES:
        _NAMES[name] = written, written.lower()
    return written, written.lower()


def _body(
    data: bytes, start: int, first: dict[str, str], *, bodiless: bool, answer: bool
) -> tuple[Body, bool]:
    if bodiless:
        return Body(b"", start, start, (), ()), True
    codings: list[str] = []
    for value in (first.get("transfer-encoding"), first.get("content-encoding")):
        if value:
            words = (word.strip().lower() for word in value.split(","))
            codings += [word for word in words if word and word != "identity"]
    length = first.get("content-length", "")
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
    if not codings:
        return Body(content, start, end, (), spans), complete
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
            return _inflate(width, content)
        except zlib.error:
            continue
    return None


def _inflate(width: int, content: bytes) -> bytes:
    """Undo deflate: ISA-L takes a quarter of zlib's time, zlib has the last word. May raise."""
    # (its stub says that the class is an exception itself)
    with suppress(isal_zlib.IsalError):  # type: ignore[arg-type]
        undone: bytes = isal_zlib.decompressobj(width).decompress(content, LONGEST_BODY)
        if undone:
            return undone
    return zlib.decompressobj(width).decompress(content, LONGEST_BODY)


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
