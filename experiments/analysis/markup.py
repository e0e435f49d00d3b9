"""Tables and links of an HTML page, with the place of each cell in the page's bytes."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from html import unescape
from html.parser import HTMLParser
from itertools import accumulate
from typing import Final

from experiments.analysis.matching import Matcher


@dataclass(frozen=True, slots=True)
class Cell:
    """A table cell: its text, unescaped, and the bytes of the page between its tags."""

    text: str
    start: int
    end: int


@dataclass(slots=True)
class Table:
    """A table's rows of cells; a header row is a row like any other."""

    rows: list[list[Cell]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a form that the page fills in, and the bytes of its tag."""

    name: str
    kind: str
    value: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Link:
    """The target of a link or a form elsewhere, and the bytes of the tag that it stands in."""

    target: str
    start: int
    end: int


class Lenient(HTMLParser):
    """A parser of pages that raises for nothing: the standard one does for "<![" and a word."""

    def parse_marked_section(self, i: int, report: int = 1) -> int:
        """Take a marked section for a comment, as browsers do."""
        del report
        return self.parse_bogus_comment(i)


# The rest of a tag. Possessive, and without "<" outside of quotes, so that a page of tags that
# never end is not read again from each of them.
_REST: Final = r"""((?:=\s*+(?:"[^"]{0,65536}"|'[^']{0,65536}')|[^<>])*+)>"""
_TAG: Final = re.compile(r"<(?:!--|[!?]|/(?![a-zA-Z])|(/?)([a-zA-Z][^\s/<>]*+)" + _REST + ")")
# Tags that make no difference here: most of a page. What has to be looked at are tags that shape
# tables, fields, what is no markup, and links to elsewhere.
_DULL: Final = (
    r"<(?!/?(?:table|t[rdh]|br|input|script|style)[\s/>]"
    r"|[^<>]*?(?:href|action)\s*+=\s*+[\"']?+\s*+(?:http|&))/?[a-zA-Z]"
    + _REST.replace("((?:", "(?:(?:", 1)
)
# Atomic and not possessive: Python 3.11 does not go back to where a last repetition failed.
_SKIPPED: Final = re.compile(f"(?>(?:[^<]++|{_DULL})*)", re.IGNORECASE)
_STRIPPED: Final = re.compile(_DULL, re.IGNORECASE)
_ATTRIBUTE: Final = re.compile(
    r"""([^\s/=>][^\s/=>]*+)(?:\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s>"']*+)))?"""
)
_RAW: Final = {name: re.compile(f"</{name}[\\s/>]", re.IGNORECASE) for name in ("script", "style")}
# Tags that make a difference here, whatever their attributes are.
_SHAPING: Final = frozenset({"table", "tr", "td", "th", "br"})
_POINTING: Final = re.compile(r"href|action", re.IGNORECASE)


def _end(pattern: re.Pattern[str], page: str, at: int) -> int:
    found = pattern.match(page, at)
    return found.end() if found else at


class _Reader:
    """Reads a page in one go over its tags: several times as fast as html.parser's reader."""

    def __init__(self, page: str) -> None:
        self._page = page
        self.tables: list[Table] = []
        self.links: list[tuple[str, int, int]] = []
        self.fields: list[tuple[str, str, str, int, int]] = []
        self.cells: list[tuple[Table, int, str, int, int]] = []
        self._open: list[Table] = []
        # Of the open cell: where it began, up to where its text was taken, and the text.
        self._cell: tuple[int, list[str]] | None = None
        self._taken = 0
        self._read()
        # A cell that is still open was cut: half of a text is not what anybody wrote.

    def _read(self) -> None:
        page, at = self._page, 0
        while (start := _end(_SKIPPED, page, at)) < len(page):
            found = _TAG.match(page, start)
            if not found:
                at = start + 1  # no tag: a sign like any other
                continue
            at = found.end()
            if found[2] is None:
                ending = "-->" if found[0] == "<!--" else ">"
                end = page.find(ending, at)
                if end < 0:
                    return
                at = end + len(ending)
                self._take(start, at)
                continue
            self._take(start, at)
            self._tag(found, start, at)
            raw = _RAW.get(found[2].lower())
            if raw and not found[1]:
                ended = raw.search(page, at)
                if not ended:
                    return
                at = self._taken = ended.start()

    def _tag(self, found: re.Match[str], start: int, end: int) -> None:
        name = found[2].lower()
        if found[1]:
            if name in _SHAPING:
                self._closed(name, start)
            return
        if name in _SHAPING:
            self._opened(name, start, end)
        if name == "input" or _POINTING.search(found[3]):
            self._pointed(name, found[3], start, end)

    def _take(self, start: int, end: int) -> None:
        """Take the text up to a tag or comment into the open cell."""
        if self._cell and start > self._taken:
            text = self._page[self._taken : start]
            if "<" in text:
                text = _STRIPPED.sub("", text)
            self._cell[1].append(unescape(text))
        self._taken = end

    def _pointed(self, tag: str, written: str, start: int, end: int) -> None:
        values = {
            found[1].lower(): unescape(found[2] or found[3] or found[4] or "")
            for found in _ATTRIBUTE.finditer(written)
        }
        target = values.get("href") or values.get("action")
        if target:
            self.links.append((target, start, end))
        if tag == "input" and values.get("name") and values.get("value"):
            kind = values.get("type", "text").lower()
            self.fields.append((values["name"], kind, values["value"], start, end))

    def _opened(self, tag: str, start: int, end: int) -> None:
        if tag == "table":
            self._end_cell(start)
            table = Table()
            self.tables.append(table)
            self._open.append(table)
        elif tag == "tr" and self._open:
            self._end_cell(start)
            self._open[-1].rows.append([])
        elif tag in {"td", "th"} and self._open:
            self._end_cell(start)
            self._cell, self._taken = (end, []), end
        elif tag == "br" and self._cell:
            self._cell[1].append("\n")

    def _closed(self, tag: str, start: int) -> None:
        if tag != "br":
            self._end_cell(start)
        if tag == "table" and self._open:
            self._open.pop()

    def _end_cell(self, end: int) -> None:
        if not self._cell or not self._open:
            self._cell = None
            return
        start, words = self._cell
        self._cell = None
        table = self._open[-1]
        if not table.rows:
            table.rows.append([])
        self.cells.append((table, len(table.rows) - 1, "".join(words), start, end))


@dataclass(frozen=True, slots=True)
class Page:
    """What is read of a page."""

    tables: list[Table]
    links: list[Link]
    fields: list[Field]


class _Telling(threading.local):
    """What is in every page that tells anything; each thread has its own, as Matcher wants it."""

    def __init__(self) -> None:
        words = (b"<table", b"<input", b"http", b"&#")
        self.matcher = Matcher(words, caseless=frozenset(range(len(words))))


_TELLING: Final = _Telling()


def telling(content: bytes) -> bool:
    """Whether a page can hold tables, filled-in fields or links to elsewhere at all.

    Most have none, and looking takes a hundredth of the time that reading does. Zeros: it is in
    UTF-16, say, where nothing can be told so simply.
    """
    return b"\0" in content or _TELLING.matcher.any(content)


def read(content: bytes, charset: str = "utf-8") -> Page:
    """Return what a page holds. Never raises; a charset not known is read as UTF-8."""
    try:
        page = content.decode(charset, "surrogateescape")
    except (LookupError, UnicodeError):
        charset = "utf-8"
        page = content.decode(charset, "surrogateescape")
    reader = _Reader(page)
    places = _Places(page, charset)

    def clean(text: str) -> str:
        if not text.isascii():
            text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        return text.strip()

    for table, row, text, start, end in reader.cells:
        table.rows[row].append(Cell(clean(text), places.at(start), places.at(end)))
    links = [
        Link(clean(target), places.at(start), places.at(end)) for target, start, end in reader.links
    ]
    fields = [
        Field(clean(name), kind, clean(value), places.at(start), places.at(end))
        for name, kind, value, start, end in reader.fields
    ]
    return Page(reader.tables, links, fields)


class _Places:
    """Where characters of a page are in its bytes, without encoding it anew for each."""

    _STEP: Final = 4096

    def __init__(self, page: str, charset: str) -> None:
        self._page, self._charset = page, charset
        # Every character is a byte: the usual thing.
        self._plain = page.isascii() and len(self._bytes(page[:1])) <= 1
        if self._plain:
            return
        pieces = (page[start : start + self._STEP] for start in range(0, len(page), self._STEP))
        self._marks = [0, *accumulate(len(self._bytes(piece)) for piece in pieces)]

    def _bytes(self, text: str) -> bytes:
        return text.encode(self._charset, "surrogateescape")

    def at(self, position: int) -> int:
        """Return the byte at which a character begins."""
        if self._plain:
            return position
        mark = position // self._STEP
        return self._marks[mark] + len(self._bytes(self._page[mark * self._STEP : position]))
