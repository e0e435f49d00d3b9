"""What a check may look at, what it answers, and the few questions that several checks ask."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from experiments.analysis import in_the_clear

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Iterator

    from lab.plan import Plan


class Verdict(StrEnum):
    """What can be said of a claim. Without a measurement there is neither yes nor no."""

    CONFIRMED = "confirmed"
    REFUTED = "refuted"
    NOT_MEASURED = "not measured"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Facts:
    """Everything known of a run: its plan, results.json and analysis.json."""

    plan: Plan
    results: dict[str, Any]
    analysis: dict[str, Any]

    @property
    def observers(self) -> list[dict[str, Any]]:
        """The captures, analysed."""
        return list(self.analysis.get("observers", []))

    def observer(self, name: str) -> dict[str, Any]:
        """Return the observer "host/adapter"."""
        return next(row for row in self.observers if row["name"] == name)

    def planted(self, *kinds: str) -> list[dict[str, Any]]:
        """Return what was sent in the clear, of these kinds, with what each observer saw."""
        rows = self.analysis.get("planted", [])
        return [row for row in rows if row["wire"] and in_the_clear(row) and row["kind"] in kinds]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A check's answer. measured is a sentence; evidence is made by `frames` and `stored`."""

    verdict: Verdict
    measured: str
    evidence: list[dict[str, Any]] = field(default_factory=list)


def not_measured(why: str) -> Outcome:
    """Return the answer where there is nothing to judge by."""
    return Outcome(Verdict.NOT_MEASURED, f"Not measured: {why}.")


def frames(
    observer: dict[str, Any], numbers: Iterable[int], shows: str, *, stream: int | None = None
) -> dict[str, Any]:
    """Return evidence that a reader finds in Wireshark: file, frames and display filter."""
    wanted = sorted(set(numbers))
    if stream is None:
        text = f"frame.number in {{{', '.join(str(n) for n in wanted)}}}"
    else:
        text = f"tcp.stream eq {stream}"
    return {
        "observer": observer["name"],
        "file": observer["file"],
        "stream": stream,
        "frames": wanted,
        "filter": text,
        "shows": shows,
    }


def stored(file: str, shows: str) -> dict[str, Any]:
    """Return evidence that stands in a file of the run folder."""
    return {"file": file, "shows": shows}


def judge(states: Counter[str]) -> Verdict:
    """Return the verdict on "all of it was found" from how often each state occurred."""
    if states["not found"]:
        return Verdict.REFUTED
    if states["inconclusive"]:
        return Verdict.INCONCLUSIVE
    return Verdict.CONFIRMED if states["found"] else Verdict.NOT_MEASURED


def sightings(
    facts: Facts, kinds: Iterable[str], ends: Iterable[str]
) -> Iterator[tuple[dict[str, Any], str, str, str]]:
    """Yield (planted, direction, observer, state) for observers at an end of each direction.

    ends -- "sender" and "receiver" of the bytes, whoever wrote the message.
    """
    for row in facts.planted(*kinds):
        for way in row["directions"]:
            source, _, target = way.partition("->")
            hosts = {"sender": source, "receiver": target}
            for name, seen in row["observers"].items():
                if name.partition("/")[0] in {hosts[end] for end in ends}:
                    yield row, way, name, seen["directions"][way]


def proof(facts: Facts, row: dict[str, Any], way: str, name: str) -> dict[str, Any] | None:
    """Return the first frames in which an observer could read a planted text going that way."""
    for hit in row["observers"][name]["hits"]:
        if hit["direction"] == way:
            forms = f" ({', '.join(hit['forms'])})" if hit["forms"] else ""
            shows = f"{row['kind']} “{row['text']}” {arrow(way)} in a {hit['where']}{forms}"
            stream = hit["stream"] if hit["transport"] == "tcp" else None
            return frames(facts.observer(name), hit["frames"], shows, stream=stream)
    return None


def arrow(way: str) -> str:
    """Return "guest → peer" for "guest->peer"."""
    return way.replace("->", " → ")


def tally(states: Counter[str]) -> str:
    """Return "18 of 20", with what the others are."""
    total = sum(states.values())
    rest = ", ".join(f"{n} {state}" for state, n in sorted(states.items()) if state != "found")
    return f"{states['found']} of {total}" + (f" ({rest})" if rest else "")


def count(number: int, one: str, many: str = "") -> str:
    """Return "1 message", "2 messages"."""
    return f"{number} {one if number == 1 else many or one + 's'}"
