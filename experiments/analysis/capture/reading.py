"""A capture that was read: its packets, streams, handshakes and hits, each opened when asked for.

Nothing here grows with the capture: rows are in temporary files, bytes in the capture itself. A
packet is found by its number, a stream by following its extents backwards from the last.
"""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from experiments.analysis.capture import words
from experiments.analysis.capture.engine import Pass, Progress
from experiments.analysis.capture.files import STANDARD_INPUT, File, Source
from experiments.analysis.capture.followed import Followed
from experiments.analysis.capture.layout import (
    ACK,
    ACKED_UNSEEN,
    CUT,
    FRAGMENT,
    LOST_BEFORE,
    MALFORMED,
    NONE,
    OFFSET_MASK,
    PATCHES,
    SOURCE_SHIFT,
    SYN,
    TCP,
    UNKNOWN_LINK,
)
from experiments.analysis.capture.pcapng import write_frames
from experiments.analysis.compiled import native
from experiments.analysis.model import Handshake, HandshakeStep, Packet
from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

    from experiments.analysis.capture.reader import Comment, Interface
    from experiments.analysis.capture.scan import Found, Scanner

_ROWS_AT_ONCE = 1 << 14
_SKIPPED = (FRAGMENT, CUT, MALFORMED)


def read(
    paths: Sequence[Path | str],
    *,
    scanner: Scanner | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Reading:
    """Read captures, several merged by time; "-" is standard input.

    Raises LabError when there is none, or one of them is no capture at all. What is damaged further
    on is read as far as it goes: see Reading.stopped.
    """
    if not paths or list(paths).count(STANDARD_INPUT) > 1:
        raise LabError(
            "reading captures",
            "standard input was named twice" if paths else "none was named",
            fault=Fault.USER,
            todo="Name capture files, or - for standard input, once.",
        )
    sources: list[Source] = []

    def note(done: int) -> None:
        if progress is not None:
            progress(Progress(done, None, 0, 0.0))

    try:
        for path in paths:
            sources.append(Source(len(sources), path, note))
    except BaseException:
        for source in sources:
            source.close()
        raise
    size = sum(source.size for source in sources)
    search = scanner.search(size) if scanner is not None else None
    engine = Pass(sources, search, progress)
    engine.run()
    return Reading(engine, search.results if search is not None else None)


class Reading:
    """What was read. A context manager: its temporary files go when it is closed."""

    def __init__(
        self, engine: Pass, hits: Callable[[Reading], tuple[Found, ...]] | None = None
    ) -> None:
        self._pass = engine
        self._hits = hits
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
        for spool in (self._pass.packets, self._pass.extents, self._pass.patches):
            spool.close()
        for source in self._pass.sources:
            source.close()

    # --- packets ------------------------------------------------------------------------------

    @property
    def packets(self) -> NDArray[Any]:
        """All packet rows (layout.PACKET), mapped; slice it."""
        return self._pass.packets.view()

    def forget(self) -> None:
        """Give back the memory of rows that were looked at; they are read again when needed."""
        self._pass.packets.forget()
        self._pass.extents.forget()

    @property
    def start(self) -> int:
        """When the first packet was captured, in ns since 1970."""
        return self._pass.first_time or 0

    def relative(self, time: int) -> float:
        """Return seconds since the first packet."""
        return (time - self.start) / 1e9

    def __len__(self) -> int:
        return len(self._pass.packets)

    def frame(self, number: int) -> bytes:
        """Return the bytes of a frame; they count from 1."""
        row = self._row(number)
        return self._pass.fetch(int(row["address"]), int(row["captured"]))

    def _row(self, number: int) -> np.void:
        if not 1 <= number <= len(self):
            raise LabError(
                f"opening packet {number}",
                f"the capture has {len(self)}",
                fault=Fault.USER,
                todo="Packets count from 1.",
            )
        row: np.void = self.packets[number - 1]
        return row

    def packet(self, number: int) -> Packet:
        """Return a row of the packet list."""
        return self._packet(number, self._row(number))

    def _packet(self, number: int, row: np.void) -> Packet:
        flow = self.flows[row["flow"]] if row["flow"] != NONE else None
        frame = self._pass.fetch(int(row["address"]), int(row["captured"]))
        source, destination, protocol, info = words.row(row, frame, flow)
        time = self.relative(int(row["time"]))
        return Packet(number, time, source, destination, protocol, int(row["length"]), info)

    def rows(self, first: int = 1, last: int | None = None) -> Iterator[Packet]:
        """Yield rows of the packet list, both ends included."""
        end = len(self) if last is None else min(last, len(self))
        for start in range(first - 1, end, _ROWS_AT_ONCE):
            for index, row in enumerate(self.packets[start : min(start + _ROWS_AT_ONCE, end)]):
                yield self._packet(start + index + 1, row)
            self._pass.packets.forget()

    def details(self, number: int) -> dict[str, Any]:
        """Return all that is known of a packet beyond its row."""
        row = self._row(number)
        told: dict[str, Any] = {
            "frame": number,
            "time_ns": int(row["time"]),
            "captured": int(row["captured"]),
            "length": int(row["length"]),
            "interface": int(row["interface"]),
            "link": int(row["link"]),
            "status": words.status(int(row["status"])),
        }
        if row["flow"] == NONE:
            return told
        flow, direction = self.flows[row["flow"]], int(row["direction"])
        told |= {
            "stream": int(flow["number"]),
            "transport": "tcp" if flow["protocol"] == TCP else "udp",
            "forward": direction == flow["flipped"],
            "payload": int(row["payload_length"]),
        }
        if flow["protocol"] == TCP:
            flags = int(row["tcp_flags"])
            told |= {
                "flags": words.flag_names(flags),
                "sequence": int(row["seq"]),
                "acknowledgement": int(row["ack"]) if flags & ACK else 0,
                "window": self._window(row, flow["side"][direction]),
            }
        return told

    @staticmethod
    def _window(row: np.void, side: np.void) -> int:
        window = int(row["window"])
        if row["tcp_flags"] & SYN or side["scale"] <= 0:
            return window
        return window << int(side["scale"])

    def marked(self, bits: int) -> tuple[int, ...]:
        """Return the frames whose status has one of these bits (see layout)."""
        found: list[int] = []
        for start in range(0, len(self), _ROWS_AT_ONCE):
            rows = self.packets[start : start + _ROWS_AT_ONCE]
            found += (np.flatnonzero(rows["status"] & bits) + start + 1).tolist()
            self._pass.packets.forget()
        return tuple(found)

    @cached_property
    def skipped(self) -> dict[str, int]:
        """Frames that were not understood, or not whole, by reason."""
        counts: dict[str, int] = {}
        for start in range(0, len(self), _ROWS_AT_ONCE):
            rows = self.packets[start : start + _ROWS_AT_ONCE]
            status = rows["status"]
            for bit in _SKIPPED:
                number = int(np.count_nonzero(status & bit))
                if number:
                    word = words.status(bit)[0]
                    counts[word] = counts.get(word, 0) + number
            for link in np.unique(rows["link"][(status & UNKNOWN_LINK) != 0]):
                word = f"unknown link type {link}"
                number = int(
                    np.count_nonzero((rows["link"] == link) & (status & UNKNOWN_LINK != 0))
                )
                counts[word] = counts.get(word, 0) + number
            self._pass.packets.forget()
        return counts

    # --- streams ------------------------------------------------------------------------------

    def stream(self, flow: int) -> Followed:
        """Return a conversation by its row in the flow table."""
        if not 0 <= flow < self.streams:
            raise LabError(
                f"opening conversation {flow}",
                f"the capture has {self.streams}",
                fault=Fault.USER,
                todo="They count from 0.",
            )
        return Followed(self, flow)

    def ends(self, flow: int) -> tuple[str, str]:
        """Return client and server of a conversation, each "address:port"."""
        return words.ends(self.flows[flow])

    def find(self, protocol: str, number: int) -> Followed:
        """Return a conversation by its number among those of TCP, or of UDP."""
        wanted = TCP if protocol == "tcp" else 17
        numbers = np.flatnonzero(
            (self.flows["protocol"] == wanted) & (self.flows["number"] == number)
        )
        if not len(numbers):
            raise LabError(
                f"opening {protocol} stream {number}",
                "the capture has none of that number",
                fault=Fault.USER,
                todo="They count from 0, those of TCP and of UDP each for themselves.",
            )
        return Followed(self, int(numbers[0]))

    def followed(self) -> Iterator[Followed]:
        """Yield the conversations that carry bytes."""
        for index in range(self.streams):
            if self.flows[index]["last_extent"] != NONE:
                yield Followed(self, index)
                if index % 256 == 0:
                    self._pass.extents.forget()

    def handshakes(self) -> Iterator[Handshake]:
        """Yield the openings of the TCP conversations whose SYN was captured."""
        for row in self.flows:
            if row["protocol"] == TCP and row["syn_frame"]:
                yield self._handshake(row)

    def _handshake(self, row: np.void) -> Handshake:
        client = int(self.packets[row["syn_frame"] - 1]["direction"])
        ends = words.ends(row, client)
        steps = []
        for name, side, flags in (
            ("syn_frame", client, "SYN"),
            ("answer_frame", 1 - client, "SYN, ACK"),
            ("ack_frame", client, "ACK"),
        ):
            number = int(row[name])
            if not number:
                break
            packet, this = self._row(number), row["side"][side]
            opens = name != "ack_frame"
            steps.append(
                HandshakeStep(
                    frame=number,
                    time=self.relative(int(packet["time"])),
                    flags=flags,
                    sequence=int(packet["seq"]),
                    acknowledgement=int(packet["ack"]),
                    window=self._window(packet, this),
                    mss=int(this["mss"]) if opens and this["mss"] >= 0 else None,
                    window_scale=1 << int(this["shift"]) if opens and this["shift"] >= 0 else None,
                    sack_permitted=opens and bool(this["flags"] & 2),
                )
            )
        return Handshake(int(row["number"]), ends[0], ends[1], tuple(steps))

    def lost(self) -> tuple[int, ...]:
        """Return the frames at which a segment is known to be missing from the capture."""
        frames = set(self.marked(LOST_BEFORE | ACKED_UNSEEN))
        for index in np.flatnonzero(self.flows["gaps"]):
            frames |= set(Followed(self, int(index)).gaps)
        return tuple(sorted(frames))

    # --- for Followed -------------------------------------------------------------------------

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
        return self._pass.extents.view()

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
        origin = self._pass.sources[source]
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
            return self._pass.fetch(int(extents["address"][0]), int(lengths[0]))
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
            self._call("gather", self._pass.patches.view(), offsets, lengths, into)
            return
        origin = self._pass.sources[source]
        view = origin.view()
        if int((offsets + lengths).max()) > origin.now():
            raise _shrunk(origin.name)
        self._call("gather", view, offsets, lengths, into)
        origin.forget(len(into) * 2)

    # --- search and output --------------------------------------------------------------------

    @cached_property
    def hits(self) -> tuple[Found, ...]:
        """Where the scanner's secrets and patterns were found in streams."""
        return self._hits(self) if self._hits is not None else ()

    def write(
        self, frames: Iterable[int], path: Path, comments: dict[int, str] | None = None
    ) -> None:
        """Write frames as a pcapng of their own: original bytes, times and interfaces."""
        write_frames(self, sorted(set(frames)), path, comments or {})


def _shrunk(name: str) -> LabError:
    return LabError(
        f"reading {name} again",
        "it is shorter than it was when it was read first",
        fault=Fault.USER,
        todo="Leave a capture alone while it is being read.",
    )
