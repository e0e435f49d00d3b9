"""Reading the chat's pages: what a browser's user sees of them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser


@dataclass(slots=True)
class Page:
    """A page as far as a client needs it.

    forms  -- action -> the values of its fields that are hidden.
    rows   -- the cells of each table row, headings included.
    alert  -- the text that tells an error, or "".
    posted -- the message that the page confirms, or None.
    older  -- where the link to older messages leads, or None.
    """

    title: str = ""
    forms: dict[str, dict[str, str]] = field(default_factory=dict)
    rows: list[list[str]] = field(default_factory=list)
    alert: str = ""
    posted: str | None = None
    older: str | None = None


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.page = Page()
        self._form: dict[str, str] | None = None
        self._text: list[str] | None = None  # of the element that is being read
        self._element = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._form = self.page.forms.setdefault(values.get("action", ""), {})
        elif tag == "input" and values.get("type") == "hidden" and self._form is not None:
            self._form[values.get("name", "")] = values.get("value", "")
        elif tag == "tr":
            self.page.rows.append([])
        elif tag == "a" and values.get("rel") == "prev":
            self.page.older = values.get("href")
        if tag in {"td", "th", "title"}:
            self._begin(tag)
        elif values.get("id") == "posted":
            self._begin(tag, "posted")
        elif values.get("role") == "alert":
            self._begin(tag, "alert")
        self._tag = tag

    def _begin(self, tag: str, meaning: str = "") -> None:
        self._text, self._element, self._meaning = [], tag, meaning or tag

    def handle_data(self, data: str) -> None:
        if self._text is not None:
            self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        if self._text is None or tag != self._element:
            return
        text = "".join(self._text)
        self._text = None
        if self._meaning in {"td", "th"}:
            self.page.rows[-1].append(text)
        elif self._meaning == "title":
            self.page.title = text
        elif self._meaning == "posted":
            self.page.posted = text
        else:
            self.page.alert = text


def read(html: str) -> Page:
    """Return what a page says."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.page
