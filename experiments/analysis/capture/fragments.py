"""Putting IP fragments together (RFC 791, 3.2; RFC 8200, 4.5), within bounds.

As Wireshark does it: pieces are joined in the order of their offsets; where two overlap, the one
with the lower offset counts, and of two with the same offset the first.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

# Bounds: datagrams that are incomplete at one time, bytes of them, pieces of one. The oldest goes.
MOST_DATAGRAMS: Final = 4096
MOST_BYTES: Final = 32 << 20
MOST_PIECES: Final = 8192
LARGEST: Final = 65535

Key = tuple[bytes, bytes, int, int, int]  # source, destination, protocol, identification, VLAN


@dataclass(slots=True)
class _Datagram:
    pieces: list[tuple[int, bytes]] = field(default_factory=list)
    total: int | None = None
    size: int = 0


class Fragments:
    """The datagrams of which not all has come."""

    def __init__(self) -> None:
        self._open: OrderedDict[Key, _Datagram] = OrderedDict()
        self._bytes = 0
        self.given_up = 0

    def __len__(self) -> int:
        return len(self._open)

    def add(self, key: Key, offset: int, data: bytes, *, more: bool) -> bytes | None:
        """Take a piece; return the whole datagram's payload when it is the last that lacked."""
        datagram = self._open.get(key)
        if datagram is None:
            datagram = self._open[key] = _Datagram()
        datagram.pieces.append((offset, data))
        datagram.size += len(data)
        self._bytes += len(data)
        if not more and datagram.total is None:
            datagram.total = offset + len(data)
        if offset + len(data) > LARGEST or len(datagram.pieces) > MOST_PIECES:
            self._drop(key)
            return None
        whole = _joined(datagram)
        if whole is not None:
            self._forget(key)
            return whole
        while len(self._open) > MOST_DATAGRAMS or self._bytes > MOST_BYTES:
            self._drop(next(iter(self._open)))
        return None

    def _forget(self, key: Key) -> None:
        self._bytes -= self._open.pop(key).size

    def _drop(self, key: Key) -> None:
        self.given_up += 1
        self._forget(key)


def _joined(datagram: _Datagram) -> bytes | None:
    total = datagram.total
    if total is None or datagram.size < total:
        return None
    out = bytearray()
    for offset, data in sorted(datagram.pieces, key=lambda piece: piece[0]):
        if offset > len(out):
            return None
        out += data[len(out) - offset :]
        if len(out) >= total:
            return bytes(out[:total])
    return None
