"""What is sent in another's name is accepted, or not."""

from __future__ import annotations

from typing import Any

from experiments.claims.facts import Facts, Outcome, Verdict, count, frames, not_measured, stored

_EXAMPLES = 8


def check(facts: Facts, transport: str, *, accepted: bool, defence: str = "none") -> Outcome:
    """All that was forged over "udp" or "tcp" was accepted (or nothing of it).

    What was sent honestly at the same time must have been accepted, or nothing is known. That the
    sender is forged is seen in the captures: the frames left at the attacker's adapter and not at
    the victim's.
    """
    told = facts.results.get("forgery", {})
    row = next((r for r in told.get("rounds", []) if r["defence"] == defence), None)
    if row is None:
        return not_measured("nothing was forged")
    what = "datagrams" if transport == "udp" else "connections"
    if not row["honest"][what]:
        return not_measured(f"the receiver takes no {what} at all, honest ones neither")
    sent, taken = row["sent"][what], row["accepted"][what]
    text = f"{taken} of {count(sent, what[:-1])} in the name of {told['victim']} accepted"
    if transport == "tcp":
        guesses = row["sent"]["guesses"]
        text += f", with {guesses} guesses of the number that only {told['victim']} was told"
    text += f"; {row['honest'][what]} of 1 in the attacker's own name. Defence: {defence}."
    evidence = [stored("results.json", f"forgery, defence {defence}"), *_seen(facts, transport)]
    right = taken == (sent if accepted else 0)
    return Outcome(Verdict.CONFIRMED if right else Verdict.REFUTED, text, evidence)


def _seen(facts: Facts, transport: str) -> list[dict[str, Any]]:
    """Return the forged frames where they left, and what the victim was told of them."""
    told = facts.results["forgery"]
    victim, receiver = (told["addresses"][key] for key in ("victim", "receiver"))
    evidence = []
    for observer in facts.observers:
        rows = [
            row
            for row in observer["packet_list"]
            if (row[2], row[3]) == (victim, receiver) and _is(row, transport)
        ]
        if observer["host"] == told["attacker"] and rows:
            shows = f"{len(rows)} frames from {victim} leave the attacker's adapter"
            evidence.append(frames(observer, [row[0] for row in rows[:_EXAMPLES]], shows))
        if transport == "tcp" and observer["host"] == told["victim"]:
            back = [row for row in observer["packet_list"] if (row[2], row[3]) == (receiver, victim)
                    and _is(row, "tcp") and "SYN, ACK" in row[6]]  # fmt: skip
            if back:
                shows = f"the answers go to {told['victim']}, which opened nothing and resets them"
                evidence.append(frames(observer, [row[0] for row in back[:_EXAMPLES]], shows))
    return evidence


def _is(row: list[Any], transport: str) -> bool:
    return ("[" in str(row[6])) == (transport == "tcp") if row[4] in {"TCP", "UDP"} else False


CHECK = check
