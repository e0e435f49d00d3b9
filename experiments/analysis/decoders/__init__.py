"""The decoders of application protocols; a file here that exports DECODER is one."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from experiments.analysis import layers
from experiments.analysis.model import Chunk, Exposure, Opener, Stream
from lab import table

if TYPE_CHECKING:
    from experiments.analysis.model import Decoded, Decoder

# How many protocols may lie inside one another: TLS after STARTTLS, HTTP in it, WebSocket in that.
DEEPEST: Final = 6
# How many chunks tell whether a stream was captured from its middle on, the wrong way round.
_FEW: Final = 32
# Recognises everything, so it is asked last.
_LAST: Final = "unknown"


@functools.cache
def _table() -> dict[str, Decoder]:
    return table.scan(sys.modules[__name__], "DECODER")


@functools.cache
def _ordered() -> tuple[Decoder, ...]:
    rows = sorted(_table().items(), key=lambda row: (row[0] == _LAST, row[0]))
    return tuple(decoder for _, decoder in rows)


def decoders() -> dict[str, Decoder]:
    """Return the decoders by name, in the order in which they are asked."""
    return {decoder.name: decoder for decoder in _ordered()}


def decode(stream: Stream, keys: bytes = b"", *, hint: str = "") -> Decoded | None:
    """Read a stream with the first decoder that recognises it, and all that is spoken inside it.

    keys -- a key log (NSS format), with which encrypted streams are opened where it fits.
    hint -- the decoder to take where an outer protocol has agreed on it.
    None when the stream has no bytes.
    """
    return _decode(stream, keys, hint, DEEPEST)


def _decode(stream: Stream, keys: bytes, hint: str, depth: int) -> Decoded | None:
    if stream.empty:
        return None
    decoder = _table().get(hint) or _choose(stream)
    if decoder.name != _LAST:
        return _read(stream, decoder, keys, depth)
    other = _choose(_mirrored(stream, _FEW))
    if other.name != _LAST:
        return _flipped(_read(_mirrored(stream), other, keys, depth))
    return _read(stream, decoder, keys, depth)


def _read(stream: Stream, decoder: Decoder, keys: bytes, depth: int) -> Decoded:
    decoded = decoder.decode(stream)
    inside, facts = list(decoded.layers), dict(decoded.facts)
    if keys and isinstance(decoder, Opener):
        opened = decoder.open(stream, keys)
        if opened:
            inside.append(opened)
            facts["sealed"] = "no"
    name = decoded.protocol
    passages = list(decoded.passages)
    # As `within` does, spelt out: of nearly all there is no more to say.
    exposures = [
        e.within(name)
        if e.protocol
        else Exposure(
            e.kind, e.text, e.where, e.forward, e.start, e.end, e.encodings, e.about, name
        )
        for e in decoded.exposures
    ]
    notes, protocols = list(decoded.notes), list(decoded.inside)
    complete = decoded.complete
    for layer in inside if depth else ():
        read = _decode(layers.inner(stream, layer), keys, layer.hint, depth - 1)
        passages += [side for side in (layer.forward, layer.back) if side and side.encodings]
        if not read:
            continue
        more, said = layers.lift(read, layer, name)
        passages += more
        exposures += said
        facts = {**read.facts, **facts}
        notes += [note for note in read.notes if note not in notes]
        protocols += [read.protocol, *read.inside]
        complete = complete and read.complete
    return replace(
        decoded,
        passages=tuple(passages),
        exposures=tuple(exposures),
        complete=complete,
        facts=facts,
        notes=tuple(notes),
        layers=(),
        inside=tuple(protocols),
    )


def _choose(stream: Stream) -> Decoder:
    found = (decoder for decoder in _ordered() if decoder.recognises(stream))
    return next(found, _table()[_LAST])  # its first chunks may all be empty


def _mirrored(stream: Stream, most: int | None = None) -> Stream:
    """Return a stream with its ends exchanged: whoever comes first in a capture may have answered.

    most -- how many chunks are kept, None: all.
    """
    chunks = tuple(
        Chunk(chunk.frame, chunk.time, not chunk.forward, chunk.data)
        for chunk in stream.chunks[:most]
    )
    return Stream(stream.protocol, stream.number, stream.server, stream.client, chunks)


def _flipped(decoded: Decoded) -> Decoded:
    """Return what was read in a mirrored stream as read in the stream itself."""
    return replace(
        decoded,
        passages=tuple(replace(row, forward=not row.forward) for row in decoded.passages),
        exposures=tuple(replace(row, forward=not row.forward) for row in decoded.exposures),
    )
