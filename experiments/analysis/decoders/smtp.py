"""SMTP and submission (RFC 5321): sign-ins, envelopes and mails."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from experiments.analysis import dialogue, mail
from experiments.analysis.signin import SignIn, client_side

if TYPE_CHECKING:
    from experiments.analysis.dialogue import Line
    from experiments.analysis.model import Decoded, Stream

_CLIENT: Final = rb"(?:EHLO|HELO|LHLO) |MAIL FROM:|RCPT TO:"
_SERVER: Final = rb"220[ -][^\r\n]*\b(?:E?SMTP|LMTP)\b|220[ -]|250[ -]"
_BANNER: Final = re.compile(rb"220[ -][^\r\n]*\b(?:E?SMTP|LMTP)\b", re.IGNORECASE)
# Replies (RFC 5321, 4.2.3; RFC 4954, 6): the greeting, a question, and what judges a sign-in.
_READY, _CONTINUE, _REFUSED, _SIGNED_IN = 220, 334, 400, 235
_JUDGED: Final = frozenset({_SIGNED_IN, 432, 454, 530, 534, 535, 538})
_PATH: Final = re.compile(rb"(?:FROM|TO):[ \t]*<?([^<>\s]{1,320})", re.IGNORECASE)


class Smtp:
    """The Simple Mail Transfer Protocol."""

    name = "smtp"

    def recognises(self, stream: Stream) -> bool:
        """Whether one end greets or names sender and recipients as in SMTP."""
        return self._client(stream) is not None

    @staticmethod
    def _client(stream: Stream) -> bool | None:
        client = client_side(stream, _SERVER, _CLIENT)
        if client is None or dialogue.head(stream, forward=client):
            return client
        # Nobody has answered: the greeting alone must say that it is SMTP, as FTP's is alike.
        (greeting, *_) = dialogue.head(stream, forward=not client)
        return client if _BANNER.match(greeting) else None

    def decode(self, stream: Stream) -> Decoded:
        """Read all complete lines and mails."""
        client = self._client(stream)
        reader = _Reader(stream, client=True if client is None else client)
        for line in dialogue.lines(stream):
            if reader.said(line):
                break
        return reader.signin.decoded()


class _Reader:
    def __init__(self, stream: Stream, *, client: bool) -> None:
        self.signin = SignIn("SMTP", stream, client=client)
        self._data: int | None = None
        self._skip = 0
        self._commands: list[bytes] = []
        self._pieces: list[tuple[int, int]] = []

    def said(self, line: Line) -> bool:
        """Take a line; True when lines end here."""
        reply = line.data[:3]
        if self.signin.turns(line, agreed=reply == b"220"):
            return True
        if line.forward is self.signin.client:
            self._asked(line)
        elif reply.isdigit() and line.data[3:4] != b"-":
            self._answered(line, int(reply))
        return False

    def _answered(self, line: Line, code: int) -> None:
        if code == _READY and "server" not in self.signin.facts:
            banner, at = dialogue.text(line.data[4:]), line.part(4, len(line.data))
            self.signin.facts["server"] = banner
            self.signin.add("server", banner, "greeting", at, forward=line.forward)
            return
        if code in _JUDGED:
            self.signin.answered(well=code == _SIGNED_IN)
        if code == _CONTINUE:  # a question of SASL's
            return
        # Commands may be sent before earlier ones are answered (RFC 2920): answers come in order.
        command = self._commands.pop(0) if self._commands else b""
        if command == b"DATA" and code >= _REFUSED:
            self._data = None

    def _asked(self, line: Line) -> None:
        signin = self.signin
        if line.start < self._skip:
            return
        if self._data is not None:
            self._mail(line)
            return
        if signin.signing_in:
            signin.response(line, line.data.strip())
            return
        words = dialogue.words(line.data)
        verb = words[0][0].upper() if words else b""
        self._commands.append(verb)
        if verb in {b"MAIL", b"RCPT"}:
            self._envelope(line, verb)
        elif verb == b"STARTTLS":
            signin.turning("STARTTLS", line)
        elif verb == b"DATA":
            self._data = line.after
        elif len(words) > 1:
            self._argument(line, verb, [word for word, _ in words[1:]])

    def _argument(self, line: Line, verb: bytes, words: list[bytes]) -> None:
        signin = self.signin
        if verb in {b"EHLO", b"HELO", b"LHLO"}:
            signin.facts["client"] = dialogue.text(words[0])
        elif verb == b"AUTH":
            signin.mechanism(dialogue.text(words[0]))
            if len(words) > 1:  # an initial response
                signin.response(line, words[1])
        elif verb == b"BDAT" and words[0].isdigit():
            self._chunk(line, int(words[0][:9]), last=len(words) > 1)

    def _envelope(self, line: Line, verb: bytes) -> None:
        path = _PATH.search(line.data)
        if path:
            role = "sender" if verb == b"MAIL" else "recipient"
            place = line.part(path.start(1), path.end(1))
            where = f"{dialogue.text(verb)} command"
            self.signin.add("contact", dialogue.text(path[1]), where, place, role=role)

    def _mail(self, line: Line) -> None:
        """Wait for the dot that ends a mail, then read it (RFC 5321, 4.1.1.4)."""
        if line.data != b"." or self._data is None:
            return
        content = self.signin.stream.side(forward=line.forward)[self._data : line.start]
        self._read(content, self._data, line.forward)
        self._data = None
        self._commands.append(b".")

    def _chunk(self, line: Line, size: int, *, last: bool) -> None:
        """Take a piece of a mail whose length was told before (RFC 3030)."""
        start, end = line.after, line.after + size
        self._skip = end
        self._pieces.append((start, end))
        side = self.signin.stream.side(forward=line.forward)
        if last and end <= len(side):
            content = b"".join(side[first:after] for first, after in self._pieces)
            if len(self._pieces) == 1:
                self._read(content, start, line.forward)
        if last:
            self._pieces = []

    def _read(self, content: bytes, start: int, forward: bool) -> None:  # noqa: FBT001 (a direction)
        self.signin.found += mail.read(content, start, forward=forward, where="mail")


DECODER = Smtp()
