"""DHCP (RFC 2131): which devices announce themselves, by name and make."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final

from experiments.analysis.model import Decoded, Exposure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from experiments.analysis.model import Stream

_COOKIE: Final = b"\x63\x82\x53\x63"
_OPTIONS_AT: Final = 240
_HOST, _ASKED, _MAKE, _FULL_NAME = 12, 50, 60, 81
_PAD, _END = 0, 255
_SIDES: Final = (True, False)


class Dhcp:
    """The Dynamic Host Configuration Protocol."""

    name = "dhcp"

    def recognises(self, stream: Stream) -> bool:
        """Whether the first datagram is a message with DHCP's cookie."""
        return stream.protocol == "udp" and bool(stream.chunks) and _is(stream.chunks[0].data)

    def decode(self, stream: Stream) -> Decoded:
        """Read the options of all messages; what is told again is told once."""
        found: dict[tuple[str, str], Exposure] = {}
        for forward in _SIDES:
            position = 0
            for chunk in stream.chunks:
                if chunk.forward is not forward:
                    continue
                for exposure in _told(chunk.data, position, forward=forward):
                    found.setdefault((exposure.kind, exposure.text), exposure)
                position += len(chunk.data)
        return Decoded("dhcp", (), tuple(found.values()))


def _is(data: bytes) -> bool:
    return data[:1] in {b"\x01", b"\x02"} and data[_OPTIONS_AT - 4 : _OPTIONS_AT] == _COOKIE


def _told(data: bytes, base: int, *, forward: bool) -> Iterator[Exposure]:
    if not _is(data):
        return
    address = data[28 : 28 + min(data[2], 16)].hex(":")
    about = {"address": address}
    position = _OPTIONS_AT
    while position + 1 < len(data) and data[position] != _END:
        kind = data[position]
        if kind == _PAD:
            position += 1
            continue
        start, end = position + 2, position + 2 + data[position + 1]
        content, position = data[start:end], end
        if end > len(data):
            return
        place = (base + start, base + end)
        if kind in {_HOST, _FULL_NAME}:
            text = content[3:] if kind == _FULL_NAME else content
            words = "".join(char for char in text.decode("utf-8", "replace") if char.isprintable())
            if words:
                yield Exposure("contact", words, "DHCP host name", forward, *place, (), about)
        elif kind == _MAKE and content:
            words = content.decode("utf-8", "replace")
            yield Exposure("browser", words, "DHCP vendor class", forward, *place, (), about)
        elif kind == _ASKED and len(content) == 4:  # noqa: PLR2004 (IPv4)
            words = str(ipaddress.ip_address(content))
            yield Exposure("address", words, "DHCP requested address", forward, *place, (), about)


DECODER = Dhcp()
