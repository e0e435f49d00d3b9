"""OSCAR, the protocol of AIM and ICQ: sign-ins, contacts and messages.

The oldest sign-in sends the password XORed with a fixed string, which hides nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from experiments.analysis import mail
from experiments.analysis.model import Decoded, Exposure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from experiments.analysis.model import Stream

_START: Final = 0x2A
_SIGN_ON, _SNAC = 1, 2
_ROAST: Final = bytes.fromhex("f32681c43986db9271a3b9e6537a957c")
_NAME, _ROASTED, _CLIENT, _HASH, _BLOCK = 1, 2, 3, 0x25, 2
_LOGIN, _SENT, _CAME, _ARRIVES = (0x17, 2), (4, 6), (4, 7), (3, 0x0B)
_TEXT: Final = 0x0101
_WIDE, _LATIN = 2, 3
_OPENS: Final = re.compile(rb"(?s)\x2a\x01..\x00.\x00\x00\x00\x01")
_SIDES: Final = (True, False)


@dataclass(frozen=True, slots=True)
class _Value:
    """A value and its bytes in the stream."""

    data: bytes
    start: int

    @property
    def place(self) -> tuple[int, int]:
        return self.start, self.start + len(self.data)

    @property
    def text(self) -> str:
        return self.data.decode("utf-8", "replace")


class Oscar:
    """AIM and ICQ."""

    name = "oscar"

    def recognises(self, stream: Stream) -> bool:
        """Whether a side begins with a FLAP frame that signs on."""
        return stream.protocol == "tcp" and any(
            _OPENS.match(stream.side(forward=forward)[:16]) for forward in _SIDES
        )

    def decode(self, stream: Stream) -> Decoded:
        """Read all whole frames of both sides."""
        exposures: list[Exposure] = []
        complete, me = True, ""
        for forward in _SIDES:
            data, end = stream.side(forward=forward), 0
            for channel, start, after in _frames(data):
                end = after
                frame = _Value(data[start:after], start)
                for exposure in _told(channel, frame, me, forward=forward):
                    exposures.append(exposure)
                    if exposure.kind == "user" and not me:
                        me = exposure.text
            complete = complete and end == len(data)
        return Decoded("oscar", (), tuple(exposures), complete, facts={"account": me} if me else {})


def _frames(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (channel, start, end) of what each FLAP frame carries."""
    position = 0
    while position + 6 <= len(data) and data[position] == _START:
        start = position + 6
        channel, position = data[position + 1], start + (data[start - 2] << 8 | data[start - 1])
        if position > len(data):
            return
        yield channel, start, position


def _told(channel: int, frame: _Value, me: str, *, forward: bool) -> Iterator[Exposure]:
    data = frame.data
    if channel == _SIGN_ON:
        yield from _sign_in(_values(_after(frame, 4)), forward=forward)
    if channel != _SNAC or len(data) < 10:  # noqa: PLR2004 (a SNAC's header)
        return
    kind = (data[0] << 8 | data[1], data[2] << 8 | data[3])
    body = _after(frame, 10)
    if kind == _LOGIN:
        yield from _sign_in(_values(body), forward=forward)
    elif kind in {_SENT, _CAME}:
        yield from _message(body, me, came=kind == _CAME, forward=forward)
    elif kind == _ARRIVES:
        name = _named(body)
        if name and name.data:
            yield Exposure("contact", name.text, "OSCAR buddy online", forward, *name.place)


def _after(value: _Value, count: int) -> _Value:
    return _Value(value.data[count:], value.start + min(count, len(value.data)))


def _named(value: _Value) -> _Value | None:
    """Return a name with its length before it."""
    if not value.data or len(value.data) < 1 + value.data[0]:
        return None
    return _Value(value.data[1 : 1 + value.data[0]], value.start + 1)


def _values(value: _Value) -> dict[int, _Value]:
    """Return the tagged values, the first of each tag."""
    found: dict[int, _Value] = {}
    data, position = value.data, 0
    while position + 4 <= len(data):
        tag, length = (data[at] << 8 | data[at + 1] for at in (position, position + 2))
        start, position = position + 4, position + 4 + length
        if position > len(data):
            break
        found.setdefault(tag, _Value(data[start:position], value.start + start))
    return found


def _sign_in(values: dict[int, _Value], *, forward: bool) -> Iterator[Exposure]:
    name = values.get(_NAME)
    if not name or not name.data:
        return
    about = {"user": name.text}
    yield Exposure("user", name.text, "OSCAR sign-in", forward, *name.place)
    roasted, hashed, client = (values.get(tag) for tag in (_ROASTED, _HASH, _CLIENT))
    if roasted and roasted.data:
        key = _ROAST * (len(roasted.data) // len(_ROAST) + 1)
        plain = bytes(one ^ other for one, other in zip(roasted.data, key, strict=False))
        text, codings = plain.decode("utf-8", "replace"), ("roasted",)
        yield Exposure("password", text, "OSCAR sign-in", forward, *roasted.place, codings, about)
    if hashed and hashed.data:
        text, told = hashed.data.hex(), {**about, "mechanism": "MD5"}
        yield Exposure("hash", text, "OSCAR sign-in", forward, *hashed.place, (), told)
    if client and client.data:
        yield Exposure("browser", client.text, "OSCAR client", forward, *client.place)


def _message(body: _Value, me: str, *, came: bool, forward: bool) -> Iterator[Exposure]:
    """Read a message on channel 1: a cookie, the channel, the other's name, then the text."""
    name = _named(_after(body, 10))
    if body.data[8:10] != b"\0\x01" or not name:
        return
    rest = _after(body, 11 + len(name.data))
    if came:
        count, rest = int.from_bytes(rest.data[2:4], "big"), _after(rest, 4)
        for _ in range(min(count, 64)):
            rest = _after(rest, 4 + int.from_bytes(rest.data[2:4], "big"))
    block = _values(rest).get(_BLOCK)
    part = _values(block).get(_TEXT) if block else None
    if not part or len(part.data) <= 4:  # noqa: PLR2004 (its character set)
        return
    charset = int.from_bytes(part.data[:2], "big")
    words = _after(part, 4)
    coding: str = {_WIDE: "utf-16-be", _LATIN: "latin-1"}.get(charset, "utf-8")
    written = words.data.decode(coding, "replace")
    text = mail.plain(written) or written
    ends = (name.text, me) if came else (me, name.text)
    about = {key: end for key, end in zip(("sender", "recipient"), ends, strict=True) if end}
    undone = [coding] if charset in {_WIDE, _LATIN} else []
    undone += [] if text == written else ["html"]
    if text.strip():
        yield Exposure(
            "message", text, "OSCAR message", forward, *words.place, tuple(undone), about
        )


DECODER = Oscar()
