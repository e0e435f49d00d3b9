"""Yahoo Messenger's protocol (YMSG): sign-ins, contacts and messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from experiments.analysis import dialogue, mail
from experiments.analysis.model import Decoded, Exposure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from experiments.analysis.model import Stream

_MARK: Final = b"YMSG"
_HEADER: Final = 20
_APART: Final = b"\xc0\x80"
_MESSAGE: Final = 6
# The fields that are read, by their numbers.
_LOGIN, _ACTIVE, _FROM, _TO, _TEXT, _CONTACT = b"0", b"1", b"4", b"5", b"14", b"7"
# Only a server's packets have this one.
_CHALLENGE: Final = b"94"
_SIDES: Final = (True, False)

# A field: its number, its value, and the bytes of that.
_Field = tuple[bytes, bytes, int, int]


class Ymsg:
    """Yahoo Messenger."""

    name = "ymsg"

    def recognises(self, stream: Stream) -> bool:
        """Whether a side begins with a packet."""
        return stream.protocol == "tcp" and any(
            stream.side(forward=forward).startswith(_MARK) for forward in _SIDES
        )

    def decode(self, stream: Stream) -> Decoded:
        """Read all whole packets."""
        exposures: list[Exposure] = []
        complete, told = True, set()
        for forward in _SIDES:
            data, end = stream.side(forward=forward), 0
            for service, fields, after in _packets(data):
                end = after
                for exposure in _told(service, fields, forward=forward):
                    key = (exposure.kind, exposure.text)
                    if exposure.kind == "message" or key not in told:
                        exposures.append(exposure)
                        told.add(key)
            complete = complete and end == len(data)
        return Decoded("ymsg", (), tuple(exposures), complete)


def _packets(data: bytes) -> Iterator[tuple[int, list[_Field], int]]:
    """Yield (service, fields, end) of each packet."""
    position = 0
    while data.startswith(_MARK, position) and position + _HEADER <= len(data):
        length = int.from_bytes(data[position + 8 : position + 10], "big")
        service = int.from_bytes(data[position + 10 : position + 12], "big")
        start, position = position + _HEADER, position + _HEADER + length
        if position > len(data):
            return
        fields: list[_Field] = []
        number: bytes | None = None
        at = start
        for word in data[start:position].split(_APART):
            if number is None:
                number = word
            else:
                fields.append((number, word, at, at + len(word)))
                number = None
            at += len(word) + len(_APART)
        yield service, fields, position


def _told(service: int, fields: list[_Field], *, forward: bool) -> Iterator[Exposure]:
    first = {number: dialogue.text(value) for number, value, *_ in reversed(fields)}
    sender = first.get(_FROM) or first.get(_ACTIVE, "")
    about = {"sender": sender, "recipient": first.get(_TO, "")}
    about = {name: text for name, text in about.items() if text}
    for number, value, start, end in fields:
        text = dialogue.text(value)
        if not text:
            continue
        if number in {_LOGIN, _ACTIVE} and not {_FROM, _CHALLENGE} & set(first):
            yield Exposure("user", text, "YMSG account", forward, start, end)
        elif number == _CONTACT:
            yield Exposure("contact", text, "YMSG buddy", forward, start, end)
        elif number == _TEXT and service == _MESSAGE:
            words = mail.plain(text) or text
            codings = () if words == text else ("html",)
            yield Exposure("message", words, "YMSG message", forward, start, end, codings, about)


DECODER = Ymsg()
