"""Messages rest in plain text in the repository."""

from __future__ import annotations

from experiments.claims.facts import Facts, Outcome, Verdict, count, not_measured, stored


def check(facts: Facts) -> Outcome:
    """Every repository that was looked at holds, readable, all messages that were to be there."""
    rows = facts.results.get("repository", [])
    found = sum(len(row["found"]) for row in rows)
    missing = sum(len(row["missing"]) for row in rows)
    if not found + missing:
        return not_measured("no repository was looked at")
    where = ", ".join(f"{len(row['found'])} on {row['host']}" for row in rows)
    text = f"{found} of {count(found + missing, 'message')} read in plain text: {where}."
    evidence = [stored("results.json", f"{row['host']}: {row['evidence']}") for row in rows]
    return Outcome(Verdict.REFUTED if missing else Verdict.CONFIRMED, text, evidence)


CHECK = check
