"""IMAP (RFC 3501, RFC 9051): sign-ins and the mails that are fetched."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Final

from experiments.analysis import dialogue, mail
from experiments.analysis.signin import SignIn, client_side

if TYPE_CHECKING:
    from experiments.analysis.dialogue import Line
    from experiments.analysis.model import Decoded, Stream

_SERVER: Final = rb"\* (?:OK|PREAUTH|BYE|CAPABILITY|\d+ )"
_CLIENT: Final = (
    rb"[A-Za-z0-9.]{1,32} (?:UID )?(?:LOGIN|CAPABILITY|AUTHENTICATE|STARTTLS|SELECT|EXAMINE|ID|"
    rb"NOOP|LIST|LSUB|FETCH|STATUS|NAMESPACE|ENABLE|LOGOUT|IDLE)\b"
)
_GREETING: Final = re.compile(rb"\* (?:OK|PREAUTH)\b[^\r\n]*IMAP", re.IGNORECASE)
_LITERAL: Final = re.compile(rb"\{(\d{1,9})\+?\}\Z")
_TOKEN: Final = re.compile(rb'"((?:[^"\\]|\\.){0,512}+)"|([^\s"(){]{1,4096}+)')
# More words than any command has whose words are read.
_WORDS: Final = 16
_MAIL: Final = re.compile(
    rb"(?:BODY\[(?:HEADER[^\]]{0,1000}|)\]|RFC822(?:\.HEADER)?)(?:<\d+>)? \{\d+\}\Z", re.IGNORECASE
)

# A word of a command: its text and its bytes in the stream.
_Word = tuple[str, int, int]


class Imap:
    """The Internet Message Access Protocol."""

    name = "imap"

    def recognises(self, stream: Stream) -> bool:
        """Whether tagged commands are answered as in IMAP, or a greeting names it."""
        return self._client(stream) is not None

    @staticmethod
    def _client(stream: Stream) -> bool | None:
        client = client_side(stream, _SERVER, _CLIENT)
        if client is None:
            return None
        asked, said = (dialogue.head(stream, forward=way) for way in (client, not client))
        if not said:
            return None
        return client if asked or _GREETING.match(said[0]) else None

    def decode(self, stream: Stream) -> Decoded:
        """Read all complete lines and literals."""
        client = self._client(stream)
        reader = _Reader(stream, client=True if client is None else client)
        for line in dialogue.lines(stream):
            if reader.said(line):
                break
        return reader.signin.decoded()


class _Reader:
    def __init__(self, stream: Stream, *, client: bool) -> None:
        self.signin = SignIn("IMAP", stream, client=client)
        self._skip = {True: 0, False: 0}
        self._words: list[_Word] = []
        self._tag = b""

    def said(self, line: Line) -> bool:
        """Take a line; True when lines end here."""
        tag, _, said = line.data.partition(b" ")
        untagged = tag in {b"*", b"+"} and line.forward is not self.signin.client
        agreed = tag == self._tag and said[:2].upper() == b"OK"
        if not untagged and self.signin.turns(line, agreed=agreed):
            return True
        until = self._skip[line.forward]
        if line.start < until:
            if line.after <= until:
                return False
            # A literal ends within this line: what is behind it goes on with the command.
            rest = line.data[until - line.start :]
            start = min(until, line.end)
            line = dialogue.Line(line.forward, rest, start, line.end, line.after)
            tag = b""
        if line.forward is self.signin.client:
            self._asked(line)
        else:
            self._answered(line, tag, said)
        return False

    def _literal(self, line: Line) -> tuple[int, int] | None:
        """Return the bytes of the literal that this line announces; they are no lines."""
        match = _LITERAL.search(line.data[-16:])
        if not match:
            return None
        end = line.after + int(match[1])
        self._skip[line.forward] = end
        return line.after, end

    def _answered(self, line: Line, tag: bytes, rest: bytes) -> None:
        signin = self.signin
        literal = self._literal(line)
        if literal and _MAIL.search(line.data[-1200:]):
            content = signin.stream.side(forward=line.forward)[slice(*literal)]
            if len(content) == literal[1] - literal[0]:
                signin.found += mail.read(content, literal[0], forward=line.forward, where="mail")
        elif tag == b"*" and "server" not in signin.facts and rest[:2].upper() == b"OK":
            banner = dialogue.text(rest[3:])
            signin.facts["server"] = banner
            signin.add(
                "server", banner, "greeting", line.part(5, len(line.data)), forward=line.forward
            )
        elif tag == self._tag and signin.pending:
            signin.answered(well=rest[:2].upper() == b"OK")

    def _asked(self, line: Line) -> None:
        signin = self.signin
        if signin.signing_in and not self._words:
            signin.response(line, line.data.strip())
            return
        text = line.data
        literal = self._literal(line)
        if literal:
            text = text[: text.rindex(b"{")]
        for match in islice(_TOKEN.finditer(text), _WORDS):
            which = 1 if match[1] is not None else 2
            word = re.sub(rb"\\(.)", rb"\1", match[which]) if which == 1 else match[which]
            place = line.part(match.start(which), match.end(which))
            self._words.append((dialogue.text(word), *place))
        if literal:
            content = signin.stream.side(forward=line.forward)[slice(*literal)]
            if len(content) < literal[1] - literal[0]:
                self._words = []
                return
            self._words.append((dialogue.text(content), *literal))
            return
        words, self._words = self._words, []
        self._command(line, words)

    def _command(self, line: Line, words: list[_Word]) -> None:
        if len(words) < 2:  # noqa: PLR2004 (a tag and a command)
            return
        signin = self.signin
        self._tag = words[0][0].encode()
        verb = words[1][0].upper()
        if verb == "LOGIN" and len(words) >= 4:  # noqa: PLR2004 (user, password)
            (user, *at), (password, *there) = words[2], words[3]
            signin.user = user
            signin.add("user", user, "LOGIN command", (at[0], at[1]))
            signin.add("password", password, "LOGIN command", (there[0], there[1]), user=user)
        elif verb == "AUTHENTICATE" and len(words) > 2:  # noqa: PLR2004 (a mechanism)
            signin.mechanism(words[2][0])
            if len(words) > 3:  # noqa: PLR2004 (an initial response, RFC 4959)
                signin.response(line, words[3][0].encode())
        elif verb == "STARTTLS":
            signin.turning("STARTTLS", line)
        elif verb in {"SELECT", "EXAMINE"} and len(words) > 2:  # noqa: PLR2004 (a mailbox)
            signin.add("command", f"{verb} {words[2][0]}", "command", (line.start, line.end))


DECODER = Imap()
