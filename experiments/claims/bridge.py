"""The hypervisor's own adapter sees what its bridged guest sends and receives."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from experiments.claims.facts import Facts, Outcome, Verdict, frames, judge, not_measured, tally

if TYPE_CHECKING:
    from collections.abc import Iterator


def check(facts: Facts) -> Outcome:
    """Every stream that a guest captured is in its parent's capture, byte for byte.

    And every planted text that went to or from the guest was read there.
    """
    pairs = _pairs(facts)
    if not pairs:
        return not_measured("no bridged guest and its host were both captured")
    evidence: list[dict[str, Any]] = []
    total = 0
    states: Counter[str] = Counter()
    for guest, parent in pairs:
        total += sum(map(_carries, guest["streams"]))
        evidence += _twins(guest, parent)
        states += _states(facts, guest["host"], parent["name"])
    same = len(evidence)
    doubts = any(row["doubts"] for pair in pairs for row in pair)
    verdict = judge(states)
    if same < total:
        verdict = Verdict.INCONCLUSIVE if doubts else Verdict.REFUTED
    elif not total:
        verdict = Verdict.INCONCLUSIVE if doubts else Verdict.NOT_MEASURED
    names = ", ".join(f"{parent['name']} for {guest['name']}" for guest, parent in pairs)
    text = (
        f"{names}: {same} of {total} of the guest's connections were captured identically, byte "
        f"for byte; {tally(states)} planted texts read."
    )
    return Outcome(verdict, text, evidence)


def _carries(stream: dict[str, Any]) -> bool:
    return stream["transport"] == "tcp" and bool(stream["chunks"])


def _twins(guest: dict[str, Any], parent: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield evidence for each of the guest's connections that its parent has just so."""
    theirs = {(s["client"], s["server"], s["sha256"]): s for s in parent["streams"]}
    for stream in filter(_carries, guest["streams"]):
        twin = theirs.get((stream["client"], stream["server"], stream["sha256"]))
        if twin:
            numbers = [chunk["frame"] for chunk in twin["chunks"]]
            shows = f"{twin['client']} to {twin['server']}, as {guest['name']} has it"
            yield frames(parent, numbers, shows, stream=twin["number"])


def _states(facts: Facts, guest: str, observer: str) -> Counter[str]:
    """Count how the planted texts that went to or from a guest fared at an observer."""
    return Counter(
        state
        for row in facts.planted("message", "user", "password")
        for way, state in row["observers"][observer]["directions"].items()
        if guest in way.split("->")
    )


def _pairs(facts: Facts) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return (guest's capture, capture of the adapter that it is bridged to)."""
    by_name = {row["name"]: row for row in facts.observers}
    return [
        (by_name[f"{host.name}/{adapter.name}"], by_name[f"{host.on}/{adapter.bridged}"])
        for host in facts.plan.hosts
        for adapter in host.adapters
        if adapter.bridged
        and f"{host.name}/{adapter.name}" in by_name
        and f"{host.on}/{adapter.bridged}" in by_name
    ]


CHECK = check
