"""Chat in port 80: whether a firewall let it pass, and whether its bytes tell it from the web."""

from __future__ import annotations

from typing import Any, Final

from experiments.claims.facts import Facts, Outcome, Verdict, count, frames, not_measured, stored

_WEB: Final = 80
_PROTOCOLS: Final = {"chat_server": "http", "irc_server": "irc", "xmpp_server": "xmpp"}


def check(facts: Facts, shows: str, firewall: str = "ports") -> Outcome:
    """Judge one of these, by what `shows` says.

    passes  -- chat at port 80 arrived, while the same at its own port was refused;
    refused -- chat at port 80 was refused, while the web passed;
    told    -- each connection to port 80 that carried a message is known by its bytes.
    """
    rows = facts.results.get("port80", {}).get("attempts", [])
    rows = [row for row in rows if row["firewall"] == firewall]
    if not rows:
        return not_measured("nothing was tried")
    if shows == "told":
        return _told(facts, rows)
    return _passed(rows, hidden=shows == "passes", firewall=firewall)


def _passed(rows: list[dict[str, Any]], *, hidden: bool, firewall: str) -> Outcome:
    words = []
    right = True
    for row in rows:
        web, own = row["own"] == _WEB, row["port"] == row["own"]
        right &= row["passed"] is (web or (hidden and not own))
        words.append(f"{row['system']} at {row['port']} {'passed' if row['passed'] else 'refused'}")
    evidence = [
        stored("results.json", f"{row['system']} at port {row['port']}: {row['why'] or 'arrived'}")
        for row in rows
    ]
    text = f"Firewall “{firewall}”: {', '.join(words)}."
    return Outcome(Verdict.CONFIRMED if right else Verdict.REFUTED, text, evidence)


def _told(facts: Facts, rows: list[dict[str, Any]]) -> Outcome:
    """Hold what each connection was against what the decoders took it for."""
    at = facts.results["port80"]["at"]
    truth = {row["text"]: row["system"] for row in rows if row["passed"] and row["port"] == _WEB}
    seen = right = 0
    words: list[str] = []
    evidence = []
    for item in facts.planted("message"):
        system = truth.get(item["text"])
        for observer in facts.observers if system else ():
            if observer["host"] != at:
                continue
            for number in {hit["stream"] for hit in item["observers"][observer["name"]]["hits"]}:
                stream = next(s for s in observer["streams"] if s["number"] == number
                              and s["transport"] == "tcp")  # fmt: skip
                if not stream["server"].endswith(f":{_WEB}"):
                    continue
                seen += 1
                right += stream["protocol"] == _PROTOCOLS[str(system)]
                words.append(f"{system} as {stream['protocol']}")
                hit = next(h for h in item["observers"][observer["name"]]["hits"]
                           if h["stream"] == number)  # fmt: skip
                told = f"{stream['protocol']} at {stream['server']}: “{item['text']}”"
                evidence.append(frames(observer, hit["frames"], told, stream=number))
    if not seen:
        return not_measured(f"no message was seen at port {_WEB}")
    text = f"{right} of {count(seen, 'connection')} to port {_WEB} told by their bytes: "
    text += f"{', '.join(sorted(set(words)))}."
    complete = {word.partition(" ")[0] for word in words} == set(_PROTOCOLS)
    if right == seen and not complete:
        return Outcome(Verdict.NOT_MEASURED, f"{text} Not all systems were seen there.", evidence)
    return Outcome(Verdict.CONFIRMED if right == seen else Verdict.REFUTED, text, evidence)


CHECK = check
