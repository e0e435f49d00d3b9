"""WebSocket (RFC 6455), masked, in fragments and packed (RFC 7692): the messages in it.

What is JSON is read as such; XMPP (RFC 7395), IRC and STOMP inside are read too. A text of no such
form is a message as it stands.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from experiments.analysis import chatjson
from experiments.analysis.model import Decoded, Exposure, Layer, Passage, Span

if TYPE_CHECKING:
    from collections.abc import Iterator

    from experiments.analysis.model import Stream

_SIDES: Final = (True, False)
_TEXT, _BINARY, _CLOSE = 1, 2, 8
_OPCODES: Final = frozenset({0, 1, 2, 8, 9, 10})
_SHORT: Final = 125
# Messages are unpacked up to this many bytes each.
_LONGEST: Final = 16 * 2**20
_MARKER: Final = b"\0\0\xff\xff"
# What Socket.IO and SockJS put before their JSON.
_PREFIX: Final = re.compile(rb"(?:\d{1,3}(?:/[\w/-]{1,64},)?\d{0,6}|a)(?=[\[{])")
_BEATS: Final = frozenset({b"ping", b"pong", b"PING", b"PONG", b"2probe", b"3probe"})
_STOMP: Final = re.compile(rb"(SEND|MESSAGE|CONNECT|STOMP)\r?\n")
_IRC: Final = re.compile(rb"(?:[:@][^ ]+ +)?(?:PRIVMSG|NOTICE|NICK|USER|PASS|JOIN|CAP|\d{3}) +[^ ]")
_XMPP: Final = re.compile(rb"\s*<(?:open|auth|iq|message|presence|response|success|close)[\s/>]")


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame; its payload is unmasked, start and end are the payload's bytes in the stream."""

    opcode: int
    final: bool
    packed: bool
    masked: bool
    payload: bytes
    start: int
    end: int


@dataclass(slots=True)
class _Message:
    opcode: int
    packed: bool
    masked: bool
    content: bytearray = field(default_factory=bytearray)
    spans: list[Span] = field(default_factory=list)

    def add(self, frame: Frame) -> None:
        if frame.payload:
            self.spans.append(Span(len(self.content), frame.start, len(frame.payload)))
            self.content += frame.payload


class WebSocket:
    """WebSocket, from its first frame on; the upgrade before it is HTTP's."""

    name = "websocket"

    def recognises(self, stream: Stream) -> bool:
        """Whether both sides, or all there is, are frames: the client's masked, and no others."""
        if stream.protocol != "tcp":
            return False
        sides = [stream.side(forward=forward)[: 64 * 1024] for forward in _SIDES]
        return any(
            _consists(sides[way], masked=True) and _consists(sides[1 - way], masked=False)
            for way in (0, 1)
            if sides[way]
        )

    def decode(self, stream: Stream) -> Decoded:
        """Read all whole messages."""
        passages: list[Passage] = []
        exposures: list[Exposure] = []
        complete = True
        for forward in _SIDES:
            data = stream.side(forward=forward)
            found, whole = _messages(data, forward=forward)
            complete = complete and whole
            passages += found
            for passage in found:
                exposures += _told(passage)
        layers = _layers(passages)
        return Decoded("websocket", tuple(passages), tuple(exposures), complete, layers=layers)


def _consists(data: bytes, *, masked: bool) -> bool:
    """Whether bytes are nothing but frames; an empty side is, and one that is cut may be."""
    if not data:
        return not masked
    position = count = 0
    for frame in frames(data):
        if frame.masked is not masked or (
            frame.opcode == _TEXT and not frame.packed and _binary(frame)
        ):
            return False
        position = frame.end
        count += 1
    rest = data[position:]
    begins = bool(rest) and rest[0] & 0x0F in _OPCODES and not rest[0] & 0x30
    return count > 0 and (not rest or begins) and position * 2 >= len(data[:256])


def _binary(frame: Frame) -> bool:
    try:
        frame.payload.decode()
    except UnicodeDecodeError as error:
        return frame.final or error.end < len(frame.payload)
    return False


def frames(data: bytes) -> Iterator[Frame]:
    """Yield the whole frames of a side, until something else comes (RFC 6455, 5.2)."""
    position = 0
    while position + 2 <= len(data):
        first, second = data[position], data[position + 1]
        if first & 0x30 or first & 0x0F not in _OPCODES:
            return
        masked, length, start = bool(second & 0x80), second & 0x7F, position + 2
        if length > _SHORT:
            if first & 0x08:  # control frames are short
                return
            width = 2 if length == 126 else 8  # noqa: PLR2004 (as the RFC has it)
            length = int.from_bytes(data[start : start + width], "big")
            start += width
        mask = data[start : start + 4] if masked else b""
        start += len(mask)
        end = start + length
        if end > len(data) or (masked and len(mask) < 4):  # noqa: PLR2004 (a mask has four bytes)
            return
        payload = _unmasked(data[start:end], mask)
        yield Frame(
            first & 0x0F, bool(first & 0x80), bool(first & 0x40), masked, payload, start, end
        )
        position = end


def _unmasked(payload: bytes, mask: bytes) -> bytes:
    if not mask or not payload:
        return payload
    length = len(payload)
    key = (mask * (length // 4 + 1))[:length]
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")
    return mixed.to_bytes(length, "big")


def _messages(data: bytes, *, forward: bool) -> tuple[list[Passage], bool]:
    """Return the whole messages of a side as passages, and whether all of it was understood."""
    found: list[Passage] = []
    unpacker = zlib.decompressobj(-15)
    message: _Message | None = None
    end, whole = 0, True
    for frame in frames(data):
        end = frame.end
        if frame.opcode >= _CLOSE:
            continue
        if frame.opcode:
            message = _Message(frame.opcode, frame.packed, frame.masked)
        if not message:
            continue
        message.add(frame)
        if not frame.final:
            continue
        content, codings = bytes(message.content), ("masked",) if message.masked else ()
        if message.packed:
            plain, unpacker = _unpacked(content, unpacker)
            codings = (*codings, "permessage-deflate")
            if plain is None:
                whole, message = False, None
                continue
            content = plain
        if content and message.spans:
            where = "WebSocket text" if message.opcode == _TEXT else "WebSocket binary"
            spans, first = tuple(message.spans), message.spans[0].stream
            kept = () if message.packed else spans
            found.append(Passage(where, forward, content, first, end, codings, kept))
        message = None
    return found, whole and end == len(data) and message is None


def _unpacked(content: bytes, unpacker: zlib._Decompress) -> tuple[bytes | None, zlib._Decompress]:
    """Unpack a message, with what came before it or without (RFC 7692, 7.2.2).

    A sender that forgets its window after each message packs it so that a reader who keeps it reads
    the same, so nobody has to be told which of the two was agreed on.
    """
    for attempt in (unpacker, zlib.decompressobj(-15)):
        try:
            plain = attempt.decompress(content + _MARKER, _LONGEST)
        except zlib.error:
            continue
        # A last block, or more than is read, ends what a window is good for.
        done = attempt.eof or attempt.unconsumed_tail
        return plain, zlib.decompressobj(-15) if done else attempt
    return None, zlib.decompressobj(-15)


def _told(passage: Passage) -> Iterator[Exposure]:
    content, forward, codings = passage.content, passage.forward, passage.encodings
    asked = "masked" in codings  # as only what a client sends is
    prefix = _PREFIX.match(content)
    skip = prefix.end() if prefix else 0
    body = content[skip:]
    if body[:1] in {b"{", b"["}:
        for told in chatjson.read(body, asked=asked):
            place = passage.place(told.start + skip, told.end + skip)
            where = f"{passage.where}, JSON field {told.key}"
            yield Exposure(told.kind, told.text, where, forward, *place, codings, told.about)
    elif _STOMP.match(content):
        yield from _stomp(passage)
    elif passage.where == "WebSocket text" and not _other(content):
        place = passage.place(0, len(content))
        text = content.decode("utf-8", "replace")
        yield Exposure("message", text, passage.where, forward, *place, codings)


def _other(content: bytes) -> bool:
    """Whether a text is a heartbeat, or of a protocol that is read as a layer."""
    beat = len(content) <= 1 or content in _BEATS or content.isdigit()
    return beat or bool(_IRC.match(content) or _XMPP.match(content))


def _stomp(passage: Passage) -> Iterator[Exposure]:
    """Yield what a STOMP frame tells: a message with its destination, or a sign-in."""
    head, blank, body = passage.content.partition(b"\n\n")
    if not blank:
        return
    command, *rows = head.decode("utf-8", "replace").replace("\r", "").split("\n")
    headers = {name: value for name, _, value in (row.partition(":") for row in rows)}
    forward, codings = passage.forward, passage.encodings
    if command in {"CONNECT", "STOMP"}:
        place = passage.place(0, len(head))
        for name, kind in (("login", "user"), ("passcode", "password")):
            if headers.get(name):
                about = {"user": headers.get("login", "")} if kind == "password" else {}
                where = f"STOMP {command} {name}"
                yield Exposure(kind, headers[name], where, forward, *place, codings, about)
        return
    start = len(head) + 2
    text = body.rstrip(b"\0\r\n")
    about = {"room": headers.get("destination", "")}
    if text[:1] in {b"{", b"["}:
        for told in chatjson.read(text, asked="masked" in codings):
            place = passage.place(told.start + start, told.end + start)
            merged = {**about, **told.about}
            where = f"STOMP {command}, JSON field {told.key}"
            yield Exposure(told.kind, told.text, where, forward, *place, codings, merged)
    elif text:
        place = passage.place(start, start + len(text))
        words = text.decode("utf-8", "replace")
        yield Exposure("message", words, f"STOMP {command}", forward, *place, codings, about)


def _layers(passages: list[Passage]) -> tuple[Layer, ...]:
    """Return the XMPP or IRC that is spoken in text messages, line by line."""
    for pattern, hint in ((_XMPP, "xmpp"), (_IRC, "irc")):
        sides = {
            forward: _joined(
                [p for p in passages if p.forward is forward and pattern.match(p.content)], forward
            )
            for forward in _SIDES
        }
        if any(sides.values()):
            return (Layer(sides[True], sides[False], hint),)
    return ()


def _joined(passages: list[Passage], forward: bool) -> Passage | None:  # noqa: FBT001 (a direction)
    if not passages:
        return None
    content, spans = bytearray(), []
    for passage in passages:
        start = len(content)
        inside = passage.spans or (Span(0, passage.start, passage.end - passage.start),)
        spans += [Span(start + span.content, span.stream, span.length) for span in inside]
        content += passage.content + (b"" if passage.content.endswith(b"\n") else b"\r\n")
    codings = tuple(dict.fromkeys(c for passage in passages for c in passage.encodings))
    start, end = passages[0].start, passages[-1].end
    return Passage("WebSocket text", forward, bytes(content), start, end, codings, tuple(spans))


DECODER = WebSocket()
