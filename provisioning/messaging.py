"""How a workload uses any messaging system: sign in, send, receive; with the truth of it kept.

A messaging system is a folder of provisioning/roles whose package exports MESSAGING. Its client
acts from a lab host and writes down, as data, what it did and which texts that sent where. This
ground truth is what a reader of the captured traffic is judged against.

What a system can do beyond that is a capability (`InBrowser`, `OverTls`, `OwnEndToEnd`,
`Inspectable`): a method or an attribute more, which countermeasures and observers look for.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from lab import table
from lab.errors import Fault, LabError
from provisioning import roles

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Iterator

    from lab.plan import Plan, PlannedAccount
    from provisioning.channels import SocketLike
    from provisioning.transport import Session

    Connect = Callable[[str, int], SocketLike]
    """How a client connects to (address, port): `Session.connect`, or TLS around it."""

Action = Literal["sign_in", "post", "incoming", "outgoing", "ask"]
Kind = Literal["message", "password", "user", "contact", "sealed"]
"""What a text is; contact -- somebody's address, as lists of contacts and messages have it;
sealed -- the ciphertext of a message, for who knows its very characters."""
Place = Literal["wire", "server", "store", "ends"]
"""Where a text can be read: on its way, in the server's memory, on its disk, by its people."""

POLL_S = 0.02  # seconds between two looks at a server that does not push


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it was received."""

    sender: str
    text: str


@dataclass(frozen=True, slots=True)
class Carried:
    """A text that an exchange sent over its connection.

    up -- from the client to the server, else from the server to the client.
    """

    kind: Kind
    text: str
    up: bool
    sender: str | None = None
    recipient: str | None = None


@dataclass(slots=True)
class Exchange:
    """One thing a client did: who, from which host, with which server, when, and how it went.

    started is seconds since the epoch, duration_s is in seconds, error is None if ok.
    """

    at: str
    server: str
    account: str
    action: Action
    started: float
    duration_s: float = 0.0
    ok: bool = False
    error: str | None = None
    carried: list[Carried] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return what was done as JSON data, without the texts."""
        data = asdict(self)
        del data["carried"]
        return data


@dataclass(frozen=True, slots=True)
class Planted:
    """A text that a run is known to have sent.

    at         -- the host where it was typed.
    wire       -- it crossed the network between two hosts.
    directions -- on which ways: "peer->guest".
    readable   -- where it can be expected to be readable (Place), if that was thought about.
    """

    id: str
    kind: Kind
    text: str
    sender: str | None
    recipient: str | None
    server: str
    at: str
    wire: bool
    directions: tuple[str, ...]
    readable: tuple[Place, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data."""
        lists = {"directions": list(self.directions), "readable": list(self.readable)}
        return {**asdict(self), **lists}


class Client(Protocol):
    """Somebody at one host, using one server. Each method raises LabError if it fails."""

    @property
    def exchanges(self) -> list[Exchange]:
        """All that was done so far, failures too."""

    def sign_in(self, account: PlannedAccount) -> None:
        """Prove to be that account."""

    def send(self, text: str, to: str | None = None) -> None:
        """Send a message; returns when the server has confirmed it.

        Where a protocol confirms nothing it returns when the message is on its way: `receive`
        at the other end tells.
        """

    def receive(self, message: Message, times: int, deadline: float) -> float:
        """Wait until that message of somebody else is there `times` times.

        Returns when the last of them came (time.monotonic()). Raises LabError after `deadline`
        seconds.
        """

    def incoming(self) -> tuple[Message, ...]:
        """Return all messages from others, oldest first."""

    def outgoing(self) -> tuple[Message, ...]:
        """Return all messages of one's own, oldest first."""

    def close(self) -> None:
        """End the visit."""


@dataclass(frozen=True, slots=True)
class AtRest:
    """Which texts can be read in a server's store as it lies on disk, without its service.

    path, size -- the file that was searched, and its bytes; found, missing -- the texts.
    """

    path: str
    size: int
    found: tuple[str, ...]
    missing: tuple[str, ...]


class System(Protocol):
    """A messaging system."""

    @property
    def ports(self) -> tuple[int, ...]:
        """TCP ports of the server that people connect to, without TLS."""

    @property
    def longest(self) -> int:
        """How many bytes (UTF-8) one message can have."""

    @property
    def stores(self) -> frozenset[Kind]:
        """What its server keeps on disk as it came."""

    def client(self, plan: Plan, at: str, server: str, connect: Connect) -> Client:
        """Return a client at host `at` of the server on host `server`."""

    def at_rest(self, session: Session, texts: Iterable[str]) -> AtRest:
        """Search the store of the server that `session` is logged in to, as its disk's finder."""


@runtime_checkable
class InBrowser(Protocol):
    """A system that can be used with a real browser."""

    def browser(self, plan: Plan, at: str, server: str, session: Session) -> Client:
        """Return the same as `client`, but a real browser that runs on host `at`.

        Raises LabError when the host has none.
        """


@runtime_checkable
class OverTls(Protocol):
    """A system that speaks TLS; its role takes up the certificate of its context."""

    def over_tls(
        self, plan: Plan, at: str, server: str, connect: Connect, context: ssl.SSLContext
    ) -> Client:
        """Return the same as `client`, but it speaks TLS with the server, or not at all."""


@runtime_checkable
class OwnEndToEnd(Protocol):
    """A system whose clients have a way of their own to seal messages from end to end."""

    def sealed(
        self, plan: Plan, at: str, server: str, connect: Connect, ring: dict[str, bytes]
    ) -> Client:
        """Return the same as `client`, but it sends and takes sealed messages only.

        ring -- the public keys that people have told each other beforehand, by account; each
                client adds its own when it signs in, and takes no other for the same account.
        """


@runtime_checkable
class Inspectable(Protocol):
    """A system of which it is known what its server's operator can look into."""

    @property
    def folders(self) -> tuple[str, ...]:
        """Files and folders that the service keeps: its data, its logs, its list of accounts.

        Nothing else is in them, so that they can be put back to what they were.
        """

    @property
    def programs(self) -> tuple[str, ...]:
        """The names of the files that the service's processes run (proc(5), /proc/PID/exe)."""

    @property
    def backup(self) -> tuple[str, ...]:
        """A command that prints a backup as operators make it; () where copying is the way."""


@cache
def systems() -> dict[str, System]:
    """Return all messaging systems by the name of their role."""
    return table.scan(roles, "MESSAGING")


def find(name: str) -> System:
    """Return the messaging system of that name. Raises LabError, listing those there are."""
    system: System = table.pick(systems(), "messaging system", name)
    return system


@contextmanager
def recorded(
    log: list[Exchange], at: str, server: str, account: str, action: Action
) -> Iterator[Exchange]:
    """Keep a record of what is done meanwhile; a failure is recorded and raised."""
    exchange = Exchange(at, server, account, action, time.time())
    log.append(exchange)
    before = time.monotonic()
    try:
        yield exchange
        exchange.ok = True
    except LabError as error:
        exchange.error = error.saw.strip()
        raise
    finally:
        exchange.duration_s = time.monotonic() - before


def poll(client: Client, message: Message, times: int, deadline: float) -> float:
    """Do what `Client.receive` does by looking at the incoming messages again and again."""
    until = time.monotonic() + deadline
    while client.incoming().count(message) < times:
        if time.monotonic() > until:
            raise missed(message, deadline)
        time.sleep(POLL_S)
    return time.monotonic()


def missed(message: Message, deadline: float, refused: Iterable[str] = ()) -> LabError:
    """Return the error for a message that did not arrive; refused -- why others were not shown."""
    return LabError(
        f"waiting for the message {message.text!r} of {message.sender}",
        "\n".join((*refused, f"it has not arrived after {deadline:g} s")),
        fault=Fault.GUEST,
        todo="see the server's log: a message was lost",
    )


def readable(item: Planted, places: frozenset[Place], system: System) -> Planted:
    """Say where a text can be expected to be read, given where nothing hides its kind: pure."""
    found: list[Place] = [place for place in ("server", "ends") if place in places]
    if item.wire and "wire" in places:
        found.append("wire")
    if "server" in places and item.kind in system.stores:
        found.append("store")
    return replace(item, readable=tuple(sorted(found)))


def planted(exchanges: Iterable[Exchange]) -> tuple[Planted, ...]:
    """Return each text that was sent, once a server, with all the ways it went: pure.

    A message is told apart by server, text and sender; a user name and a password by server
    and text.
    """
    found: dict[tuple[str, str, str, str | None], Planted] = {}
    typed: set[tuple[str, str, str, str | None]] = set()  # whose origin is known
    counts: dict[str, int] = {}
    for exchange in exchanges:
        for item in exchange.carried:
            key = (exchange.server, item.kind, item.text, item.sender)
            ways: tuple[str, ...] = ()
            if exchange.at != exchange.server:
                ends = (exchange.at, exchange.server)
                ways = ("->".join(ends if item.up else ends[::-1]),)
            seen = found.get(key)
            if seen is None:
                counts[item.kind] = counts.get(item.kind, 0) + 1
                name = f"{item.kind}-{counts[item.kind]}"
            else:
                name, ways = seen.id, tuple(dict.fromkeys((*seen.directions, *ways)))
            found[key] = Planted(
                name,
                item.kind,
                item.text,
                item.sender,
                item.recipient or (seen.recipient if seen else None),
                exchange.server,
                seen.at if seen and (key in typed or not item.up) else exchange.at,
                bool(ways),
                ways,
            )
            if item.up:
                typed.add(key)
    return tuple(found.values())
