"""What a capture holds, as plain data, and the two seams of the analysis.

An `Engine` turns a capture file into a `Capture` (packets, handshakes, streams); a `Decoder` turns
one stream of a protocol that it recognises into what can be read in it. Neither knows the other,
neither knows what was planted.

What is made by the hundred thousand is a msgspec Struct: it is made in an eighth of the time that a
frozen dataclass takes. gc=False: these hold no circles, so nobody need look for any.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from msgspec import Struct

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Packet:
    """One row of the packet list (Figures 14 and 18).

    time is in seconds since the first packet; length is that on the wire, in bytes.
    """

    number: int
    time: float
    source: str
    destination: str
    protocol: str
    length: int
    info: str


@dataclass(frozen=True, slots=True)
class HandshakeStep:
    """One of the three segments that open a connection; numbers are relative (RFC 9293, 3.5).

    window is in bytes, scaled where scaling is in force, as Wireshark prints Win; window_scale is
    the multiplier that it prints as WS (RFC 7323), mss in bytes. None: the option was not there, as
    in the last step always.
    """

    frame: int
    time: float
    flags: str
    sequence: int
    acknowledgement: int
    window: int
    mss: int | None
    window_scale: int | None
    sack_permitted: bool


@dataclass(frozen=True, slots=True)
class Handshake:
    """SYN, SYN/ACK and ACK of one stream. `steps` holds those that were seen, in that order."""

    stream: int
    client: str
    server: str
    steps: tuple[HandshakeStep, ...]

    @property
    def complete(self) -> bool:
        """Whether all three segments were seen, and the third is an answer to the second.

        It has to acknowledge the second's number (RFC 9293, 3.5): who forges an address is not told
        that, and can only guess.
        """
        if len(self.steps) != 3:  # noqa: PLR2004 (it is a three-way handshake)
            return False
        answer, last = self.steps[1:]
        return last.acknowledgement == (answer.sequence + 1) % 2**32


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes that one frame brought into a stream, in stream order.

    forward is True from client to server.
    """

    frame: int
    time: float
    forward: bool
    data: bytes


@dataclass(frozen=True)
class Stream:
    """One conversation, followed both ways. client and server are "address:port"."""

    protocol: str
    number: int
    client: str
    server: str
    chunks: tuple[Chunk, ...]

    @property
    def empty(self) -> bool:
        """Whether there is not a byte in it."""
        return not any(chunk.data for chunk in self.chunks)

    def side(self, *, forward: bool) -> bytes:
        """Return all bytes of one direction."""
        return self._sides[forward][0]

    @cached_property
    def _sides(self) -> dict[bool, tuple[bytes, list[int], list[int]]]:
        """By direction: the bytes, where each chunk starts in them, and each chunk's frame."""
        sides = {}
        for forward in (True, False):
            chunks = [chunk for chunk in self.chunks if chunk.forward is forward]
            starts, total = [], 0
            for chunk in chunks:
                starts.append(total)
                total += len(chunk.data)
            data = b"".join(chunk.data for chunk in chunks)
            sides[forward] = (data, starts, [chunk.frame for chunk in chunks])
        return sides

    def frames(self, start: int, end: int, *, forward: bool) -> tuple[int, ...]:
        """Return the frames that carry bytes start (included) to end (not) of a direction."""
        _, starts, frames = self._sides[forward]
        if not starts:
            return ()
        first = max(bisect_right(starts, start) - 1, 0)
        last = max(bisect_right(starts, max(end - 1, start)) - 1, first)
        return tuple(sorted(set(frames[first : last + 1])))

    def time(self, end: int, *, forward: bool) -> float | None:
        """Return when the byte before `end` of a direction was seen; None where there is none.

        In seconds since the first packet: the moment at which all up to there had been told.
        """
        _, starts, _ = self._sides[forward]
        if not starts:
            return None
        return self._times[forward][max(bisect_right(starts, max(end - 1, 0)) - 1, 0)]

    @cached_property
    def _times(self) -> dict[bool, list[float]]:
        return {
            forward: [chunk.time for chunk in self.chunks if chunk.forward is forward]
            for forward in (True, False)
        }


@dataclass(frozen=True, slots=True)
class Capture:
    """All that an engine read from one capture file.

    gaps -- frames at which a segment is known to be missing from the capture.
    cut -- frames of which only a part was captured.
    unread -- why the file could not be read to its end, or "".
    """

    packets: tuple[Packet, ...]
    handshakes: tuple[Handshake, ...]
    streams: tuple[Stream, ...]
    gaps: tuple[int, ...] = ()
    cut: tuple[int, ...] = ()
    unread: str = ""


class Engine(Protocol):
    """Reads captures. `name` and `version()` go into the evidence."""

    name: str

    def version(self) -> str:
        """Return the version of what decodes. Raises LabError when it is not installed."""

    def read(self, path: Path) -> Capture:
        """Read a capture file. Raises LabError when it cannot be read at all."""


class Span(Struct, frozen=True, gc=False):
    """A run of content bytes and the stream bytes that they came from."""

    content: int
    stream: int
    length: int


class Passage(Struct, frozen=True, gc=False):
    """Content that lies readable in a stream, after undoing the encodings named.

    spans maps content to stream offsets; an empty one (compressed) maps all of it to
    `start`..`end`, the stream bytes that it was made from.
    """

    where: str
    forward: bool
    content: bytes
    start: int
    end: int
    encodings: tuple[str, ...] = ()
    spans: tuple[Span, ...] = ()

    def place(self, start: int, end: int) -> tuple[int, int]:
        """Return the stream bytes that content bytes start to end came from."""
        if not self.spans:
            return self.start, self.end
        return self._offset(start), self._offset(max(end - 1, start)) + 1

    def _offset(self, position: int) -> int:
        spans = self.spans
        if len(spans) == 1:
            span = spans[0]
        else:
            index = bisect_right(spans, position, key=lambda span: span.content) - 1
            span = spans[max(index, 0)]
        return span.stream + min(position - span.content, max(span.length - 1, 0))


class Exposure(Struct, frozen=True, gc=False):
    """One thing that an eavesdropper reads, and the stream bytes that it is read from.

    kind -- what it is; docs/decoders.md lists the kinds.
    where -- request line, request header X, form field X, response header X, table cell, …
    about -- what else was told with it. The same keys in every protocol: sender, recipient, room
    (who told whom, as the protocol names them), user (whose password), subject, server, id, sent
    (a time that the protocol itself tells).
    protocol -- the protocols it was read in, the outermost first: "irc", "ftp/tls".
    """

    kind: str
    text: str
    where: str
    forward: bool
    start: int
    end: int
    encodings: tuple[str, ...] = ()
    about: dict[str, str] = {}
    protocol: str = ""

    def within(self, protocol: str) -> Exposure:
        """Return the same as read in a protocol, outside of those that it has."""
        name = f"{protocol}/{self.protocol}" if self.protocol else protocol
        return self.at(self.start, self.end, self.encodings, name)

    def at(self, start: int, end: int, encodings: tuple[str, ...], protocol: str) -> Exposure:
        """Return the same at another place; `replace` takes several times as long."""
        where, forward, about = self.where, self.forward, self.about
        kind, text = self.kind, self.text
        return Exposure(kind, text, where, forward, start, end, encodings, about, protocol)


class Layer(Struct, frozen=True):
    """What another protocol of its own says inside a stream: after STARTTLS, an upgrade, a key.

    A passage for each direction that has any; hint names the decoder where the outer protocol has
    agreed on the inner one, "" leaves it to the bytes.
    """

    forward: Passage | None
    back: Passage | None
    hint: str = ""


class Decoded(Struct, frozen=True):
    """What a decoder made of a stream. `complete` is False when it had to stop in the middle.

    facts -- what is true of the stream as a whole, by name: {"server name": "example.org"}. Of
    these, "sealed" is yes, perhaps or no: whether it ends where nobody without keys can read.
    notes -- sentences for a person: what it turned into, what could not be read and why.
    layers -- what is spoken inside; `decoders.decode` reads it on and empties this.
    inside -- the protocols that were found in the layers, the outermost first.
    """

    protocol: str
    passages: tuple[Passage, ...]
    exposures: tuple[Exposure, ...]
    complete: bool = True
    facts: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    layers: tuple[Layer, ...] = ()
    inside: tuple[str, ...] = ()


class Decoder(Protocol):
    """Reads one application protocol."""

    name: str

    def recognises(self, stream: Stream) -> bool:
        """Whether the stream speaks this protocol, judged by its bytes and never by its port."""

    def decode(self, stream: Stream) -> Decoded:
        """Read the stream; never raises for what is in it."""


@runtime_checkable
class Opener(Protocol):
    """What a decoder of an encrypted protocol has besides: it opens a stream with keys."""

    def open(self, stream: Stream, keys: bytes) -> Layer | None:
        """Return the plain text, None where the keys (a key log, NSS format) do not fit."""
