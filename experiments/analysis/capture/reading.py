"""A capture that was read: its packets, streams, handshakes and hits, each opened when asked for.

Nothing here grows with the capture: rows are in temporary files, bytes in the capture itself. A
packet is found by its number, a stream by following its extents backwards from the last.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.analysis.capture import words
from experiments.analysis.capture.engine import Pass, Progress
from experiments.analysis.capture.files import STANDARD_INPUT, Source
from experiments.analysis.capture.followed import Followed
from experiments.analysis.capture.layout import (
    ACK,
    ACKED_UNSEEN,
    CUT,
    FRAGMENT,
    LOST_BEFORE,
    MALFORMED,
    NONE,
    SYN,
    TCP,
    UNKNOWN_LINK,
)
from experiments.analysis.capture.pcapng import write_frames
from experiments.analysis.capture.tables import Tables
from experiments.analysis.model import Handshake, HandshakeStep, Packet
from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

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


class Reading(Tables):
    """What was read, as a person looks at it."""

    def __init__(
        self, engine: Pass, hits: Callable[[Tables], tuple[Found, ...]] | None = None
    ) -> None:
        super().__init__(engine)
        self._hits = hits

    # --- packets ------------------------------------------------------------------------------

    def packet(self, number: int) -> Packet:
        """Return a row of the packet list."""
        return self._packet(number, self.row_of(number))

    def _packet(self, number: int, row: np.void) -> Packet:
        flow = self.flows[row["flow"]] if row["flow"] != NONE else None
        frame = self.made.fetch(int(row["address"]), int(row["captured"]))
        source, destination, protocol, info = words.row(row, frame, flow)
        time = self.relative(int(row["time"]))
        return Packet(number, time, source, destination, protocol, int(row["length"]), info)

    def rows(self, first: int = 1, last: int | None = None) -> Iterator[Packet]:
        """Yield rows of the packet list, both ends included."""
        end = len(self) if last is None else min(last, len(self))
        for start in range(first - 1, end, _ROWS_AT_ONCE):
            for index, row in enumerate(self.packets[start : min(start + _ROWS_AT_ONCE, end)]):
                yield self._packet(start + index + 1, row)
            self.made.packets.forget()

    def details(self, number: int) -> dict[str, Any]:
        """Return all that is known of a packet beyond its row."""
        row = self.row_of(number)
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
            self.made.packets.forget()
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
            self.made.packets.forget()
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
                    self.made.extents.forget()

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
            packet, this = self.row_of(number), row["side"][side]
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
