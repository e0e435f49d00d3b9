"""Telnet (RFC 854): what is typed at the prompts, key by key or line by line."""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from experiments.analysis import dialogue
from experiments.analysis.model import Decoded, Exposure, Passage, Span

if TYPE_CHECKING:
    from experiments.analysis.model import Stream

_IAC: Final = 0xFF
_NEGOTIATION: Final = re.compile(rb"(?s)\xff[\xfb-\xfe].|\xff\xfa[^\xff]")
# A command, a negotiation, or a subnegotiation up to its end.
_COMMAND: Final = re.compile(
    rb"(?s)\xff(?:\xff|[\xfb-\xfe].|\xfa(?:[^\xff]|\xff[^\xf0]){0,1024}\xff\xf0|[\xf0-\xf9])"
)
_USER: Final = re.compile(rb"(?:log ?in|user ?name|user)\s*:\s*\Z", re.IGNORECASE)
_PASSWORD: Final = re.compile(rb"pass(?:word|code)[^\r\n:]{0,40}:\s*\Z", re.IGNORECASE)
_ASKS: Final = re.compile(rb"log ?in:|user ?name:|password", re.IGNORECASE)
_WRONG: Final = re.compile(rb"incorrect|fail|denied|invalid", re.IGNORECASE)
_ERASE: Final = frozenset(b"\x08\x7f")
_TAIL: Final = 256


class Telnet:
    """Telnet, and prompts for a login that are sent without it."""

    name = "telnet"

    def recognises(self, stream: Stream) -> bool:
        """Whether options are negotiated at the beginning of a side."""
        return stream.protocol == "tcp" and any(
            _NEGOTIATION.match(stream.side(forward=forward)[:8]) for forward in (True, False)
        )

    def decode(self, stream: Stream) -> Decoded:
        """Read what was typed at each prompt, and the lines after it."""
        sides = {forward: _plain(stream, forward=forward) for forward in (True, False)}
        client = not (_prompts(sides[True]) and not _prompts(sides[False]))
        reader = _Reader()
        offsets = {True: 0, False: 0}
        cursors = {True: 0, False: 0}
        for chunk in stream.chunks:
            offsets[chunk.forward] += len(chunk.data)
            passage = sides[chunk.forward]
            start = cursors[chunk.forward]
            end = cursors[chunk.forward] = _until(passage, offsets[chunk.forward])
            for position in range(start, end) if chunk.forward is client else ():
                reader.typed(passage, position)
            if chunk.forward is not client:
                reader.printed(passage.content[start:end])
        reader.judge()
        kept = tuple(passage for passage in sides.values() if passage.content)
        return Decoded("telnet", kept, tuple(reader.found))


def _prompts(passage: Passage) -> bool:
    """Whether a side asks for a name or a password, as a server does."""
    return bool(_ASKS.search(passage.content[: dialogue.HEAD]))


def _until(passage: Passage, offset: int) -> int:
    """Return how much of the plain text comes from before an offset of the stream."""
    index = bisect_left(passage.spans, offset, key=lambda span: span.stream) - 1
    if index < 0:
        return 0
    span = passage.spans[index]
    return span.content + min(offset - span.stream, span.length)


def _plain(stream: Stream, *, forward: bool) -> Passage:
    """Return a side without telnet's commands."""
    data = stream.side(forward=forward)
    content, spans, position = bytearray(), [], 0

    def keep(start: int, end: int) -> None:
        if end > start:
            spans.append(Span(len(content), start, end - start))
            content.extend(data[start:end])

    for match in _COMMAND.finditer(data):
        keep(position, match.start())
        if match[0] == b"\xff\xff":
            keep(match.start() + 1, match.end())
        position = match.end()
    keep(position, len(data))
    return Passage("telnet text", forward, bytes(content), 0, len(data), ("telnet",), tuple(spans))


class _Reader:
    def __init__(self) -> None:
        self.found: list[Exposure] = []
        self._screen = self._shown = b""
        self._typed = bytearray()
        self._began = 0
        self._asked = ""
        self._user = ""
        self._pending: list[Exposure] = []

    def printed(self, text: bytes) -> None:
        """Take what the server shows; what stands at its end when a key comes is the prompt."""
        if text.strip():
            self._shown += text[: max(_TAIL - len(self._shown), 0)]
        self._screen = (self._screen + text)[-_TAIL:]

    def judge(self) -> None:
        """Tell whether a password was taken, by what was shown after it."""
        if self._pending and self._shown.strip():
            wrong = bool(_WRONG.search(self._shown))
            for exposure in self._pending:
                exposure.about["accepted"] = "no" if wrong else "yes"
            self._pending = []

    def typed(self, passage: Passage, position: int) -> None:
        """Take a key."""
        key = passage.content[position]
        if key in b"\r\n":
            self._line(passage, position)
        elif key in _ERASE:
            del self._typed[-1:]
        elif key:
            if not self._typed:
                self._began = position
                self.judge()
                self._asked = self._prompt()
            self._typed.append(key)

    def _prompt(self) -> str:
        if _PASSWORD.search(self._screen):
            return "password"
        return "user" if _USER.search(self._screen) else "command"

    def _line(self, passage: Passage, position: int) -> None:
        text = bytes(self._typed).decode("utf-8", "replace")
        self._typed.clear()
        if not text:
            return
        kind = self._asked
        about = {"user": self._user} if kind != "user" and self._user else {}
        place = passage.place(self._began, position)
        exposure = Exposure(
            kind, text, f"typed at the {kind} prompt", passage.forward, *place, (), about
        )
        if kind == "user":
            self._user = text
        if kind == "password":
            self._pending.append(exposure)
        self.found.append(exposure)
        self._screen = self._shown = b""


DECODER = Telnet()
