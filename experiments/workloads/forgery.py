"""Forged senders: datagrams and connections that an attacker makes in another host's name.

    attacker: attacker       # the host that forges
    victim: peer             # in whose name
    receiver: guest          # who is to believe it
    count: 8                 # datagrams, and connections

It is done twice: as the hosts are, and with a filter at the receiver that knows which adapter an
address belongs to. Each time the attacker at last does the same in its own name, so that a
receiver that takes nothing at all is not mistaken for a careful one.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from experiments import attacks
from experiments.attacks.ends.forge import MAX_COUNT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from experiments.workloads import Stage
    from lab.plan import Plan

PORT = 4444
COUNT = 8
HOSTS = ("attacker", "victim", "receiver")
DEFENCES = ("none", "bound")
TABLE = "imlab_forgery"


def check(parameters: dict[str, Any], plan: Plan) -> list[str]:
    """Return what is wrong with the parameters."""
    known = (*HOSTS, "count")
    faults = [f"forgery has no parameter {key!r}" for key in parameters if key not in known]
    named = [parameters.get(key) for key in HOSTS]
    faults += [f"forgery: {fault}" for fault in attacks.faults(plan, named)]
    if len(set(map(str, named))) < len(named):
        faults.append("forgery: attacker, victim and receiver must be three hosts")
    count = parameters.get("count", COUNT)
    if not isinstance(count, int) or isinstance(count, bool) or not 0 < count <= MAX_COUNT:
        faults.append(f"forgery: count is {count!r}, must be 1 to {MAX_COUNT}")
    return faults


def run(stage: Stage, parameters: dict[str, Any]) -> dict[str, Any]:
    """Forge under each defence; return "forgery": who, and a row a defence."""
    rows = []
    for defence in DEFENCES:
        stage.note(f"forging at {parameters['attacker']}, defence: {defence}")
        with _defended(stage, parameters, bound=defence == "bound"):
            rows.append({"defence": defence, **_round(stage, parameters)})
    return {
        "forgery": {
            **{key: parameters[key] for key in HOSTS},
            "addresses": {key: stage.plan.address(parameters[key]) for key in HOSTS},
            "port": PORT,
            "rounds": rows,
        }
    }


def _round(stage: Stage, parameters: dict[str, Any]) -> dict[str, Any]:
    attacker, victim, receiver = (parameters[key] for key in HOSTS)
    numbers = {
        "port": PORT,
        "victim": victim,
        "receiver": receiver,
        "count": parameters.get("count", COUNT),
        "seed": stage.seed,
    }
    heard: list[dict[str, Any]] = []
    with attacks.start(stage, "listen", receiver, [], {"port": PORT}) as listening:
        listening.until("ready")
        with attacks.start(stage, "forge", attacker, [victim, receiver], numbers) as forging:
            sent = forging.until("forged")
            forging.until("honest")
            # What was sent first arrives first: the honest datagram is the last of all.
            for event in listening.events():
                heard.append(event)
                if event["event"] == "datagram" and event["text"] == "honest":
                    break
        heard += listening.end()
    address = stage.plan.address(victim)
    own = stage.plan.address(attacker)
    return {
        "sent": {key: sent[key] for key in ("datagrams", "connections", "guesses")},
        "accepted": {
            "datagrams": _count(heard, "datagram", address),
            "connections": _count(heard, "connection", address),
            "data": _count(heard, "data", address),
        },
        "honest": {
            "datagrams": _count(heard, "datagram", own),
            "connections": _count(heard, "connection", own),
        },
    }


def _count(heard: list[dict[str, Any]], event: str, source: str) -> int:
    return sum(each["event"] == event and each["source"] == source for each in heard)


@contextmanager
def _defended(stage: Stage, parameters: dict[str, Any], *, bound: bool) -> Iterator[None]:
    """Let the receiver take the victim's address from the victim's adapter alone, if `bound`."""
    session = stage.sessions[parameters["receiver"]]
    victim = attacks.order(stage.plan, parameters["victim"], [])["here"]
    address = victim["address"].split("/")[0]
    rules = f"""table ip {TABLE} {{
  chain input {{
    type filter hook input priority 0; policy accept;
    ip saddr {address} ether saddr != {victim["mac"]} counter drop
  }}
}}
"""
    if bound:
        session.run(["nft", "-f", "-"], stdin=rules.encode())
    try:
        yield
    finally:
        if bound:
            session.run(["nft", "delete", "table", "ip", TABLE])
