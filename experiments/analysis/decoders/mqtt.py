"""MQTT 3.1, 3.1.1 and 5: sign-ins and what is published (several messengers were built on it)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from experiments.analysis import chatjson
from experiments.analysis.model import Decoded, Exposure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from experiments.analysis.model import Stream

_CONNECT, _PUBLISH, _SUBSCRIBE = 1, 3, 8
_NAMES: Final = (b"MQTT", b"MQIsdp")
_LONGEST: Final = 2**20
_FIVE: Final = 5
_SIDES: Final = (True, False)


@dataclass(frozen=True, slots=True)
class _Packet:
    kind: int
    flags: int
    start: int
    end: int


class Mqtt:
    """Message Queuing Telemetry Transport."""

    name = "mqtt"

    def recognises(self, stream: Stream) -> bool:
        """Whether the first packet asks to connect, and names the protocol."""
        return stream.protocol == "tcp" and _level(stream.side(forward=True)[:64]) is not None

    def decode(self, stream: Stream) -> Decoded:
        """Read all whole packets."""
        exposures: list[Exposure] = []
        complete = True
        level = _level(stream.side(forward=True)[:64]) or 0
        client = ""
        for forward in _SIDES:
            data = stream.side(forward=forward)
            end = 0
            for packet in _packets(data):
                end = packet.end
                reader = _Reader(data, packet, level, forward=forward)
                if packet.kind == _CONNECT:
                    client = client or reader.connect()
                elif packet.kind == _PUBLISH:
                    reader.publish()
                elif packet.kind == _SUBSCRIBE:
                    reader.subscribe()
                exposures += reader.found
            complete = complete and end == len(data)
        facts = {"client": client} if client else {}
        return Decoded("mqtt", (), tuple(exposures), complete, facts=facts)


def _packets(data: bytes) -> Iterator[_Packet]:
    """Yield the whole packets of a side."""
    position = 0
    while position + 2 <= len(data):
        length, at = _number(data, position + 1)
        if at < 0 or at + length > len(data):
            return
        yield _Packet(data[position] >> 4, data[position] & 15, at, at + length)
        position = at + length


def _number(data: bytes, position: int) -> tuple[int, int]:
    """Return a number of variable length and where it ends, -1 where it has no end."""
    value = shift = 0
    for at in range(position, min(position + 4, len(data))):
        value |= (data[at] & 0x7F) << shift
        shift += 7
        if not data[at] & 0x80:
            return value, at + 1
    return 0, -1


def _level(data: bytes) -> int | None:
    """Return the version that a CONNECT at the beginning asks for."""
    if len(data) < 12 or data[0] != _CONNECT << 4:  # noqa: PLR2004 (the shortest there is)
        return None
    _, at = _number(data, 1)
    for name in _NAMES:
        head = len(name).to_bytes(2, "big") + name
        if at > 0 and data.startswith(head, at):
            level = data[at + len(head) : at + len(head) + 1]
            return level[0] & 0x7F if level else None
    return None


class _Reader:
    """Reads the fields of a packet, one after the other; `short` once there was too little."""

    def __init__(self, data: bytes, packet: _Packet, level: int, *, forward: bool) -> None:
        self._data, self._packet, self._level, self._forward = data, packet, level, forward
        self._at = packet.start
        self._short = False
        self.found: list[Exposure] = []

    def _take(self, count: int) -> bytes:
        end = self._at + count
        self._short = self._short or end > self._packet.end
        piece = self._data[self._at : min(end, self._packet.end)]
        self._at = min(end, self._packet.end)
        return piece

    def _field(self) -> tuple[bytes, int, int]:
        text = self._take(int.from_bytes(self._take(2), "big"))
        return text, self._at - len(text), self._at

    def _properties(self) -> None:
        if self._level >= _FIVE:
            length, at = _number(self._data[: self._packet.end], self._at)
            self._short = self._short or at < 0
            self._take(max(at - self._at, 0) + length)

    def _tell(self, kind: str, where: str, field: tuple[bytes, int, int], **about: str) -> None:
        text, start, end = field
        if text and not self._short:
            told = {name: value for name, value in about.items() if value}
            words = text.decode("utf-8", "replace")
            exposure = Exposure(kind, words, f"MQTT {where}", self._forward, start, end, (), told)
            self.found.append(exposure)

    def connect(self) -> str:
        """Read who signs in; return the client's own name."""
        self._field()
        _, flags, _, _ = self._take(4).ljust(4, b"\0")
        self._properties()
        client = self._field()
        if flags & 0x04:
            self._properties()
            topic, will = self._field(), self._field()
            self._tell("message", "last will", will, room=topic[0].decode("utf-8", "replace"))
        user = self._field() if flags & 0x80 else (b"", 0, 0)
        name = user[0].decode("utf-8", "replace")
        self._tell("user", "CONNECT", user)
        if flags & 0x40:
            self._tell("password", "CONNECT", self._field(), user=name)
        return client[0].decode("utf-8", "replace")

    def publish(self) -> None:
        """Read what is published: JSON as such, a text as it stands, and no pictures."""
        topic = self._field()[0].decode("utf-8", "replace")
        if self._packet.flags & 0x06:
            self._take(2)
        self._properties()
        start, end = self._at, self._packet.end
        content = self._data[start:end]
        if self._short or len(content) > _LONGEST:
            return
        if content[:1] in {b"{", b"["}:
            for told in chatjson.read(content, asked=self._forward):
                place = (start + told.start, start + told.end)
                where = f"MQTT PUBLISH, JSON field {told.key}"
                about = {"room": topic, **told.about}
                self.found.append(
                    Exposure(told.kind, told.text, where, self._forward, *place, (), about)
                )
            return
        try:
            printable = content.decode().isprintable()
        except UnicodeDecodeError:
            return
        if printable:
            self._tell("message", "PUBLISH", (content, start, end), room=topic)

    def subscribe(self) -> None:
        """Read which topics are asked for."""
        self._take(2)
        self._properties()
        while self._at < self._packet.end and not self._short:
            topic = self._field()
            self._take(1)
            self._tell("room", "SUBSCRIBE", topic)


DECODER = Mqtt()
