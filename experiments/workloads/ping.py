"""Ping from every host to every host, as in Figure 7: the proof that the wires are right.

Figure 7 is Windows' ping: four echo requests (ICMP type 8, RFC 792) of 32 bytes. No reply is no
number: where nothing came back, times and TTL are None and the loss is 100 %.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.workloads import Stage
    from lab.plan import Plan

COUNT, BYTES, INTERVAL_S, WAIT_S = 4, 32, 0.05, 1
MAX_COUNT = 1000
ICMP_HEADER = 8  # bytes
_REPLY = re.compile(
    r"^(?P<bytes>\d+) bytes from \S+ (?:icmp_)?seq=(?P<seq>\d+) ttl=(?P<ttl>\d+)"
    r" time=(?P<ms>[\d.]+) ms(?P<dup> \(DUP!\))?",
    re.MULTILINE,
)
_SENT = re.compile(r"^(\d+) packets transmitted", re.MULTILINE)


def check(parameters: dict[str, Any], plan: Plan) -> list[str]:
    """Return what is wrong with the parameters: count, bytes, interval_s."""
    del plan
    faults = [f"ping has no parameter {key!r}" for key in parameters if key not in _LIMITS]
    for key, (low, high) in _LIMITS.items():
        value = parameters.get(key, low)
        if not isinstance(value, int | float) or not low <= value <= high:
            faults.append(f"ping: {key} is {value!r}, must be a number from {low} to {high}")
    return faults


_LIMITS = {"count": (1, MAX_COUNT), "bytes": (0, 65507), "interval_s": (0.002, 10)}


def run(stage: Stage, parameters: dict[str, Any]) -> dict[str, Any]:
    """Ping between all ordered pairs of hosts that have an address; see `parse` for a row."""
    count = int(parameters.get("count", COUNT))
    size = int(parameters.get("bytes", BYTES))
    interval = float(parameters.get("interval_s", INTERVAL_S))
    named = [host.name for host in stage.plan.hosts if any(a.address for a in host.adapters)]
    stage.note(f"ping between {len(named)} hosts")

    def one(source: str) -> list[dict[str, Any]]:
        rows = []
        for target in named:
            if target == source:
                continue
            address = stage.plan.address(target)
            argv = ["ping", "-n", "-c", str(count), "-s", str(size)]
            argv += ["-i", f"{interval:g}", "-W", str(WAIT_S), address]
            deadline = count * (interval + WAIT_S) + 10
            done = stage.sessions[source].run(argv, check=False, deadline=deadline)
            said = done.stdout.decode(errors="replace")
            problem = done.stderr.decode(errors="replace").strip()
            rows.append({"source": source, "target": target, "address": address}
                        | parse(said, problem))  # fmt: skip
        return rows

    with ThreadPoolExecutor(max_workers=8) as pool:
        return {"ping": [row for rows in pool.map(one, named) for row in rows]}


def parse(said: str, problem: str = "") -> dict[str, Any]:
    """Read what ping(8) printed: that of iputils, or busybox's, which counts from 0.

    Returns sent, received, loss_percent, ttl (None unless all replies agree), min_ms, avg_ms,
    max_ms, replies [{seq, ttl, time_ms, bytes}] and problem (what it complained about, or None).
    Duplicates are not counted as replies. When nothing was sent, the loss is None, not 0.
    """
    replies = [
        {
            "seq": int(found["seq"]),
            "ttl": int(found["ttl"]),
            "time_ms": float(found["ms"]),
            "bytes": int(found["bytes"]) - ICMP_HEADER,
        }
        for found in _REPLY.finditer(said)
        if not found["dup"]
    ]
    sent_line = _SENT.search(said)
    sent = int(sent_line[1]) if sent_line else 0
    times = [reply["time_ms"] for reply in replies]
    ttls = {reply["ttl"] for reply in replies}
    return {
        "sent": sent,
        "received": len(replies),
        "loss_percent": round(100 * (sent - len(replies)) / sent, 1) if sent else None,
        "ttl": ttls.pop() if len(ttls) == 1 else None,
        "min_ms": min(times, default=None),
        "avg_ms": round(sum(times) / len(times), 3) if times else None,
        "max_ms": max(times, default=None),
        "replies": replies,
        "problem": problem or None,
    }
