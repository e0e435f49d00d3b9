"""What was read as a person tells it: who told whom what, when, and the frames that show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.analysis.model import Decoded, Exposure, Stream


@dataclass(frozen=True, slots=True)
class Told:
    """An exposure with what only its stream knows.

    who, whom -- as the protocol names them (a room where several are told), else "".
    source, destination -- the ends of the direction it went in, "address:port".
    when -- seconds since the first packet, of the frame that completed it.
    frames -- all that carry a byte of it.
    """

    kind: str
    text: str
    who: str
    whom: str
    source: str
    destination: str
    when: float | None
    frames: tuple[int, ...]
    protocol: str
    exposure: Exposure


def told(stream: Stream, decoded: Decoded | None) -> list[Told]:
    """Return all that was read in a stream, in the order in which it was told."""
    rows = []
    for exposure in decoded.exposures if decoded else ():
        ends = (stream.client, stream.server)
        source, destination = ends if exposure.forward else reversed(ends)
        about, forward = exposure.about, exposure.forward
        rows.append(
            Told(
                kind=exposure.kind,
                text=exposure.text,
                who=about.get("sender", ""),
                whom=about.get("recipient") or about.get("room", ""),
                source=source,
                destination=destination,
                when=stream.time(exposure.end, forward=forward),
                frames=stream.frames(exposure.start, exposure.end, forward=forward),
                protocol=exposure.protocol,
                exposure=exposure,
            )
        )
    return sorted(rows, key=lambda row: (row.when or 0.0, row.frames))
