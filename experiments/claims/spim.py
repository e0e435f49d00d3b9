"""What one sends to many who did not ask is shown to them, or refused."""

from __future__ import annotations

from experiments.claims.facts import Facts, Outcome, Verdict, not_measured, stored


def check(facts: Facts, system: str, *, accepted: bool, defence: str = "none") -> Outcome:
    """All messages of the sender were shown to their victims, or none was."""
    told = facts.results.get("spim", {})
    row = next(
        (r for r in told.get("rows", []) if (r["system"], r["defence"]) == (system, defence)), None
    )
    if row is None or not row["sent"]:
        return not_measured(f"nobody wrote to many on {system}")
    text = f"{system}: {row['shown']} of {row['sent']} messages of {told['sender']} shown to "
    text += f"{', '.join(told['victims'])}"
    if defence == "refuse":
        text += f", whose means was {row['means'] or 'none: there is none'}"
    if row["told_to_the_sender"]:
        text += f". The sender was told: {'; '.join(row['told_to_the_sender'])}"
    if row["friend"] != "shown":
        text += f". A message between two of them was refused too: {row['friend']}"
    right = row["shown"] == (row["sent"] if accepted else 0)
    evidence = [stored("results.json", f"spim, {system}, defence {defence}")]
    return Outcome(Verdict.CONFIRMED if right else Verdict.REFUTED, f"{text}.", evidence)


CHECK = check
