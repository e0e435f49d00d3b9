"""Stanzas out of one side of an XML stream (RFC 6120), each with the place of all that is in it.

A stream that was captured is no document: it may begin in the middle, be cut, restart, and turn to
something else. So the bytes are split into whole top-level elements first, which needs no more than
the tags, and each of these is parsed alone, by expat. There are no entities but the five of XML,
since a document type is never passed on: nothing is ever fetched or expanded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from xml.parsers import expat

if TYPE_CHECKING:
    from collections.abc import Iterator

# A longer stanza, or one with deeper elements, is skipped: servers refuse such as well.
LONGEST: Final = 2**20
DEEPEST: Final = 128
# Attribute values have no "<" in XML, so that a tag that is not closed ends at the next one.
_TAG: Final = re.compile(
    rb"<(/?)([A-Za-z_][\w.:-]{0,255}+)((?:[^<>\"']++|\"[^\"<]*+\"|'[^'<]*+')*+)>"
)
_NAMESPACE: Final = re.compile(
    rb"\sxmlns(:[\w.-]{1,64})?\s*=\s*(\"[^\"<&]{1,512}\"|'[^'<&]{1,512}')"
)
_ATTRIBUTE: Final = re.compile(rb"\s([\w.:-]{1,64})\s*=\s*(?:\"([^\"<]*)\"|'([^'<]*)')")
_STREAM: Final = rb"stream"
TOP: Final = frozenset(
    b"message presence iq features auth success response challenge failure starttls proceed "
    b"compress compressed authenticate abort error handshake open close result verify".split()
)
_KNOWN: Final = {b"": b"'jabber:client'", b":stream": b"'http://etherx.jabber.org/streams'"}
_KNOWN_DIALBACK: Final = {b":db": b"'jabber:server:dialback'"}


@dataclass(slots=True)
class Element:
    """An element: its name is "namespace local", its text and its bytes are those in the stream."""

    name: str
    attributes: dict[str, str]
    start: int
    end: int = 0
    parts: list[str] = field(default_factory=list)
    text_start: int = 0
    text_end: int = 0
    children: list[Element] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text directly inside."""
        return "".join(self.parts)

    @property
    def local(self) -> str:
        """The name without its namespace."""
        return self.name.rpartition(" ")[2].rpartition(":")[2]

    @property
    def namespace(self) -> str:
        """The namespace, "" without one."""
        return self.name.rpartition(" ")[0]

    def get(self, name: str) -> str:
        """Return an attribute, "" where it is not there."""
        return self.attributes.get(name, "")

    def child(self, local: str, namespace: str = "") -> Element | None:
        """Return the first child of that name."""
        return next(iter(self.all(local, namespace)), None)

    def all(self, local: str, namespace: str = "") -> list[Element]:
        """Return the children of that name; a namespace need only be its beginning."""
        return [
            child
            for child in self.children
            if child.local == local and child.namespace.startswith(namespace)
        ]

    def walk(self) -> Iterator[tuple[Element, tuple[Element, ...]]]:
        """Yield each element below, and itself, with those around it, the outermost first."""
        waiting: list[tuple[Element, tuple[Element, ...]]] = [(self, ())]
        while waiting:
            element, around = waiting.pop()
            yield element, around
            waiting += [(child, (*around, element)) for child in reversed(element.children)]


@dataclass(frozen=True, slots=True)
class Side:
    """One side: its stanzas, the attributes of its stream, and where something else begins.

    turn -- the offset at which the bytes are no XML any more, None where they are to the end.
    turned -- what was agreed on just before: "starttls" or "compress", or "".
    clean -- whether all bytes were understood.
    """

    stanzas: tuple[Element, ...]
    stream: dict[str, str]
    turn: int | None
    turned: str
    clean: bool


def read(data: bytes) -> Side:
    """Read a side; never raises for what is in it."""
    splitter = _Splitter(data)
    splitter.run()
    return Side(
        tuple(splitter.stanzas), splitter.stream, splitter.turn, splitter.turned, splitter.clean
    )


class _Splitter:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._open: list[bytes] = []
        self._start = 0
        self._namespaces = dict(_KNOWN)
        self.stanzas: list[Element] = []
        self.stream: dict[str, str] = {}
        self.turn: int | None = None
        self.turned = ""
        self.clean = True

    def run(self) -> None:
        data, position = self._data, 0
        while (position := data.find(b"<", position)) >= 0:
            if data.startswith(b"<![CDATA[", position):
                end = data.find(b"]]>", position)
                if end < 0:
                    break
                position = end + 3
                continue
            match = _TAG.match(data, position)
            if not match:
                # A declaration opens a stream; anything else is no XML of XMPP (RFC 6120, 11.1).
                declared = data.startswith(b"<?xml", position)
                if declared or self._open:
                    self._open = []
                self.clean = self.clean and declared
                position += 1
                continue
            position = match.end()
            self._tag(match)
            if self.turn is not None:
                return
        self.clean = self.clean and not self._open

    def _tag(self, match: re.Match[bytes]) -> None:
        closes, name, empty = match[1], match[2], match[3].endswith(b"/")
        local = name.rpartition(b":")[2]
        if local == _STREAM and (name.startswith(b"stream:") or not self._open):
            self._open = []
            if not closes:
                self._stream(match[3])
            return
        if closes:
            self._close(name, match.end())
        elif self._open:
            if not empty:
                self._open.append(name)
                if len(self._open) > DEEPEST:
                    self._open, self.clean = [], False
        elif local in TOP:
            self._start = match.start()
            if empty:
                self._whole(match.end())
            else:
                self._open.append(name)

    def _close(self, name: bytes, end: int) -> None:
        if not self._open:
            return
        if self._open.pop() != name:
            # Bytes are missing in between: what was open is lost, and reading begins anew.
            self._open, self.clean = [], False
        elif not self._open:
            self._whole(end)

    def _stream(self, attributes: bytes) -> None:
        self._namespaces = {**_KNOWN, **dict(_namespaces(attributes))}
        for match in _ATTRIBUTE.finditer(attributes):
            value = match[2] if match[2] is not None else match[3]
            self.stream[match[1].decode("ascii", "replace")] = value.decode("utf-8", "replace")

    def _whole(self, end: int) -> None:
        """Take a whole stanza, and see whether the stream goes on as XML behind it."""
        if end - self._start > LONGEST:
            self.clean = False
            return
        element = parse(self._data[self._start : end], self._start, self._namespaces)
        if not element:
            self.clean = False
            return
        self.stanzas.append(element)
        behind = self._data[end : end + 1]
        tls = element.local in {"starttls", "proceed"} and behind == b"\x16"
        packed = element.local in {"compress", "compressed"} and behind == b"\x78"
        if tls or packed:
            self.turn = end
            self.turned = "starttls" if tls else "compress"


def _namespaces(attributes: bytes) -> Iterator[tuple[bytes, bytes]]:
    for match in _NAMESPACE.finditer(attributes):
        yield match[1] or b"", match[2]


def parse(data: bytes, offset: int, namespaces: dict[bytes, bytes] | None = None) -> Element | None:
    """Parse one element whose bytes begin at `offset` in the stream; None if it is not well formed.

    namespaces -- the prefixes that the stream has declared, as ":prefix" and the quoted name.
    """
    known = {**_KNOWN, **_KNOWN_DIALBACK, **(namespaces or {})}
    around = b"<w" + b"".join(b" xmlns%s=%s" % row for row in known.items()) + b">"
    try:
        return _Builder(offset - len(around), " ").build(around + data + b"</w>")
    except expat.ExpatError:
        pass
    try:  # A prefix that nobody declared: names are taken as they are written.
        return _Builder(offset - len(around), None).build(around + data + b"</w>")
    except expat.ExpatError:
        return None


class _Builder:
    def __init__(self, offset: int, separator: str | None) -> None:
        self._offset = offset
        self._parser = expat.ParserCreate(namespace_separator=separator)
        self._parser.StartElementHandler = self._begin
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._parser.buffer_text = False
        self._root = Element("", {}, 0)
        self._stack = [self._root]

    def build(self, document: bytes) -> Element | None:
        self._parser.Parse(document, True)  # noqa: FBT003 (expat's own signature)
        wrapper = self._root.children
        return wrapper[0].children[0] if wrapper and wrapper[0].children else None

    def _here(self) -> int:
        return self._offset + self._parser.CurrentByteIndex

    def _begin(self, name: str, attributes: dict[str, str]) -> None:
        element = Element(name, attributes, self._here())
        self._stack[-1].children.append(element)
        self._stack.append(element)

    def _end(self, name: str) -> None:
        del name
        element = self._stack.pop()
        element.end = max(self._here(), element.start)
        if element.parts and not element.children:
            # An entity is written longer than what it stands for: text ends where the tag begins.
            element.text_end = element.end

    def _text(self, data: str) -> None:
        element = self._stack[-1]
        if not element.parts:
            element.text_start = self._here()
        element.parts.append(data)
        element.text_end = self._here() + len(data.encode("utf-8", "replace"))
