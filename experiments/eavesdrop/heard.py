"""All that was heard in captures: totals at hand, rows in temporary files, streams opened again."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from experiments.eavesdrop import rows
from experiments.eavesdrop.overview import Overview
from experiments.eavesdrop.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from experiments.analysis.capture import Followed, Reading
    from experiments.eavesdrop.figures import Figures

# Rows of a list that are kept; the others are counted.
MOST_ROWS: Final = 1_000_000
# Streams that a page shows, and marks in one of them.
CHOSEN: Final = 40
MOST_MARKS: Final = 500
# Of them, how many that nothing was read in, to show at least what it looks like.
DULL: Final = 10
# Parts that a capture's time is divided into for the marks of a timeline.
MOMENTS: Final = 250
LISTS: Final = ("messages", "credentials", "findings", "hits")
# LINKTYPE_ values that captures usually have, in Wireshark's words.
LINKS: Final = {
    0: "loopback (null)", 1: "Ethernet", 12: "raw IP", 101: "raw IP", 105: "IEEE 802.11",
    108: "loopback (BSD)", 113: "Linux cooked v1", 127: "IEEE 802.11 with radiotap",
    147: "user 0", 228: "raw IPv4", 229: "raw IPv6", 276: "Linux cooked v2",
}  # fmt: skip


@dataclass(frozen=True, order=True)
class Chosen:
    """A stream worth showing. marks: (forward, start, end, kind) of what was read in it."""

    score: int
    order: int
    flow: int
    marks: tuple[tuple[bool, int, int, str], ...]
    row: dict[str, Any]


class Heard:
    """What `analyze` found. A context manager: the temporary files go when it is closed.

    interrupted -- whether Ctrl-C ended it early.
    """

    def __init__(self, reading: Reading, figures: Figures, *, searched: bool) -> None:
        self.reading = reading
        self.figures = figures
        self.searched = searched
        self.overview = Overview()
        self.streams = Spool(MOST_ROWS * 10)
        self.lists = {name: Spool(MOST_ROWS) for name in LISTS}
        self.interrupted = reading.interrupted
        self.protocols = np.zeros(reading.streams, np.uint16)
        self.names: list[str] = [""]
        self.moments: dict[tuple[int, str], dict[str, Any]] = {}
        self._best: list[Chosen] = []

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
        self.streams.close()
        for spool in self.lists.values():
            spool.close()
        self.reading.close()

    # --- taken in while listening ---------------------------------------------------------------

    def choose(
        self,
        followed: Followed,
        score: int,
        marks: list[tuple[bool, int, int, str]],
        row: dict[str, Any],
    ) -> None:
        """Remember a stream's protocol, and the stream if it is among the best for a page."""
        protocol = row["protocol"]
        if protocol not in self.names and len(self.names) < 60_000:  # noqa: PLR2004 - what uint16 holds
            self.names.append(protocol)
        self.protocols[followed.flow] = self.names.index(protocol) if protocol in self.names else 0
        readable = row["sealed"] == "no" and protocol not in {"unknown", "dns"}
        # Findings first; of equals the readable one, then the earlier one.
        one = Chosen(
            score * 2 + readable, -followed.flow, followed.flow, tuple(marks[:MOST_MARKS]), row
        )
        if len(self._best) < CHOSEN:
            heapq.heappush(self._best, one)
        elif one > self._best[0]:
            heapq.heapreplace(self._best, one)

    def mark(self, row: dict[str, Any]) -> None:
        """Remember when something was read: the first of each kind in each part of the time."""
        if row["when"] is None or not row["frames"]:
            return
        first, last = self.figures.first, self.figures.last
        since = self.reading.start - first + round(row["when"] * 1e9)
        part = min(max(since * MOMENTS // max(last - first, 1), 0), MOMENTS - 1)
        known = self.moments.get((part, row["kind"]))
        if known is not None:
            known["times"] += 1
        else:
            self.moments[part, row["kind"]] = {
                "since": since / 1e9,
                "text": row["text"][:80],
                "frame": row["frames"][-1],
                "times": 1,
            }

    def hit(  # noqa: PLR0913 - a row of seven columns
        self,
        name: str,
        forms: Sequence[str],
        followed: Followed,
        *,
        place: tuple[int, int, bool],
        frames: Sequence[int],
        where: str = "",
    ) -> None:
        """Take a place where something that was looked for is readable: start, end, forward."""
        start, end, forward = place
        ends = followed.client, followed.server
        time = followed.time(end, forward=forward)
        row = {
            "id": name,
            "forms": list(forms),
            "where": where or f"raw {followed.protocol} stream",
            "source": ends[not forward],
            "destination": ends[forward],
            "when": None if time is None else round(time, 9),
            "time": "" if time is None else rows.clock(self.reading.start + round(time * 1e9)),
            "frames": list(frames[: rows.MOST_FRAMES]),
            "transport": followed.protocol,
            "stream": followed.number,
            "direction": "forward" if forward else "back",
            "start": start,
            "end": end,
        }
        self.lists["hits"].add(row)
        self.overview.hits.add((name,), row)

    # --- asked for afterwards -------------------------------------------------------------------

    @property
    def stopped(self) -> str:
        """Why not everything was read, or ""."""
        told = [self.reading.stopped] if self.reading.stopped else []
        if self.overview.waiting:
            told.append(f"interrupted: {self.overview.waiting} streams were not looked into")
        elif self.interrupted and not told:
            told.append("interrupted")
        return "; ".join(told)

    @property
    def dropped(self) -> int | None:
        """Packets that the captures say were dropped; None where nobody counted."""
        return self.reading.dropped

    @property
    def links(self) -> list[str]:
        """The link types, in words, each once."""
        links = dict.fromkeys(interface.link for interface in self.reading.interfaces)
        return [LINKS.get(link, f"link type {link}") for link in links]

    @property
    def chosen(self) -> list[Chosen]:
        """The streams that show most, the best first; of those that show nothing a few."""
        best = sorted(self._best, reverse=True)
        return [one for place, one in enumerate(best) if one.score > 1 or place < DULL]

    def conversations(self, most: int) -> list[dict[str, Any]]:
        """Return those with most bytes on the wire, the largest first."""
        sums = self.reading.flows["side"]["frames"].sum(axis=1).astype(np.int64)
        few = len(sums) <= most
        top = np.arange(len(sums)) if few else np.argpartition(-sums, most)[:most]
        top = top[np.argsort(-sums[top], kind="stable")]
        told = []
        for flow in top.tolist():
            followed = self.reading.stream(flow)
            told.append(
                {
                    "transport": followed.protocol,
                    "number": followed.number,
                    "client": followed.client,
                    "server": followed.server,
                    "protocol": self.names[self.protocols[flow]],
                    "packets": followed.packets,
                    "wire": followed.frame_bytes,
                    "first": followed.first_time,
                    "last": followed.last_time,
                }
            )
        return told
