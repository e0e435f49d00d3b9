"""Floods: how a visitor of a web server fares before, during and after, and with what against it.

    attacker: attacker       # the host that floods
    server: guest            # the web chat's server, at port 80
    visitor: peer            # who visits it meanwhile
    syns: 600                # connections that are never completed, at first
    requests: 2000           # requests in all, …
    connections: 64          # … over so many connections
    visits: 6                # before, during, after

SYNs come in the name of addresses that nobody has, so that they stay half open at the server. They
are met by nothing, by SYN cookies, and by a limit on new connections a second. Requests are met by
nothing, and by a limit on connections from one address.
"""

from __future__ import annotations

import ipaddress
import statistics
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from experiments import attacks, people
from experiments.attacks.ends import flood, visit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from experiments.workloads import Stage
    from lab.plan import Plan
    from provisioning.transport import Session

HOSTS = ("attacker", "server", "visitor")
PORT, PAGE = 80, "/client/Home.php"
# Of a visitor, in seconds. A SYN that is not answered is sent again after 1 s (RFC 6298, 2): during
# a flood that is too late, before and after it a busy machine may take its time.
PATIENCE_S, LONG_S = 0.9, 5.0
BOUNDS = {
    "syns": (1, flood.MAX_SYNS, 600),
    "requests": (1, flood.MAX_REQUESTS, 2000),
    "connections": (1, flood.MAX_CONNECTIONS, 64),
    "visits": (1, visit.MAX_COUNT, 6),
}
SYN_DEFENCES = ("none", "cookies", "limit")
REQUEST_DEFENCES = ("none", "limit")
FORGED = 16  # addresses in whose name SYNs come
TABLE = "imlab_flood"
COOKIES = "net.ipv4.tcp_syncookies"
SYNS_A_SECOND, SYN_BURST = 20, 40
CONNECTIONS_EACH = 8
EMPTY_DEADLINE = 90.0  # seconds; half-open connections last about 63 (tcp(7), tcp_synack_retries)


def check(parameters: dict[str, Any], plan: Plan) -> list[str]:
    """Return what is wrong with the parameters."""
    faults = people.faults("flood", parameters, plan, hosts=HOSTS, accounts=(), other=tuple(BOUNDS))
    named = [parameters.get(key) for key in HOSTS]
    faults += [f"flood: {fault}" for fault in attacks.faults(plan, named)]
    if len(set(map(str, named))) < len(named):
        faults.append("flood: attacker, server and visitor must be three hosts")
    for key, (low, high, usual) in BOUNDS.items():
        value = parameters.get(key, usual)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            faults.append(f"flood: {key} is {value!r}, must be {low} to {high}")
    return faults + people.role_faults("flood", plan, parameters.get("server"), ("chat_server",))


def run(stage: Stage, parameters: dict[str, Any]) -> dict[str, Any]:
    """Flood under each defence; return "flood": the rounds of both kinds."""
    given = {key: parameters.get(key, usual) for key, (_, _, usual) in BOUNDS.items()}
    told = {key: parameters[key] for key in HOSTS} | given
    syn_rounds, request_rounds = [], []
    for defence in SYN_DEFENCES:
        stage.note(f"SYNs, defence: {defence}")
        syn_rounds.append({"defence": defence, **_syns(stage, told, defence)})
    for defence in REQUEST_DEFENCES:
        stage.note(f"requests, defence: {defence}")
        request_rounds.append({"defence": defence, **_requests(stage, told, defence)})
    return {"flood": {**told, "syn_rounds": syn_rounds, "request_rounds": request_rounds}}


def _syns(stage: Stage, told: dict[str, Any], defence: str) -> dict[str, Any]:
    session = stage.sessions[told["server"]]
    numbers = {
        "kind": "syns",
        "server": told["server"],
        "port": PORT,
        "count": told["syns"],
        "seed": stage.seed,
        **_forged(stage.plan, told["attacker"]),
    }
    rule = ""
    if defence == "limit":
        rule = f"tcp flags & (syn | ack) == syn limit rate over {SYNS_A_SECOND}/second "
        rule += f"burst {SYN_BURST} packets drop"
    with _cookies(session, on=defence == "cookies"), _rule(session, rule):
        before = _visits(stage, told)
        with attacks.start(stage, "flood", told["attacker"], [told["server"]], numbers) as flooding:
            flooding.until("going")
            half_open = _half_open(session)
            during = _visits(stage, told, PATIENCE_S)
            (sent,) = [event for event in flooding.end() if event["event"] == "sent"]
    _empty(session)
    return {
        "sent": sent["syns"],
        "to_the_end": sent["to_the_end"],
        "half_open": half_open,
        "before": before,
        "during": during,
        "after": _visits(stage, told),
    }


def _requests(stage: Stage, told: dict[str, Any], defence: str) -> dict[str, Any]:
    numbers = {
        "kind": "requests",
        "server": told["server"],
        "port": PORT,
        "path": PAGE,
        "count": told["requests"],
        "connections": told["connections"],
    }
    rule = ""
    if defence == "limit":
        rule = "ct state new add @each { ip saddr ct count over " + f"{CONNECTIONS_EACH} }} drop"
    before = _visits(stage, told)
    with (
        _rule(stage.sessions[told["server"]], rule),
        attacks.start(stage, "flood", told["attacker"], [told["server"]], numbers) as flooding,
    ):
        flooding.until("going")
        during = _visits(stage, told, PATIENCE_S)
        (sent,) = [event for event in flooding.end() if event["event"] == "sent"]
    return {
        **{key: sent[key] for key in ("opened", "refused", "answered", "to_the_end")},
        "before": before,
        "during": during,
        "after": _visits(stage, told),
    }


def _visits(stage: Stage, told: dict[str, Any], patience_s: float = LONG_S) -> dict[str, Any]:
    """Return how many visits were made and answered, and the median of their times."""
    numbers = {
        "server": told["server"],
        "port": PORT,
        "path": PAGE,
        "count": told["visits"],
        "patience_s": patience_s,
    }
    with attacks.start(stage, "visit", told["visitor"], [told["server"]], numbers) as visiting:
        rows = [event for event in visiting.events() if event["event"] == "visit"]
    times = [row["seconds"] for row in rows if row["seconds"] is not None]
    return {
        "visits": len(rows),
        "answered": len(times),
        "median_s": round(statistics.median(times), 6) if times else None,
        "worst_s": round(max(times), 6) if times else None,
    }


def _forged(plan: Plan, attacker: str) -> dict[str, Any]:
    """Return addresses of the attacker's network that nobody has, and that network: pure."""
    here = attacks.order(plan, attacker, [])["here"]["address"]
    network = ipaddress.IPv4Interface(here).network
    taken = {
        ipaddress.IPv4Interface(adapter.address).ip
        for host in plan.hosts
        for adapter in host.adapters
        if adapter.address
    }
    free = [str(each) for each in network.hosts() if each not in taken]
    return {"network": str(network), "sources": free[-FORGED:]}


@contextmanager
def _cookies(session: Session, *, on: bool) -> Iterator[None]:
    """Switch SYN cookies of a host on or off, and back."""
    before = session.run(["sysctl", "-n", COOKIES]).stdout.decode().strip()
    session.run(["sysctl", "-qw", f"{COOKIES}={int(on)}"])
    try:
        yield
    finally:
        session.run(["sysctl", "-qw", f"{COOKIES}={before}"])


@contextmanager
def _rule(session: Session, rule: str) -> Iterator[None]:
    """Let a host judge what comes to its web server by a rule, "" for none."""
    rules = f"""table ip {TABLE} {{
  set each {{ type ipv4_addr; flags dynamic; size 1024; }}
  chain input {{
    type filter hook input priority 0; policy accept;
    iifname "eth0" tcp dport {PORT} {rule}
  }}
}}
"""
    if rule:
        session.run(["nft", "-f", "-"], stdin=rules.encode())
    try:
        yield
    finally:
        if rule:
            session.run(["nft", "delete", "table", "ip", TABLE])


def _half_open(session: Session) -> int:
    """Return how many connections wait for the third step of their handshake."""
    listed = session.run(["ss", "-Htn", "state", "syn-recv"]).stdout.decode()
    return len(listed.splitlines())


def _empty(session: Session) -> None:
    """Return when nothing is half open any more; where the kernel can, it is made to forget."""
    session.run(["ss", "-K", "-tn", "state", "syn-recv"], check=False)

    def why_not() -> str:
        left = _half_open(session)
        return f"{left} connections are half open" if left else ""

    attacks.wait_for("the server to be as before", why_not, EMPTY_DEADLINE)
