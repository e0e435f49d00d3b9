"""Signing in line by line: what SMTP, POP3, IMAP and FTP have in common."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from experiments.analysis import dialogue, sasl
from experiments.analysis.model import Decoded, Exposure

if TYPE_CHECKING:
    from experiments.analysis.dialogue import Line
    from experiments.analysis.model import Layer, Stream

_CREDENTIALS: Final = frozenset({"user", "password", "hash", "token"})


class SignIn:
    """What was read so far. `client` is the direction of whoever signs in.

    Credentials wait in `pending` until the server says whether it takes them (about["accepted"]).
    """

    def __init__(self, protocol: str, stream: Stream, *, client: bool) -> None:
        self.protocol = protocol
        self.stream = stream
        self.client = client
        self.found: list[Exposure] = []
        self.facts: dict[str, str] = {}
        self.notes: list[str] = []
        self.layer: Layer | None = None
        self.user = ""
        self.pending: list[Exposure] = []
        self._mechanism = ""
        self._step = 0
        self._turning: tuple[str, Line] | None = None

    def add(  # noqa: PLR0913 (what an exposure is made of)
        self,
        kind: str,
        text: str,
        where: str,
        place: tuple[int, int],
        *,
        forward: bool | None = None,
        codings: tuple[str, ...] = (),
        **about: str,
    ) -> None:
        """Keep what was read, if it is anything; sent by the client unless said otherwise."""
        if not text:
            return
        way = self.client if forward is None else forward
        told = {name: value for name, value in about.items() if value}
        self._keep(Exposure(kind, text, f"{self.protocol} {where}", way, *place, codings, told))

    def _keep(self, exposure: Exposure) -> None:
        self.found.append(exposure)
        if exposure.kind in _CREDENTIALS and exposure.forward is self.client:
            self.pending.append(exposure)

    def answered(self, *, well: bool) -> None:
        """Take the server's word on the credentials that wait for it."""
        for exposure in self.pending:
            exposure.about["accepted"] = "yes" if well else "no"
        self.pending = []
        self._mechanism = ""

    # SASL -----------------------------------------------------------------------------------

    @property
    def signing_in(self) -> bool:
        """Whether the next line of the client is a response."""
        return bool(self._mechanism)

    def mechanism(self, name: str) -> None:
        """Begin an exchange."""
        self._mechanism, self._step = name.upper(), 0

    def response(self, line: Line, word: bytes) -> None:
        """Read a client's response, in base64; LOGIN asks for the user and then the password."""
        name = self._mechanism
        if word == b"*" or not name:
            self._mechanism = ""
            return
        plain = sasl.unpack(word)
        if plain is None:
            self._mechanism = ""
            return
        where, place, codings = f"AUTH {name}", line.word(word), ("base64",)
        if name == "LOGIN":
            text = dialogue.text(plain)
            if self._step == 0:
                self.user = text
                self.add("user", text, where, place, codings=codings)
            elif self._step == 1:
                self.add("password", text, where, place, codings=codings, user=self.user)
        else:
            for kind, text, about in sasl.read(name, plain):
                self.user = text if kind == "user" else self.user
                told = Exposure(
                    kind, text, f"{self.protocol} {where}", self.client, *place, codings, about
                )
                self._keep(told)
        self._step += 1

    # Turning to TLS -------------------------------------------------------------------------

    def turning(self, command: str, line: Line) -> None:
        """Remember that the client asks for TLS."""
        self._turning = (command, line)

    def turns(self, line: Line, *, agreed: bool) -> bool:
        """Take a line after the client has asked for TLS; True when it is TLS from here on."""
        if not self._turning:
            return False
        command, asked = self._turning
        if line.forward is self.client:
            if not dialogue.turned(self.stream, line.start, forward=line.forward):
                self._turning = None
                return False
            offsets = {self.client: asked.after}
        elif agreed:
            offsets = {self.client: asked.after, not self.client: line.after}
        else:
            self._turning = None
            return False
        self._turning = None
        self.notes.append(f"turns to TLS after {command}")
        self.layer = dialogue.turn(self.stream, offsets.get(True), offsets.get(False), command)
        return True

    def decoded(self, *, complete: bool = True) -> Decoded:
        """Return all of it."""
        return Decoded(
            self.protocol.lower(),
            (),
            tuple(self.found),
            complete=complete,
            facts=self.facts,
            notes=tuple(self.notes),
            layers=(self.layer,) if self.layer else (),
        )


def client_side(stream: Stream, server: bytes, client: bytes) -> bool | None:
    """Return the direction of the client, by how each end speaks; None: neither speaks so.

    server, client -- the patterns of a line of each. Who sends the first packet of a capture that
    began late may be the server, so both ways are tried.
    """
    says, asks = re.compile(server, re.IGNORECASE), re.compile(client, re.IGNORECASE)
    if stream.protocol != "tcp":
        return None
    firsts = [dialogue.first(stream, forward=way) for way in (True, False)]
    if None not in firsts and not any(says.match(line) for line in firsts if line is not None):
        return None  # both speak, and neither as a server does: the usual case
    heads = {way: dialogue.head(stream, forward=way) for way in (True, False)}
    for way in (True, False):
        asked, said = heads[way], heads[not way]
        one = bool(said) and bool(says.match(said[0]))
        other = any(asks.match(line) for line in asked[:8])
        if (one and other) or (one and not asked) or (other and not said):
            return way
    return None
