"""POP3 (RFC 1939, RFC 5034): sign-ins and the mails that are fetched."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from experiments.analysis import dialogue, mail
from experiments.analysis.signin import SignIn, client_side

if TYPE_CHECKING:
    from experiments.analysis.dialogue import Line
    from experiments.analysis.model import Decoded, Stream

_SERVER: Final = rb"\+OK\b|-ERR\b"
_CLIENT: Final = (
    rb"(?:USER |PASS |APOP |AUTH\b|CAPA\s*\Z|STLS\s*\Z|STAT\s*\Z|LIST\b|RETR \d|UIDL\b|TOP \d|"
    rb"NOOP\s*\Z|QUIT\s*\Z)"
)
_GREETING: Final = re.compile(rb"\+OK\b[^\r\n]*(?:POP|<[^<>\s]+@[^<>\s]+>)", re.IGNORECASE)


class Pop3:
    """The Post Office Protocol."""

    name = "pop3"

    def recognises(self, stream: Stream) -> bool:
        """Whether a side answers +OK to commands of POP3."""
        return self._client(stream) is not None

    @staticmethod
    def _client(stream: Stream) -> bool | None:
        client = client_side(stream, _SERVER, _CLIENT)
        if client is None:
            return None
        asked, said = (dialogue.head(stream, forward=way) for way in (client, not client))
        # Commands alone are FTP's as well; a greeting alone must name the protocol.
        if not said:
            return None
        return client if asked or _GREETING.match(said[0]) else None

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
        self.signin = SignIn("POP3", stream, client=client)
        self._asked_for: list[bytes] = []
        self._mail: int | None = None
        self._started = False

    def said(self, line: Line) -> bool:
        """Take a line; True when lines end here."""
        good = line.data.startswith(b"+OK")
        if self.signin.turns(line, agreed=good):
            return True
        if line.forward is self.signin.client:
            self._asked(line)
        elif self._mail is not None:
            self._body(line)
        elif good or line.data.startswith(b"-ERR"):
            self._answered(line, good=good)
        return False

    def _body(self, line: Line) -> None:
        if line.data != b"." or self._mail is None:
            return
        content = self.signin.stream.side(forward=line.forward)[self._mail : line.start]
        self.signin.found += mail.read(content, self._mail, forward=line.forward, where="mail")
        self._mail = None

    def _answered(self, line: Line, *, good: bool) -> None:
        if not self._started:
            self._started = True
            text, at = dialogue.text(line.data[4:]), line.part(4, len(line.data))
            self.signin.facts["server"] = text
            self.signin.add("server", text, "greeting", at, forward=line.forward)
            return
        verb = self._asked_for.pop(0) if self._asked_for else b""
        if verb in {b"PASS", b"APOP", b"AUTH"}:
            self.signin.answered(well=good)
        elif verb in {b"RETR", b"TOP"} and good:
            self._mail = line.after

    def _asked(self, line: Line) -> None:
        signin = self.signin
        if signin.signing_in:
            signin.response(line, line.data.strip())
            return
        words = dialogue.words(line.data)
        if not words:
            return
        verb = words[0][0].upper()
        self._asked_for.append(verb)
        rest_at = words[1][1] if len(words) > 1 else len(line.data)
        rest, place = dialogue.text(line.data[rest_at:]), line.part(rest_at, len(line.data))
        if verb == b"USER":
            signin.user = rest
            signin.add("user", rest, "USER command", place)
        elif verb == b"PASS":
            signin.add("password", rest, "PASS command", place, user=signin.user)
        elif verb == b"APOP" and len(words) > 2:  # noqa: PLR2004 (name, digest)
            user = dialogue.text(words[1][0])
            signin.add("user", user, "APOP command", line.word(words[1][0], words[1][1]))
            at = line.word(words[2][0], words[2][1])
            signin.add(
                "hash", dialogue.text(words[2][0]), "APOP command", at, user=user, mechanism="APOP"
            )
        elif verb == b"AUTH" and len(words) > 1:
            signin.mechanism(dialogue.text(words[1][0]))
            if len(words) > 2:  # noqa: PLR2004 (an initial response)
                signin.response(line, words[2][0])
        elif verb == b"STLS":
            signin.turning("STLS", line)


DECODER = Pop3()
