"""MSN Messenger's protocol (MSNP): sign-ins, contacts, and what is said in its switchboards."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from experiments.analysis import dialogue
from experiments.analysis.model import Decoded, Exposure

if TYPE_CHECKING:
    from experiments.analysis.dialogue import Line
    from experiments.analysis.model import Stream

_OPENS: Final = re.compile(
    rb"VER \d{1,9} (?:MSNP\d{1,2}|CVR0)|(?:USR|ANS) \d{1,9} [^ ]+@[^ ]+ |"
    rb"CVR \d{1,9} 0x|MSG [^ ]+@[^ ]+ [^ ]+ \d{1,6}\Z"
)
# Commands whose last word is the length of what follows.
_LENGTHS: Final = frozenset(b"MSG NOT UBX UUX QRY ADL RML UBN UUN".split())
_PLAIN: Final = re.compile(rb"content-type:[ \t]*text/plain", re.IGNORECASE)
_SIDES: Final = (True, False)


class Msn:
    """The Microsoft Notification Protocol."""

    name = "msn"

    def recognises(self, stream: Stream) -> bool:
        """Whether one of the first lines of a side is of MSNP."""
        return stream.protocol == "tcp" and any(
            _OPENS.match(line)
            for side in _SIDES
            for line in dialogue.head(stream, forward=side)[:8]
        )

    def decode(self, stream: Stream) -> Decoded:
        """Read all whole commands."""
        reader = _Reader(stream)
        for line in dialogue.lines(stream):
            reader.read(line)
        facts = {"account": reader.me} if reader.me else {}
        return Decoded("msn", (), tuple(reader.found), facts=facts)


class _Reader:
    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._skip = {True: 0, False: 0}
        self.found: list[Exposure] = []
        self.me = ""
        self._other = ""

    def read(self, line: Line) -> None:
        start = self._skip[line.forward]
        if line.start < start:
            if line.after <= start:
                return
            # A message has no line end of its own: the next command begins within this line.
            rest = line.data[start - line.start :]
            line = dialogue.Line(line.forward, rest, min(start, line.end), line.end, line.after)
        words = dialogue.words(line.data)
        if not words:
            return
        verb, texts = words[0][0], [dialogue.text(word) for word, _ in words]
        if verb in _LENGTHS and texts[-1].isdecimal():
            size = int(texts[-1][:9])
            self._skip[line.forward] = line.after + size
            if verb == b"MSG":
                self._message(line, texts, line.after, size)
        elif verb in {b"USR", b"ANS"}:
            self._account(line, words, texts)
        elif verb in {b"JOI", b"IRO", b"LST", b"ADD", b"ADC", b"NLN", b"ILN", b"CAL"}:
            self._contact(line, words, texts)

    def _account(self, line: Line, words: list[tuple[bytes, int]], texts: list[str]) -> None:
        if "OK" in texts:  # a server's answer
            return
        for (word, at), text in zip(words, texts, strict=True):
            if "@" in text:
                if not self.me:
                    self.me = text
                    place = line.part(at, at + len(word))
                    where = f"MSN {texts[0]}"
                    self.found.append(Exposure("user", text, where, line.forward, *place))
                return

    def _contact(self, line: Line, words: list[tuple[bytes, int]], texts: list[str]) -> None:
        for index, ((word, at), text) in enumerate(zip(words, texts, strict=True)):
            address = text.removeprefix("N=")
            if "@" not in address:
                continue
            self._other = self._other or (address if texts[0] in {"JOI", "IRO", "CAL"} else "")
            name = unquote(texts[index + 1]) if index + 1 < len(texts) else ""
            about = {"name": name} if name and not name.isdecimal() else {}
            place = line.part(at, at + len(word))
            where = f"MSN {texts[0]}"
            self.found.append(Exposure("contact", address, where, line.forward, *place, (), about))
            return

    def _message(self, line: Line, texts: list[str], start: int, size: int) -> None:
        side = self._stream.side(forward=line.forward)
        content = side[start : start + size]
        head, blank, body = content.partition(b"\r\n\r\n")
        if len(content) < size or not blank or not _PLAIN.search(head) or not body.strip():
            return
        named = texts[1] if len(texts) > 1 and "@" in texts[1] else ""
        about = {"sender": named or self.me, "recipient": self.me if named else self._other}
        about = {name: text for name, text in about.items() if text}
        place = (start + len(head) + 4, start + size)
        text = dialogue.text(body)
        self.found.append(Exposure("message", text, "MSN MSG", line.forward, *place, (), about))


DECODER = Msn()
