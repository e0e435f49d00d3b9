"""WhatsApp's own protocol: what its opening tells before everything is encrypted.

Until 2016 a client named its device and its telephone number in the clear, in a binary form of XMPP
whose strings have a length before them; since then a Noise handshake comes first.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from experiments.analysis.model import Decoded, Exposure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from experiments.analysis.model import Stream

# "WA", two bytes of version; a newer client may say before it through where it goes ("ED").
_OPENS: Final = re.compile(rb"(?s)(?:ED\x00\x01.{3}.{0,64}?)?WA([\x01-\x10])([\x00-\x20])")
_STRING: Final = 0xFC
_ENCRYPTED: Final = 0x80
# From this major version on the opening is a Noise handshake.
_NOISE: Final = 2
_DEVICE: Final = re.compile(r"[A-Za-z][\w .]{1,32}-\d[\w.]{1,32}(?:-\d{1,5})?")
_NUMBER: Final = re.compile(r"[1-9]\d{6,14}")
_FRAMES: Final = 16
_SENT: Final = True


class WhatsApp:
    """WhatsApp between a telephone and its server."""

    name = "whatsapp"

    def recognises(self, stream: Stream) -> bool:
        """Whether a client's opening stands first."""
        data = stream.side(forward=True)[:96]
        match = _OPENS.match(data)
        # A length of three bytes follows.
        return (
            stream.protocol == "tcp"
            and bool(match)
            and len(data) >= (match.end() if match else 0) + 3
        )

    def decode(self, stream: Stream) -> Decoded:
        """Read the strings of the frames that are not encrypted."""
        data = stream.side(forward=True)
        match = _OPENS.match(data)
        if not match:
            return Decoded("whatsapp", (), (), complete=False)
        facts = {"sealed": "yes", "version": f"{match[1][0]}.{match[2][0]}"}
        if match[1][0] >= _NOISE:
            notes = ("a Noise handshake; encrypted from there on",)
            return Decoded("whatsapp", (), (), facts=facts, notes=notes)
        exposures = tuple(_strings(data, match.end()))
        notes = ("encrypted after the sign-in",)
        return Decoded("whatsapp", (), exposures, facts=facts, notes=notes)


def _strings(data: bytes, position: int) -> Iterator[Exposure]:
    for _ in range(_FRAMES):
        head = data[position : position + 3]
        start = position + 3
        end = start + int.from_bytes(head[1:], "big")
        if len(head) < 3 or head[0] & _ENCRYPTED or end > len(data):  # noqa: PLR2004 (the header)
            return
        at = data.find(bytes([_STRING]), start, end)
        while at >= 0 and at + 1 < end:
            first, last = at + 2, at + 2 + data[at + 1]
            if last > end:
                break
            text = data[first:last].decode("latin-1")
            if _DEVICE.fullmatch(text):
                yield Exposure("browser", text, "WhatsApp device", _SENT, first, last)
            elif _NUMBER.fullmatch(text):
                yield Exposure("user", text, "WhatsApp sign-in", _SENT, first, last)
            at = data.find(bytes([_STRING]), last, end)
        position = end


DECODER = WhatsApp()
