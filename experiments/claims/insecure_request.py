"""Requests carry Upgrade-Insecure-Requests and are unencrypted (Figure 19).

The paper reads the header as marking the request as insecure. It does not: the browser says that
it would rather have https (W3C, Upgrade Insecure Requests, section 3.2.1). What is true is that
the request that carries it lies open.
"""

from __future__ import annotations

from typing import Any

from experiments.claims.facts import Facts, Outcome, Verdict, arrow, count, frames, not_measured

_NAME = "upgrade-insecure-requests"


def check(facts: Facts) -> Outcome:
    """Every observer read the header, in both directions together, in unencrypted requests."""
    observers = facts.observers
    if not any(row["packet_list"] for row in observers):
        return not_measured("nothing was captured")
    evidence: list[dict[str, Any]] = []
    missing: list[str] = []
    doubtful: list[str] = []
    ways: set[str] = set()
    total = 0
    for observer in observers:
        rows = [
            finding
            for finding in observer["findings"]
            if finding["kind"] == "header" and finding["text"].lower().startswith(_NAME)
        ]
        if not rows:
            (doubtful if observer["doubts"] else missing).append(observer["name"])
        for row in rows:
            ways.add(row["direction"])
            total += len(row["proofs"])
            first = row["proofs"][0]
            evidence.append(frames(observer, first["frames"], row["text"], stream=first["stream"]))
    note = (
        "The header does not mark a request as insecure, as the paper reads it: it says that the "
        "browser prefers https. That the request is insecure is seen by reading it."
    )
    if missing or doubtful:
        verdict = Verdict.REFUTED if missing else Verdict.INCONCLUSIVE
        where = ", ".join(missing + doubtful)
        return Outcome(verdict, f"No request with the header was read at {where}. {note}", evidence)
    text = (
        f"{count(total, 'request')} with the header read in plain text, counted per observer, "
        f"{' and '.join(map(arrow, sorted(ways)))}. {note}"
    )
    return Outcome(Verdict.CONFIRMED, text, evidence)


CHECK = check
