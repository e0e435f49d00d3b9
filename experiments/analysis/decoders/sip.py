"""SIP (RFC 3261) and its messages (RFC 3428), over UDP and TCP: who calls or writes to whom."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from experiments.analysis.model import Decoded, Exposure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from experiments.analysis.model import Stream

_START: Final = re.compile(
    rb"(?:(INVITE|ACK|BYE|CANCEL|OPTIONS|REGISTER|MESSAGE|SUBSCRIBE|NOTIFY|PUBLISH|INFO|REFER|UPDATE|"
    rb"PRACK) (sips?:[^\s]{1,512}|tel:[^\s]{1,64}) SIP/2\.0|SIP/2\.0 (\d{3}) [^\r\n]{0,200})\r\n"
)
_FIELD: Final = re.compile(rb"([A-Za-z-]{1,40}+)[ \t]*+:[ \t]*+([^\r\n]{0,4096}+)\r\n")
_PART: Final = re.compile(r'(\w{1,32})="?([^",]{1,512})')
_ADDRESS: Final = re.compile(r"<([^<>]{1,512})>|([^\s;<>]{1,512})")
# Names in one letter (RFC 3261, 7.3.3).
_SHORT: Final = {"f": "from", "t": "to", "l": "content-length", "c": "content-type", "s": "subject"}
_SIDES: Final = (True, False)


@dataclass(frozen=True, slots=True)
class _Field:
    text: str
    start: int
    end: int


class Sip:
    """The Session Initiation Protocol."""

    name = "sip"

    def recognises(self, stream: Stream) -> bool:
        """Whether a side begins with a request or an answer."""
        return any(_START.match(stream.side(forward=forward)[:1024]) for forward in _SIDES)

    def decode(self, stream: Stream) -> Decoded:
        """Read all whole messages."""
        exposures: list[Exposure] = []
        complete = True
        for forward in _SIDES:
            data, position = stream.side(forward=forward), 0
            while position < len(data):
                found, position = _message(data, position, forward=forward)
                if position < 0:
                    complete = False
                    break
                exposures += found
        return Decoded("sip", (), tuple(exposures), complete)


def _message(data: bytes, position: int, *, forward: bool) -> tuple[list[Exposure], int]:
    """Read a message; return what it tells and where it ends, -1 where it is cut or none."""
    while data.startswith(b"\r\n", position):  # what keeps a connection alive
        position += 2
    if position == len(data):
        return [], position
    start = _START.match(data, position)
    if not start:
        return [], -1
    fields: dict[str, _Field] = {}
    at = start.end()
    while field := _FIELD.match(data, at):
        name = field[1].decode().lower()
        value = _Field(field[2].decode("utf-8", "replace"), field.start(2), field.end(2))
        fields.setdefault(_SHORT.get(name, name), value)
        at = field.end()
    if not data.startswith(b"\r\n", at):
        return [], -1
    length = fields["content-length"].text.strip() if "content-length" in fields else ""
    body = at + 2
    end = body + int(length[:9]) if length.isdecimal() else body
    if end > len(data):
        return [], -1
    method = (start[1] or b"").decode()
    return list(_told(method, fields, data[body:end], body, forward=forward)), end


def _told(
    method: str,
    fields: dict[str, _Field],
    body: bytes,
    start: int,
    *,
    forward: bool,
) -> Iterator[Exposure]:
    if not method:
        return
    ends = {key: _address(fields[name].text) for key, name in _ENDS if name in fields}
    for key, name in _ENDS:
        if ends.get(key):
            field, where = fields[name], f"SIP {method} {name}"
            about = {"role": name}
            yield Exposure("contact", ends[key], where, forward, field.start, field.end, (), about)
    for name in ("authorization", "proxy-authorization"):
        if name in fields:
            yield from _digest(fields[name], f"SIP {name}", forward=forward)
    agent = fields.get("user-agent")
    if agent and agent.text:
        yield Exposure("browser", agent.text, "SIP user-agent", forward, agent.start, agent.end)
    kind = fields["content-type"].text if "content-type" in fields else ""
    kind = kind.partition(";")[0].strip().lower()
    if method == "MESSAGE" and kind in {"", "text/plain", "text/html"} and body.strip():
        text, end = body.decode("utf-8", "replace"), start + len(body)
        yield Exposure("message", text, "SIP MESSAGE", forward, start, end, (), ends)


def _digest(field: _Field, where: str, *, forward: bool) -> Iterator[Exposure]:
    """Yield who signs in, and the hash made from the password."""
    parts = {match[1].lower(): match[2] for match in _PART.finditer(field.text)}
    user, place = parts.get("username", ""), (field.start, field.end)
    if user:
        yield Exposure("user", user, where, forward, *place)
    if user and parts.get("response"):
        about = {"user": user, "mechanism": "Digest", "realm": parts.get("realm", "")}
        yield Exposure("hash", parts["response"], where, forward, *place, (), about)


_ENDS: Final = (("sender", "from"), ("recipient", "to"))


def _address(value: str) -> str:
    match = _ADDRESS.search(value[value.find("<") :] if "<" in value else value)
    return (match[1] or match[2] or "") if match else ""


DECODER = Sip()
