"""The search for known secrets and patterns in all streams while the pass goes over them.

New bytes of each stream are laid side by side, each stream's behind the last bytes that were seen
of it, and hyperscan goes over all at once. So what is split between segments is found, and nothing
that begins in one stream and ends in another. The last bytes of a stream are as many as the longest
form has; a pattern has no length, and is found across the border of two windows within TAIL bytes.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from msgspec import Struct

from experiments.analysis import spellings
from experiments.analysis.capture.followed import Followed
from experiments.analysis.capture.layout import GAP, RUN, UDP
from experiments.analysis.compiled import native
from experiments.analysis.matching import Matcher
from experiments.analysis.search import SHORT, stands_alone

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from experiments.analysis.capture.engine import Near
    from experiments.analysis.capture.tables import Tables

TAIL: Final = 512
# Of one secret, and of one pattern, so many places are told; the rest is counted.
MOST_PLACES: Final = 10_000
_SLICE: Final = 8 << 20  # bytes that are laid side by side at a time
_MUCH: Final = 256 << 20  # bytes from which on going over them costs more than compiling
_WORD_LIMIT: Final = 4096  # characters of base64 looked at around a find
_BASE64: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_")
_HEX: Final = frozenset(b"0123456789abcdefABCDEF")


@dataclass(frozen=True, slots=True)
class Secret:
    """A text that is looked for in every form; `id` names it without telling it."""

    id: str
    text: str

    def __repr__(self) -> str:
        return f"Secret({self.id!r})"


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression (hyperscan's: no look-around, no back references) that is looked for."""

    id: str
    expression: bytes


class Found(Struct, frozen=True, gc=False):
    """A place in a stream. start and end are offsets in its direction; form tells how written."""

    id: str
    form: str
    flow: int
    forward: bool
    start: int
    end: int
    frames: tuple[int, ...]


class Place(Struct, frozen=True, gc=False):
    """A place in some content."""

    id: str
    form: str
    start: int
    end: int


class Scanner:
    """Secrets and patterns, compiled once, to be looked for in captures and in contents."""

    def __init__(self, secrets: Iterable[Secret] = (), patterns: Sequence[Pattern] = ()) -> None:
        self._owners: list[list[tuple[str, str, bool]]] = []  # by needle: (id, form, short)
        places: dict[bytes, int] = {}
        self.clipped: dict[int, bytes] = {}  # of needles longer than TAIL: all of it
        for secret in secrets:
            short = len(secret.text.strip().encode()) < SHORT
            for needle, form in spellings.spellings(secret.text.strip()).items():
                index = places.setdefault(needle, len(places))
                if index == len(self._owners):
                    self._owners.append([])
                self._owners[index].append((secret.id, form, short))
        needles = self._needles = list(places)
        self._caseless = frozenset(
            index
            for index, owners in enumerate(self._owners)
            if any(form == spellings.HEX for _, form, _ in owners)
        )
        for index, needle in enumerate(needles):
            if len(needle) > TAIL:
                self.clipped[index] = needle
                needles[index] = needle[:TAIL]
        self._first_pattern = len(needles)
        self._patterns = [pattern.id for pattern in patterns]
        self._expressions = [pattern.expression for pattern in patterns]
        self._matcher: Matcher | None = None
        longest = max(map(len, needles), default=0)
        self.tail = TAIL if patterns else max(min(longest + 1, TAIL), 16)

    def matcher(self, size: int = 0) -> Matcher:
        """Return what finds the needles, compiled at the first call for so many bytes."""
        if self._matcher is None:
            self._matcher = Matcher(
                self._needles, self._expressions, caseless=self._caseless, much=size >= _MUCH
            )
        return self._matcher

    def owners(self, number: int) -> list[tuple[str, str, bool]]:
        """Return (id, form, short) of what a match of that number belongs to."""
        if number >= self._first_pattern:
            return [(self._patterns[number - self._first_pattern], "pattern", False)]
        return self._owners[number]

    def scan(self, content: bytes) -> Iterator[Place]:
        """Yield where the secrets and patterns stand in a content, in order."""
        found: dict[tuple[str, int, int], Place] = {}
        for number, start, end in sorted(self.matcher().spans(content), key=lambda s: s[1:]):
            stop = end
            if number in self.clipped:
                needle = self.clipped[number]
                if content[start : start + len(needle)] != needle:
                    continue
                stop = start + len(needle)
            for name, form, short in self.owners(number):
                if short and not _alone(content, start, stop, form):
                    continue
                found.setdefault((name, start, stop), Place(name, form, start, stop))
        yield from found.values()

    def search(self, size: int = 0) -> Search:
        """Return a search over one pass; size is about how many bytes it will see."""
        return Search(self, size)


def _alone(content: bytes, start: int, end: int, form: str) -> bool:
    """Whether a short text stands for itself; in base64 that is to be seen in what it says."""
    if form == spellings.HEX:
        before = start == 0 or content[start - 1] not in _HEX
        return before and (end == len(content) or content[end] not in _HEX)
    if form != spellings.BASE64:
        return stands_alone(content, start, end, spaced=False)
    first, last = start, end
    while first > max(start - _WORD_LIMIT, 0) and content[first - 1] in _BASE64:
        first -= 1
    while last < min(end + _WORD_LIMIT, len(content)) and content[last] in _BASE64:
        last += 1
    word = content[first:last].replace(b"-", b"+").replace(b"_", b"/")
    try:
        plain = base64.b64decode(word[: len(word) // 4 * 4])
    except binascii.Error:
        return False
    # The first and last of its bytes that lie wholly in what was found, plus those half outside.
    low, high = (start - first) * 6 // 8, -(-(end - first) * 6 // 8)
    return any(
        stands_alone(plain, one, other, spaced=False)
        for one in (low, low + 1)
        for other in (high - 1, high)
        if one < other <= len(plain)
    )


class Search:
    """Sees the extents of one pass and remembers where something was found."""

    def __init__(self, scanner: Scanner, size: int) -> None:
        self._scanner = scanner
        self._matcher = scanner.matcher(size)
        self._into = np.empty(1 << 16, np.uint8)  # kept: fresh pages would cost more than copying
        self._call = native.engine()
        self._tail = scanner.tail
        self._slots: NDArray[np.int32] = np.full(1 << 11, -1, np.int32)  # by flow and direction
        self._tails: NDArray[np.uint8] = np.zeros(1 << 16, np.uint8)
        self._filled: NDArray[np.int32] = np.zeros(1 << 10, np.int32)
        self._used = np.zeros(2, np.int64)  # slots in use; runs
        self._found: dict[tuple[str, str], dict[tuple[int, int, int], int]] = {}
        self._open: list[tuple[int, int, int, int]] = []  # to be judged with what comes later
        self.counts: dict[str, int] = {}

    def see(self, extents: NDArray[np.void], near: Near) -> None:
        """Take new extents, in the order in which they became readable."""
        ends = np.cumsum(extents["length"], dtype=np.int64)
        first = 0
        while first < len(extents):
            base = int(ends[first - 1]) if first else 0
            last = max(int(np.searchsorted(ends, base + _SLICE, side="right")), first + 1)
            self._slice(extents[first:last], near)
            first = last

    def _slice(self, extents: NDArray[np.void], near: Near) -> None:
        keys = extents["flow"].astype(np.int64) * 2 + extents["direction"]
        order = np.argsort(keys, kind="stable")
        distinct = int(np.count_nonzero(np.diff(keys[order]))) + 1
        places = near.places(extents["address"])
        gaps = extents["kind"] == GAP
        far, places = self._far(extents, places, gaps, near)
        top = int(keys.max()) + 1
        if top > len(self._slots):
            grown = np.full(max(top, 2 * len(self._slots)), -1, np.int32)
            grown[: len(self._slots)] = self._slots
            self._slots = grown
        used = int(self._used[0])
        if (used + distinct) * self._tail > len(self._tails) or used + distinct > len(self._filled):
            room = 2 * (used + distinct)
            tails, filled = np.zeros(room * self._tail, np.uint8), np.zeros(room, np.int32)
            kept = used * self._tail
            tails[:kept], filled[:used] = self._tails[:kept], self._filled[:used]
            self._tails, self._filled = tails, filled
        total = int(extents["length"][~gaps].sum()) + distinct * self._tail
        if total > len(self._into):
            self._into = np.empty(2 * total, np.uint8)
        into = self._into
        runs: NDArray[np.void] = np.zeros(len(extents), RUN)
        size = self._call(
            "lay", near.window, far, extents, order, places, near.flows, self._slots,
            self._tails, self._filled, self._tail, into, runs, self._used,
        )  # fmt: skip
        self._look(into[:size], runs[: int(self._used[1])])

    @staticmethod
    def _far(
        extents: NDArray[np.void], places: NDArray[np.int64], gaps: NDArray[np.bool_], near: Near
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Fetch what has left the window; its places are negative, counted from -1 down."""
        pieces, at = [], 0
        for index in np.flatnonzero((places < 0) & ~gaps):
            row = extents[index]
            data = near.fetch(int(row["address"]), int(row["length"]))
            data = data.ljust(int(row["length"]), b"\0")
            pieces.append(data)
            places[index] = -1 - at
            at += len(data)
        return np.frombuffer(b"".join(pieces) or b"\0", np.uint8), places

    def _look(self, data: NDArray[np.uint8], runs: NDArray[np.void]) -> None:
        spans = list(self._matcher.spans(data.data))
        if not spans:
            return
        numbers, starts, ends = np.array(spans, np.int64).T
        at = np.searchsorted(runs["start"], starts, side="right") - 1
        run = runs[at]
        # What lies wholly in the tail was reported when it came.
        new = np.flatnonzero((ends <= run["end"]) & (ends > run["body"]))
        if not len(new):
            return
        run, starts = run[new], starts[new]
        lows, offsets = run["start"].tolist(), (run["offset"] + starts - run["start"]).tolist()
        rows = zip(
            numbers[new].tolist(), run["key"].tolist(), offsets, lows, run["end"].tolist(),
            starts.tolist(), ends[new].tolist(), strict=True,
        )  # fmt: skip
        for number, key, offset, low, high, start, end in rows:
            self._take(number, key, offset, data[low:high], start - low, end - low)

    def _take(  # noqa: PLR0913, PLR0917 - one call
        self, number: int, key: int, offset: int, run: NDArray[np.uint8], start: int, end: int
    ) -> None:
        length = end - start
        if number in self._scanner.clipped:
            self._later(number, key, offset, length)
            return
        for name, form, short in self._scanner.owners(number):
            if short:
                # The run may end here and the stream go on: what follows decides.
                if start == 0 or end + 1 >= len(run) or form in {spellings.BASE64, spellings.UTF16}:
                    self._later(number, key, offset, length)
                    return
                around = run[start - 1 : end + 1].tobytes()
                if not _alone(around, 1, 1 + length, form):
                    continue
            self._keep(name, form, key, offset, offset + length)

    def _later(self, number: int, key: int, offset: int, length: int) -> None:
        if len(self._open) < MOST_PLACES * 10:
            self._open.append((number, key, offset, length))

    def _keep(self, name: str, form: str, key: int, start: int, end: int) -> None:
        places = self._found.setdefault((name, form), {})
        place = (key >> 1, key & 1, start)
        if place in places:
            places[place] = max(places[place], end)
            return
        self.counts[name] = self.counts.get(name, 0) + 1
        if len(places) < MOST_PLACES:
            places[place] = end

    def results(self, reading: Tables) -> tuple[Found, ...]:
        """Return what was found, in the order of flows and offsets."""
        for number, key, offset, length in self._open:
            self._settle(reading, number, key, offset, length)
        self._open.clear()
        rows = [
            (flow, direction, start, end, name, form)
            for (name, form), places in self._found.items()
            for (flow, direction, start), end in places.items()
        ]
        rows.sort()
        frames = reading.frames_at([row[:4] for row in rows])
        flipped = reading.flows["flipped"].tolist()
        return tuple(
            Found(name, form, flow, direction == flipped[flow], start, end, carried)
            for (flow, direction, start, end, name, form), carried in zip(rows, frames, strict=True)
        )

    def _settle(self, reading: Tables, number: int, key: int, offset: int, length: int) -> None:
        followed = Followed(reading, key >> 1)
        forward = (key & 1) == int(reading.flows[key >> 1]["flipped"])
        whole = self._scanner.clipped.get(number)
        length = len(whole) if whole is not None else length
        low = max(offset - _WORD_LIMIT, 0)
        around = followed.read(low, offset + length + _WORD_LIMIT, forward=forward)
        start = offset - low
        if whole is not None and around[start : start + length] != whole:
            return
        for name, form, short in self._scanner.owners(number):
            if not short or _alone(around, start, start + length, form):
                self._keep(name, form, key, offset, offset + length)


__all__ = ["TAIL", "UDP", "Found", "Pattern", "Place", "Scanner", "Search", "Secret"]
