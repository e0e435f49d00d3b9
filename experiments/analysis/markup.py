"""Tables and links of an HTML page, with the place of each cell in the page's bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import accumulate
from typing import Final


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
    """The target of a link or a form, and the bytes of the tag that it stands in."""

    target: str
    start: int
    end: int


class Lenient(HTMLParser):
    """A parser of pages that raises for nothing: the standard one does for "<![" and a word."""

    def parse_marked_section(self, i: int, report: int = 1) -> int:
        """Take a marked section for a comment, as browsers do."""
        del report
        return self.parse_bogus_comment(i)


class _Reader(Lenient):
    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        lengths = (len(line) for line in page.split("\n"))
        self._lines = [0, *accumulate(length + 1 for length in lengths)]
        self._page = page
        self.tables: list[Table] = []
        self.links: list[tuple[str, int, int]] = []
        self.fields: list[tuple[str, str, str, int, int]] = []
        self.cells: list[tuple[Table, int, str, int, int]] = []
        self._open: list[Table] = []
        self._cell: tuple[int, list[str]] | None = None
        self.feed(page)
        # A cell that is still open was cut: half of a text is not what anybody wrote.

    def _here(self) -> int:
        line, column = self.getpos()
        return self._lines[line - 1] + column

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        start = self._here()
        end = start + len(self.get_starttag_text() or "")
        values = {name: value or "" for name, value in attrs}
        target = values.get("href") or values.get("action")
        if target:
            self.links.append((target, start, end))
        if tag == "input" and values.get("name") and values.get("value"):
            kind = values.get("type", "text").lower()
            self.fields.append((values["name"], kind, values["value"], start, end))
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
            self._cell = (end, [])
        elif tag == "br" and self._cell:
            self._cell[1].append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in {"td", "th", "tr", "table"}:
            self._end_cell(self._here())
        if tag == "table" and self._open:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._cell:
            self._cell[1].append(data)

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


_TELLING: Final = (b"<table", b"<input", b"http", b"&#", b"\0")


def telling(content: bytes) -> bool:
    """Whether a page can hold tables, filled-in fields or links to elsewhere at all.

    Most have none, and looking takes a hundredth of the time that reading does. Zeros: it is in
    UTF-16, say, where nothing can be told so simply.
    """
    lower = content.lower()
    return any(word in lower for word in _TELLING)


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
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").strip()

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
        pieces = (page[start : start + self._STEP] for start in range(0, len(page), self._STEP))
        self._marks = [0, *accumulate(len(self._bytes(piece)) for piece in pieces)]

    def _bytes(self, text: str) -> bytes:
        return text.encode(self._charset, "surrogateescape")

    def at(self, position: int) -> int:
        """Return the byte at which a character begins."""
        mark = position // self._STEP
        return self._marks[mark] + len(self._bytes(self._page[mark * self._STEP : position]))
