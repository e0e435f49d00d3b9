"""Where the texts of a cell were seen: in the streams of captures, and in copies of files.

A container is something that is read as one: a direction of a stream, a file of a store, the memory
of a process. That two texts stand side by side means something within one container only.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from experiments.analysis import spellings
from experiments.analysis.decoders import decode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from experiments.analysis.model import Capture, Passage, Stream
    from experiments.matrix.needles import Hit, Needles

# Of one text in one container: more say nothing more.
MOST: Final = 4000
# What a copy may hold, unpacked: imlab itself never makes so much.
MOST_BYTES: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Sighting:
    """A text in a container; start and end are offsets in it. proof: how a reader finds it."""

    id: str
    form: str
    container: str
    start: int
    end: int
    proof: dict[str, Any]


@dataclass(slots=True)
class Seen:
    """What an observer saw: sightings by text, and why what it did not see proves nothing."""

    found: dict[str, list[Sighting]] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)
    lacks: str = ""

    def add(self, sighting: Sighting) -> None:
        """Take a sighting, unless there are many of its text already."""
        rows = self.found.setdefault(sighting.id, [])
        if len(rows) < MOST or rows[-1].container != sighting.container:
            rows.append(sighting)


def on_the_wire(seen: Seen, file: str, capture: Capture, needles: Needles) -> None:
    """Look into every stream of a capture as it is, and into what decoders unpacked of it."""
    for stream in capture.streams:
        for forward in (True, False):
            content = stream.side(forward=forward)
            way = "→" if forward else "←"
            container = f"{file} {stream.protocol} {stream.number} {way}"
            for hit in needles.find(content):
                proof = _frames(stream, file, hit.start, hit.end, forward=forward)
                seen.add(_sighting(hit, container, hit.start, hit.end, proof, ()))
        decoded = decode(stream)
        for passage in decoded.passages if decoded else ():
            if set(passage.encodings) - {""}:
                _in_passage(seen, file, stream, passage, needles)


def _in_passage(seen: Seen, file: str, stream: Stream, passage: Passage, needles: Needles) -> None:
    container = f"{file} {stream.protocol} {stream.number} {passage.where} at {passage.start}"
    for hit in needles.find(passage.content):
        start, end = passage.place(hit.start, hit.end)
        proof = _frames(stream, file, start, end, forward=passage.forward)
        seen.add(_sighting(hit, container, hit.start, hit.end, proof, passage.encodings))


def _sighting(  # noqa: PLR0913, PLR0917 - a row of six columns
    hit: Hit,
    container: str,
    start: int,
    end: int,
    proof: dict[str, Any],
    encodings: tuple[str, ...],
) -> Sighting:
    forms = [*encodings, *([hit.form] if hit.form != spellings.AS_IS else [])]
    form = ", ".join(forms) or spellings.AS_IS
    return Sighting(hit.id, form, container, start, end, {**proof, "form": form})


def _frames(stream: Stream, file: str, start: int, end: int, *, forward: bool) -> dict[str, Any]:
    frames = list(stream.frames(start, end, forward=forward))
    ends = (stream.client, stream.server) if forward else (stream.server, stream.client)
    shown = frames[:20]
    return {
        "file": file,
        "frames": frames,
        "stream": stream.number,
        "transport": stream.protocol,
        "direction": " → ".join(ends),
        "filter": f"frame.number in {{{', '.join(map(str, shown))}}}",
        "follow": f"{stream.protocol}.stream eq {stream.number}",
    }


def in_a_copy(seen: Seen, folder: Path, sight: dict[str, Any], needles: Needles) -> None:
    """Look into a copy of files or memory that an observer made."""
    if sight["lacks"]:
        seen.doubts.append(sight["lacks"])
    if not sight["file"]:
        seen.lacks = sight["lacks"]
        return
    file = sight["file"]
    try:
        open_ = gzip.open if file.endswith(".gz") else open
        with open_(folder / file, "rb") as opened:
            content = opened.read(MOST_BYTES + 1)
    except (OSError, EOFError) as error:
        seen.doubts.append(f"{file}: {error}")
        return
    if len(content) > MOST_BYTES:
        seen.doubts.append(f"{file}: only its first {MOST_BYTES >> 20} MiB were read")
    if ".tar" in file:
        _archive(seen, file, content, needles)
        return
    parts = [tuple(part) for part in sight["parts"]]
    starts = [part[1] for part in parts]
    for hit in needles.find(content):
        proof: dict[str, Any] = {"file": file, "offset": hit.start}
        if parts:
            name, start, _ = parts[max(bisect_right(starts, hit.start) - 1, 0)]
            proof["part"] = f"{name}, byte {hit.start - start}"
        seen.add(_sighting(hit, file, hit.start, hit.end, proof, ()))


def _archive(seen: Seen, file: str, content: bytes, needles: Needles) -> None:
    try:
        for name, part in _members(content):
            for hit in needles.find(part):
                proof = {"file": file, "part": f"/{name}", "offset": hit.start}
                seen.add(_sighting(hit, f"{file} {name}", hit.start, hit.end, proof, ()))
            for hit in needles.find(name.encode()):
                proof = {"file": file, "part": f"/{name}", "offset": None}
                named = _sighting(hit, f"{file} {name} (name)", hit.start, hit.end, proof, ())
                seen.add(named)
    except (tarfile.TarError, OSError, EOFError) as error:
        seen.doubts.append(f"{file}: {error}")


def _members(content: bytes) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
        for member in archive:
            opened = archive.extractfile(member) if member.isreg() else None
            if opened:
                yield member.name, opened.read()


def near(one: list[Sighting], other: list[Sighting], distance: int) -> tuple[Sighting, ...]:
    """Return the first two of two lists that stand within a distance in one container, or ()."""
    places: dict[str, list[Sighting]] = {}
    for sighting in other:
        places.setdefault(sighting.container, []).append(sighting)
    for rows in places.values():
        rows.sort(key=lambda row: row.start)
    for sighting in one:
        rows = places.get(sighting.container, [])
        starts = [row.start for row in rows]
        at = bisect_right(starts, sighting.start)
        for row in rows[max(at - 1, 0) : at + 1]:
            if row.start < sighting.end + distance and sighting.start < row.end + distance:
                return sighting, row
    return ()
