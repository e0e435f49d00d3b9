"""Lines of a conversation in the order in which they were said, for protocols made of lines."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from experiments.analysis import layers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from experiments.analysis.model import Layer, Stream

# A longer line is no line of any of these protocols; what is in it is not read.
LONGEST: Final = 64 * 1024
# How many bytes of a side are looked at to tell what it speaks.
HEAD: Final = 4096
_LINE: Final = re.compile(rb"[^\r\n]*+")
_HANDSHAKE: Final = b"\x16\x03"


@dataclass(frozen=True, slots=True)
class Line:
    """A line that was seen to its end. start and end are its bytes, `after` is behind its end."""

    forward: bool
    data: bytes
    start: int
    end: int
    after: int

    def word(self, text: bytes, at: int = 0) -> tuple[int, int]:
        """Return the stream bytes of a part of the line, looked for from `at` on."""
        place = self.data.find(text, at)
        return (self.start, self.end) if place < 0 else self.part(place, place + len(text))

    def part(self, start: int, end: int) -> tuple[int, int]:
        """Return the stream bytes of the line's bytes start to end."""
        return self.start + start, self.start + end


def lines(stream: Stream) -> list[Line]:
    """Return the complete lines of both sides, in the order in which their ends were seen."""
    ordered = []
    for forward in (True, False):
        ends = _ends(stream, forward=forward)
        which = 0
        for line in _split(stream.side(forward=forward), forward=forward):
            while which < len(ends) - 1 and ends[which][0] < line.after:
                which += 1
            ordered.append((ends[which][1], line))
    ordered.sort(key=lambda row: row[0])
    return [line for _, line in ordered]


def head(stream: Stream, *, forward: bool) -> list[bytes]:
    """Return the first lines of a side; one that is cut is among them."""
    return stream.side(forward=forward)[:HEAD].splitlines()[:32]


def first(stream: Stream, *, forward: bool) -> bytes | None:
    """Return the first line of a side, which may be cut; None where nothing is said."""
    line = _LINE.match(stream.side(forward=forward), 0, HEAD)
    return line[0] if line and line.string else None


def text(data: bytes) -> str:
    """Return what a line says: UTF-8, or what came before it (every byte is a character)."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def words(data: bytes) -> list[tuple[bytes, int]]:
    """Return the words of a line and where each begins; blanks and tabs part them."""
    found, position = [], 0
    for word in data.replace(b"\t", b" ").split(b" "):
        if word:
            found.append((word, position))
        position += len(word) + 1
    return found


def turn(stream: Stream, forward: int | None, back: int | None, command: str) -> Layer | None:
    """Return what follows an agreement to encrypt, from these offsets on."""
    return layers.tail(stream, forward, back, f"what follows {command}")


def turned(stream: Stream, position: int, *, forward: bool) -> bool:
    """Whether a TLS handshake begins at this byte."""
    return stream.side(forward=forward)[position : position + 2] == _HANDSHAKE


def _ends(stream: Stream, *, forward: bool) -> list[tuple[int, int]]:
    """Return (bytes so far, index among all chunks) for each chunk of a direction."""
    ends, total = [], 0
    for index, chunk in enumerate(stream.chunks):
        if chunk.forward is forward:
            total += len(chunk.data)
            ends.append((total, index))
    return ends


def _split(data: bytes, *, forward: bool) -> Iterable[Line]:
    position = 0
    while (newline := data.find(b"\n", position)) >= 0:
        end = newline - 1 if newline > position and data[newline - 1] == ord("\r") else newline
        if end - position <= LONGEST:
            yield Line(forward, data[position:end], position, end, newline + 1)
        position = newline + 1
