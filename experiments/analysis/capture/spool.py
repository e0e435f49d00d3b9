"""Rows that grow without bound, kept in a nameless temporary file and read back by number."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.analysis.capture.files import spooled

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Spool:
    """A table on disk: rows are added at its end, and read as a mapped array."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype = dtype
        self._file = spooled("rows")
        self._count = 0
        self._view: NDArray[np.void] | None = None
        self._map: mmap.mmap | None = None

    def __len__(self) -> int:
        return self._count

    def add(self, rows: NDArray[Any]) -> None:
        """Append rows."""
        if len(rows):
            self._file.write(memoryview(rows).cast("B"))  # type: ignore[arg-type] # it is contiguous
            self._count += len(rows)
            self._view = None

    def view(self) -> NDArray[Any]:
        """Return all rows; only those that are looked at are read."""
        if self._view is None:
            self._file.flush()
            if not self._count:
                return np.zeros(0, self._dtype)
            self._map = mmap.mmap(
                self._file.fileno(), self._count * self._dtype.itemsize, prot=mmap.PROT_READ
            )
            self._view = np.frombuffer(self._map, self._dtype)
        return self._view

    def forget(self) -> None:
        """Let go of the pages that were read."""
        if self._map is not None:
            self._map.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Remove the file."""
        self._view = None
        self._file.close()
