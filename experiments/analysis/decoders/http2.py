"""HTTP/2 (RFC 9113): the bodies. Its header fields are packed with HPACK, which is not undone here.

Without the fields nobody says what a body is, so it is taken for what it looks like: JSON, packed
with gzip or not.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from experiments.analysis import chatjson
from experiments.analysis.model import Decoded, Exposure, Passage, Span

if TYPE_CHECKING:
    from collections.abc import Iterator

    from experiments.analysis.model import Stream

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA: Final = 0
_PADDED, _ENDED = 0x08, 0x01
_HEADER: Final = 9
_LONGEST: Final = 16 * 2**20
_SIDES: Final = (True, False)


@dataclass(slots=True)
class _Body:
    content: bytearray = field(default_factory=bytearray)
    spans: list[Span] = field(default_factory=list)
    end: int = 0
    ended: bool = False


class Http2:
    """HTTP/2, in the clear or opened with keys."""

    name = "http2"

    def recognises(self, stream: Stream) -> bool:
        """Whether the client begins with the preface."""
        return stream.side(forward=True).startswith(_PREFACE)

    def decode(self, stream: Stream) -> Decoded:
        """Read the bodies that came to their end."""
        passages: list[Passage] = []
        exposures: list[Exposure] = []
        complete = True
        for forward in _SIDES:
            data = stream.side(forward=forward)
            bodies, whole = _bodies(data, len(_PREFACE) if forward else 0)
            complete = complete and whole
            for body in bodies:
                passage = _passage(body, forward=forward)
                passages.append(passage)
                if body.ended:
                    exposures += _told(passage)
        notes = ("the header fields of HTTP/2 are packed and not read",)
        return Decoded("http2", tuple(passages), tuple(exposures), complete, notes=notes)


def _bodies(data: bytes, position: int) -> tuple[list[_Body], bool]:
    """Return the bodies of a side, in the order in which they began, and if all was understood."""
    bodies: dict[int, _Body] = {}
    while position + _HEADER <= len(data):
        length = int.from_bytes(data[position : position + 3], "big")
        kind, flags = data[position + 3], data[position + 4]
        number = int.from_bytes(data[position + 5 : position + 9], "big") & 0x7FFFFFFF
        start = position + _HEADER
        position = start + length
        if position > len(data):
            position = -1
            break
        if kind != _DATA or not number:
            continue
        end = position
        if flags & _PADDED and length:
            start, end = start + 1, max(end - data[start], start + 1)
        body = bodies.setdefault(number, _Body())
        if end > start:
            body.spans.append(Span(len(body.content), start, end - start))
            body.content += data[start:end]
        body.end, body.ended = position, body.ended or bool(flags & _ENDED)
    kept = [body for body in bodies.values() if body.content]
    return kept, position == len(data)


def _passage(body: _Body, *, forward: bool) -> Passage:
    content, spans = bytes(body.content), tuple(body.spans)
    start = spans[0].stream
    if content.startswith(b"\x1f\x8b"):
        try:
            plain = zlib.decompressobj(31).decompress(content, _LONGEST)
            return Passage("HTTP/2 body", forward, plain, start, body.end, ("gzip",))
        except zlib.error:
            pass
    return Passage("HTTP/2 body", forward, content, start, body.end, (), spans)


def _told(passage: Passage) -> Iterator[Exposure]:
    if passage.content[:1] not in {b"{", b"["}:
        return
    for told in chatjson.read(passage.content, asked=passage.forward):
        place = passage.place(told.start, told.end)
        where = f"{passage.where}, JSON field {told.key}"
        codings, about = passage.encodings, told.about
        yield Exposure(told.kind, told.text, where, passage.forward, *place, codings, about)


DECODER = Http2()
