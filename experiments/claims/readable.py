"""What was sent in the clear is readable where one listens at an end of its way."""

from __future__ import annotations

from collections import Counter
from typing import Any

from experiments.claims.facts import (
    Facts,
    Outcome,
    Verdict,
    arrow,
    count,
    judge,
    not_measured,
    proof,
    sightings,
    tally,
)


def check(
    facts: Facts, kinds: list[str], at: list[str], directions: int = 1, proofs: int = 40
) -> Outcome:
    """Every planted text of these kinds was read at these ends ("sender", "receiver").

    directions -- in how many directions at least something must have been read.
    proofs -- how many pieces of evidence are kept.
    """
    planted = facts.planted(*kinds)
    if not planted:
        return not_measured(f"no {' or '.join(kinds)} was sent in the clear")
    states: Counter[str] = Counter()
    ways: dict[str, Counter[str]] = {}
    forms: Counter[str] = Counter()
    evidence: list[dict[str, Any]] = []
    missed: list[str] = []
    for row, way, name, state in sightings(facts, kinds, at):
        states[state] += 1
        ways.setdefault(way, Counter())[state] += 1
        if state == "found":
            found = proof(facts, row, way, name)
            if found and len(evidence) < proofs:
                evidence.append(found)
            hit = next(h for h in row["observers"][name]["hits"] if h["direction"] == way)
            forms[_form(hit["forms"])] += 1
        else:
            missed.append(
                f"“{row['text'] if row['kind'] != 'password' else '***'}” {arrow(way)} at {name}"
            )
    if not states:
        return not_measured(f"nobody listened at the {' or the '.join(at)}")
    verdict = judge(states)
    seen = sum(bool(counter["found"]) for counter in ways.values())
    if verdict is Verdict.CONFIRMED and seen < directions:
        verdict = Verdict.NOT_MEASURED
    by_way = ", ".join(f"{arrow(way)} {tally(counter)}" for way, counter in sorted(ways.items()))
    how = ", ".join(f"{n} {form}" for form, n in sorted(forms.items()))
    text = f"{count(len(planted), 'text')} planted; read {by_way}"
    text += f". Written: {how}." if how else "."
    if missed:
        text += f" Not read: {'; '.join(missed[:5])}" + ("; …." if len(missed) > 5 else ".")  # noqa: PLR2004 (a few examples)
    return Outcome(verdict, text, evidence)


def _form(forms: list[str]) -> str:
    """Return how hidden a text was: none of these needs a key."""
    return " and ".join(forms) if forms else "literally"


CHECK = check
