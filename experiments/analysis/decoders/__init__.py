"""The decoders of application protocols; a file here that exports DECODER is one."""

from __future__ import annotations

import functools
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from experiments.analysis import layers
from experiments.analysis.model import Opener
from lab import table

if TYPE_CHECKING:
    from experiments.analysis.model import Decoded, Decoder, Stream

# How many protocols may lie inside one another: TLS after STARTTLS, HTTP in it, WebSocket in that.
DEEPEST: Final = 6
# Recognises everything, so it is asked last.
_LAST: Final = "unknown"


@functools.cache
def _table() -> dict[str, Decoder]:
    return table.scan(sys.modules[__name__], "DECODER")


def decoders() -> dict[str, Decoder]:
    """Return the decoders by name, in the order in which they are asked."""
    return dict(sorted(_table().items(), key=lambda row: (row[0] == _LAST, row[0])))


def decode(stream: Stream, keys: bytes = b"", *, hint: str = "") -> Decoded | None:
    """Read a stream with the first decoder that recognises it, and all that is spoken inside it.

    keys -- a key log (NSS format), with which encrypted streams are opened where it fits.
    hint -- the decoder to take where an outer protocol has agreed on it.
    None when the stream has no bytes.
    """
    return _decode(stream, keys, hint, DEEPEST)


def _decode(stream: Stream, keys: bytes, hint: str, depth: int) -> Decoded | None:
    decoder = _choose(stream, hint)
    if not decoder:
        return None
    decoded = decoder.decode(stream)
    inside, facts = list(decoded.layers), dict(decoded.facts)
    if keys and isinstance(decoder, Opener):
        opened = decoder.open(stream, keys)
        if opened:
            inside.append(opened)
            facts["sealed"] = "no"
    name = decoded.protocol
    passages = list(decoded.passages)
    exposures = [exposure.within(name) for exposure in decoded.exposures]
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


def _choose(stream: Stream, hint: str) -> Decoder | None:
    known = decoders()
    if not any(chunk.data for chunk in stream.chunks):
        return None
    if hint in known:
        return known[hint]
    return next((decoder for decoder in known.values() if decoder.recognises(stream)), None)
