"""HTTP/1: what forms, headers and pages give away.

Nothing here knows a particular chat. A form with a password-like field is a sign-in, a field with
a content-like name holds a message, and a table that heads one column with a user and another with
content holds messages (Figures 12, 13 and 17).
"""

from __future__ import annotations

import base64
import binascii
import functools
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from msgspec.structs import replace

from experiments.analysis import chatjson, forms, http1, layers, markup, sasl, stanzas
from experiments.analysis.model import Decoded, Exposure, Layer, Passage, Span

if TYPE_CHECKING:
    from collections.abc import Iterator

    from experiments.analysis.model import Stream

_ASKS: Final = re.compile(rb"(?:%s) \S+ HTTP/1\.[01]\r?\n" % "|".join(http1.METHODS).encode())
_ANSWERS: Final = re.compile(rb"HTTP/1\.[01] \d{3}")
_PASSWORD: Final = re.compile(r"passw|passcode|pwd|^pass$|_pass$|secret", re.IGNORECASE)
_USER: Final = re.compile(r"user|login|account|e-?mail|nick|^name$", re.IGNORECASE)
_MESSAGE: Final = re.compile(r"content|messag|^msg|chat|^text|comment", re.IGNORECASE)
_USER_COLUMN: Final = re.compile(r"user|sender|from|name|nick", re.IGNORECASE)
_MESSAGE_COLUMN: Final = re.compile(r"content|messag|chat|text", re.IGNORECASE)
_TYPED: Final = frozenset({"text", "hidden", "email", "password"})
_DIGEST_PART: Final = re.compile(r'(\w{1,32})="?([^",]{1,1024})')
_BOSH: Final = b"http://jabber.org/protocol/httpbind"
_REFUSED: Final = frozenset({401, 407})
_CREDENTIALS: Final = frozenset({"user", "password", "hash"})
_AUTHORIZATION: Final = frozenset({"authorization", "proxy-authorization"})
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
_JSON: Final = ("/json", "+json", "/x-ndjson")


class Http:
    """HTTP/1.0 and 1.1."""

    name = "http"

    def recognises(self, stream: Stream) -> bool:
        """Whether a side starts as HTTP/1 does."""
        if _ASKS.match(stream.side(forward=True)[:4096]):
            return True
        return stream.protocol == "tcp" and bool(_ANSWERS.match(stream.side(forward=False)))

    def decode(self, stream: Stream) -> Decoded:
        """Read all requests and responses of the stream, and find what it turns to."""
        asked, all_asked = http1.requests(stream.side(forward=True))
        answered, all_answered = http1.responses(stream.side(forward=False), asked)
        passages: list[Passage] = []
        exposures: list[Exposure] = []
        server = stream.server.removesuffix(":80")
        statuses = {index: response.status for response, index in answered}
        for index, request in enumerate(asked):
            if request.body.content:
                passages.append(_passage(request, "request body", forward=True))
            status = statuses.get(index)
            exposures += [
                _judged(exposure, status) if exposure.kind in _CREDENTIALS else exposure
                for exposure in _request(request, server)
            ]
        for response, _ in answered:
            exposures += _headers(response, _RESPONSE_HEADERS, forward=False)
            if response.body.content:
                passages.append(_passage(response, "response body", forward=False))
                kind = _kind(response.first.get("content-type", ""))
                if kind in _HTML:
                    exposures += _page(response)
                elif kind.endswith(_JSON):
                    exposures += _json(response, forward=False)
        turned = _turned(stream, asked, answered)
        found = [turned[0]] if turned else _bosh(asked, [response for response, _ in answered])
        return Decoded(
            "http",
            tuple(passages),
            tuple(exposures),
            (all_asked or turned is not None) and all_answered,
            notes=(turned[1],) if turned else (),
            layers=tuple(found),
        )


@functools.lru_cache(maxsize=1024)
def _kind(written: str) -> str:
    """Return the type of a body without its parameters, in lower case."""
    return written.partition(";")[0].strip().lower()


def _judged(exposure: Exposure, status: int | None) -> Exposure:
    """Tell whether the server took a credential of a header, where it has answered."""
    if status is None or not exposure.where.startswith("request header"):
        return exposure
    accepted = "no" if status in _REFUSED else "yes"
    return replace(exposure, about={**exposure.about, "accepted": accepted})


def _turned(
    stream: Stream, asked: list[http1.Message], answered: list[tuple[http1.Message, int]]
) -> tuple[Layer, str] | None:
    """Return what the connection turns to, and a sentence that says so."""
    response, index = answered[-1] if answered else (None, 0)
    if not response or not response.complete or index >= len(asked):
        return None
    request = asked[index]
    if response.status == http1.SWITCHING:
        name = response.header("Upgrade").lower() or "another protocol"
    elif request.method == "CONNECT" and response.status // 100 == 2:  # noqa: PLR2004 (a 2xx)
        name = f"a tunnel to {request.target}"
    else:
        return None
    hint = "websocket" if name == "websocket" else ""
    offsets = request.body.end, response.body.end
    layer = layers.tail(stream, *offsets, f"what follows {name}", hint)
    return (layer, f"turns to {name}") if layer else None


def _bosh(asked: list[http1.Message], answered: list[http1.Message]) -> list[Layer]:
    """Return XMPP that is carried in bodies (XEP-0124)."""
    sides = [
        _joined([message.body for message in messages if _BOSH in message.body.content[:1024]], way)
        for messages, way in ((asked, True), (answered, False))
    ]
    return [Layer(sides[0], sides[1], "xmpp")] if any(sides) else []


def _joined(bodies: list[http1.Body], forward: bool) -> Passage | None:  # noqa: FBT001 (a direction)
    content, spans = bytearray(), []
    for body in bodies:
        start = len(content)
        own = body.spans or (Span(0, body.start, body.end - body.start),)
        spans += [Span(start + span.content, span.stream, span.length) for span in own]
        content += body.content
    if not bodies or not stanzas.read(bytes(content)).stanzas:
        return None
    codings = tuple(dict.fromkeys(coding for body in bodies for coding in body.codings))
    first, last = bodies[0].start, bodies[-1].end
    return Passage("BOSH bodies", forward, bytes(content), first, last, codings, tuple(spans))


def _passage(message: http1.Message, where: str, *, forward: bool) -> Passage:
    body = message.body
    return Passage(where, forward, body.content, body.start, body.end, body.codings, body.spans)


def _headers(message: http1.Message, kinds: dict[str, str], *, forward: bool) -> Iterator[Exposure]:
    side = "request" if forward else "response"
    for header in message.headers:
        kind = kinds.get(header.key)
        if kind and header.value:
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
    query = _query(request.target)
    if query:
        offset = request.start + len(request.method) + 1
        offset += len(request.target.encode()) - len(query.encode())
        yield from _form(_moved(forms.pairs(query.encode()), offset), "query", ())
    body = request.body
    if not body.content:
        return
    place = Passage("", _SENT, body.content, body.start, body.end, body.codings, body.spans).place
    fields = [_put(field, *place(field.start, field.end)) for field in _fields(request)]
    yield from _form(fields, "form", body.codings)
    kind = _kind(request.first.get("content-type", ""))
    if kind.endswith(_JSON) or kind == "text/plain":
        yield from _json(request, forward=True)


def _query(target: str) -> str:
    if "?" not in target:
        return ""
    try:
        return urlsplit(target).query
    except ValueError:  # a host in brackets that is no address
        return ""


def _moved(fields: Iterator[forms.Field], offset: int) -> list[forms.Field]:
    return [_put(row, row.start + offset, row.end + offset) for row in fields]


def _put(field: forms.Field, start: int, end: int) -> forms.Field:
    """Return a field at another place; `replace` takes several times as long."""
    return forms.Field(field.name, field.text, start, end, field.file)


def _authorization(request: http1.Message) -> Iterator[Exposure]:
    for header in request.headers:
        if header.key not in _AUTHORIZATION:
            continue
        scheme, _, value = header.value.partition(" ")
        reader = _SCHEMES.get(scheme.lower())
        if reader:
            yield from reader(header, value)
        elif value:
            where = f"request header {header.name}"
            about = {"scheme": scheme}
            yield Exposure("token", value, where, _SENT, header.start, header.end, (), about)


def _basic(header: http1.Header, value: str) -> Iterator[Exposure]:
    try:
        plain = base64.b64decode(value).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return
    user, _, password = plain.partition(":")
    for kind, text in (("user", user), ("password", password)):
        if not text:
            continue
        about = {"user": user} if kind == "password" else {}
        where, place = f"request header {header.name}", (header.start, header.end)
        yield Exposure(kind, text, where, _SENT, *place, ("base64",), about)


def _digest(header: http1.Header, value: str) -> Iterator[Exposure]:
    """Yield the user and a hash (RFC 7616): the password itself is not sent."""
    parts = {match[1].lower(): match[2] for match in _DIGEST_PART.finditer(value)}
    user = parts.get("username", "")
    about = {"user": user, "mechanism": "Digest", "realm": parts.get("realm", "")}
    where, place = f"request header {header.name}", (header.start, header.end)
    if user:
        yield Exposure("user", user, where, _SENT, *place)
    if parts.get("response"):
        yield Exposure("hash", parts["response"], where, _SENT, *place, (), about)


def _ntlm(header: http1.Header, value: str) -> Iterator[Exposure]:
    """Yield who signs in with NTLM, alone or in Negotiate; of other tickets, the ticket."""
    found = sasl.ntlm(sasl.unpack(value.encode("latin-1", "replace")) or b"")
    where, place = f"request header {header.name}", (header.start, header.end)
    for kind, text, about in found or (("token", value, {"scheme": "Negotiate"}),):
        if text and (found or not value.startswith("TlRMTVNT")):  # an NTLM message without a name
            yield Exposure(kind, text, where, _SENT, *place, ("base64",) if found else (), about)


_SCHEMES: Final = {"basic": _basic, "digest": _digest, "ntlm": _ntlm, "negotiate": _ntlm}


def _fields(request: http1.Message) -> Iterator[forms.Field]:
    """Yield the fields of a form in the body; one that was cut is not read."""
    whole = request.header("Content-Type")
    kind = _kind(whole)
    if not request.complete or not request.body.undone:
        return
    if kind == "application/x-www-form-urlencoded":
        yield from forms.pairs(request.body.content)
    elif kind == "multipart/form-data":
        yield from forms.multipart(request.body.content, whole)


def _json(message: http1.Message, *, forward: bool) -> Iterator[Exposure]:
    """Yield what a JSON body tells, in either direction."""
    body = message.body
    if not message.complete or not body.undone:
        return
    passage = Passage("", forward, body.content, body.start, body.end, body.codings, body.spans)
    side = "request" if forward else "response"
    for told in chatjson.read(body.content, asked=forward):
        place, where = passage.place(told.start, told.end), f"{side} JSON field {told.key}"
        yield Exposure(told.kind, told.text, where, forward, *place, body.codings, told.about)


def _form(fields: list[forms.Field], what: str, codings: tuple[str, ...]) -> Iterator[Exposure]:
    signs_in = any(_PASSWORD.search(field.name) for field in fields)
    sender = next((field.text for field in fields if _USER.search(field.name)), "")
    for field in fields:
        where, place = f"{what} field {field.name}", (field.start, field.end)
        if field.file:
            about = {"sender": sender} if sender else {}
            yield Exposure("file", field.file, where, _SENT, *place, codings, about)
            continue
        if _PASSWORD.search(field.name):
            kind, about = "password", {"user": sender} if sender else {}
        elif _USER.search(field.name):
            kind, about = "user", {}
        elif _MESSAGE.search(field.name) and not signs_in:
            kind, about = "message", {"sender": sender} if sender else {}
        else:
            continue
        if field.text:
            yield Exposure(kind, field.text, where, _SENT, *place, codings, about)


def _page(response: http1.Message) -> Iterator[Exposure]:
    body = response.body
    if not body.undone or not markup.telling(body.content):
        return
    parameters = response.header("Content-Type").partition(";")[2]
    charset = re.search(r"charset=\"?([\w-]+)", parameters)
    page = markup.read(body.content, charset[1] if charset else "utf-8")
    place = Passage("", _CAME, b"", body.start, body.end, body.codings, body.spans).place
    for link in page.links:
        if link.target.startswith(("http://", "https://")):
            span = place(link.start, link.end)
            yield Exposure("url", link.target, "link in a page", _CAME, *span, body.codings)
    for field in page.fields:
        kind = "password" if _PASSWORD.search(field.name) else "user"
        if field.kind in _TYPED and (kind == "password" or _USER.search(field.name)):
            span = place(field.start, field.end)
            where = f"filled-in field {field.name}"
            yield Exposure(kind, field.value, where, _CAME, *span, body.codings)
    for table in page.tables:
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
