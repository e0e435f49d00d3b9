"""Ping reaches every host from every host, with the TTL that each system starts with."""

from __future__ import annotations

from itertools import permutations
from typing import Any

from experiments.claims.facts import Facts, Outcome, Verdict, not_measured, stored


def check(facts: Facts) -> Outcome:
    """Every pair of hosts with an address, both ways: no loss, and the planned TTL in replies."""
    hosts = [h.name for h in facts.plan.hosts if any(a.address for a in h.adapters)]
    rows = {(row["source"], row["target"]): row for row in facts.results.get("ping", [])}
    wanted = list(permutations(hosts, 2))
    measured = [rows[pair] for pair in wanted if pair in rows and rows[pair]["sent"]]
    if not measured:
        return not_measured("nothing was pinged")
    faults = [fault for row in measured if (fault := _fault(facts, row))]
    ttls = {row["target"]: row["ttl"] for row in measured if row["ttl"] is not None}
    seen = ", ".join(f"{ttl} from {host}" for host, ttl in sorted(ttls.items()))
    missing = [f"{a} → {b}" for a, b in wanted if (a, b) not in {_pair(row) for row in measured}]
    sent, received = (sum(row[key] for row in measured) for key in ("sent", "received"))
    text = (
        f"{received} of {sent} echo requests answered between {len(measured)} of {len(wanted)} "
        f"pairs; TTL {seen or 'unknown, nothing answered'}."
    )
    evidence = [stored("results.json", f"ping {a} → {b}") for a, b in map(_pair, measured)]
    if faults:
        return Outcome(Verdict.REFUTED, f"{text} {'; '.join(faults)}.", evidence)
    if missing:
        unmeasured = f"{text} Not measured: {', '.join(missing)}."
        return Outcome(Verdict.NOT_MEASURED, unmeasured, evidence)
    return Outcome(Verdict.CONFIRMED, text, evidence)


def _pair(row: dict[str, Any]) -> tuple[str, str]:
    return row["source"], row["target"]


def _fault(facts: Facts, row: dict[str, Any]) -> str:
    name = f"{row['source']} → {row['target']}"
    if row["received"] < row["sent"]:
        return f"{name}: {row['sent'] - row['received']} of {row['sent']} lost"
    ttl = facts.plan.host(row["target"]).ttl
    if any(reply["ttl"] != ttl for reply in row["replies"]):
        return f"{name}: TTL {row['ttl']} instead of {ttl}"
    return ""


CHECK = check
