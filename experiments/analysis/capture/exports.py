"""The functions that compiled code is called through, with the types of what they take.

Every one takes arrays (a pointer and a number of rows) and numbers, and returns a number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from experiments.analysis.capture.layout import (
    EXTENT,
    FLOW,
    INTERFACE,
    PACKET,
    PENDING,
    RECORD,
    RUN,
)

if TYPE_CHECKING:
    from collections.abc import Callable

BYTES: Final = np.dtype("u1")
WORDS: Final = np.dtype("<u4")
INTEGERS: Final = np.dtype("<i4")
NUMBERS: Final = np.dtype("<i8")
NUMBER: Final = None  # a plain int64

# The modules that hold compiled functions, and those that these take constants from.
SOURCES: Final = (
    *("walk", "flows", "tcp", "assembly", "link", "transport", "decode", "chains"),
    *("layout", "state", "walking", "exports"),
)
SIGNATURES: Final[dict[str, tuple[np.dtype[Any] | None, ...]]] = {
    "pcap": (BYTES, RECORD, NUMBERS),
    "pcapng": (BYTES, RECORD, INTERFACE, NUMBERS),
    "decode": (BYTES, RECORD, NUMBER, PACKET, FLOW, WORDS, PENDING, EXTENT, NUMBERS),
    "rehash": (FLOW, WORDS, NUMBERS),
    "finish": (NUMBER, FLOW, PENDING, EXTENT, NUMBERS),
    "packet_chain": (PACKET, NUMBER, WORDS, NUMBER),
    "extent_chain": (EXTENT, NUMBER, WORDS, NUMBER),
    "lay": (
        *(BYTES, BYTES, EXTENT, NUMBERS, NUMBERS, FLOW, INTEGERS, BYTES, INTEGERS),
        *(NUMBER, BYTES, RUN, NUMBERS),
    ),
    "sides": (EXTENT, NUMBER, NUMBER, NUMBER, BYTES, NUMBER, BYTES, NUMBER),
    "locate": (EXTENT, FLOW, NUMBERS, NUMBER, WORDS, WORDS, WORDS),
    "gather": (BYTES, NUMBERS, NUMBERS, BYTES),
}


def functions() -> dict[str, Callable[..., int]]:
    """Return the functions by name, in the form that jit.MODE asks for."""
    from experiments.analysis.capture import chains, decode, flows, walk  # noqa: PLC0415 - see jit

    return {
        "pcap": walk.pcap,
        "pcapng": walk.pcapng,
        "decode": decode.decode,
        "rehash": flows.rehash,
        "finish": chains.finish,
        "packet_chain": chains.chain,
        "extent_chain": chains.chain,
        "lay": chains.lay,
        "sides": chains.sides,
        "locate": chains.locate,
        "gather": chains.gather,
    }
