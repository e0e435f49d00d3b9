"""Packet lists of any length, packed for a page: columns of numbers and tables of texts.

A row of a list is one number a column; texts are numbers in a table of different texts. The columns
stand one after the other, those of the widest numbers first, and are deflated (RFC 1950) and put
into base64. The page's script unpacks them (DecompressionStream "deflate") into typed arrays.
"""

from __future__ import annotations

import base64
import json
import zlib
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

#: The number in the column `info` of a row whose text the script makes from the other columns.
MADE: Final = 0xFFFFFFFF
MICROSECONDS: Final = 1_000_000
# Fast, and within a tenth of what the best level does.
_LEVEL: Final = 6


class Texts:
    """Different texts, each with its number."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        """Return the number of a text, a new one the first time."""
        return self.numbers.setdefault(text, len(self.numbers))

    def __iter__(self) -> Any:  # noqa: ANN401 - an iterator over str
        return iter(self.numbers)


def pack(
    columns: dict[str, NDArray[Any]], tables: Mapping[str, Sequence[str] | Texts]
) -> dict[str, Any]:
    """Return columns of one length and tables, packed: {"rows", "columns", "bytes", "packed"}.

    columns in the answer has (name, type) in the order in which they are packed; what follows them
    is the tables in JSON.
    """
    ordered = sorted(columns.items(), key=lambda item: -item[1].dtype.itemsize)
    packer = zlib.compressobj(_LEVEL)
    pieces, size = [], 0
    for _, column in ordered:
        little = np.ascontiguousarray(column).astype(column.dtype.newbyteorder("<"), copy=False)
        pieces.append(packer.compress(little.tobytes()))
        size += little.nbytes
    words = {name: list(table) for name, table in tables.items()}
    pieces.append(packer.compress(json.dumps(words, separators=(",", ":")).encode()))
    pieces.append(packer.flush())
    return {
        "rows": len(ordered[0][1]) if ordered else 0,
        "columns": [[name, column.dtype.str[1:]] for name, column in ordered],
        "bytes": size,
        "packed": base64.b64encode(b"".join(pieces)).decode(),
    }


def of_rows(rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Pack rows of (number, time in s, source, destination, protocol, length, info)."""
    names, protocols, infos = Texts(), Texts(), Texts()
    seconds, micros = times(np.array([round(row[1] * MICROSECONDS) for row in rows], np.int64))
    return pack(
        {
            "seconds": seconds,
            "micros": micros,
            "source": np.array([names.number(row[2]) for row in rows], np.uint32),
            "destination": np.array([names.number(row[3]) for row in rows], np.uint32),
            "protocol": np.array([protocols.number(row[4]) for row in rows], np.uint16),
            "length": np.array([row[5] for row in rows], np.uint32),
            "info": np.array([infos.number(row[6]) for row in rows], np.uint32),
        },
        {"names": names, "protocols": protocols, "infos": infos},
    )


def times(microseconds: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.uint32]]:
    """Return relative times as whole seconds and the rest."""
    seconds = np.clip(microseconds // MICROSECONDS, -(1 << 31), (1 << 31) - 1)
    return seconds.astype(np.int32), (microseconds % MICROSECONDS).astype(np.uint32)
