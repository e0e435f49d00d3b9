"""Sealed from end to end: the server passes on what it cannot read.

A system with a way of its own (XMPP's OMEMO) uses that. Any other one carries sealed messages as
text (provisioning/sealing.py), under an ordinary client of its own.
"""

from __future__ import annotations

import secrets
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from lab.errors import Fault, LabError
from provisioning.countermeasures import (
    AT_THE_ENDS,
    EVERYWHERE,
    Participant,
    Setting,
    no_parameters,
)
from provisioning.messaging import Carried, Exchange, Message, OwnEndToEnd, missed
from provisioning.sealing import MARK, Joiner, Keys, RefusedError, split

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lab.plan import Plan, PlannedAccount
    from provisioning.messaging import Client, Place, Planted, System

LEAST = 128  # bytes of a message; less has no room for a part worth sending


@dataclass(slots=True)
class _Truth:
    """What was sealed, by the lines that carried it: the truth that all ends share.

    sealed -- lines -> (who said it, to whom, what); plain -- texts that came as they are.
    """

    sealed: dict[tuple[str, ...], tuple[str, str, str]] = field(default_factory=dict)
    plain: set[str] = field(default_factory=set)

    def of(self, exchange: Exchange) -> Exchange:
        """Return what an exchange of the carrying client really carried.

        Each line is there as "sealed"; where the last line of a message is, its text is too.
        """
        last = {lines[-1]: text for lines, (_, _, text) in self.sealed.items()}
        carried: list[Carried] = []
        for item in exchange.carried:
            if item.kind == "message" and item.text.startswith(MARK):
                carried.append(replace(item, kind="sealed"))
                if item.text in last:
                    carried.append(replace(item, text=last[item.text]))
                continue
            if item.kind == "message":
                self.plain.add(item.text)
            carried.append(item)
        return replace(exchange, carried=carried)

    def last_lines(self, by: str, to: str, text: str) -> list[str]:
        """Return the last line of each message of that text."""
        return [lines[-1] for lines, what in self.sealed.items() if what == (by, to, text)]


class SealingClient:
    """A client that seals what it sends, and shows nothing that was not sealed."""

    def __init__(
        self, carrier: Client, ring: dict[str, bytes], truth: _Truth, longest: int
    ) -> None:
        self._carrier, self._ring, self._truth, self._longest = carrier, ring, truth, longest
        self._keys: Keys | None = None
        self._joiners: dict[str, Joiner] = {}
        self._looked_at = 0
        self._shown: list[Message] = []
        self._sent: list[Message] = []
        self._refused: list[str] = []

    @property
    def exchanges(self) -> list[Exchange]:
        """What was done, with the messages themselves beside their sealed lines."""
        return [self._truth.of(exchange) for exchange in self._carrier.exchanges]

    def sign_in(self, account: PlannedAccount) -> None:
        """Make a key, tell the others, and sign in. What is there already is not for it."""
        self._keys = Keys(account.name, self._ring)
        self._carrier.sign_in(account)
        self._looked_at = len(self._carrier.incoming())

    def send(self, text: str, to: str | None = None) -> None:
        """Seal a message for somebody and send its lines."""
        if self._keys is None or to is None:
            raise _failed("sealing a message", "it takes who says it, and to whom")
        try:
            sealed = self._keys.seal(text, to)
            lines = split(sealed, secrets.token_hex(8), self._longest)
        except (RefusedError, ValueError) as error:
            raise _failed(f"sealing a message for {to}", str(error)) from error
        self._truth.sealed[lines] = (self._keys.name, to, text)
        for line in lines:
            self._carrier.send(line, to)
        self._sent.append(Message(self._keys.name, text))

    def receive(self, message: Message, times: int, deadline: float) -> float:
        """Wait until the message has come and could be opened `times` times; return when."""
        if self._keys is None:
            raise _failed("receiving a message", "nobody has signed in")
        when = time.monotonic()
        for line in self._truth.last_lines(message.sender, self._keys.name, message.text):
            when = self._carrier.receive(Message(message.sender, line), 1, deadline)
        if self.incoming().count(message) < times:
            raise missed(message, deadline, self._refused)
        return when

    def incoming(self) -> tuple[Message, ...]:
        """Return what came and could be opened, oldest first."""
        there = self._carrier.incoming()
        for message in there[self._looked_at :]:
            self._open(message)
        self._looked_at = len(there)
        return tuple(self._shown)

    def outgoing(self) -> tuple[Message, ...]:
        """Return what was sent, from the client's own memory: the server could not tell."""
        return tuple(self._sent)

    def close(self) -> None:
        """End the visit; the key goes with the client."""
        self._carrier.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, message: Message) -> None:
        joiner = self._joiners.setdefault(message.sender, Joiner())
        try:
            sealed = joiner.take(message.text)
            if sealed is not None and self._keys is not None:
                text = self._keys.open(sealed, message.sender)
                self._shown.append(Message(message.sender, text))
        except RefusedError as error:
            self._refused.append(f"a message of {message.sender} is not shown: {error}")


@dataclass(frozen=True, slots=True)
class EndToEndInForce:
    """End-to-end sealing in force; people have told each other their keys by `ring`."""

    setting: Setting
    ring: dict[str, bytes] = field(default_factory=dict)
    truth: _Truth = field(default_factory=_Truth)

    def client(self, who: Participant) -> Client:
        """Return a client that seals what it sends."""
        setting, system = self.setting, self.setting.system
        if isinstance(system, OwnEndToEnd):
            connect = setting.sessions[who.at].connect
            return system.sealed(setting.plan, who.at, who.server, connect, self.ring)
        return SealingClient(setting.plain_client(who), self.ring, self.truth, system.longest)

    def places(self, item: Planted, /) -> frozenset[Place]:
        """Say that messages can be read at the ends only, and all else as ever.

        What an older conversation left on the server may come as it was said then.
        """
        if item.kind == "message" and item.text not in self.truth.plain:
            return AT_THE_ENDS
        return EVERYWHERE


@dataclass(frozen=True, slots=True)
class EndToEnd:
    """The countermeasure `end-to-end`."""

    def check(self, parameters: Mapping[str, Any], plan: Plan) -> list[str]:
        """Return what is wrong with its parameters; there are none."""
        del plan
        return no_parameters(parameters, "end-to-end")

    def lacks(self, system: System) -> str:
        """Say whether sealed lines have room in the system's messages."""
        if isinstance(system, OwnEndToEnd) or system.longest >= LEAST:
            return ""
        return f"its messages have room for {system.longest} bytes, {LEAST} are needed"

    @contextmanager
    def applied(self, setting: Setting) -> Iterator[EndToEndInForce]:
        """Need nothing of any host: that is the point."""
        if lack := self.lacks(setting.system):
            raise _failed(f"sealing messages of {setting.name}", lack)
        yield EndToEndInForce(setting)


def _failed(doing: str, saw: str) -> LabError:
    return LabError(
        doing, saw, fault=Fault.USER, todo="see who has told which key, and how long a message is"
    )


COUNTERMEASURE = EndToEnd()
