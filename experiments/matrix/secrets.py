"""What was planted in a cell, what never was, and when: the truth to hold sightings against."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from experiments.judge import Run

# What is told of each observer, in this order.
KINDS: Final = ("message", "user", "password", "contact")
# A time is looked for as this second and those beside it: a server's clock is read a moment later.
BESIDE: Final = (0, 1)
DECOY_TIMES: Final = (3_607, 86_411, 604_813)  # seconds later: nothing happened then
_TIME_FORMS: Final = (
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%S",
    "%d/%b/%Y:%H:%M:%S",  # Apache's Common Log Format
    "%b %d %H:%M:%S",  # syslog, Prosody
)


@dataclass(frozen=True, slots=True)
class Item:
    """A text that is looked for.

    kind       -- one of KINDS, "sealed", "time", "address" or "account" (a name that was not sent).
    decoy      -- it was never sent.
    directions -- on which ways it was sent, in whatever form; readable -- where it can be expected.
    """

    id: str
    kind: str
    text: str
    decoy: bool = False
    sender: str = ""
    at: str = ""
    server: str = ""
    directions: tuple[str, ...] = ()
    readable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who took part, from when to when: seconds since the epoch.

    joined, ready -- began to sign in, and had; last -- the last thing done; left -- the end.
    """

    account: str
    at: str
    server: str
    address: str
    joined: float
    ready: float
    last: float
    left: float


@dataclass(frozen=True, slots=True)
class Line:
    """A message with its time, in seconds since the epoch, and how long it took."""

    planted: str
    by: str
    to: str
    at: float
    latency_s: float


@dataclass(frozen=True)
class Truth:
    """All that is known of a cell."""

    system: str
    countermeasure: str
    items: tuple[Item, ...]
    people: tuple[Person, ...]
    lines: tuple[Line, ...]
    by_id: dict[str, Item] = field(default_factory=dict)

    def names_of(self, account: str) -> frozenset[str]:
        """Return the ids of an account's names and addresses, as they were sent."""
        return frozenset(
            item.id
            for item in self.items
            if not item.decoy
            and item.kind in {"user", "contact", "account"}
            and item.text.partition("@")[0].lower() == account.lower()
        )

    def of_kind(self, kind: str) -> list[Item]:
        """Return what was planted of a kind."""
        return [item for item in self.items if item.kind == kind and not item.decoy]


def truth(run: Run) -> Truth:
    """Read it from a run folder: results.json, and the decoys of its experiment."""
    chat = run.results["chat"]
    people = tuple(_people(run, chat))
    lines = tuple(
        Line(row["planted"], row["from"], row["to"], row["at"], row["latency_s"])
        for row in chat["lines"]
    )
    items = [
        Item(
            row["id"],
            row["kind"],
            row["text"],
            sender=row["sender"] or "",
            at=row["at"],
            server=row["server"],
            directions=tuple(row["directions"]),
            readable=tuple(row["readable"]),
        )
        for row in chat["planted"]
    ]
    items += _decoys(run)
    items += _times(people, lines)
    for person in people:
        items.append(Item(f"address-{person.at}", "address", person.address))
        items.append(Item(f"account-{person.account}", "account", person.account))
    return Truth(
        chat["system"],
        chat["countermeasure"],
        tuple(items),
        people,
        lines,
        {item.id: item for item in items},
    )


def _people(run: Run, chat: dict[str, Any]) -> Iterator[Person]:
    for row in chat["people"]:
        own = [visit for visit in chat["visits"] if visit["account"] == row["account"]]
        ends = [visit["started"] + visit["duration_s"] for visit in own]
        address = "127.0.0.1" if row["at"] == row["server"] else run.plan.address(row["at"])
        joined = min(visit["started"] for visit in own)
        signed = [visit for visit in own if visit["action"] == "sign_in"]
        # A system that asks nobody who he is has no signing in.
        ready = max((v["started"] + v["duration_s"] for v in signed), default=joined)
        yield Person(
            row["account"],
            row["at"],
            row["server"],
            address,
            joined,
            ready,
            max(ends),
            chat["left"],
        )


def _decoys(run: Run) -> Iterator[Item]:
    given = [
        decoy
        for step in run.manifest["experiment"].get("steps", [])
        for parameters in step.values()
        for decoy in (parameters or {}).get("decoys", [])
    ]
    for number, decoy in enumerate(given, 1):
        yield Item(f"decoy-{number}", decoy["kind"], decoy["text"], decoy=True)


def spelled(second: int) -> Iterator[str]:
    """Yield how logs and databases write a time (UTC), given in seconds since the epoch."""
    yield str(second)
    when = datetime.fromtimestamp(second, UTC)
    yield from (when.strftime(form) for form in _TIME_FORMS)


def _times(people: Iterable[Person], lines: Iterable[Line]) -> Iterator[Item]:
    moments = [line.at for line in lines]
    for person in people:
        moments += [person.joined, person.last, person.left]
    seconds = sorted({int(moment) + beside for moment in moments for beside in BESIDE})
    for second in seconds:
        for number, text in enumerate(spelled(second)):
            yield Item(f"time-{second}-{number}", "time", text)
    last = max(seconds, default=0)
    for number, later in enumerate(DECOY_TIMES):
        for form, text in enumerate(spelled(last + later)):
            yield Item(f"decoy-time-{number}-{form}", "time", text, decoy=True)
