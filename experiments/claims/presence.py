"""Presence and contact lists: who was told, by the server or by the wire."""

from __future__ import annotations

from typing import Any, Final

from experiments.claims.facts import Facts, Outcome, Verdict, frames, not_measured, stored

_WORDS: Final = {
    "presence": "who is on line",
    "contacts": "names of others",
    "addresses": "from which address",
}


def check(facts: Facts, system: str, to: str, what: list[str], *, told: bool = True) -> Outcome:
    """Each of "presence", "contacts", "addresses" was told about the one who is watched, or none.

    to -- "contact", "stranger", or "wire": whoever listens where the contact sits.
    """
    scene = facts.results.get("presence")
    if not scene:
        return not_measured("nobody was watched")
    if to == "wire":
        return _wire(facts, scene, system, what, told=told)
    row = next((r for r in scene["told"] if (r["system"], r["to"]) == (system, to)), None)
    if row is None:
        return not_measured(f"no {to} asked {system}")
    name = scene["watched"]
    known = {
        "presence": [state for who, state in row["presence"] if who.lower() == name.lower()],
        "contacts": row["contacts"],
        "addresses": [
            f"{who} at {where}, idle for {row['idle_s'].get(who, '?')} s"
            for who, where in row["addresses"].items()
        ],
    }
    words = [f"{_WORDS[each]}: {', '.join(map(str, known[each])) or 'nothing'}" for each in what]
    right = all(bool(known[each]) is told for each in what)
    text = f"A {to}, {scene[to]}, was told of {name} by {system}: {'; '.join(words)}."
    evidence = [stored("results.json", f"presence, {system}, told to the {to}")]
    evidence += _frames(facts, scene, scene[f"{to}_at"], system)
    return Outcome(Verdict.CONFIRMED if right else Verdict.REFUTED, text, evidence)


def _wire(
    facts: Facts, scene: dict[str, Any], system: str, what: list[str], *, told: bool
) -> Outcome:
    at = scene["contact_at"]
    observers = [each for each in facts.observers if each["host"] == at]
    if not observers or not any(row["system"] == system for row in scene["told"]):
        return not_measured(f"nobody listened at {at}, or {system} was not used")
    evidence = _frames(facts, scene, at, system)
    kinds = {kind for each in evidence if (kind := each.pop("kind", ""))}
    seen = {"presence": "presence" in kinds, "contacts": "contact" in kinds}
    words = [f"{_WORDS[each]}: {'read' if seen[each] else 'not read'}" for each in what]
    text = f"On the wire at {at}, of {scene['watched']}: {', '.join(words)}."
    if all(seen[each] is told for each in what):
        doubtful = not told and any(each["doubts"] for each in observers)
        return Outcome(Verdict.INCONCLUSIVE if doubtful else Verdict.CONFIRMED, text, evidence)
    doubtful = told and any(each["doubts"] for each in observers)
    return Outcome(Verdict.INCONCLUSIVE if doubtful else Verdict.REFUTED, text, evidence)


def _frames(facts: Facts, scene: dict[str, Any], at: str, system: str) -> list[dict[str, Any]]:
    """Return what decoders read about the one who is watched, at a host's adapters."""
    protocol = {"irc_server": "irc", "xmpp_server": "xmpp"}.get(system)
    name = scene["watched"].lower()
    evidence: list[dict[str, Any]] = []
    for observer in facts.observers:
        if observer["host"] != at:
            continue
        spoken = {s["number"]: s["protocol"] for s in observer["streams"]}
        for finding in observer["findings"]:
            proof = finding["proofs"][0]
            if finding["kind"] not in {"presence", "contact"}:
                continue
            about = {finding["text"], *finding["about"].values()}
            if spoken.get(proof["stream"]) == protocol and any(name in w.lower() for w in about):
                shows = f"{finding['where']}: {finding['text']}"
                if sender := finding["about"].get("sender"):
                    shows += f", of {sender}"
                found = frames(observer, proof["frames"], shows, stream=proof["stream"])
                evidence.append({**found, "kind": finding["kind"]})
    return evidence


CHECK = check
