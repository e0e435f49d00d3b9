"""Writing some frames of a capture as a pcapng (draft-ietf-opsawg-pcapng)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from experiments.analysis.capture.tables import Tables

_SECTION: Final = 0x0A0D0D0A
_DESCRIPTION: Final = 1
_PACKET: Final = 6
_COMMENT: Final = 1
_NAME: Final = 2
_RESOLUTION: Final = 9
_NANOSECONDS: Final = b"\x09"


def write_frames(
    reading: Tables, frames: Iterable[int], path: Path, comments: dict[int, str]
) -> None:
    """Write frames with their bytes, times (ns) and interfaces; comments by frame."""
    with path.open("wb") as file:
        file.write(_block(_SECTION, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)))
        for interface in reading.interfaces:
            body = struct.pack("<HHI", interface.link, 0, interface.snap)
            if interface.name:
                body += _option(_NAME, interface.name.encode())
            body += _option(_RESOLUTION, _NANOSECONDS) + struct.pack("<I", 0)
            file.write(_block(_DESCRIPTION, body))
        for number in frames:
            row, data = reading.packets[number - 1], reading.frame(number)
            time = int(row["time"]) & 0xFFFFFFFFFFFFFFFF
            body = struct.pack(
                "<IIIII",
                int(row["interface"]),
                time >> 32,
                time & 0xFFFFFFFF,
                len(data),
                int(row["length"]),
            )
            body += data + bytes(-len(data) % 4)
            if number in comments:
                body += _option(_COMMENT, comments[number].encode()[:65000]) + struct.pack("<I", 0)
            file.write(_block(_PACKET, body))


def _block(kind: int, body: bytes) -> bytes:
    size = len(body) + 12
    return struct.pack("<II", kind, size) + body + struct.pack("<I", size)


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)
