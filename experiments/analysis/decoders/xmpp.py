"""XMPP (RFC 6120, RFC 6121): sign-ins, messages, presence and contacts of clients and servers.

Both sides are read alike, from wherever the capture begins. What is encrypted from end to end
(OMEMO, OpenPGP, OTR) is told as sealed; the note beside it that says so to older clients is no
message.
"""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, Final

from experiments.analysis import dialogue, layers, mail, sasl, stanzas
from experiments.analysis.model import Decoded, Exposure, Layer, Passage, Span

if TYPE_CHECKING:
    from experiments.analysis.model import Stream
    from experiments.analysis.stanzas import Element, Side

_SIDES: Final = (True, False)
_OPENS: Final = re.compile(
    rb"\s*(?:<\?xml[^<>]{0,256}\?>\s*)?(?:<stream:stream[\s>]|</stream:stream>|"
    rb"<open\s[^<>]{0,512}xmpp-framing|"
    rb"<(?:message|iq|presence)(?:\s+[\w:.-]{1,64}\s*=\s*(?:'[^'<]{0,1024}'|\"[^\"<]{0,1024}\")){1,16}"
    rb"\s*/?>)"
)
_NAMESPACE: Final = re.compile(rb"xmlns(?::\w+)?=[\"'](?:jabber:(?:client|server|iq:)|urn:xmpp:)")
# What says "the words are encrypted", by the beginning of its namespace.
_SEALS: Final = {
    "encrypted": ("eu.siacs.conversations.axolotl", "urn:xmpp:omemo:", "urn:xmpp:openpgp"),
    "openpgp": ("urn:xmpp:openpgp:",),
    "x": ("jabber:x:encrypted",),
}
_OTR: Final = ("?OTR:", "?OTR,", "-----BEGIN PGP MESSAGE-----")
_FIELDS: Final = {"username": "user", "password": "password", "digest": "hash", "email": "contact"}
# Packed streams are unpacked up to this many bytes.
_LONGEST: Final = 16 * 2**20


class Xmpp:
    """The Extensible Messaging and Presence Protocol."""

    name = "xmpp"

    def recognises(self, stream: Stream) -> bool:
        """Whether a side begins with a stream or a stanza, or goes on with XMPP's namespaces."""
        for forward in _SIDES:
            data = stream.side(forward=forward)[: dialogue.HEAD]
            if _OPENS.match(data) or (b"<" in data and _NAMESPACE.search(data)):
                return stream.protocol == "tcp" and not data.startswith((b"POST ", b"HTTP/"))
        return False

    def decode(self, stream: Stream) -> Decoded:
        """Read all whole stanzas of both sides."""
        sides = {forward: stanzas.read(stream.side(forward=forward)) for forward in _SIDES}
        reader = _Reader(sides)
        ordered = sorted(
            (
                (_seen(stream, stanza.end, forward=forward), forward, stanza)
                for forward in _SIDES
                for stanza in sides[forward].stanzas
            ),
            key=lambda row: row[0],
        )
        for _, forward, stanza in ordered:
            reader.stanza(stanza, forward=forward)
        layer = _turned(stream, sides)
        notes = [_NOTES[side.turned] for side in sides.values() if side.turned]
        return Decoded(
            "xmpp",
            (),
            tuple(reader.found),
            complete=all(side.clean for side in sides.values()),
            facts={name: text for name, text in reader.facts.items() if text},
            notes=tuple(dict.fromkeys(notes)),
            layers=(layer,) if layer else (),
        )


_NOTES: Final = {
    "starttls": "turns to TLS after STARTTLS",
    "compress": "packed with zlib from <compressed/> on",
}


def _seen(stream: Stream, end: int, *, forward: bool) -> float:
    return stream.time(end, forward=forward) or 0.0


def _turned(stream: Stream, sides: dict[bool, Side]) -> Layer | None:
    turned = {side.turned for side in sides.values() if side.turned}
    if "compress" in turned:
        unpacked = {
            way: _unpacked(stream, side.turn, forward=way) if side.turned == "compress" else None
            for way, side in sides.items()
        }
        return Layer(unpacked[True], unpacked[False], "xmpp") if any(unpacked.values()) else None
    return layers.tail(stream, sides[True].turn, sides[False].turn, "what follows STARTTLS")


def _unpacked(stream: Stream, start: int | None, *, forward: bool) -> Passage | None:
    """Unpack the rest of a side (XEP-0138), with the frame that brought each run."""
    if start is None:
        return None
    content, spans, total = bytearray(), [], 0
    unpacker = zlib.decompressobj()
    for chunk in stream.chunks:
        if chunk.forward is not forward:
            continue
        piece = chunk.data[max(start - total, 0) :]
        at = max(start, total)
        total += len(chunk.data)
        if not piece or len(content) >= _LONGEST:
            continue
        try:
            plain = unpacker.decompress(piece, _LONGEST - len(content))
        except zlib.error:
            break
        if plain:
            spans.append(Span(len(content), at, len(piece)))
            content += plain
    if not content:
        return None
    return Passage("packed stream", forward, bytes(content), start, total, ("zlib",), tuple(spans))


class _Reader:
    def __init__(self, sides: dict[bool, Side]) -> None:
        self.found: list[Exposure] = []
        headers = [side.stream for side in sides.values()]
        domain = next((h["to"] for h in headers if h.get("to")), "")
        self.facts = {"domain": domain}
        self._jids = {True: "", False: ""}
        self._mechanism = {True: "", False: ""}
        self._pending: list[Exposure] = []

    def _add(  # noqa: PLR0913 (what an exposure is made of)
        self,
        kind: str,
        text: str,
        where: str,
        element: Element,
        *,
        forward: bool,
        about: dict[str, str] | None = None,
        codings: tuple[str, ...] = (),
    ) -> None:
        if not text:
            return
        place = (element.start, element.end)
        if element.text and element.text_end > element.text_start:
            place = (element.text_start, element.text_end)
        told = {name: value for name, value in (about or {}).items() if value}
        exposure = Exposure(kind, text, f"XMPP {where}", forward, *place, codings, told)
        self.found.append(exposure)
        if kind in {"user", "password", "hash", "token"}:
            self._pending.append(exposure)

    def stanza(self, stanza: Element, *, forward: bool) -> None:
        """Read a top-level element."""
        kind = stanza.local
        # What comes with both ends named comes from a server, to whoever is signed in.
        if stanza.get("from") and "/" in stanza.get("to"):
            self._jids[not forward] = self._jids[not forward] or stanza.get("to")
        if kind in {"auth", "response", "authenticate"}:
            self._sasl(stanza, forward=forward)
        elif kind in {"success", "failure"}:
            self._answered(well=kind == "success")
        elif kind == "iq":
            self._iq(stanza, forward=forward)
        elif kind == "presence":
            self._presence(stanza, forward=forward)
        if kind in {"message", "iq"}:
            for element, around in stanza.walk():
                if element.local == "message":
                    self._message(element, around, forward=forward)

    def _answered(self, *, well: bool) -> None:
        for exposure in self._pending:
            exposure.about["accepted"] = "yes" if well else "no"
        self._pending = []

    # Signing in -----------------------------------------------------------------------------

    def _sasl(self, stanza: Element, *, forward: bool) -> None:
        name = stanza.get("mechanism") or self._mechanism[forward]
        self._mechanism[forward] = name
        said = stanza.child("initial-response") or stanza
        response = sasl.unpack(said.text.strip().encode())
        if response is None:
            return
        where = f"<{stanza.local} mechanism='{name}'>"
        for kind, text, about in sasl.read(name, response):
            self._add(kind, text, where, said, forward=forward, about=about, codings=("base64",))
            if kind == "user":
                domain = self.facts["domain"]
                jid = text if "@" in text or not domain else f"{text}@{domain}"
                self._jids[forward] = self._jids[forward] or jid

    def _iq(self, stanza: Element, *, forward: bool) -> None:
        for query in stanza.children:
            if query.namespace in {"jabber:iq:auth", "jabber:iq:register"}:
                self._form(query, forward=forward)
            elif query.namespace == "jabber:iq:roster":
                self._roster(query, forward=forward)
            elif query.local == "bind":
                jid = query.child("jid")
                if jid and jid.text:
                    self.facts["jid"] = self._jids[not forward] = jid.text
                    self._add("user", jid.text, "resource binding", jid, forward=forward)
                    self._pending = []
            elif query.local == "slot":
                for way in ("put", "get"):
                    place = query.child(way)
                    if place:
                        where = f"upload slot ({way})"
                        self._add(
                            "url", place.get("url") or place.text, where, place, forward=forward
                        )
        if stanza.get("type") in {"result", "error"} and self._pending:
            self._answered(well=stanza.get("type") == "result")

    def _form(self, query: Element, *, forward: bool) -> None:
        """Read the fields of an old sign-in (XEP-0078) or a registration (XEP-0077)."""
        name = query.child("username")
        user = name.text if name else ""
        resource = query.child("resource")
        if user and resource:
            self._jids[forward] = f"{user}@{self.facts['domain']}/{resource.text}"
        for child in query.children:
            kind = _FIELDS.get(child.local)
            about = {"user": user} if kind != "user" else {}
            where = f"{query.namespace} {child.local}"
            if kind:
                self._add(kind, child.text, where, child, forward=forward, about=about)

    def _roster(self, query: Element, *, forward: bool) -> None:
        for item in query.all("item"):
            groups = ", ".join(group.text for group in item.all("group"))
            about = {
                "name": item.get("name"),
                "subscription": item.get("subscription"),
                "groups": groups,
                "user": self._jids[not forward],
            }
            self._add("contact", item.get("jid"), "roster", item, forward=forward, about=about)

    # What is said ---------------------------------------------------------------------------

    def _message(self, message: Element, around: tuple[Element, ...], *, forward: bool) -> None:
        about = self._ends(message, outermost=not around, forward=forward)
        about["id"] = message.get("id")
        wrapper = around[-1] if around else message
        delay = (
            wrapper.child("delay") or message.child("delay") or message.child("x", "jabber:x:delay")
        )
        about["sent"] = delay.get("stamp") if delay else ""
        where = _where(around)
        subject, body = message.child("subject"), message.child("body")
        if subject:
            self._add(
                "subject", subject.text, f"{where} subject", subject, forward=forward, about=about
            )
        sealed = _sealed(message)
        if sealed:
            payload = sealed.child("payload") or sealed
            told = payload.text.strip() or f"<{sealed.local}>"
            about["scheme"] = sealed.namespace
            self._add(
                "sealed", told, f"{where} {sealed.local}", payload, forward=forward, about=about
            )
        elif body and body.text.startswith(_OTR):
            self._add("sealed", body.text, f"{where} body", body, about=about, forward=forward)
        elif body and body.text.strip():
            self._add("message", body.text, f"{where} body", body, about=about, forward=forward)
        else:
            self._page(message, where, about, forward=forward)
        for link in message.all("x", "jabber:x:oob"):
            url = link.child("url")
            if url:
                self._add("url", url.text, f"{where} link", url, forward=forward, about=about)

    def _page(self, message: Element, where: str, about: dict[str, str], *, forward: bool) -> None:
        """Read a message that has its words in XHTML only (XEP-0071)."""
        page = message.child("html")
        body = page.child("body") if page else None
        if body:
            words = mail.plain(" ".join(part.text for part, _ in body.walk()))
            self._add("message", words, f"{where} html", body, forward=forward, about=about)

    def _ends(self, message: Element, *, outermost: bool, forward: bool) -> dict[str, str]:
        """Return who says it to whom. An end that a stanza leaves out is that of the connection."""
        sender, recipient = message.get("from"), message.get("to")
        if outermost:
            sender = sender or self._jids[forward]
            recipient = recipient or self._jids[not forward]
        if message.get("type") != "groupchat":
            return {"sender": sender, "recipient": recipient}
        if forward and outermost and not message.get("from"):
            return {"sender": sender, "room": recipient.partition("/")[0]}
        room, _, nick = sender.partition("/")
        return {"sender": nick or sender, "room": room}

    def _presence(self, presence: Element, *, forward: bool) -> None:
        about = self._ends(presence, outermost=True, forward=forward)
        kind = presence.get("type")
        show, status = presence.child("show"), presence.child("status")
        room = presence.child("x", "http://jabber.org/protocol/muc")
        words = [show.text if show else "", status.text if status else ""]
        text = " ".join(word for word in (kind or "available", *words) if word)
        if room and not kind and not presence.get("from"):
            place, _, nick = presence.get("to").partition("/")
            about = {"sender": nick or about["sender"], "room": place}
            self._add("room", place, "presence to a room", presence, forward=forward, about=about)
            key = room.child("password")
            if key:
                told = {"room": place, "user": nick}
                self._add("password", key.text, "room password", key, forward=forward, about=told)
            return
        self._add("presence", text, "presence", presence, forward=forward, about=about)
        if kind in {"subscribe", "subscribed"}:
            jid = about["recipient"] if not presence.get("from") else about["sender"]
            self._add("contact", jid, f"presence {kind}", presence, forward=forward, about=about)


def _sealed(message: Element) -> Element | None:
    for local, namespaces in _SEALS.items():
        for child in message.all(local):
            if child.namespace.startswith(namespaces):
                return child
    return None


def _where(around: tuple[Element, ...]) -> str:
    """Tell whether a message was forwarded, and why."""
    names = {element.namespace for element in around}
    if any(name.startswith("urn:xmpp:carbons") for name in names):
        return "carbon copy,"
    if any(name.startswith("urn:xmpp:mam") for name in names):
        return "archive,"
    return "forwarded," if around else "message"


DECODER = Xmpp()
