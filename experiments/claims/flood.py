"""A flood keeps a visitor out, or does not."""

from __future__ import annotations

from typing import Any, Final

from experiments.claims.facts import Facts, Outcome, Verdict, frames, not_measured, stored

_EXAMPLES: Final = 8


def check(
    facts: Facts, kind: str, *, shut: bool, defence: str = "none", queue: bool = False
) -> Outcome:
    """Judge a flood of "syn" or "request": what a visitor met, by the count of answers.

    shut  -- at most half of the visits were answered in time while it went on; else all but one
             at most. Before and after, all must have been: else nothing is known.
    queue -- judge the queue of half-open connections instead: kept below a quarter of what it was
             without a defence (shut: false), or not.
    """
    told = facts.results.get("flood", {})
    rows = {row["defence"]: row for row in told.get(f"{kind}_rounds", [])}
    row = rows.get(defence)
    if row is None:
        return not_measured("there was no such flood")
    text = f"Defence {defence}: {_words(kind, row)}"
    evidence = [stored("results.json", f"flood of {kind}s, defence {defence}")]
    if kind == "syn" and shut:
        evidence += _unanswered(facts, told["visitor"])
    if queue:
        free = rows.get("none")
        if free is None:
            return not_measured("the queue without a defence is not known")
        text += f" Without a defence {free['half_open']} were half open."
        right = (row["half_open"] * 4 < free["half_open"]) is not shut
        return Outcome(Verdict.CONFIRMED if right else Verdict.REFUTED, text, evidence)
    for when in ("before", "after"):
        if row[when]["answered"] < row[when]["visits"]:
            why = f"the server did not answer all visits {when} the flood either. {text}"
            return not_measured(why.rstrip("."))
    if not row["to_the_end"]:
        return not_measured(f"the flood ended before the visits did. {text}".rstrip("."))
    during = row["during"]
    if shut:
        right = during["answered"] * 2 <= during["visits"]
    else:
        right = during["answered"] >= during["visits"] - 1
    return Outcome(Verdict.CONFIRMED if right else Verdict.REFUTED, text, evidence)


def _unanswered(facts: Facts, visitor: str) -> list[dict[str, Any]]:
    """Return the SYNs of a visitor to which nothing was answered, where he sits."""
    return [
        frames(observer, alone[:_EXAMPLES], "SYNs of visits that nobody answered")
        for observer in facts.observers
        if observer["host"] == visitor
        and (
            alone := [
                shake["steps"][0]["frame"]
                for shake in observer["handshakes"]
                if len(shake["steps"]) == 1
                and shake["source"] == visitor
                and shake["server"].endswith(":80")
            ]
        )
    ]


def _words(kind: str, row: dict[str, Any]) -> str:
    visits = "; ".join(
        f"{when} {row[when]['answered']} of {row[when]['visits']} visits answered"
        + (f", median {row[when]['median_s'] * 1000:.1f} ms" if row[when]["median_s"] else "")
        for when in ("before", "during", "after")
    )
    if kind == "syn":
        return f"{row['sent']} SYNs, {row['half_open']} half open; {visits}."
    return f"{row['opened']} connections, {row['answered']} requests answered; {visits}."


CHECK = check
