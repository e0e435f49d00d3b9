"""Messages and credentials in JSON, whatever service made it.

An object with a text in a field such as "text" or "body" is a message; who says it to whom and when
stands beside it or in what is around it. In what a server sends, some of this must be there: a text
alone may be an error message or a caption.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from experiments.analysis import jsonread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from experiments.analysis.jsonread import Value

_TEXTS: Final = (
    "message",
    "msg",
    "text",
    "body",
    "content",
    "comment",
    "chat",
    "message_text",
    "messagetext",
    "plaintext",
    "caption",
)
_SENDERS: Final = (
    "sender",
    "from",
    "author",
    "sender_name",
    "from_user",
    "username",
    "user_name",
    "user",
    "nick",
    "nickname",
    "display_name",
    "user_id",
    "userid",
    "sender_id",
    "name",
)
_RECIPIENTS: Final = ("to", "recipient", "receiver", "recipient_id", "to_user")
_ROOMS: Final = (
    "room",
    "room_id",
    "roomid",
    "rid",
    "channel",
    "channel_id",
    "chat_id",
    "conversation",
    "conversation_id",
    "thread_id",
    "group",
)
_TIMES: Final = (
    "timestamp",
    "ts",
    "time",
    "sent_at",
    "created_at",
    "create_at",
    "origin_server_ts",
    "date",
)
_ERRORS: Final = ("error", "errcode", "errors", "exception", "stack")
_PASSWORDS: Final = re.compile(r"passw|passcode|^pwd$|^pass$|^secret$", re.IGNORECASE)
_USERS: Final = re.compile(
    r"^(user(_?name)?|login|account|e-?mail|nick(_?name)?|jid|phone(_?number)?)$", re.IGNORECASE
)
_TOKENS: Final = re.compile(
    r"^((access|refresh|id|auth|session|csrf|api)?_?-?(token|key)|jwt|session_?id|authorization)$",
    re.IGNORECASE,
)
_SEALED: Final = ("ciphertext", "encrypted_content", "encrypted_body")
# A text of this beginning is JSON in JSON.
_NESTED: Final = ("{", "[")


@dataclass(frozen=True, slots=True)
class Told:
    """Something that JSON tells, and the bytes of the content that it stands in."""

    kind: str
    text: str
    key: str
    start: int
    end: int
    about: dict[str, str]


def read(content: bytes, *, asked: bool) -> list[Told]:
    """Return what a JSON text tells; [] if it is none. asked: it was sent by a client."""
    values = jsonread.read(content)
    found: list[Told] = []
    for value in values or ():
        for item, around in value.walk():
            if item.kind == "object":
                found += _object(item, around, asked=asked)
            elif item.kind == "string" and item.text.startswith(_NESTED):
                found += _nested(item, around, asked=asked)
    return found


def _nested(item: Value, around: tuple[Value, ...], *, asked: bool) -> Iterator[Told]:
    """Yield what JSON in a string tells; all of it has the place of the string."""
    for value in jsonread.read(item.text.encode()) or ():
        for inner, outer in value.walk():
            if inner.kind == "object":
                for told in _object(inner, (*around, *outer), asked=asked):
                    yield Told(told.kind, told.text, told.key, item.start, item.end, told.about)


def _object(item: Value, around: tuple[Value, ...], *, asked: bool) -> Iterator[Told]:
    strings = [member for member in item.items if member.kind == "string" and member.text]
    signs_in = any(_PASSWORDS.search(member.key) for member in strings)
    user = next((member.text for member in strings if _USERS.search(member.key)), "")
    for member in strings:
        place = (member.start, member.end)
        if _PASSWORDS.search(member.key):
            about = {"user": user} if user else {}
            yield Told("password", member.text, member.key, *place, about)
        elif _USERS.search(member.key) and (asked or signs_in):
            yield Told("user", member.text, member.key, *place, {})
        elif _TOKENS.search(member.key):
            yield Told("token", member.text, member.key, *place, {})
    if not signs_in:
        yield from _message(item, around, asked=asked)


def _message(item: Value, around: tuple[Value, ...], *, asked: bool) -> Iterator[Told]:
    scopes = (item, *reversed(around[-3:]))
    about = {
        "sender": _find(scopes, _SENDERS),
        "recipient": _find(scopes, _RECIPIENTS),
        "room": _find(scopes, _ROOMS),
        "sent": _find(scopes, _TIMES),
    }
    about = {name: text for name, text in about.items() if text}
    sealed = item.get(*_SEALED)
    if sealed:
        algorithm = item.get("algorithm")
        scheme = {"scheme": algorithm.text} if algorithm and algorithm.text else {}
        text = sealed.text or "(an object)"
        yield Told("sealed", text, sealed.key, sealed.start, sealed.end, {**about, **scheme})
        return
    member = next(
        (m for name in _TEXTS if (m := item.get(name)) and m.kind == "string" and m.text), None
    )
    if not member or (member.text.startswith(_NESTED) and jsonread.read(member.text.encode())):
        return
    known = "sender" in about or "recipient" in about or "room" in about
    failed = item.get(*_ERRORS) is not None
    if known or (asked and not failed):
        yield Told("message", member.text, member.key, member.start, member.end, about)
        named = item.get(*_SENDERS)
        if named and named.kind == "string" and named.text and not asked:
            yield Told("user", named.text, named.key, named.start, named.end, {})


def _find(scopes: tuple[Value, ...], names: tuple[str, ...]) -> str:
    """Return a field of the object itself or of one around it; of an object, its name or id."""
    for scope in scopes:
        if scope.kind != "object":
            continue
        member = scope.get(*names)
        if not member:
            continue
        if member.kind in {"string", "other"}:
            if member.text not in {"", "null", "true", "false"}:
                return member.text
        elif member.kind == "object":
            inner = member.get("username", "name", "display_name", "nickname", "email", "id")
            if inner and inner.text:
                return inner.text
    return ""
