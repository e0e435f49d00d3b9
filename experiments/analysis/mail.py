"""Mails out of the bytes that carried them (RFC 5322 and MIME): who to whom, subject, text."""

from __future__ import annotations

import re
from email.header import decode_header
from email.parser import BytesParser
from typing import TYPE_CHECKING, Final

from experiments.analysis import markup
from experiments.analysis.model import Exposure

if TYPE_CHECKING:
    from email.message import Message as Mail

# Of a longer mail only the beginning is read: what follows are attachments.
LONGEST: Final = 2**20
_LONGEST_FIELD: Final = 4096
_FROM: Final = re.compile(
    rb"^(From|To|Cc|Subject|Date):[ \t]*([^\r\n]*(?:\r?\n[ \t][^\r\n]*)*)",
    re.MULTILINE | re.IGNORECASE,
)


class _Words(markup.Lenient):
    """The text of a page, without its scripts and styles."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.words: list[str] = []
        self._hidden = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        if tag in {"script", "style"}:
            self._hidden = tag
        elif tag in {"br", "p", "div", "tr"}:
            self.words.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._hidden:
            self._hidden = ""

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words.append(data)


def plain(page: str) -> str:
    """Return the words of an HTML text, with white space as a reader sees it."""
    reader = _Words()
    reader.feed(page)
    lines = (" ".join(line.split()) for line in "".join(reader.words).split("\n"))
    return "\n".join(line for line in lines if line)


def read(content: bytes, start: int, *, forward: bool, where: str) -> list[Exposure]:
    """Return what a mail tells; its bytes begin at `start` in the stream.

    A mail that has no header is none: [].
    """
    data = content[:LONGEST]
    head = data[: _body_at(data)]
    told: dict[str, str] = {}
    found: list[Exposure] = []
    places = {}
    for match in _FROM.finditer(head):
        name = match[1].decode().lower()
        if name not in told:
            told[name] = _header(match[2])
            places[name] = (start + match.start(2), start + match.end(2))
    about = {
        key: told[name]
        for key, name in (("sender", "from"), ("recipient", "to"), ("sent", "date"))
        if told.get(name)
    }
    for name, kind in (
        ("from", "contact"),
        ("to", "contact"),
        ("cc", "contact"),
        ("subject", "subject"),
    ):
        if told.get(name):
            more = {"role": name} if kind == "contact" else about
            place = places[name]
            found.append(Exposure(kind, told[name], f"{where} {name}", forward, *place, (), more))
    if not found:
        return []
    if told.get("subject"):
        about = {**about, "subject": told["subject"]}
    body = data[_body_at(data) :]
    text, codings = _text(data)
    if text.strip():
        begin = start + len(data) - len(body)
        place = (begin, begin + len(body))
        found.append(
            Exposure("message", text.strip(), f"{where} text", forward, *place, codings, about)
        )
    return found


def _body_at(data: bytes) -> int:
    match = re.search(rb"\r?\n\r?\n", data)
    return match.end() if match else len(data)


def _header(value: bytes) -> str:
    """Undo folding and encoded words (RFC 2047); what is broken stays as it is."""
    text = re.sub(r"\r?\n[ \t]", " ", value[:_LONGEST_FIELD].decode("utf-8", "replace"))
    try:
        parts = decode_header(text)
        return "".join(
            part if isinstance(part, str) else part.decode(charset or "latin-1", "replace")
            for part, charset in parts
        ).strip()
    except (ValueError, LookupError):
        return text.strip()


def _text(data: bytes) -> tuple[str, tuple[str, ...]]:
    """Return the text of a mail, its first plain part or else its first page, and its coding."""
    try:
        parts = [part for part in BytesParser().parsebytes(data).walk() if not part.is_multipart()]
        for kind in ("text/plain", "text/html"):
            for part in parts:
                if part.get_content_type() == kind and not part.get_filename():
                    text = _payload(part)
                    coding = str(part.get("Content-Transfer-Encoding", "")).strip().lower()
                    known = coding if coding in {"base64", "quoted-printable"} else ""
                    words = plain(text) if kind == "text/html" else text.replace("\r\n", "\n")
                    return words, (known,) if known else ()
    except (ValueError, LookupError, AttributeError, TypeError):
        # The standard library's parser gives up on some broken headers in its own ways.
        pass
    return "", ()


def _payload(part: Mail) -> str:
    data = part.get_payload(decode=True)
    if not isinstance(data, bytes):
        return ""
    charset = str(part.get_param("charset") or "utf-8")
    try:
        return data.decode(charset)
    except (LookupError, ValueError):
        return data.decode("utf-8", "replace")
