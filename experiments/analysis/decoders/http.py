"""HTTP/1: what forms, headers and pages give away.

Nothing here knows a particular chat. A form with a password-like field is a sign-in, a field with
a content-like name holds a message, and a table that heads one column with a user and another with
content holds messages (Figures 12, 13 and 17).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from email.parser import BytesParser
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_plus, urlsplit

from experiments.analysis import http1, markup
from experiments.analysis.model import Decoded, Exposure, Passage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import Message as Mail

    from experiments.analysis.model import Stream

_PASSWORD: Final = re.compile(r"passw|passcode|pwd|^pass$|_pass$|secret", re.IGNORECASE)
_USER: Final = re.compile(r"user|login|account|e-?mail|nick|^name$", re.IGNORECASE)
_MESSAGE: Final = re.compile(r"content|messag|^msg|chat|^text|comment", re.IGNORECASE)
_USER_COLUMN: Final = re.compile(r"user|sender|from|name|nick", re.IGNORECASE)
_MESSAGE_COLUMN: Final = re.compile(r"content|messag|chat|text", re.IGNORECASE)
_PAIR: Final = re.compile(rb"([^&=]*)=([^&]*)")
# Which header tells what; the names are compared without regard to case (RFC 9110, 5.1).
_REQUEST_HEADERS: Final = {
    "referer": "referer",
    "user-agent": "browser",
    "cookie": "cookie",
    "upgrade-insecure-requests": "header",
}
_RESPONSE_HEADERS: Final = {"server": "server", "x-powered-by": "server", "set-cookie": "cookie"}
# The two directions of a stream, as `forward` has them.
_SENT: Final = True
_CAME: Final = False
_HTML: Final = ("text/html", "application/xhtml+xml")


class Http:
    """HTTP/1.0 and 1.1."""

    name = "http"

    def recognises(self, stream: Stream) -> bool:
        """Whether a side starts as HTTP/1 does."""
        head = stream.side(forward=True)[:4096]
        if re.match(rb"(%s) \S+ HTTP/1\.[01]\r?\n" % "|".join(http1.METHODS).encode(), head):
            return True
        return stream.protocol == "tcp" and bool(
            re.match(rb"HTTP/1\.[01] \d{3}", stream.side(forward=False))
        )

    def decode(self, stream: Stream) -> Decoded:
        """Read all requests and responses of the stream."""
        asked, all_asked = http1.requests(stream.side(forward=True))
        answered, all_answered = http1.responses(stream.side(forward=False), asked)
        passages: list[Passage] = []
        exposures: list[Exposure] = []
        server = stream.server.removesuffix(":80")
        for request in asked:
            passages += _passages(request, forward=True)
            exposures += _request(request, server)
        for response, _ in answered:
            passages += _passages(response, forward=False)
            exposures += _headers(response, _RESPONSE_HEADERS, forward=False)
            exposures += _page(response)
        return Decoded("http", tuple(passages), tuple(exposures), all_asked and all_answered)


def _passages(message: http1.Message, *, forward: bool) -> Iterator[Passage]:
    body = message.body
    if body.content:
        where = f"{'request' if forward else 'response'} body"
        yield Passage(where, forward, body.content, body.start, body.end, body.codings, body.spans)


def _headers(message: http1.Message, kinds: dict[str, str], *, forward: bool) -> Iterator[Exposure]:
    side = "request" if forward else "response"
    for header in message.headers:
        kind = kinds.get(header.name.lower())
        if kind:
            text = f"{header.name}: {header.value}" if kind == "header" else header.value
            where = f"{side} header {header.name}"
            yield Exposure(kind, text, where, forward, header.start, header.end)


def _request(request: http1.Message, server: str) -> Iterator[Exposure]:
    host = request.header("Host") or server
    absolute = request.target.startswith(("http://", "https://"))
    url = request.target if absolute else f"http://{host}{request.target}"
    about = {"method": request.method}
    yield Exposure(
        "url",
        url,
        "request line",
        _SENT,
        request.start,
        request.line_end,
        about=about,
    )
    yield from _headers(request, _REQUEST_HEADERS, forward=True)
    yield from _authorization(request)
    query = urlsplit(request.target).query
    if query:
        offset = request.start + len(request.method) + 1
        offset += len(request.target.encode()) - len(query.encode())
        fields = [
            (name, text, offset + start, offset + end)
            for name, text, start, end in _pairs(query.encode())
        ]
        yield from _form(fields, "query", ())
    body = request.body
    place = Passage("", _SENT, body.content, body.start, body.end, body.codings, body.spans).place
    fields = [(name, text, *place(start, end)) for name, text, start, end in _fields(request)]
    yield from _form(fields, "form", body.codings)


def _authorization(request: http1.Message) -> Iterator[Exposure]:
    for header in request.headers:
        if header.name.lower() not in {"authorization", "proxy-authorization"}:
            continue
        scheme, _, value = header.value.partition(" ")
        where = f"request header {header.name}"
        if scheme.lower() != "basic":
            yield Exposure("token", value, where, _SENT, header.start, header.end)
            continue
        try:
            user, _, password = base64.b64decode(value).decode("utf-8", "replace").partition(":")
        except binascii.Error:
            continue
        for kind, text in (("user", user), ("password", password)):
            yield Exposure(kind, text, where, _SENT, header.start, header.end, ("base64",))


def _pairs(content: bytes) -> Iterator[tuple[str, str, int, int]]:
    for match in _PAIR.finditer(content):
        name, value = (unquote_plus(part.decode("latin-1"), "utf-8") for part in match.groups())
        yield name, value, match.start(2), match.end(2)


def _fields(request: http1.Message) -> Iterator[tuple[str, str, int, int]]:
    """Yield (name, value, start, end) of a form in the body, whatever its type."""
    content = request.body.content
    kind = request.header("Content-Type").partition(";")[0].strip().lower()
    whole = (0, len(content))
    if kind == "application/x-www-form-urlencoded":
        yield from _pairs(content)
    elif kind == "multipart/form-data":
        head = f"Content-Type: {request.header('Content-Type')}\r\n\r\n".encode()
        mail = BytesParser().parsebytes(head + content)
        for part in mail.walk():
            name = part.get_param("name", header="Content-Disposition")
            if isinstance(name, str):
                yield name, _payload(part), *whole
    elif kind == "application/json":
        try:
            data = json.loads(content)
        except ValueError:
            return
        for name, value in _leaves("", data):
            yield name, value, *whole


def _payload(part: Mail) -> str:
    data = part.get_payload(decode=True)
    return data.decode("utf-8", "replace") if isinstance(data, bytes) else ""


def _leaves(name: str, data: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401 (JSON data)
    if isinstance(data, dict):
        for key, value in data.items():
            yield from _leaves(str(key), value)
    elif isinstance(data, list):
        for value in data:
            yield from _leaves(name, value)
    elif isinstance(data, str):
        yield name, data


def _form(
    fields: list[tuple[str, str, int, int]], what: str, codings: tuple[str, ...]
) -> Iterator[Exposure]:
    signs_in = any(_PASSWORD.search(name) for name, *_ in fields)
    sender = next((text for name, text, *_ in fields if _USER.search(name)), "")
    for name, text, start, end in fields:
        if _PASSWORD.search(name):
            kind = "password"
        elif _USER.search(name):
            kind = "user"
        elif _MESSAGE.search(name) and not signs_in:
            kind = "message"
        else:
            continue
        if text:
            about = {"sender": sender} if kind == "message" and sender else {}
            where = f"{what} field {name}"
            yield Exposure(kind, text, where, _SENT, start, end, codings, about)


def _page(response: http1.Message) -> Iterator[Exposure]:
    body = response.body
    kind, _, parameters = response.header("Content-Type").partition(";")
    if kind.strip().lower() not in _HTML or not body.undone:
        return
    charset = re.search(r"charset=\"?([\w-]+)", parameters)
    tables, links = markup.read(body.content, charset[1] if charset else "utf-8")
    place = Passage("", _CAME, b"", body.start, body.end, body.codings, body.spans).place
    for link in links:
        if link.target.startswith(("http://", "https://")):
            span = place(link.start, link.end)
            yield Exposure("url", link.target, "link in a page", _CAME, *span, body.codings)
    for table in tables:
        for kind_, cell, about in _chats(table):
            span = place(cell.start, cell.end)
            yield Exposure(kind_, cell.text, "table cell", _CAME, *span, body.codings, about)


def _chats(table: markup.Table) -> Iterator[tuple[str, markup.Cell, dict[str, str]]]:
    """Yield users and messages of a table that says in its first row that it holds them."""
    if not table.rows:
        return
    names = [cell.text for cell in table.rows[0]]
    users = [i for i, name in enumerate(names) if _USER_COLUMN.search(name)]
    contents = [
        i for i, name in enumerate(names) if _MESSAGE_COLUMN.search(name) and i not in users
    ]
    if not users or not contents:
        return
    for row in table.rows[1:]:
        if len(row) <= max(users[0], contents[0]):
            continue
        user, content = row[users[0]], row[contents[0]]
        if user.text:
            yield "user", user, {}
        if content.text:
            yield "message", content, {"sender": user.text} if user.text else {}


DECODER = Http()
