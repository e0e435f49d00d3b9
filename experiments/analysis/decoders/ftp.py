"""FTP's control connection (RFC 959, RFC 4217): sign-ins, files, and where it turns to TLS."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from experiments.analysis import dialogue
from experiments.analysis.signin import SignIn, client_side

if TYPE_CHECKING:
    from experiments.analysis.dialogue import Line
    from experiments.analysis.model import Decoded, Stream

_SERVER: Final = rb"(?:220|120|331|230|530|234|200|215|211|250|257|227|229)[ -]"
_CLIENT: Final = (
    rb"(?:USER \S|AUTH (?:TLS|SSL)|FEAT\s*\Z|SYST\s*\Z|PASV\s*\Z|EPSV\b|PORT \d|EPRT |TYPE [AIEL]|"
    rb"CWD |PWD\s*\Z|OPTS |PBSZ |PROT [CP]|RETR \S|STOR \S|LIST\b|MLSD\b|NLST\b)"
)
_BANNER: Final = re.compile(rb"220[ -][^\r\n]*FTP", re.IGNORECASE)
_FILES: Final = frozenset({"RETR", "STOR", "APPE", "STOU", "DELE", "RNFR", "RNTO", "SIZE", "MDTM"})
_PASSIVE: Final = re.compile(rb"227 [^\d]{0,200}(\d+),(\d+),(\d+),(\d+),(\d+),(\d+)")
_SIGNED_IN: Final = frozenset({230, 232, 202})
_REFUSED: Final = frozenset({530, 430, 501, 503})


class Ftp:
    """The File Transfer Protocol, its control connection."""

    name = "ftp"

    def recognises(self, stream: Stream) -> bool:
        """Whether commands of FTP are answered by three digits, or a banner names it."""
        return self._client(stream) is not None

    @staticmethod
    def _client(stream: Stream) -> bool | None:
        client = client_side(stream, _SERVER, _CLIENT)
        if client is None:
            return None
        asked, said = (dialogue.head(stream, forward=way) for way in (client, not client))
        if not said:
            return None
        return client if asked or _BANNER.match(said[0]) else None

    def decode(self, stream: Stream) -> Decoded:
        """Read all complete lines."""
        client = self._client(stream)
        reader = _Reader(stream, client=True if client is None else client)
        for line in dialogue.lines(stream):
            if reader.said(line):
                break
        return reader.signin.decoded()


class _Reader:
    def __init__(self, stream: Stream, *, client: bool) -> None:
        self.signin = SignIn("FTP", stream, client=client)

    def said(self, line: Line) -> bool:
        """Take a line; True when lines end here."""
        reply = line.data[:3]
        code = int(reply) if reply.isdigit() and line.data[3:4] != b"-" else 0
        agreed = code in {234, 334}
        final = code or line.forward is self.signin.client
        if final and self.signin.turns(line, agreed=agreed):
            return True
        if line.forward is self.signin.client:
            self._asked(line)
        elif reply.isdigit():
            self._answered(line, code)
        return False

    def _answered(self, line: Line, code: int) -> None:
        if line.data.startswith(b"220") and "server" not in self.signin.facts:
            banner = dialogue.text(line.data[4:])
            self.signin.facts["server"] = banner
            at = line.part(4, len(line.data))
            self.signin.add("server", banner, "greeting", at, forward=line.forward)
        elif code in _SIGNED_IN | _REFUSED and self.signin.pending:
            self.signin.answered(well=code in _SIGNED_IN)
        passive = _PASSIVE.match(line.data)
        if passive:
            *address, high, low = (int(number[:5]) for number in passive.groups())
            end = f"{'.'.join(map(str, address))}:{high * 256 + low}"
            at = line.part(passive.start(1), passive.end())
            self.signin.add(
                "address", end, "reply 227", at, forward=line.forward, use="data connection"
            )

    def _asked(self, line: Line) -> None:
        words = dialogue.words(line.data)
        if not words:
            return
        verb = dialogue.text(words[0][0]).upper()
        at = words[1][1] if len(words) > 1 else len(line.data)
        rest, place = dialogue.text(line.data[at:]), line.part(at, len(line.data))
        where = f"{verb} command"
        if verb == "USER":
            self.signin.user = rest
            self.signin.add("user", rest, where, place)
        elif verb in {"PASS", "ACCT"}:
            kind = "password" if verb == "PASS" else "user"
            self.signin.add(
                kind, rest, where, place, user=self.signin.user if verb == "PASS" else ""
            )
        elif verb in _FILES:
            self.signin.add("file", rest, where, place, command=verb, user=self.signin.user)
        elif verb.isalpha() and len(verb) <= 4:  # noqa: PLR2004 (RFC 959, 5.3)
            whole = line.part(words[0][1], len(line.data))
            self.signin.add("command", f"{verb} {rest}".strip(), "command", whole)
        if verb == "AUTH" and rest.upper().startswith(("TLS", "SSL")):
            self.signin.turning(f"AUTH {rest.upper()}", line)


DECODER = Ftp()
