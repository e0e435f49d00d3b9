"""The pass over one or several captures: windows in, tables out.

Whatever the size of the files, there is in memory: one window, the flows, the segments that wait,
the fragments that wait. Rows of packets and extents go to temporary files as they are made.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from experiments.analysis.capture import state as s
from experiments.analysis.capture.fragments import Fragments
from experiments.analysis.capture.layout import (
    EXTENT,
    FLOW,
    NONE,
    NOTED,
    OFFSET_MASK,
    PACKET,
    PATCHES,
    PENDING,
    RECORD,
    SOURCE_SHIFT,
)
from experiments.analysis.capture.reader import ROWS, Reader
from experiments.analysis.capture.spool import Spool
from experiments.analysis.capture.walking import LARGEST_BLOCK
from experiments.analysis.compiled import native

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from experiments.analysis.capture.files import Source
    from experiments.analysis.capture.reader import Comment, Interface

_USUAL: Final = 4 << 20  # of a window, for one file
_LEAST: Final = 1 << 19  # of a window, for each of many: more than the largest packet
_PART: Final = LARGEST_BLOCK + (1 << 20)
_PATCH: Final = 1 << 20  # room for datagrams put together, in one window
_EVERY_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the pass is. total is None while it is not known."""

    done: int
    total: int | None
    packets: int
    seconds: float


class Listener(Protocol):
    """Sees the bytes of the streams while the pass has them at hand: the search."""

    def see(self, extents: NDArray[np.void], near: Near) -> None:
        """Take new extents, in order."""


class Near(Protocol):
    """Where the bytes of extents are."""

    def places(self, addresses: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return places in `window`, or -1 for what is no longer in it."""

    window: NDArray[np.uint8]

    flows: NDArray[np.void]

    def fetch(self, address: int, length: int) -> bytes:
        """Return bytes that are not at hand."""


class Pass:
    """One pass. After `run`, everything that was found lies in its attributes."""

    def __init__(
        self,
        sources: list[Source],
        listener: Listener | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self.sources = sources
        self.packets = Spool(PACKET)
        self.extents = Spool(EXTENT)
        self.patches = Spool(np.dtype("u1"))
        self.flows: NDArray[np.void] = np.zeros(1 << 10, FLOW)
        self.interfaces: list[Interface] = []
        self.interrupted = False
        self.fragments = Fragments()
        self.first_time: int | None = None
        self.status_counts: NDArray[np.int64] = np.zeros(32, np.int64)
        self._listener, self._progress = listener, progress
        self._call = native.engine()
        self._slots = np.full(1 << 12, NONE, np.uint32)
        self._pending: NDArray[np.void] = np.zeros(1 << 10, PENDING)
        self._extents: NDArray[np.void] = np.zeros(1 << 15, EXTENT)
        self._rows: NDArray[np.void] = np.zeros(ROWS, PACKET)
        self._state = np.zeros(s.SIZE, np.int64)
        self._state[s.FREE] = -1
        self._state[s.SEED] = int.from_bytes(os.urandom(4), "little")
        self.readers = [Reader(source, self._call, self.interfaces) for source in sources]
        self.window = np.empty(len(sources) * _PART + _PATCH, np.uint8)
        usual = max(_USUAL // max(len(sources), 1), _LEAST)
        for index, reader in enumerate(self.readers):
            reader.place(index * _PART, (index + 1) * _PART, usual)
        self._state[s.SIDE_FROM] = len(sources) * _PART
        self._patch_at = len(sources) * _PART
        self._since = self._told = time.monotonic()

    # --- results ------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """Flows found."""
        return int(self._state[s.FLOWS])

    @property
    def comments(self) -> list[Comment]:
        """All comments, those of the files first."""
        return [comment for reader in self.readers for comment in reader.comments]

    @property
    def dropped(self) -> int | None:
        """Packets that were dropped while capturing; None when nobody counted."""
        counts = [number for reader in self.readers for number in reader.dropped.values()]
        return sum(counts) if counts else None

    @property
    def stopped(self) -> str:
        """Why reading stopped before the end; "" when it did not."""
        reasons = [reader.stopped for reader in self.readers if reader.stopped]
        if self.interrupted:
            reasons.append("interrupted")
        return "; ".join(f"{reason}, after {len(self.packets)} packets" for reason in reasons)

    # --- the pass -----------------------------------------------------------------------------

    def run(self) -> None:
        """Read everything; Ctrl-C ends it early, with what is known so far."""
        try:
            if len(self.readers) == 1:
                reader = self.readers[0]
                while reader.fill(self.window):
                    self._batch(reader.records)
            else:
                self._merge()
        except KeyboardInterrupt:
            self.interrupted = True
        self._finish()

    def _merge(self) -> None:
        """Read several files in the order of time; one file's own order is kept."""
        heads: dict[int, NDArray[np.void]] = {}
        keys: dict[int, NDArray[np.int64]] = {}
        latest = dict.fromkeys(range(len(self.readers)), np.iinfo(np.int64).min)
        while True:
            for index, reader in enumerate(self.readers):
                if index not in heads and reader.fill(self.window):
                    times = np.maximum.accumulate(reader.records["time"])
                    heads[index] = reader.records
                    keys[index] = np.maximum(times, latest[index])
                    latest[index] = int(keys[index][-1])
            if not heads:
                return
            # Beyond this time a file may have packets that were not read yet.
            limit = min(int(key[-1]) for key in keys.values())
            taken, order = [], []
            for index in sorted(heads):
                cut = int(np.searchsorted(keys[index], limit, side="right"))
                taken.append(heads[index][:cut])
                order.append(keys[index][:cut])
                if cut == len(heads[index]):
                    del heads[index], keys[index]
                else:
                    heads[index], keys[index] = heads[index][cut:], keys[index][cut:]
            joined, by = np.concatenate(taken), np.concatenate(order)
            joined = joined[np.argsort(by, kind="stable")]
            for start in range(0, len(joined), ROWS):
                self._batch(np.ascontiguousarray(joined[start : start + ROWS]))

    def _batch(self, records: NDArray[np.void]) -> None:
        """Take the records of a window into the tables."""
        count = len(records)
        state = self._state
        if self.first_time is None:
            self.first_time = int(records[0]["time"])
        state[s.NEXT] = 0
        self._patch_at = int(state[s.SIDE_FROM])
        state[s.SIDE_BASE] = (PATCHES << SOURCE_SHIFT) + len(self.patches)
        while True:
            outcome = self._call(
                "decode", self.window, records, count, self._rows, self.flows, self._slots,
                self._pending, self._extents, state,
            )  # fmt: skip
            if outcome == s.DONE:
                break
            self._make_room(outcome)
        self._comments(records)
        rows = self._rows[:count]
        self.packets.add(rows)
        state[s.ROWS] += count
        self._drain()
        start = int(state[s.SIDE_FROM])
        self.patches.add(self.window[start : self._patch_at])
        self._tell()

    def _make_room(self, outcome: int) -> None:
        state = self._state
        if outcome == s.PIECE:
            self._fragment()
        elif outcome == s.NEED_EXTENTS:
            self._drain()
            needed = 2 * int(state[s.WAITING]) + 256
            if len(self._extents) < needed:
                self._extents = np.zeros(2 * needed, EXTENT)
        elif outcome == s.NEED_PENDING:
            self._pending = np.concatenate([self._pending, np.zeros(len(self._pending), PENDING)])
        else:
            if len(self.flows) - self.count < 64:  # noqa: PLR2004 - more than one frame can add
                grown = np.zeros(len(self.flows) * 2, FLOW)
                grown[: self.count] = self.flows[: self.count]
                self.flows = grown
            if len(self._slots) < 4 * (self.count + 64):
                self._slots = np.full(len(self._slots) * 4, NONE, np.uint32)
                self._call("rehash", self.flows, self._slots, state)

    def _fragment(self) -> None:
        """Take the fragment that the pass came to; hand back the datagram that it completes."""
        state, window = self._state, self.window
        size = 4 if state[s.R_VERSION] == 4 else 16  # noqa: PLR2004 - IPv4
        source, target = (bytes(window[state[at] : state[at] + size]) for at in (s.R_FROM, s.R_TO))
        key = (source, target, int(state[s.R_NEXT]), int(state[s.R_ID]), int(state[s.R_VLAN]))
        piece = bytes(window[state[s.R_AT] : state[s.R_END]])
        whole = self.fragments.add(key, int(state[s.R_OFFSET]), piece, more=bool(state[s.R_MORE]))
        state[s.RESUME] = s.SKIP
        if whole is None:
            return
        copy = source + target + whole
        if self._patch_at + len(copy) > len(window):
            self._clear_patches()
        at = self._patch_at
        window[at : at + len(copy)] = np.frombuffer(copy, np.uint8)
        self._patch_at = at + len(copy)
        state[s.R_FROM], state[s.R_TO], state[s.R_AT] = at, at + size, at + 2 * size
        state[s.R_END] = state[s.R_WIRE] = self._patch_at
        state[s.RESUME] = s.DATAGRAM

    def _clear_patches(self) -> None:
        """Put the datagrams made so far away, so that there is room for more in this window."""
        start = int(self._state[s.SIDE_FROM])
        self._drain()
        self.patches.add(self.window[start : self._patch_at])
        self._patch_at = start
        self._state[s.SIDE_BASE] = (PATCHES << SOURCE_SHIFT) + len(self.patches)

    def _drain(self) -> None:
        """Take the extents away, to the search and to their file."""
        used = int(self._state[s.USED])
        if used:
            new = self._extents[:used]
            if self._listener is not None:
                self._listener.see(new, self)
            self.extents.add(new)
            self._state[s.EXTENTS] += used
            self._state[s.USED] = 0

    def _finish(self) -> None:
        self._state[s.NEXT] = 0
        while self._call(
            "finish", len(self.packets), self.flows, self._pending, self._extents, self._state
        ):
            self._make_room(s.NEED_EXTENTS)
        self._drain()
        self.flows = self.flows[: self.count]

    def _comments(self, records: NDArray[np.void]) -> None:
        if not (records["status"] & NOTED).any():
            return
        first = int(self._state[s.ROWS]) + 1
        for reader in self.readers:
            mine = records.copy()
            of = (mine["address"] >> np.uint64(SOURCE_SHIFT)) == reader.source.number
            mine["status"] = np.where(of, mine["status"], 0)
            reader.remark_frames(self.window, mine, first)

    def _tell(self) -> None:
        now = time.monotonic()
        if self._progress is not None and now - self._told > _EVERY_S:
            self._told = now
            self._progress(
                Progress(
                    sum(reader.position for reader in self.readers),
                    sum(source.size for source in self.sources),
                    len(self.packets),
                    now - self._since,
                )
            )

    # --- where bytes are ----------------------------------------------------------------------

    def places(self, addresses: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return where in the window the bytes at addresses lie; -1: no longer there."""
        sources = (addresses >> np.uint64(SOURCE_SHIFT)).astype(np.int64)
        offsets = (addresses & np.uint64(OFFSET_MASK)).astype(np.int64)
        found = np.full(len(addresses), -1, np.int64)
        for reader in self.readers:
            low = reader.base() - (reader.source.number << SOURCE_SHIFT)
            at = offsets - low
            inside = (
                (sources == reader.source.number)
                & (at >= reader.low)
                & (at < reader.low + reader.filled)
            )
            found[inside] = at[inside]
        start = int(self._state[s.SIDE_FROM])
        at = offsets - (int(self._state[s.SIDE_BASE]) & OFFSET_MASK) + start
        inside = (sources == PATCHES) & (at >= start)
        found[inside] = at[inside]
        return found

    def fetch(self, address: int, length: int) -> bytes:
        """Return bytes by address, wherever they lie."""
        source, offset = address >> SOURCE_SHIFT, address & OFFSET_MASK
        if source == PATCHES:
            view: NDArray[Any] = self.patches.view()
            return view[offset : offset + length].tobytes()
        return self.sources[source].read(offset, length)


__all__ = ["RECORD", "Listener", "Near", "Pass", "Progress"]
