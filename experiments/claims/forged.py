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
    rounds = told.get("rounds", [])
    place = next((n for n, row in enumerate(rounds) if row["defence"] == defence), None)
    if place is None:
        return not_measured("nothing was forged")
    row = rounds[place]
    what = "datagrams" if transport == "udp" else "connections"
    if not row["honest"][what]:
        return not_measured(f"the receiver takes no {what} at all, honest ones neither")
    sent, taken = row["sent"][what], row["accepted"][what]
    text = f"{taken} of {count(sent, what[:-1])} in the name of {told['victim']} accepted"
    if transport == "tcp":
        guesses = row["sent"]["guesses"]
        text += f", with {guesses} guesses of the number that only {told['victim']} was told"
    text += f"; {row['honest'][what]} of 1 in the attacker's own name. Defence: {defence}."
    evidence = [stored("results.json", f"forgery, defence {defence}")]
    evidence += _seen(facts, transport, row, place)
    right = taken == (sent if accepted else 0)
    if transport == "tcp":
        opened, complete, proof = _handshakes(facts)
        text += f" {opened} handshakes in that name were seen at {told['receiver']} in all rounds, "
        text += f"{complete} of them complete."
        right &= accepted or not complete
        evidence += proof
    return Outcome(Verdict.CONFIRMED if right else Verdict.REFUTED, text, evidence)


def _handshakes(facts: Facts) -> tuple[int, int, list[dict[str, Any]]]:
    """Return how many handshakes began in the victim's name at the receiver, and were completed."""
    told = facts.results["forgery"]
    ends = (told["victim"], told["receiver"])
    opened = complete = 0
    evidence = []
    for observer in facts.observers:
        if observer["host"] != told["receiver"]:
            continue
        rows = [
            row
            for row in observer["handshakes"]
            if (row["source"], row["destination"]) == ends
            and row["server"].endswith(f":{told['port']}")
        ]
        opened, complete = opened + len(rows), complete + sum(row["complete"] for row in rows)
        numbers = [step["frame"] for row in rows[:2] for step in row["steps"]]
        if numbers:
            shows = "the SYN, the answer, and an acknowledgement of another number than it has"
            evidence.append(frames(observer, numbers, shows))
    return opened, complete, evidence


def _seen(facts: Facts, transport: str, row: dict[str, Any], place: int) -> list[dict[str, Any]]:
    """Return the forged frames of one round where they left, and what the victim was told of them.

    place -- of the round: rounds were made one after the other, and each sent the same number.
    """
    told = facts.results["forgery"]
    victim, receiver = (told["addresses"][key] for key in ("victim", "receiver"))
    sent = row["sent"]["datagrams"]
    if transport == "tcp":
        sent = row["sent"]["connections"] + row["sent"]["guesses"]
    evidence = []
    for observer in facts.observers:
        rows = [
            each
            for each in observer["packet_list"]
            if each[4] == transport.upper()
            and (f"→ {told['port']} " in each[6] or f"{told['port']} → " in each[6])
        ]
        if observer["host"] == told["attacker"]:
            left = [each[0] for each in rows if (each[2], each[3]) == (victim, receiver)]
            left = left[place * sent : (place + 1) * sent]
            if left:
                shows = f"{len(left)} frames with the address of {told['victim']} leave here"
                evidence.append(frames(observer, left[:_EXAMPLES], shows))
        if transport == "tcp" and observer["host"] == told["victim"]:
            answers = [each[0] for each in rows if (each[2], each[3]) == (receiver, victim)
                       and "SYN, ACK" in each[6]]  # fmt: skip
            if answers:
                shows = f"{told['victim']} is told numbers for what it did not ask, and resets"
                evidence.append(frames(observer, answers[:_EXAMPLES], shows))
    return evidence


CHECK = check
