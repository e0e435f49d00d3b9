"""Tables and links of an HTML page, with the place of each cell in the page's bytes.

Compiled code goes over the bytes (scanning/pages.py) and tells of what matters alone.
"""

from __future__ import annotations

import codecs
import re
from bisect import bisect_right
from functools import lru_cache
from html import unescape
from html.parser import HTMLParser
from itertools import accumulate
from typing import Final

import numpy as np
from msgspec import Struct

from experiments.analysis.compiled import native
from experiments.analysis.scanning import layout


class Cell(Struct, frozen=True, gc=False):
    """A table cell: its text, unescaped, and the bytes of the page between its tags."""

    text: str
    start: int
    end: int


class Table(Struct):
    """A table's rows of cells; a header row is a row like any other."""

    rows: list[list[Cell]]


class Field(Struct, frozen=True, gc=False):
    """A field of a form that the page fills in, and the bytes of its tag."""

    name: str
    kind: str
    value: str
    start: int
    end: int


class Link(Struct, frozen=True, gc=False):
    """The target of a link or a form elsewhere, and the bytes of the tag that it stands in."""

    target: str
    start: int
    end: int


class Page(Struct, frozen=True):
    """What is read of a page."""

    tables: list[Table]
    links: list[Link]
    fields: list[Field]


class Lenient(HTMLParser):
    """A parser of pages that raises for nothing: the standard one does for "<![" and a word."""

    def parse_marked_section(self, i: int, report: int = 1) -> int:
        """Take a marked section for a comment, as browsers do."""
        del report
        return self.parse_bogus_comment(i)


_ATTRIBUTE: Final = re.compile(
    r"""([^\s/=>][^\s/=>]*+)(?:\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s>"']*+)))?"""
)
# Charsets with a byte for each sign, of which the first 128 are ASCII.
_BYTEWISE: Final = re.compile(r"ascii|iso8859-\d+|cp125\d|koi8-[rtu]")
_ROOM: Final = 256  # things found, and tables, before there has to be more room


def telling(content: bytes) -> bool:
    """Whether a page can hold tables, filled-in fields or links to elsewhere at all.

    Most have none, and looking takes a small part of the time that reading does. Zeros: it is in
    UTF-16, say, where nothing can be told so simply.
    """
    return bool(native.engine()("tells", content))


def read(content: bytes, charset: str = "utf-8") -> Page:
    """Return what a page holds. Never raises; a charset not known is read as UTF-8."""
    if not _legible(charset):
        try:
            text = content.decode(charset, "surrogateescape")
            text.encode("utf-8", "surrogateescape")  # some charsets spell what is no text
            places = _Places(text, charset, len(content))
        except (LookupError, UnicodeError):
            charset = "utf-8"
        else:
            return _moved(_Page(_utf8(text), "utf-8", "surrogatepass").page, places)
    return _Page(content, charset, "surrogateescape").page


@lru_cache(maxsize=64)
def _legible(charset: str) -> bool:
    """Whether tags can be found in the bytes of a charset as they are."""
    try:
        name = codecs.lookup(charset).name
    except (LookupError, ValueError):
        return False
    return name == "utf-8" or bool(_BYTEWISE.fullmatch(name))


def _scan(content: bytes) -> tuple[list[int], list[int]]:
    """Return what compiled code finds, and the tables' numbers of rows; see scanning/layout.py."""
    call = native.engine()
    marks = np.zeros(len(content) // 8 + 1, np.uint8)
    found = np.empty(_ROOM * layout.WIDTH, np.int64)
    tables = np.empty(_ROOM * layout.DEPTH, np.int64)
    state = np.zeros(layout.SIZE, np.int64)
    state[layout.CELL] = state[layout.TABLE] = layout.NOWHERE
    while need := call("page", content, marks, found, tables, state):
        if need == layout.NEED_ROOM:
            found = np.concatenate((found, np.empty_like(found)))
        else:
            tables = np.concatenate((tables, np.empty_like(tables)))
    used, count = int(state[layout.FOUND]), int(state[layout.TABLES])
    rows = tables[1 : count * layout.DEPTH : layout.DEPTH]
    return found[: used * layout.WIDTH].tolist(), rows.tolist()


def _clean(text: str) -> str:
    if not text.isascii():
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return text.strip()


class _Page:
    """A page made of what was found in its bytes."""

    def __init__(self, content: bytes, charset: str, errors: str) -> None:
        self._content, self._charset, self._errors = content, charset, errors
        found, counts = _scan(content)
        self.page = Page([Table([[] for _ in range(count)]) for count in counts], [], [])
        tables = [table.rows for table in self.page.tables]
        words: list[str] = []
        numbers = iter(found)
        for kind, table, row, start, end in zip(*[numbers] * layout.WIDTH, strict=True):
            if kind == layout.SIMPLE:
                text = content[start:end].decode().strip()
                tables[table][row].append(Cell(text, start, end))
            elif kind == layout.TEXT:
                words.append(self._text(start, end))
            elif kind == layout.BREAK:
                words.append("\n")
            elif kind == layout.POINTED:
                self._pointed(row, start, end, fills=bool(table))
            else:
                if kind == layout.WRITTEN:
                    words = [self._text(start, end)]
                tables[table][row].append(Cell(_clean("".join(words)), start, end))
                words = []

    def _text(self, start: int, end: int) -> str:
        return unescape(self._content[start:end].decode(self._charset, self._errors))

    def _pointed(self, named: int, start: int, end: int, *, fills: bool) -> None:
        """Take the link or field of a tag whose name ends at `named`."""
        written = self._content[named : end - 1].decode(self._charset, self._errors)
        values = {
            found[1].lower(): unescape(found[2] or found[3] or found[4] or "")
            for found in _ATTRIBUTE.finditer(written)
        }
        target = values.get("href") or values.get("action")
        if target:
            self.page.links.append(Link(_clean(target), start, end))
        name, value = values.get("name"), values.get("value")
        if fills and name and value:
            kind = values.get("type", "text").lower()
            self.page.fields.append(Field(_clean(name), kind, _clean(value), start, end))


def _moved(page: Page, places: _Places) -> Page:
    """Return a page that was read in UTF-8 with its places in the bytes that it came in."""
    at = places.at
    tables = [
        Table(
            [[Cell(cell.text, at(cell.start), at(cell.end)) for cell in row] for row in table.rows]
        )
        for table in page.tables
    ]
    links = [Link(link.target, at(link.start), at(link.end)) for link in page.links]
    fields = [
        Field(one.name, one.kind, one.value, at(one.start), at(one.end)) for one in page.fields
    ]
    return Page(tables, links, fields)


class _Places:
    """Where bytes of a page in UTF-8 are in another charset, without encoding it anew for each."""

    _STEP: Final = 4096

    def __init__(self, page: str, charset: str, size: int) -> None:
        self._page, self._charset = page, charset
        # A mark of the byte order, which is at the beginning of whatever is encoded.
        self._mark = len("".encode(charset))
        starts = range(0, max(len(page), 1), self._STEP)
        pieces = [page[start : start + self._STEP] for start in starts]
        lengths = [len(self._bytes(piece)) for piece in pieces]
        first = max(min(size - sum(lengths), self._mark), 0)  # whether the page itself has it
        self._there = list(accumulate(lengths[:-1], initial=first))
        self._here = list(accumulate((len(_utf8(piece)) for piece in pieces[:-1]), initial=0))

    def _bytes(self, text: str) -> bytes:
        return text.encode(self._charset, "surrogateescape")[self._mark :]

    def at(self, position: int) -> int:
        """Return the byte at which a character begins that begins at a byte in UTF-8."""
        piece = bisect_right(self._here, position) - 1
        start = piece * self._STEP
        own = _utf8(self._page[start : start + self._STEP])[: position - self._here[piece]]
        return self._there[piece] + len(self._bytes(own.decode("utf-8", "surrogatepass")))


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
