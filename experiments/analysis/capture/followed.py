"""One conversation of a capture, with the interface of model.Stream and the bytes left on disk."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from experiments.analysis.capture import words
from experiments.analysis.capture.layout import DATA, GAP, NONE, TCP
from experiments.analysis.model import Chunk, Stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from experiments.analysis.capture.tables import Tables

# What `side` gives at most of one direction; `read` gives any part.
SIDE_LIMIT: Final = 32 << 20
_PIECE: Final = 4 << 20
_ROWS: Final = 1 << 13


class Followed(Stream):
    """A stream as extents of the capture; bytes are read when they are asked for.

    client, server -- "address:port". forward is the direction from client to server.
    """

    def __init__(self, reading: Tables, flow: int) -> None:  # (not as a dataclass does)
        row = reading.flows[flow]
        # Past the frozen dataclass, some of whose fields are properties here.
        self.__dict__.update(
            protocol="tcp" if row["protocol"] == TCP else "udp",
            number=int(row["number"]),
            flow=flow,
            _reading=reading,
            _row=row,
            _flipped=int(row["flipped"]),
        )

    flow: int
    _reading: Tables
    _row: Any
    _flipped: int

    @cached_property
    def _ends(self) -> tuple[str, str]:
        return words.ends(self._row)

    @property
    def client(self) -> str:
        """The end that opened the conversation, "address:port"."""
        return self._ends[0]

    @property
    def server(self) -> str:
        """The other end."""
        return self._ends[1]

    def __repr__(self) -> str:
        return f"Followed({self.protocol} {self.number}: {self.client} → {self.server})"

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    # --- figures, without reading the stream --------------------------------------------------

    def _both(self, field: str) -> tuple[int, int]:
        one, other = self._row["side"][field].tolist()
        return (other, one) if self._flipped else (one, other)

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

    @property
    def empty(self) -> bool:
        """Whether there is not a byte in it."""
        return not any(self._both("stream"))

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

    @property
    def frame_bytes(self) -> tuple[int, int]:
        """Bytes of the frames forward and back, headers included."""
        return self._both("frames")

    # --- the extents --------------------------------------------------------------------------

    @cached_property
    def _chain(self) -> NDArray[np.uint32]:
        """The rows of all extents, in the order in which they became readable."""
        return self._reading.chain_of(int(self._row["last_extent"]))

    @cached_property
    def _data(self) -> NDArray[np.uint32]:
        """The rows of those that have bytes."""
        if not self._row["gaps"]:
            return self._chain
        whole: NDArray[np.bool_] = self._reading.extents["kind"][self._chain] == DATA
        return self._chain[whole]

    @cached_property
    def _places(self) -> dict[bool, tuple[NDArray[np.uint32], NDArray[Any], NDArray[Any]]]:
        """By direction: the rows of its extents, where each starts, and the frame of each."""
        rows, sides = self._reading.extents, {}
        directions = rows["direction"][self._data]
        for forward in (True, False):
            of = self._data[directions == (self._flipped if forward else 1 - self._flipped)]
            sides[forward] = (of, rows["offset"][of], rows["frame"][of])
        return sides

    @property
    def gaps(self) -> tuple[int, ...]:
        """The frames at which bytes are known to be missing."""
        if not self._row["gaps"]:
            return ()
        rows = self._reading.extents
        holes = self._chain[rows["kind"][self._chain] == GAP]
        return tuple(sorted(set(rows["frame"][holes].tolist())))

    def frames(self, start: int, end: int, *, forward: bool) -> tuple[int, ...]:
        """Return the frames that carry bytes start (included) to end (not) of a direction."""
        _, starts, frames = self._places[forward]
        if not len(starts):
            return ()
        first = max(_place(starts, start), 0)
        last = max(_place(starts, max(end - 1, start)), first)
        return tuple(sorted(set(frames[first : last + 1].tolist())))

    def time(self, end: int, *, forward: bool) -> float | None:
        """Return when the byte before `end` of a direction was seen; None where there is none."""
        _, starts, frames = self._places[forward]
        if not len(starts):
            return None
        frame = int(frames[max(_place(starts, max(end - 1, 0)), 0)])
        return self._reading.relative(int(self._reading.packets[frame - 1]["time"]))

    @property
    def all_frames(self) -> tuple[int, ...]:
        """Every frame of the conversation, those without payload included."""
        return self._reading.frames_of(int(self._row["last_packet"]))

    # --- the bytes ----------------------------------------------------------------------------

    def read(self, start: int, end: int, *, forward: bool) -> bytes:
        """Return bytes start (included) to end (not) of a direction."""
        rows, starts, _ = self._places[forward]
        end = min(end, self.length(forward=forward))
        start = max(start, 0)
        if end <= start or not len(starts):
            return b""
        first, last = _place(starts, start), _place(starts, end - 1) + 1
        data = self._reading.bytes_of(self._reading.extents[rows[first:last]])
        return data[start - int(starts[first]) : end - int(starts[first])]

    @property
    def clipped(self) -> bool:
        """Whether a direction has more than `side` gives."""
        return max(self._both("stream")) > SIDE_LIMIT

    def side(self, *, forward: bool) -> bytes:
        """Return the bytes of one direction, at most SIDE_LIMIT of them."""
        return self._bytes[forward]

    @cached_property
    def _bytes(self) -> dict[bool, bytes]:
        cut, back = self._both("stream")
        if max(cut, back) > SIDE_LIMIT:
            return {way: self.read(0, SIDE_LIMIT, forward=way) for way in (True, False)}
        # Both at once: of most conversations the way to the bytes costs more than the bytes.
        both = self._reading.sides_of(self._row, self._flipped, cut, cut + back)
        if both is None:
            return {way: self.read(0, SIDE_LIMIT, forward=way) for way in (True, False)}
        return {True: both[0], False: both[1]}

    @cached_property
    def chunks(self) -> tuple[Chunk, ...]:
        """The pieces of both directions in order, as far as `side` gives their bytes."""
        if not self.clipped:
            return tuple(self.walk())
        kept, room = [], {True: SIDE_LIMIT, False: SIDE_LIMIT}
        for chunk in self.walk():
            room[chunk.forward] -= len(chunk.data)
            if room[chunk.forward] >= 0:
                kept.append(chunk)
            elif max(room.values()) < 0:
                break
        return tuple(kept)

    def walk(self) -> Iterator[Chunk]:
        """Yield all pieces of both directions in order, read a few megabytes at a time."""
        rows = self._reading.extents
        first = 0
        while first < len(self._data):
            part = rows[self._data[first : first + _ROWS]]
            sums = np.cumsum(part["length"], dtype=np.int64)
            count = max(int(np.searchsorted(sums, _PIECE)), 1)
            part = part[:count]
            first += count
            whole, at = self._reading.bytes_of(part), 0
            frames = part["frame"].tolist()
            ways = (part["direction"] == self._flipped).tolist()
            times = self._reading.times_of(part["frame"])
            for frame, time, way, end in zip(frames, times, ways, sums.tolist(), strict=False):
                yield Chunk(frame, time, way, whole[at:end])
                at = end

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


def _place(starts: NDArray[Any], offset: int) -> int:
    """Return which of the extents that start there holds an offset; -1 when it is before all."""
    return int(np.searchsorted(starts, offset, side="right")) - 1


__all__ = ["NONE", "SIDE_LIMIT", "Followed"]
