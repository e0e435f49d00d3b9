"""Who with whom, when, and for how long: what is left when no text can be read.

Each is a fact of the ground truth that an observer either could tell, with proof, or could not:

- who with whom: the names of two people who talked, within REACH bytes of each other where the
  protocol or a record puts them. In a store a list of accounts has both names as well; so there a
  message, a sealed message or a time must stand beside them.
- when: a message's time. On the wire by a packet with payload between its ends at that moment; in a
  store by a time written beside the name or address of who sent it.
- how long: from when to when somebody was there, to the second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from experiments.matrix.secrets import BESIDE
from experiments.matrix.sightings import near

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from experiments.analysis.model import Capture
    from experiments.matrix.secrets import Line, Person, Truth
    from experiments.matrix.sightings import Seen, Sighting

REACH: Final = 1024  # bytes
SLACK: Final = 0.02  # seconds between a client's clock and the capture's, and on the way
TO_THE_SECOND: Final = 1.0

WITH_WHOM, WHEN, HOW_LONG = "who with whom", "when", "how long"


@dataclass(frozen=True, slots=True)
class Told:
    """A fact, and the proof that an observer could tell it; None if it could not."""

    fact: str
    about: str
    proof: dict[str, Any] | None


def pairs(truth: Truth) -> list[tuple[str, str]]:
    """Return who talked with whom, each two once."""
    return sorted({(min(line.by, line.to), max(line.by, line.to)) for line in truth.lines})


def _named(seen: Seen, ids: Iterable[str]) -> list[Sighting]:
    return [sighting for name in ids for sighting in seen.found.get(name, [])]


def with_whom(truth: Truth, seen: Seen, *, stored: bool) -> Iterator[Told]:
    """Tell who talked with whom by names side by side."""
    beside = [
        sighting
        for item in truth.items
        if not item.decoy and item.kind in {"message", "sealed", "time"}
        for sighting in seen.found.get(item.id, [])
    ]
    for one, other in pairs(truth):
        mine = _named(seen, truth.names_of(one))
        proof = None
        for name in mine:
            both = near([name], _named(seen, truth.names_of(other)), REACH)
            if both and (not stored or near([name], beside, REACH)):
                proof = {**both[0].proof, "shows": f"{one} and {other}"}
                break
        yield Told(WITH_WHOM, f"{one} and {other}", proof)


def in_store(truth: Truth, seen: Seen) -> Iterator[Told]:
    """Tell times that are written beside the name or address of whom they are about."""
    times = {
        second: [
            sighting
            for item in truth.items
            if item.kind == "time" and item.id.startswith(f"time-{second}-")
            for sighting in seen.found.get(item.id, [])
        ]
        for second in _seconds(truth)
    }
    people = {person.account: person for person in truth.people}

    def at(person: Person, seconds: Iterable[int]) -> dict[str, Any] | None:
        ids = {*truth.names_of(person.account), f"address-{person.at}"}
        names = _named(seen, ids)
        for second in seconds:
            both = near(times.get(second, []), names, REACH // 4)
            if both:
                text = truth.by_id[both[0].id].text
                return {**both[0].proof, "shows": f"{text}, beside {person.account}"}
        return None

    for line in truth.lines:
        seconds = [int(line.at) + beside for beside in BESIDE]
        proof = at(people[line.by], seconds)
        yield Told(WHEN, line.planted, proof)
    for person in truth.people:
        first = at(person, [int(person.joined) + beside for beside in BESIDE])
        ends = {int(moment) + b for moment in (person.last, person.left) for b in BESIDE}
        last = at(person, sorted(ends, reverse=True))
        proof = (
            {**last, "shows": f"{first['shows']} to {last['shows']}"} if first and last else None
        )
        yield Told(HOW_LONG, person.account, proof)


def _seconds(truth: Truth) -> set[int]:
    return {
        int(item.id.split("-")[1]) for item in truth.items if item.kind == "time" and not item.decoy
    }


def on_the_wire(
    truth: Truth, file: str, capture: Capture, start: float, sight: frozenset[str]
) -> Iterator[Told]:
    """Tell times by packets; start -- when the capture's first packet was, since the epoch.

    sight -- the hosts whose traffic passes. Whoever sits at the server crosses no wire.
    """
    away = [p for p in truth.people if p.at != p.server and sight & {p.at, p.server}]
    chunks = {
        person.account: sorted(
            (start + chunk.time, chunk.frame, stream.number)
            for stream in capture.streams
            if stream.protocol == "tcp" and stream.client.rpartition(":")[0] == person.address
            for chunk in stream.chunks
        )
        for person in away
    }
    for line in truth.lines:
        ends = [account for account in (line.by, line.to) if account in chunks]
        if ends:
            yield Told(WHEN, line.planted, _at_that_time(file, line, chunks[ends[0]]))
    for person in away:
        yield Told(HOW_LONG, person.account, _as_long(file, person, chunks[person.account]))


def _at_that_time(
    file: str, line: Line, chunks: list[tuple[float, int, int]]
) -> dict[str, Any] | None:
    for moment, frame, _ in chunks:
        if line.at - SLACK <= moment <= line.at + line.latency_s + SLACK:
            shows = f"a packet {moment - line.at:+.3f} s from when it was said"
            return _proof(file, [frame], shows)
    return None


def _as_long(
    file: str, person: Person, chunks: list[tuple[float, int, int]]
) -> dict[str, Any] | None:
    if not chunks:
        return None
    first, last = chunks[0], chunks[-1]
    ends = min(abs(last[0] - person.last), abs(last[0] - person.left))
    if abs(first[0] - person.joined) > TO_THE_SECOND or ends > TO_THE_SECOND:
        return None
    shows = f"connected for {last[0] - first[0]:.2f} s, there for {person.left - person.joined:.2f}"
    return _proof(file, [first[1], last[1]], shows)


def _proof(file: str, frames: list[int], shows: str) -> dict[str, Any]:
    return {
        "file": file,
        "frames": frames,
        "filter": f"frame.number in {{{', '.join(map(str, frames))}}}",
        "shows": shows,
    }
