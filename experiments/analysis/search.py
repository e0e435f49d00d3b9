"""Looking for a known text in what was captured, through every encoding that hides nothing.

A byte search alone lies both ways: it misses what is percent-encoded, escaped, packed or in
base64, and it finds "HI" inside "HI SIR". So content is searched as it is and with encodings
undone, and a hit counts only if it is the text itself: not a part of a longer planted text, and,
for a short one, set apart by what separates values in a protocol.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
from bisect import bisect_right
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from experiments.analysis.model import Passage, Span

if TYPE_CHECKING:
    from collections.abc import Iterator

    from experiments.analysis.model import Exposure, Stream

# Texts shorter than this many bytes occur by chance or inside words; they need an edge each side.
SHORT: Final = 8
_BEFORE: Final = frozenset(b">\"'=:\r\n\t\0")
_AFTER: Final = frozenset(b"<\"'&;\r\n\t\0")
# Around names there are also spaces, and what addresses are made of: nick!user@host, name@host.
_AROUND_NAMES: Final = frozenset(b" !@,/")
_BEFORE_NAMES, _AFTER_NAMES = _BEFORE | _AROUND_NAMES, _AFTER | _AROUND_NAMES
_PERCENT: Final = re.compile(rb"%([0-9A-Fa-f]{2})|\+")
_ENTITY: Final = re.compile(rb"&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/_-]{4,}={0,2}")


@dataclass(frozen=True, slots=True)
class Hit:
    """A place where a text was readable. forms: what had to be undone, () for literally."""

    stream: Stream
    forward: bool
    where: str
    forms: tuple[str, ...]
    start: int
    end: int

    @property
    def frames(self) -> tuple[int, ...]:
        """The frames that carry it."""
        return self.stream.frames(self.start, self.end, forward=self.forward)


@dataclass(frozen=True, slots=True)
class _View:
    """Content with an encoding undone; starts and sources map its offsets back.

    Runs of bytes alternate: at even places as they were written, at odd places one token (such as
    %3A) that stands for other bytes. starts is where each run begins in the content, sources where
    in what was written.
    """

    form: str
    content: bytes
    starts: tuple[int, ...]
    sources: tuple[int, ...]

    def source(self, start: int, end: int) -> tuple[int, int]:
        """Return where content bytes start to end were written; a token is never cut."""
        first = bisect_right(self.starts, start) - 1
        final = bisect_right(self.starts, end - 1) - 1
        begin = self.sources[first] + (0 if first % 2 else start - self.starts[first])
        if final % 2:
            return begin, self.sources[final + 1]
        return begin, self.sources[final] + end - self.starts[final]


def _undone(content: bytes, pattern: re.Pattern[bytes], form: str) -> _View | None:
    """Replace each match by what it stands for, keeping the way back."""
    out, starts, sources, position = bytearray(), [0], [0], 0
    for match in pattern.finditer(content):
        out += content[position : match.start()]
        starts.append(len(out))
        sources.append(match.start())
        out += _meaning(match)
        starts.append(len(out))
        sources.append(match.end())
        position = match.end()
    if not position:
        return None
    out += content[position:]
    return _View(form, bytes(out), tuple(starts), tuple(sources))


def _meaning(match: re.Match[bytes]) -> bytes:
    word = match[0]
    if word == b"+":
        return b" "
    if word.startswith(b"%"):
        return bytes.fromhex(match[1].decode())
    return html.unescape(word.decode()).encode("utf-8", "replace")


def _views(content: bytes) -> Iterator[tuple[_View, tuple[str, ...]]]:
    """Yield the content as it is and with each encoding undone, with the names of those."""
    yield _View("", content, (0,), (0,)), ()
    for pattern, form in ((_PERCENT, "url-encoded"), (_ENTITY, "html-escaped")):
        view = _undone(content, pattern, form)
        if view:
            yield view, (form,)
    for match in _BASE64.finditer(content):
        word = match[0].rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
        try:
            plain = base64.b64decode(word + b"=" * (-len(word) % 4))
        except binascii.Error:
            continue
        # All of it maps to the whole word: four characters carry three bytes together.
        runs = (0, 0, len(plain)), (match.start(), match.start(), match.end())
        yield _View("base64", plain, *runs), ("base64",)


class Haystack:
    """All readable content of one stream, prepared once and searched for many texts."""

    def __init__(
        self, stream: Stream, passages: tuple[Passage, ...], exposures: tuple[Exposure, ...]
    ) -> None:
        self._stream = stream
        self._exposures = exposures
        self._places = [
            (passage, view, forms)
            for passage in (*passages, *_raw(stream))
            for view, forms in _views(passage.content)
        ]

    def find(self, text: str, longer: tuple[str, ...], *, spaced: bool = False) -> list[Hit]:
        """Return where a text is readable, the best described place first, each place once.

        longer -- other known texts that contain this one; inside them it does not count.
        spaced -- a short text may also stand between spaces and parts of addresses (names do).
        """
        hits: list[Hit] = []
        wanted = _normal(text)
        for exposure in self._exposures:
            if _normal(exposure.text) == wanted:
                self._add(
                    hits,
                    Hit(
                        self._stream,
                        exposure.forward,
                        exposure.where,
                        self._forms(exposure, text),
                        exposure.start,
                        exposure.end,
                    ),
                )
        for needle in _needles(text):
            for passage, view, forms in self._places:
                for start in _occurrences(view.content, needle, longer, spaced=spaced):
                    end = start + len(needle)
                    place = passage.place(*view.source(start, end))
                    hit = Hit(
                        self._stream,
                        passage.forward,
                        passage.where,
                        (*passage.encodings, *forms),
                        *place,
                    )
                    self._add(hits, hit)
        return hits

    def _forms(self, exposure: Exposure, text: str) -> tuple[str, ...]:
        """Tell how an exposed text was written, by looking at the bytes it came from."""
        written = self._stream.side(forward=exposure.forward)[exposure.start : exposure.end]
        if exposure.encodings and any(coding != "chunked" for coding in exposure.encodings):
            return exposure.encodings
        if any(needle in written for needle in _needles(text)):
            return exposure.encodings
        form = "html-escaped" if _ENTITY.search(written) else "url-encoded"
        return (*exposure.encodings, form)

    @staticmethod
    def _add(hits: list[Hit], hit: Hit) -> None:
        """Keep a hit unless one that came before, better described, touches the same bytes.

        Of two in the same place the one that says all of it is kept: a text that ends in "&" is
        written "&amp;", of which its plain form is only the beginning.
        """
        for index, known in enumerate(hits):
            if known.forward is hit.forward and known.start < hit.end and hit.start < known.end:
                wider = hit.start <= known.start and known.end < hit.end
                if wider and hit.where == known.where:
                    hits[index] = hit
                return
        hits.append(hit)


def _raw(stream: Stream) -> Iterator[Passage]:
    for forward in (True, False):
        data = stream.side(forward=forward)
        if data:
            spans = (Span(0, 0, len(data)),)
            yield Passage(f"raw {stream.protocol} stream", forward, data, 0, len(data), (), spans)


def _normal(text: str) -> str:
    """Return a text as it is compared: forms send CRLF, and pages trim what stands in a cell."""
    return text.replace("\r\n", "\n").strip()


def same(one: str, other: str) -> bool:
    """Whether two texts are the same message, line ends and outer space aside."""
    return _normal(one) == _normal(other)


def _needles(text: str) -> list[bytes]:
    variants = [_normal(text), _normal(text).replace("\n", "\r\n")]
    needles = [variant.encode() for variant in variants]
    needles += [v.encode("utf-16-le") for v in variants[:1]]
    with suppress(UnicodeEncodeError):
        needles += [variant.encode("latin-1") for variant in variants]
    return [needle for needle in dict.fromkeys(needles) if needle]


def _occurrences(
    content: bytes, needle: bytes, longer: tuple[str, ...], *, spaced: bool
) -> Iterator[int]:
    start = content.find(needle)
    while start >= 0:
        end = start + len(needle)
        if stands_alone(content, start, end, spaced=spaced) and not any(
            _covered(content, start, end, needle, other) for other in longer
        ):
            yield start
        start = content.find(needle, start + 1)


def stands_alone(content: bytes, start: int, end: int, *, spaced: bool) -> bool:
    """Whether what was found is the text itself; a short one must be set apart on both sides."""
    if end - start >= SHORT:
        return True
    before, after = (_BEFORE, _AFTER) if not spaced else (_BEFORE_NAMES, _AFTER_NAMES)
    begins = start == 0 or content[start - 1] in before
    return begins and (end == len(content) or content[end] in after)


def _covered(content: bytes, start: int, end: int, needle: bytes, other: str) -> bool:
    """Whether this occurrence lies inside an occurrence of a longer planted text."""
    for long in _needles(other):
        offset = long.find(needle)
        while offset >= 0:
            begin = start - offset
            if (
                begin >= 0
                and content[begin : begin + len(long)] == long
                and begin + len(long) >= end
            ):
                return True
            offset = long.find(needle, offset + 1)
    return False
