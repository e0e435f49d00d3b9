"""The tables and the bytes of a capture that was read, and how a stream's are found in them."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from experiments.analysis.capture.layout import NONE, OFFSET_MASK, PATCHES, SOURCE_SHIFT
from experiments.analysis.compiled import native
from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from numpy.typing import NDArray

    from experiments.analysis.capture.engine import Pass
    from experiments.analysis.capture.files import File
    from experiments.analysis.capture.reader import Comment, Interface


class Tables:
    """Packets, flows and extents. A context manager: its temporary files go when it is closed.

    made -- the pass that filled them.
    """

    def __init__(self, engine: Pass) -> None:
        self.made = engine
        self._call = native.engine()
        self._both = np.empty(1 << 16, np.uint8)  # kept: fresh pages cost more than copying
        self.flows: NDArray[Any] = engine.flows
        self.stopped: str = engine.stopped
        self.interfaces: tuple[Interface, ...] = tuple(engine.interfaces)
        self.comments: tuple[Comment, ...] = tuple(engine.comments)
        self.secrets: bytes = b"".join(bytes(reader.secrets) for reader in engine.readers)
        self.files: tuple[File, ...] = tuple(source.file for source in engine.sources)
        self.streams: int = engine.count
        self.interrupted: bool = engine.interrupted or any(
            source.interrupted for source in engine.sources
        )
        self.dropped: int | None = engine.dropped

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the temporary files."""
        for spool in (self.made.packets, self.made.extents, self.made.patches):
            spool.close()
        for source in self.made.sources:
            source.close()

    @property
    def packets(self) -> NDArray[Any]:
        """All packet rows (layout.PACKET), mapped; slice it."""
        return self.made.packets.view()

    def forget(self) -> None:
        """Give back the memory of rows that were looked at; they are read again when needed."""
        self.made.packets.forget()
        self.made.extents.forget()

    @property
    def start(self) -> int:
        """When the first packet was captured, in ns since 1970."""
        return self.made.first_time or 0

    def relative(self, time: int) -> float:
        """Return seconds since the first packet."""
        return (time - self.start) / 1e9

    def __len__(self) -> int:
        return len(self.made.packets)

    def frame(self, number: int) -> bytes:
        """Return the bytes of a frame; they count from 1."""
        row = self.row_of(number)
        return self.made.fetch(int(row["address"]), int(row["captured"]))

    def row_of(self, number: int) -> np.void:
        """Return the row of a frame; they count from 1. Raises LabError."""
        if not 1 <= number <= len(self):
            raise LabError(
                f"opening packet {number}",
                f"the capture has {len(self)}",
                fault=Fault.USER,
                todo="Packets count from 1.",
            )
        row: np.void = self.packets[number - 1]
        return row

    def _chain(self, name: str, rows: NDArray[Any], last: int) -> NDArray[np.uint32]:
        most = 1 << 10
        while True:
            into = np.empty(most, np.uint32)
            count = self._call(name, rows, last, into, most)
            if count < most:
                return into[:count][::-1]
            most *= 8

    @property
    def extents(self) -> NDArray[Any]:
        """All extents (layout.EXTENT), mapped."""
        return self.made.extents.view()

    def chain_of(self, last: int) -> NDArray[np.uint32]:
        """Return the rows of a flow's extents in order, given the last one."""
        if last == NONE:
            return np.zeros(0, np.uint32)
        return self._chain("extent_chain", self.extents, last)

    def frames_of(self, last: int) -> tuple[int, ...]:
        """Return the frames of a flow, given the row of its last packet."""
        if last == NONE:
            return ()
        return tuple((self._chain("packet_chain", self.packets, last) + 1).tolist())

    def times_of(self, frames: NDArray[Any]) -> list[float]:
        """Return when frames were captured, in seconds since the first."""
        times = self.packets["time"][frames.astype(np.int64) - 1]
        return ((times - self.start) / 1e9).tolist()  # type: ignore[no-any-return] # floats

    def sides_of(
        self, flow: np.void, flipped: int, cut: int, total: int
    ) -> tuple[bytes, bytes] | None:
        """Return the bytes of both directions, `cut` of them forward and `total` in all.

        None: they lie in several files, or in none.
        """
        last = int(flow["last_extent"])
        if last == NONE:
            return b"", b""
        extents = self.extents
        source = int(extents["address"][last]) >> SOURCE_SHIFT
        if source == PATCHES:
            return None
        origin = self.made.sources[source]
        view = origin.view()
        if origin.now() < len(view):
            raise _shrunk(origin.name)
        if total > len(self._both):
            self._both = np.empty(2 * total, np.uint8)
        into = self._both
        if self._call("sides", extents, last, flipped, source, view, cut, into, total) < 0:
            return None
        origin.forget(total * 2)
        return into[:cut].tobytes(), into[cut:total].tobytes()

    def frames_at(self, places: Sequence[tuple[int, int, int, int]]) -> list[tuple[int, ...]]:
        """Return the frames that carry stretches of streams: (flow, direction, start, end) each.

        Those of one direction of a flow have to follow on one another.
        """
        flat = np.array(places, np.int64).reshape(-1)
        rows = np.empty(1 << 12, np.uint32)
        frames = np.empty(1 << 12, np.uint32)
        counts = np.zeros(len(places), np.uint32)
        found: list[tuple[int, ...]] = []
        while len(found) < len(places):
            begin = len(found)
            done = self._call("locate", self.extents, self.flows, flat, begin, rows, frames, counts)
            if done == begin:
                rows = np.empty(4 * len(rows), np.uint32)
                frames = np.empty(4 * len(frames), np.uint32)
                continue
            said, at = frames.tolist(), 0
            for count in counts[begin:done].tolist():
                one = said[at : at + count]
                at += count
                found.append(tuple(sorted(set(one))) if count > 1 else tuple(one))
        return found

    def bytes_of(self, extents: NDArray[Any]) -> bytes:
        """Return the bytes of extents, one after the other."""
        if not len(extents):
            return b""
        sources = (extents["address"] >> np.uint64(SOURCE_SHIFT)).astype(np.int64)
        offsets = (extents["address"] & np.uint64(OFFSET_MASK)).astype(np.int64)
        lengths = extents["length"].astype(np.int64)
        if len(extents) == 1:
            return self.made.fetch(int(extents["address"][0]), int(lengths[0]))
        into = np.empty(int(lengths.sum()), np.uint8)
        if sources[0] == sources[-1] and (sources == sources[0]).all():
            self._gather(int(sources[0]), offsets, lengths, into)
            return into.tobytes()
        cuts = [0, *(np.flatnonzero(np.diff(sources)) + 1).tolist(), len(extents)]
        at = 0
        for first, last in pairwise(cuts):
            total = int(lengths[first:last].sum())
            part = into[at : at + total]
            self._gather(int(sources[first]), offsets[first:last], lengths[first:last], part)
            at += total
        return into.tobytes()

    def _gather(
        self,
        source: int,
        offsets: NDArray[np.int64],
        lengths: NDArray[np.int64],
        into: NDArray[np.uint8],
    ) -> None:
        if source == PATCHES:
            self._call("gather", self.made.patches.view(), offsets, lengths, into)
            return
        origin = self.made.sources[source]
        view = origin.view()
        if int((offsets + lengths).max()) > origin.now():
            raise _shrunk(origin.name)
        self._call("gather", view, offsets, lengths, into)
        origin.forget(len(into) * 2)


def _shrunk(name: str) -> LabError:
    return LabError(
        f"reading {name} again",
        "it is shorter than it was when it was read first",
        fault=Fault.USER,
        todo="Leave a capture alone while it is being read.",
    )
