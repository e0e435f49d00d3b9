"""Addresses, URLs, referers and banners lie open in the captures."""

from __future__ import annotations

from typing import Any, Final

from experiments.claims.facts import Facts, Outcome, Verdict, count, frames, not_measured

_NAMES: Final = {
    "address": ("IP address", "IP addresses"),
    "url": ("URL", "URLs"),
    "referer": ("referer", "referers"),
    "server": ("server banner", "server banners"),
    "browser": ("browser banner", "browser banners"),
    "cookie": ("session cookie", "session cookies"),
    "header": ("header", "headers"),
}


def check(facts: Facts, kinds: list[str], examples: int = 2) -> Outcome:
    """Each of these kinds was read at every observer; `examples` of each become evidence."""
    observers = facts.observers
    if not any(row["packet_list"] for row in observers):
        return not_measured("nothing was captured")
    evidence: list[dict[str, Any]] = []
    words: list[str] = []
    missing: list[str] = []
    doubtful: list[str] = []
    for kind in kinds:
        texts: dict[str, None] = {}
        for observer in observers:
            found = _found(facts, observer, kind)
            if not found:
                (doubtful if observer["doubts"] else missing).append(
                    f"{kind} at {observer['name']}"
                )
            for text, numbers, shows in found[:examples]:
                evidence.append(frames(observer, numbers, f"{shows}: {text}"))
            texts.update(dict.fromkeys(text for text, *_ in found))
        one, many = _NAMES.get(kind, (kind, ""))
        words.append(count(len(texts), one, many) + _sample(list(texts)))
    text = f"Read: {'; '.join(words)}."
    if missing or doubtful:
        text += f" Not seen: {', '.join(missing + doubtful)}."
        verdict = Verdict.REFUTED if missing else Verdict.INCONCLUSIVE
        return Outcome(verdict, text, evidence)
    return Outcome(Verdict.CONFIRMED, text, evidence)


def _sample(texts: list[str], length: int = 3) -> str:
    more = ", …" if len(texts) > length else ""
    return f" ({', '.join(texts[:length])}{more})" if texts else ""


def _found(facts: Facts, observer: dict[str, Any], kind: str) -> list[tuple[str, list[int], str]]:
    """Return (text, frames, what it is) for everything of a kind that an observer read."""
    if kind == "address":
        rows = observer["packet_list"]
        known = {
            a.address.partition("/")[0] for h in facts.plan.hosts for a in h.adapters if a.address
        }
        return [
            (address, [number], "address in the IP header")
            for address in sorted(known)
            if (number := next((r[0] for r in rows if address in (r[2], r[3])), None)) is not None
        ]
    return [
        (finding["text"], finding["proofs"][0]["frames"], finding["where"])
        for finding in observer["findings"]
        if finding["kind"] == kind
    ]


CHECK = check
