"""The messages travel over TCP, each connection after a three-way handshake."""

from __future__ import annotations

from typing import Any

from experiments.claims.facts import Facts, Outcome, Verdict, count, frames, not_measured


def check(facts: Facts) -> Outcome:
    """Every stream in which a message was read: SYN, SYN/ACK, ACK, then the first data."""
    carriers = _carriers(facts)
    if not carriers:
        return not_measured("no message was seen in any capture")
    evidence: list[dict[str, Any]] = []
    faults: list[str] = []
    doubts: list[str] = []
    options: list[str] = []
    for observer, transport, number in carriers:
        shake = next((h for h in observer["handshakes"] if h["stream"] == number), None)
        name = f"{observer['name']} {transport} stream {number}"
        if transport != "tcp":
            faults.append(f"{name} is not TCP")
        elif not shake or not shake["complete"] or _first(observer, number) < _last(shake):
            (doubts if observer["doubts"] else faults).append(f"{name} has no complete handshake")
        else:
            numbers = [step["frame"] for step in shake["steps"]]
            shows = f"SYN, SYN/ACK, ACK {shake['source']} to {shake['destination']}"
            evidence.append(frames(observer, numbers, shows))
            options.append(_options(shake["steps"]))
    text = (
        f"{len(evidence)} of {count(len(carriers), 'connection')} with messages, counted per "
        f"observer, open{'s' if len(carriers) == 1 else ''} with SYN, SYN/ACK and ACK before the "
        f"first data"
    )
    if options:
        text += f"; {', '.join(sorted(set(options)))}"
    if faults or doubts:
        verdict = Verdict.REFUTED if faults else Verdict.INCONCLUSIVE
        return Outcome(verdict, f"{text}. {'; '.join((faults + doubts)[:5])}.", evidence)
    return Outcome(Verdict.CONFIRMED, text + ".", evidence)


def _carriers(facts: Facts) -> list[tuple[dict[str, Any], str, int]]:
    """Return (observer, transport, stream) wherever a planted message was read."""
    found = {
        (name, hit["transport"], hit["stream"])
        for row in facts.planted("message")
        for name, seen in row["observers"].items()
        for hit in seen["hits"]
    }
    return [(facts.observer(name), transport, number) for name, transport, number in sorted(found)]


def _first(observer: dict[str, Any], number: int) -> int:
    stream = next(
        s for s in observer["streams"] if s["number"] == number and s["transport"] == "tcp"
    )
    return min((int(chunk["frame"]) for chunk in stream["chunks"]), default=0)


def _last(shake: dict[str, Any]) -> int:
    """Return the frame of the ACK, which may carry the first data itself."""
    return max(int(step["frame"]) for step in shake["steps"])


def _options(steps: list[dict[str, Any]]) -> str:
    words = []
    for step in steps[:2]:
        scale = f"WS {step['window_scale']}" if step["window_scale"] else "no WS"
        sack = "SACK permitted" if step["sack_permitted"] else "no SACK"
        words.append(
            f"{step['flags']}: window {step['window']}, MSS {step['mss']}, {scale}, {sack}"
        )
    return " / ".join(words)


CHECK = check
