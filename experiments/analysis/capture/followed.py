"""One conversation of a capture, with the interface of model.Stream and the bytes left on disk."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from experiments.analysis.capture import words
from experiments.analysis.capture.layout import DATA, GAP, NONE, TCP
from experiments.analysis.model import Chunk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from experiments.analysis.capture.reading import Reading

# What `side` gives at most of one direction; `read` gives any part.
SIDE_LIMIT: Final = 32 << 20
_PIECE: Final = 4 << 20
_ROWS: Final = 1 << 16


class Followed:
    """A stream as extents of the capture; bytes are read when they are asked for.

    client, server -- "address:port". forward is the direction from client to server.
    """

    def __init__(self, reading: Reading, flow: int) -> None:
        self.flow = flow
        self._reading = reading
        self._row = reading.flows[flow]
        self._flipped = int(self._row["flipped"])
        size = 4 if self._row["version"] == 4 else 16  # noqa: PLR2004 - IPv4
        ends = [
            words.end(self._row["address"][side][:size].tobytes(), int(self._row["port"][side]))
            for side in (0, 1)
        ]
        self.protocol = "tcp" if self._row["protocol"] == TCP else "udp"
        self.number = int(self._row["number"])
        self.client, self.server = ends[self._flipped], ends[1 - self._flipped]

    def __repr__(self) -> str:
        return f"Followed({self.protocol} {self.number}: {self.client} → {self.server})"

    # --- figures, without reading the stream --------------------------------------------------

    def _both(self, field: str) -> tuple[int, int]:
        sides = self._row["side"]
        return int(sides[self._flipped][field]), int(sides[1 - self._flipped][field])

    @property
    def packets(self) -> tuple[int, int]:
        """Packets forward and back."""
        return self._both("packets")

    @property
    def wire_bytes(self) -> tuple[int, int]:
        """Payload bytes on the wire forward and back, what was repeated included."""
        return self._both("bytes")

    def length(self, *, forward: bool) -> int:
        """Return how many bytes a direction has."""
        return self._both("stream")[not forward]

    def missing(self, *, forward: bool) -> int:
        """Return how many bytes are known to be missing from a direction."""
        return self._both("missing")[not forward]

    @property
    def first_time(self) -> float:
        """Seconds from the capture's first packet to this stream's first."""
        return self._reading.relative(int(self._row["first_time"]))

    @property
    def last_time(self) -> float:
        """Seconds from the capture's first packet to this stream's last."""
        return self._reading.relative(int(self._row["last_time"]))

    @property
    def started(self) -> bool:
        """Whether its SYN was captured (UDP: always)."""
        return self.protocol == "udp" or bool(self._row["syn_frame"])

    # --- the extents --------------------------------------------------------------------------

    @cached_property
    def _extents(self) -> NDArray[Any]:
        """All extents, in the order in which they became readable."""
        return self._reading.extents_of(int(self._row["last_extent"]))

    @cached_property
    def _sides(self) -> dict[bool, tuple[NDArray[Any], list[int], list[int]]]:
        """By direction: its extents, where each starts, and the frame of each."""
        sides = {}
        data = self._extents[self._extents["kind"] == DATA]
        for forward in (True, False):
            of = data[data["direction"] == (self._flipped if forward else 1 - self._flipped)]
            sides[forward] = (of, of["offset"].tolist(), of["frame"].tolist())
        return sides

    @property
    def gaps(self) -> tuple[int, ...]:
        """The frames at which bytes are known to be missing."""
        if not self._row["gaps"]:
            return ()
        frames = self._extents["frame"][self._extents["kind"] == GAP]
        return tuple(sorted(set(frames.tolist())))

    def frames(self, start: int, end: int, *, forward: bool) -> tuple[int, ...]:
        """Return the frames that carry bytes start (included) to end (not) of a direction."""
        _, starts, frames = self._sides[forward]
        if not starts:
            return ()
        first = max(bisect_right(starts, start) - 1, 0)
        last = max(bisect_right(starts, max(end - 1, start)) - 1, first)
        return tuple(sorted(set(frames[first : last + 1])))

    def time(self, end: int, *, forward: bool) -> float | None:
        """Return when the byte before `end` of a direction was seen; None where there is none."""
        _, starts, frames = self._sides[forward]
        if not starts:
            return None
        frame = frames[max(bisect_right(starts, max(end - 1, 0)) - 1, 0)]
        return self._reading.relative(int(self._reading.packets[frame - 1]["time"]))

    @property
    def all_frames(self) -> tuple[int, ...]:
        """Every frame of the conversation, those without payload included."""
        return self._reading.frames_of(int(self._row["last_packet"]))

    # --- the bytes ----------------------------------------------------------------------------

    def read(self, start: int, end: int, *, forward: bool) -> bytes:
        """Return bytes start (included) to end (not) of a direction."""
        extents, starts, _ = self._sides[forward]
        end = min(end, self.length(forward=forward))
        start = max(start, 0)
        if end <= start or not starts:
            return b""
        first = bisect_right(starts, start) - 1
        last = bisect_right(starts, end - 1)
        data = self._reading.bytes_of(extents[first:last])
        return data[start - starts[first] : end - starts[first]]

    @property
    def clipped(self) -> bool:
        """Whether a direction has more than `side` gives."""
        return max(self._both("stream")) > SIDE_LIMIT

    def side(self, *, forward: bool) -> bytes:
        """Return the bytes of one direction, at most SIDE_LIMIT of them."""
        return self._bytes[forward]

    @cached_property
    def _bytes(self) -> dict[bool, bytes]:
        return {forward: self.read(0, SIDE_LIMIT, forward=forward) for forward in (True, False)}

    @cached_property
    def chunks(self) -> tuple[Chunk, ...]:
        """The pieces of both directions in order, each with its frame and time."""
        data = self._extents[self._extents["kind"] == DATA]
        times = self._reading.times_of(data["frame"])
        bounds = [0, *np.cumsum(data["length"], dtype=np.int64).tolist()]
        whole = memoryview(self._reading.bytes_of(data[: bisect_right(bounds, 2 * SIDE_LIMIT) - 1]))
        return tuple(
            Chunk(frame, time, direction == self._flipped, bytes(whole[first:last]))
            for frame, time, direction, first, last in zip(
                data["frame"].tolist(),
                times,
                data["direction"].tolist(),
                bounds[:-1],
                bounds[1:],
                strict=True,
            )
            if last <= len(whole)
        )

    def walk(self) -> Iterator[Chunk]:
        """Yield all pieces of both directions in order, read a few megabytes at a time."""
        data = self._extents[self._extents["kind"] == DATA]
        first = 0
        while first < len(data):
            sums = np.cumsum(data["length"][first : first + _ROWS], dtype=np.int64)
            count = max(int(np.searchsorted(sums, _PIECE)), 1)
            part = data[first : first + count]
            first += count
            whole, at = self._reading.bytes_of(part), 0
            times = self._reading.times_of(part["frame"])
            for row, time in zip(part, times, strict=True):
                piece = whole[at : at + int(row["length"])]
                at += len(piece)
                yield Chunk(int(row["frame"]), time, row["direction"] == self._flipped, piece)

    def pieces(self, *, forward: bool) -> Iterator[bytes]:
        """Yield all bytes of a direction, a few megabytes at a time."""
        for start in range(0, self.length(forward=forward), _PIECE):
            yield self.read(start, start + _PIECE, forward=forward)

    def sha256(self, *, forward: bool) -> str:
        """Return the hash of all bytes of a direction."""
        digest = hashlib.sha256()
        for piece in self.pieces(forward=forward):
            digest.update(piece)
        return digest.hexdigest()


__all__ = ["NONE", "SIDE_LIMIT", "Followed"]
