"""The decoders of application protocols; a file here that exports DECODER is one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lab import table

if TYPE_CHECKING:
    from experiments.analysis.model import Decoded, Decoder, Stream


def decoders() -> dict[str, Decoder]:
    """Return the decoders by name."""
    return table.scan(sys.modules[__name__], "DECODER")


def decode(stream: Stream) -> Decoded | None:
    """Read a stream with the first decoder that recognises it; None when none does."""
    for decoder in decoders().values():
        if decoder.recognises(stream):
            return decoder.decode(stream)
    return None
