"""Rows that may be many, kept in a nameless temporary file: memory does not grow with a capture."""

from __future__ import annotations

import json
import tempfile
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from experiments.eavesdrop.plain import dumps

if TYPE_CHECKING:
    from collections.abc import Iterator

_HELD: Final = 1 << 20  # bytes that stay in memory before a file is made


class Spool:
    """Rows of JSON, added and then read from the first on.

    Past `most` rows the others are only counted: `left_out` says how many.
    """

    def __init__(self, most: int) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_HELD, mode="w+b")  # noqa: SIM115 - closed by close()
        self._most = most
        self.rows = 0
        self.left_out = 0

    def __len__(self) -> int:
        """Return how many were added, those left out included."""
        return self.rows + self.left_out

    def add(self, row: dict[str, Any]) -> None:
        """Keep a row."""
        if self.rows == self._most:
            self.left_out += 1
            return
        self._file.write(dumps(row).encode() + b"\n")
        self.rows += 1

    def lines(self) -> Iterator[str]:
        """Yield the rows as JSON, one line each."""
        self._file.seek(0)
        for line in self._file:
            yield line[:-1].decode()

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield the rows."""
        return map(json.loads, self.lines())

    def read_some(self, most: int) -> list[dict[str, Any]]:
        """Return the first rows."""
        return list(islice(self.read(), most))

    def close(self) -> None:
        """Give the memory or the file back."""
        self._file.close()
