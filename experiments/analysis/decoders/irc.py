"""IRC (RFC 1459, RFC 2812 and IRCv3): who signed in how, and who said what where.

Clients, servers and bouncers on any port, and links between servers: both sides are read alike. A
line without a prefix is said by whoever signed in on that side, one with a prefix by whom it names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from experiments.analysis import dialogue, sasl
from experiments.analysis.model import Decoded, Exposure

if TYPE_CHECKING:
    from experiments.analysis.dialogue import Line
    from experiments.analysis.model import Layer, Stream

# A line that nothing but IRC has: a sign-in, a numeric reply, or somebody's words. The blanks and
# words of each follow one another without overlap, so matching is linear.
_SIGN: Final = re.compile(
    rb"(?:@[^ ]+ +)?(?:"
    rb"NICK +:?[^ ]{1,64}\Z|USER +[^ ]+ +[^ ]+ +[^ ]+ +[^ ]|CAP +(?:LS|REQ|LIST|END)\b|"
    rb"(?:PRIVMSG|NOTICE) +[^ ]+ +:|JOIN +[#&+!][^ ]*|SERVER +[^ ]+ +\d+ |"
    rb":[^ ]+ +(?:[0-9]{3} +[^ ]+|(?:PRIVMSG|NOTICE|JOIN|PART|TOPIC|MODE) +[^ ]+|CAP +[^ ]+ +LS|"
    rb"NICK +:?[^ ]+\Z|QUIT\b))",
    re.IGNORECASE,
)
# How many lines of a side are looked at: later ones may be what somebody quotes in a mail.
_FIRST: Final = 8
_ROOM: Final = "#&+!"
_DCC: Final = re.compile(r'DCC +(\w+) +("[^"]{1,255}"|[^ ]+) +(\d+) +(\d+)(?: +(\d+))?')
_SERVICE: Final = frozenset({"nickserv", "ns", "x", "q", "authserv", "userserv", "chanserv"})
_SEALED: Final = ("?OTR:", "?OTR,", "+OK ", "mcps ")
_LONGEST_SASL: Final = 64 * 1024
# Numeric replies by what they tell (RFC 2812, section 5).
_WELCOME, _TOPIC, _NAMES, _WHOIS, _STARTTLS = "001", "332", "353", "311", "670"


@dataclass(frozen=True, slots=True)
class _Said:
    """A line, taken apart. Each parameter is its text and its bytes in the stream."""

    line: Line
    tags: dict[str, str]
    prefix: str
    command: str
    params: tuple[tuple[str, int, int], ...]

    @property
    def nick(self) -> str:
        return self.prefix.partition("!")[0]

    def text(self, index: int) -> str:
        return self.params[index][0] if index < len(self.params) else ""

    def raw(self, index: int) -> bytes:
        _, start, end = self.params[index]
        return self.line.data[start - self.line.start : end - self.line.start]


@dataclass(slots=True)
class _Side:
    """What is known of who speaks on a side, so far."""

    nick: str = ""
    mechanism: str = ""
    response: bytes = b""
    began: int = 0
    passes: list[int] = field(default_factory=list)


class Irc:
    """Internet Relay Chat."""

    name = "irc"

    def recognises(self, stream: Stream) -> bool:
        """Whether one of the first lines of a side can only be IRC."""
        return stream.protocol == "tcp" and any(
            _SIGN.match(line)
            for side in (True, False)
            for line in dialogue.head(stream, forward=side)[:_FIRST]
        )

    def decode(self, stream: Stream) -> Decoded:
        """Read all complete lines of both sides."""
        reader = _Reader(stream)
        for line in dialogue.lines(stream):
            said = _parse(line)
            if said:
                reader.read(said)
            if reader.layer:
                break
        notes = ("turns to TLS after STARTTLS",) if reader.layer else ()
        layers = (reader.layer,) if reader.layer else ()
        return Decoded(
            "irc", (), tuple(reader.found), facts=reader.facts, notes=notes, layers=layers
        )


def _parse(line: Line) -> _Said | None:
    words = dialogue.words(line.data)
    tags: dict[str, str] = {}
    prefix = ""
    if words and words[0][0].startswith(b"@"):
        pairs = (pair.partition("=") for pair in dialogue.text(words.pop(0)[0][1:]).split(";"))
        tags = {name: value for name, _, value in pairs}
    if words and words[0][0].startswith(b":"):
        prefix = dialogue.text(words.pop(0)[0][1:])
    if not words:
        return None
    command = dialogue.text(words.pop(0)[0]).upper()
    params = []
    for word, at in words:
        start, end = at, at + len(word)
        if word.startswith(b":"):
            start, end = at + 1, len(line.data)
        params.append((dialogue.text(line.data[start:end]), *line.part(start, end)))
        if word.startswith(b":"):
            break
    return _Said(line, tags, prefix, command, tuple(params))


class _Reader:
    """Goes through the lines in the order they were said."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._sides = {True: _Side(), False: _Side()}
        self._turning: Line | None = None
        self.found: list[Exposure] = []
        self.facts: dict[str, str] = {}
        self.layer: Layer | None = None

    def read(self, said: _Said) -> None:
        handler = getattr(self, f"_on_{said.command.lower()}", None)
        if handler:
            handler(said)
        elif said.command.isdecimal():
            self._reply(said)

    def _tell(self, kind: str, said: _Said, index: int, where: str = "", **about: str) -> None:
        if index < len(said.params) and said.params[index][0]:
            text, start, end = said.params[index]
            self._add(kind, text, said, (start, end), where, **about)

    def _add(
        self,
        kind: str,
        text: str,
        said: _Said,
        place: tuple[int, int],
        where: str = "",
        **about: str,
    ) -> None:
        if not text:
            return
        about = {name: value for name, value in about.items() if value}
        if said.tags.get("time"):
            about["sent"] = said.tags["time"]
        where = where or f"IRC {said.command}"
        forward = said.line.forward
        self.found.append(Exposure(kind, text, where, forward, *place, (), about))

    def _who(self, said: _Said) -> str:
        return said.nick or self._sides[said.line.forward].nick

    # Signing in -----------------------------------------------------------------------------

    def _on_pass(self, said: _Said) -> None:
        self._tell("password", said, 0)
        if self.found and self.found[-1].kind == "password":
            self._sides[said.line.forward].passes.append(len(self.found) - 1)

    def _on_nick(self, said: _Said) -> None:
        side = self._sides[said.line.forward]
        if said.prefix:
            for known in self._sides.values():
                if known.nick and known.nick == said.nick:
                    known.nick = said.text(0)
            self._tell("user", said, 0, sender=said.nick)
            return
        side.nick = said.text(0)
        self._tell("user", said, 0)
        for index in side.passes:
            self.found[index].about.setdefault("user", side.nick)

    def _on_user(self, said: _Said) -> None:
        self._tell("user", said, 0, name=said.text(3), nick=self._sides[said.line.forward].nick)

    def _on_oper(self, said: _Said) -> None:
        self._tell("user", said, 0)
        self._tell("password", said, 1, user=said.text(0))

    def _on_authenticate(self, said: _Said) -> None:
        """Collect a response, which comes in pieces of 400 bytes (IRCv3, SASL)."""
        side = self._sides[said.line.forward]
        word = said.text(0)
        if not side.mechanism or word == "*":
            side.mechanism = "" if word in {"*", "+"} else word
            return
        if not word or (word == "+" and not side.response):
            return
        if not side.response:
            side.began = said.params[0][1]
        piece = b"" if word == "+" else word.encode()
        side.response = (side.response + piece)[:_LONGEST_SASL]
        if len(piece) == 400:  # noqa: PLR2004 (a full piece: more follows)
            return
        response = sasl.unpack(side.response)
        place = (side.began, said.params[0][2])
        for kind, text, about in sasl.read(side.mechanism, response or b""):
            where = f"IRC AUTHENTICATE {side.mechanism}"
            forward = said.line.forward
            self.found.append(Exposure(kind, text, where, forward, *place, ("base64",), about))
        side.mechanism, side.response = "", b""

    def _on_starttls(self, said: _Said) -> None:
        self._turning = said.line

    # What is said ---------------------------------------------------------------------------

    def _on_privmsg(self, said: _Said) -> None:
        if len(said.params) < 2:  # noqa: PLR2004 (whom, what)
            return
        sender, target = self._who(said), said.text(0)
        text, start, end = said.params[1]
        whom = "room" if target[:1] in _ROOM else "recipient"
        about = {"sender": sender, whom: target}
        if text.startswith("\x01"):
            self._ctcp(said, about)
        elif text.startswith(_SEALED):
            self._add("sealed", text, said, (start, end), **about)
        elif not self._service(said, target, said.raw(1), start):
            self._add("message", text, said, (start, end), **about)

    def _on_notice(self, said: _Said) -> None:
        """Read a notice; one of the server itself is its banner and not somebody's message."""
        person = "!" in said.prefix or (not said.prefix and self._sides[said.line.forward].nick)
        if person:
            self._on_privmsg(said)
        else:
            self._tell("server", said, 1, server=said.prefix)

    def _ctcp(self, said: _Said, about: dict[str, str]) -> None:
        text, start, _ = said.params[1]
        inside = text.strip("\x01")
        verb, _, rest = inside.partition(" ")
        raw = said.raw(1).rstrip(b"\x01")
        at = raw.find(b" ") + 1
        place = (start + at, start + len(raw))
        offer = _DCC.match(inside)
        if verb == "ACTION" and rest:
            self._add("message", rest, said, place, "IRC CTCP ACTION", **about)
        elif offer:
            kind = "file" if offer[1].upper() == "SEND" else "command"
            name = offer[2].strip('"')
            more = {"address": _address(offer[3]), "port": offer[4], "size": offer[5] or ""}
            self._add(kind, name, said, place, f"IRC DCC {offer[1]}", **about, **more)
        elif verb:
            self._add("command", inside, said, (start, said.params[1][2]), "IRC CTCP", **about)

    def _service(self, said: _Said, target: str, text: bytes, start: int) -> bool:
        """Read a sign-in with a service ("IDENTIFY [account] password"); False if it is none."""
        words = dialogue.words(text)
        if target.partition("@")[0].lower() not in _SERVICE or len(words) < 2:  # noqa: PLR2004
            return False
        verb = dialogue.text(words[0][0]).upper()
        if verb not in {"IDENTIFY", "REGISTER", "AUTH", "LOGIN", "GHOST", "RECOVER", "REGAIN"}:
            return False
        user = self._who(said)
        index = 1
        if verb != "REGISTER" and len(words) > 2:  # noqa: PLR2004 (an account comes first)
            user, index = dialogue.text(words[1][0]), 2
        elif verb in {"GHOST", "RECOVER", "REGAIN"}:
            return False
        word, at = words[index]
        place = (start + at, start + at + len(word))
        where = f"IRC {verb} to {target}"
        self._add("password", dialogue.text(word), said, place, where, user=user)
        return True

    def _on_nickserv(self, said: _Said) -> None:
        if len(said.params) > 1:
            start, end = said.params[0][1], said.params[-1][2]
            data = self._stream.side(forward=said.line.forward)[start:end]
            self._service(said, "nickserv", data, start)

    _on_ns = _on_nickserv

    # Where and with whom --------------------------------------------------------------------

    def _on_join(self, said: _Said) -> None:
        self._tell("room", said, 0, sender=self._who(said))
        # Clients that have no key and must write one write a single character.
        if not said.prefix and len(said.text(1)) > 1:
            self._tell("password", said, 1, room=said.text(0), user=self._who(said))

    def _on_topic(self, said: _Said) -> None:
        self._tell("subject", said, 1, room=said.text(0), sender=self._who(said))

    def _on_part(self, said: _Said) -> None:
        self._tell("message", said, 1, room=said.text(0), sender=self._who(said))

    def _on_quit(self, said: _Said) -> None:
        self._tell("presence", said, 0, sender=self._who(said), state="quit")

    def _on_away(self, said: _Said) -> None:
        self._tell("presence", said, 0, sender=self._who(said), state="away")

    def _reply(self, said: _Said) -> None:
        if said.command == _WELCOME and said.text(0):
            self._sides[not said.line.forward].nick = said.text(0)
            self.facts.setdefault("server", said.prefix)
            self.facts.setdefault("nick", said.text(0))
        elif said.command == _TOPIC:
            self._tell("subject", said, 2, room=said.text(1))
        elif said.command == _WHOIS:
            self._tell("contact", said, 1, user=said.text(2), host=said.text(3), name=said.text(5))
        elif said.command == _NAMES and len(said.params) > 3:  # noqa: PLR2004 (the names)
            start = said.params[3][1]
            for word, at in dialogue.words(said.raw(3)):
                name = dialogue.text(word).lstrip("@+%&~")
                place = (start + at, start + at + len(word))
                if name:
                    self._add("contact", name, said, place, "IRC names", room=said.text(2))
        elif said.command == _STARTTLS and self._turning:
            turning = self._turning
            offsets = {turning.forward: turning.after, said.line.forward: said.line.after}
            self.layer = dialogue.turn(
                self._stream, offsets.get(True), offsets.get(False), "STARTTLS"
            )


def _address(word: str) -> str:
    """Return the IPv4 address that DCC writes as one number."""
    number = int(word[:12])
    if number >= 1 << 32:
        return word
    return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))


DECODER = Irc()
