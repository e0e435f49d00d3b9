"""One capture file, window by window: rows of RECORD out of pcap and pcapng.

The walkers of walk.py do the work; what they hand back (sections, interfaces, secrets) is read
here, where it may take its time.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from experiments.analysis.capture import walking as w
from experiments.analysis.capture.layout import (
    DIVIDE,
    INTERFACE,
    MULTIPLY,
    NOTED,
    RECORD,
    SHIFT,
    SOURCE_SHIFT,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from experiments.analysis.capture.files import Source

ROWS: Final = 1 << 14
_SECTION: Final = 0x0A0D0D0A
_DESCRIPTION: Final = 1
_SECRETS: Final = 10
_STATISTICS: Final = 5
_DROPPED: Final = 5  # an option of it: packets that the interface dropped
_LEAST: Final = {_SECTION: 28, _DESCRIPTION: 20, _STATISTICS: 24, _SECRETS: 20}  # bytes of each
_COUNTER: Final = 8  # bytes
_TLS_KEYS: Final = 0x544C534B
_ORDER: Final = 0x1A2B3C4D
_MOST_INTERFACES: Final = 1 << 16
_MOST_SECRETS: Final = 64 << 20  # bytes of key material that are kept
_MOST_COMMENTS: Final = 10_000
_OPT_COMMENT: Final = 1
_PACKET_HEAD: Final = 28  # bytes of a packet block before the packet


@dataclass(frozen=True, slots=True)
class Interface:
    """Where packets were captured. link is the link type; snap the limit of bytes, 0 for none."""

    file: str
    name: str
    description: str
    link: int
    snap: int


@dataclass(frozen=True, slots=True)
class Comment:
    """What somebody wrote into a capture: about a frame, or (frame 0) about the file."""

    frame: int
    text: str


class Reader:
    """Walks over one source. `records` are the rows that were found and not yet used."""

    def __init__(
        self, source: Source, call: Callable[..., int], interfaces: list[Interface]
    ) -> None:
        self.source = source
        self.comments: list[Comment] = []
        self.secrets = bytearray()
        self.dropped: dict[int, int] = {}  # by interface, where somebody counted
        self.stopped = source.trouble
        self.ended = False
        self.records: NDArray[np.void] = np.zeros(0, RECORD)
        self._call = call
        self._interfaces = interfaces  # of all files; this one's are added
        self._table: NDArray[np.void] = np.zeros(16, INTERFACE)
        self._walk: NDArray[np.int64] = np.zeros(w.WALK, np.int64)
        self._rows: NDArray[np.void] = np.zeros(ROWS, RECORD)
        self._offset = 0  # in the file, of the first byte of the window
        self.filled = 0  # bytes in the window
        self.low = self.high = self._usual = 0  # the part of the window that is this file's
        self._ng = source.file.format == "pcapng"
        if not self._ng:
            big, nano, extra, link, snap = source.pcap_header()
            self._walk[[w.BIG, w.NANO, w.EXTRA, w.LINK]] = big, nano, extra, link
            self._walk[w.INTERFACES] = self._describe("", "", link, snap)
            self._offset = 24

    def place(self, low: int, high: int, usual: int) -> None:
        """Give it a part of the window, before the first `fill`.

        It fills `usual` bytes of it; more only for a block that is larger, so the rest of the
        part costs no memory.
        """
        self.low, self.high, self._usual = low, high, usual
        self._walk[w.AT] = low
        self.filled = 0

    @property
    def position(self) -> int:
        """Bytes of the file that were walked over."""
        return self._offset + int(self._walk[w.AT]) - self.low

    def base(self) -> int:
        """Return what to add to a place in the window to have its address."""
        return (self.source.number << SOURCE_SHIFT) + self._offset - self.low

    def fill(self, window: NDArray[np.uint8]) -> bool:
        """Read on and find records; False at the end. `records` must have been used up."""
        while not self.ended:
            outcome = self._walk_on(window)
            self.records = self._rows[: int(self._walk[w.COUNT])]
            if len(self.records):
                if outcome == w.DAMAGED:
                    self._damaged()
                return True
            if outcome == w.DAMAGED:
                self._damaged()
            elif outcome == w.MORE and not self._load(window):
                self._end()
        return False

    def _walk_on(self, window: NDArray[np.uint8]) -> int:
        walk = self._walk
        walk[w.COUNT] = 0
        walk[w.ROOM] = len(self._rows)
        walk[w.BASE] = self.base()
        walk[w.END] = self.low + self.filled
        while True:
            if self._ng:
                outcome = self._call("pcapng", window, self._rows, self._table, walk)
            else:
                outcome = self._call("pcap", window, self._rows, walk)
            if outcome != w.BLOCK or not self._block(window):
                return w.MORE if outcome == w.BLOCK else outcome

    def _load(self, window: NDArray[np.uint8]) -> bool:
        """Move what is left to the front and read more behind it; False when there is no more."""
        at = int(self._walk[w.AT])
        left = self.low + self.filled - at
        if at > self.low:
            window[self.low : self.low + left] = window[at : at + left].copy()
            self._offset += at - self.low
            self._walk[w.AT] = self.low
        end = self.high if left >= self._usual else self.low + self._usual
        room = window[self.low + left : end]
        got = self.source.into(self._offset + left, room)
        self.filled = left + got
        return got > 0

    def _end(self) -> None:
        self.ended = True
        left = self.filled - (int(self._walk[w.AT]) - self.low)
        if left and not self.stopped:
            self.stopped = (
                f"{self.source.name} ends in the middle of a packet at byte {self.position}"
            )

    def _damaged(self) -> None:
        self.ended = True
        what = w.WORDS[int(self._walk[w.WHY])]
        self.stopped = f"{self.source.name} is damaged at byte {self.position}: {what}"

    # --- pcapng's rarer blocks ----------------------------------------------------------------

    def _block(self, window: NDArray[np.uint8]) -> bool:
        """Read the block at the walker's place; False when it is not all there, or damaged."""
        at, end = int(self._walk[w.AT]), int(self._walk[w.END])
        head = bytes(window[at : min(at + 12, end)])
        order = None
        if head[:4] == b"\x0a\x0d\x0d\x0a":
            order = {_ORDER.to_bytes(4, "little"): 0, _ORDER.to_bytes(4, "big"): 1}.get(head[8:12])
            if self._walk[w.COUNT]:
                return False  # first the packets of the section before, in their byte order
            self._walk[w.BIG] = order or 0
        sign = ">" if self._walk[w.BIG] else "<"
        kind, size = struct.unpack_from(f"{sign}II", head)
        bounded = w.LEAST_BLOCK <= size <= w.LARGEST_BLOCK and size % 4 == 0
        if not bounded or (kind == _SECTION and order is None):
            return self._wrong(2)
        if end - at < size:
            return False
        block = bytes(window[at : at + size])
        if struct.unpack_from(f"{sign}I", block, size - 4)[0] != size:
            return self._wrong(3)
        if size < _LEAST.get(kind, 0) or not self._take(kind, block, sign):
            return self._wrong(2)
        self._walk[w.AT] = at + size
        return True

    def _take(self, kind: int, block: bytes, sign: str) -> bool:
        """Read a whole block; False when it cannot be."""
        if kind == _SECTION:
            self._walk[w.INTERFACES] = 0
            self._remark(0, block[24:-4], sign)
        elif kind == _DESCRIPTION:
            return self._interface(block, sign)
        elif kind == _STATISTICS:
            (number,) = struct.unpack_from(f"{sign}I", block, 8)
            told = options(block[20:-4], sign).get(_DROPPED, b"")
            if len(told) == _COUNTER and number < self._walk[w.INTERFACES]:
                # Counted from the beginning: the last one counts.
                (self.dropped[number],) = struct.unpack(f"{sign}Q", told)
        elif kind == _SECRETS:
            secret, length = struct.unpack_from(f"{sign}II", block, 8)
            if secret == _TLS_KEYS and len(self.secrets) < _MOST_SECRETS:
                self.secrets += block[16 : min(16 + length, len(block) - 4)]
        return True

    def _wrong(self, why: int) -> bool:
        self._walk[w.WHY] = why
        self._damaged()
        return False

    def _interface(self, block: bytes, sign: str) -> bool:
        link, _, snap = struct.unpack_from(f"{sign}HHI", block, 8)
        told = options(block[16:-4], sign)
        resolution = told.get(9, b"\x06")[:1] or b"\x06"
        binary, power = resolution[0] & 0x80, resolution[0] & 0x7F
        offset = int.from_bytes(told.get(14, b""), "big" if sign == ">" else "little", signed=True)
        if binary:
            how, factor = SHIFT, min(power, 62)
        elif power <= 9:  # noqa: PLR2004 - nanoseconds
            how, factor = MULTIPLY, 10 ** (9 - power)
        else:
            how, factor = DIVIDE, 10 ** min(power - 9, 18)
        count = int(self._walk[w.INTERFACES])
        if count >= _MOST_INTERFACES or len(self._interfaces) >= _MOST_INTERFACES:
            return False
        if count == len(self._table):
            self._table = np.concatenate([self._table, np.zeros(count, INTERFACE)])
        name, words = (_text(told.get(code, b"")) for code in (2, 3))
        number = self._describe(name, words, link, snap)
        bound = 1 << 33  # seconds; beyond it the product does not fit
        row: Any = self._table[count]
        row["factor"], row["how"] = factor, how
        row["offset"] = max(-bound, min(offset, bound)) * 1_000_000_000
        row["snap"], row["link"], row["number"] = snap, link, number
        self._walk[w.INTERFACES] = count + 1
        return True

    def _describe(self, name: str, words: str, link: int, snap: int) -> int:
        self._interfaces.append(Interface(self.source.name, name, words, link, snap))
        return min(len(self._interfaces) - 1, 0xFFFF)

    def _remark(self, frame: int, data: bytes, sign: str) -> None:
        text = _text(options(data, sign).get(_OPT_COMMENT, b""))
        if text and len(self.comments) < _MOST_COMMENTS:
            self.comments.append(Comment(frame, text))

    def remark_frames(self, window: NDArray[np.uint8], rows: NDArray[np.void], first: int) -> None:
        """Read the comments of packet blocks; first is the frame of the first row."""
        sign = ">" if self._walk[w.BIG] else "<"
        for index in np.flatnonzero(rows["status"] & NOTED):
            at, captured = int(rows[index]["position"]), int(rows[index]["captured"])
            (size,) = struct.unpack_from(f"{sign}I", window.data, at - _PACKET_HEAD + 4)
            start, end = at + ((captured + 3) & ~3), at - _PACKET_HEAD + size - 4
            self._remark(first + int(index), bytes(window[start:end]), sign)


def options(data: bytes, sign: str) -> dict[int, bytes]:
    """Return the options of a block, the first of each kind."""
    told: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(data):
        code, size = struct.unpack_from(f"{sign}HH", data, at)
        if code == 0 or at + 4 + size > len(data):
            break
        told.setdefault(code, data[at + 4 : at + 4 + size])
        at += 4 + ((size + 3) & ~3)
    return told


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode("utf-8", "replace")
