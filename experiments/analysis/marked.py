"""A followed stream as text for people, with the planted texts marked where they stand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from experiments.analysis.model import Decoded, Stream
    from experiments.analysis.search import Hit

# How many bytes of a stream are kept as text in analysis.json; the capture has all of them.
LIMIT: Final = 64 * 1024
# An encoding that leaves a text unreadable to the eye; such bodies are shown unpacked as well.
_PACKED: Final = frozenset(
    {"gzip", "x-gzip", "deflate", "br", "zstd", "zlib", "tls", "masked", "permessage-deflate"}
)
_KEPT: Final = "\n\t"

Part = tuple[str, str | None]


def printable(data: bytes) -> str:
    """Return bytes as text; what has no shape is a middle dot, as Wireshark prints a dot."""
    text = data.decode("utf-8", "replace").replace("\r\n", "\n")
    return "".join(
        char if (char.isprintable() and char != "\ufffd") or char in _KEPT else "·" for char in text
    )


def chunks(stream: Stream, hits: dict[str, list[Hit]]) -> list[dict[str, Any]]:
    """Return the stream's chunks in order, each as parts of (text, planted id or None)."""
    marks = _marks(stream, hits)
    offsets = {True: 0, False: 0}
    rows, kept = [], 0
    for chunk in stream.chunks:
        start = offsets[chunk.forward]
        offsets[chunk.forward] += len(chunk.data)
        data = chunk.data[: max(LIMIT - kept, 0)]
        kept += len(chunk.data)
        spans = [(first - start, last - start, name) for first, last, name in marks[chunk.forward]]
        rows.append(
            {
                "frame": chunk.frame,
                "time": round(chunk.time, 6),
                "forward": chunk.forward,
                "bytes": len(chunk.data),
                "parts": [list(part) for part in _parts(data, spans)],
            }
        )
    return rows


def unpacked(
    stream: Stream, decoded: Decoded | None, hits: dict[str, list[Hit]]
) -> list[dict[str, Any]]:
    """Return compressed bodies as what they say, with the frames that carried them.

    The planted texts in them are named in `ids`, since their place inside is lost to compression.
    """
    rows = []
    for passage in decoded.passages if decoded else ():
        if not _PACKED & set(passage.encodings):
            continue
        ids = [
            name
            for name, found in hits.items()
            if any(
                hit.stream is stream
                and hit.forward is passage.forward
                and passage.start <= hit.start < passage.end
                for hit in found
            )
        ]
        rows.append(
            {
                "forward": passage.forward,
                "codings": list(passage.encodings),
                "frames": list(stream.frames(passage.start, passage.end, forward=passage.forward)),
                "text": printable(passage.content[:LIMIT]),
                "ids": ids,
            }
        )
    return rows


def _marks(stream: Stream, hits: dict[str, list[Hit]]) -> dict[bool, list[tuple[int, int, str]]]:
    marks: dict[bool, list[tuple[int, int, str]]] = {True: [], False: []}
    for name, found in hits.items():
        for hit in found:
            if hit.stream is stream and not _PACKED & set(hit.forms):
                marks[hit.forward].append((hit.start, hit.end, name))
    return {side: sorted(spans) for side, spans in marks.items()}


def _parts(data: bytes, spans: list[tuple[int, int, str]]) -> Iterator[Part]:
    """Cut bytes at the marks that touch them; of two that overlap the first wins."""
    position = 0
    for start, end, name in spans:
        first, last = max(start, position), min(end, len(data))
        if first >= last:
            continue
        if first > position:
            yield printable(data[position:first]), None
        yield printable(data[first:last]), name
        position = last
    if position < len(data):
        yield printable(data[position:]), None
