"""Streams inside streams: what comes after STARTTLS or an upgrade, and what a key has opened.

The inner stream has the frames of the outer one, byte by byte where that is known, so that what a
decoder reads in it is led back (`lift`) to bytes of the outer stream: whoever shows evidence sees
one stream, however deep its content lay.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from experiments.analysis.model import Chunk, Layer, Passage, Span, Stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from experiments.analysis.model import Decoded, Exposure

_SIDES: Final = (True, False)


def tail(
    stream: Stream, forward: int | None, back: int | None, where: str, hint: str = ""
) -> Layer | None:
    """Return the rest of a stream as a layer, from these offsets on; None where nothing is left.

    None as an offset: that direction never came to the turn.
    """

    def rest(start: int | None, *, side: bool) -> Passage | None:
        data = stream.side(forward=side)
        if start is None or start >= len(data):
            return None
        spans = (Span(0, start, len(data) - start),)
        return Passage(where, side, data[start:], start, len(data), (), spans)

    layer = Layer(rest(forward, side=True), rest(back, side=False), hint)
    return layer if layer.forward or layer.back else None


def inner(outer: Stream, layer: Layer) -> Stream:
    """Return a layer as a stream, with the frames and times of the outer stream."""
    pieces = sorted(
        (piece for side in _SIDES for piece in _pieces(outer, _passage(layer, forward=side))),
        key=lambda piece: piece[0],
    )
    chunks = tuple(chunk for _, chunk in pieces)
    return Stream(outer.protocol, outer.number, outer.client, outer.server, chunks)


def lift(decoded: Decoded, layer: Layer, outer: str) -> tuple[list[Passage], list[Exposure]]:
    """Return what was read in a layer as read in the stream around it."""
    passages, exposures = [], []
    for passage in decoded.passages:
        around = _passage(layer, forward=passage.forward)
        if not around:
            continue
        start, end = around.place(passage.start, passage.end)
        passages.append(
            replace(
                passage,
                where=f"{passage.where} in {around.where}",
                start=start,
                end=end,
                encodings=(*around.encodings, *passage.encodings),
                spans=tuple(_compose(passage, around)),
            )
        )
    for exposure in decoded.exposures:
        around = _passage(layer, forward=exposure.forward)
        if not around:
            continue
        start, end = around.place(exposure.start, exposure.end)
        codings = (*around.encodings, *exposure.encodings)
        exposures.append(exposure.at(start, end, codings, f"{outer}/{exposure.protocol}"))
    return passages, exposures


def _passage(layer: Layer, *, forward: bool) -> Passage | None:
    return layer.forward if forward else layer.back


def _pieces(outer: Stream, passage: Passage | None) -> Iterator[tuple[int, Chunk]]:
    """Yield (index of the outer chunk, inner chunk) for a direction of a layer, in order."""
    if not passage or not passage.content:
        return
    starts, indexes, total = [], [], 0
    chunks = outer.chunks
    for index, chunk in enumerate(chunks):
        if chunk.forward is passage.forward:
            starts.append(total)
            indexes.append(index)
            total += len(chunk.data)
    if not starts:
        return
    spans = passage.spans or (Span(0, passage.end - 1, 1),)
    for number, span in enumerate(spans):
        position = span.content
        until = spans[number + 1].content if number + 1 < len(spans) else len(passage.content)
        while position < until:
            # What a run of packed bytes unpacks to beyond its own length came with its last byte.
            inside = min(position - span.content, max(span.length - 1, 0))
            which = max(bisect_right(starts, span.stream + inside) - 1, 0)
            end = until
            if which + 1 < len(starts) and inside < span.length - 1:
                end = min(position + starts[which + 1] - span.stream - inside, until)
            chunk = chunks[indexes[which]]
            data = passage.content[position:end]
            yield indexes[which], Chunk(chunk.frame, chunk.time, passage.forward, data)
            position = end


def _compose(passage: Passage, around: Passage) -> Iterator[Span]:
    """Yield spans from a passage's content to the outer stream; none if either has none."""
    if not around.spans:
        return
    for span in passage.spans:
        position, end = span.stream, span.stream + span.length
        while position < end:
            index = bisect_right(around.spans, position, key=lambda row: row.content) - 1
            outer = around.spans[max(index, 0)]
            inside = min(max(position - outer.content, 0), max(outer.length - 1, 0))
            until = min(end, max(outer.content + outer.length, position + 1))
            start = span.content + position - span.stream
            yield Span(start, outer.stream + inside, until - position)
            position = until
