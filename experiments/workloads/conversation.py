"""People who talk to each other at the same time, over any system, under any countermeasure.

What an experiment says of it:

    system: irc_server            # a role that is a messaging system
    countermeasure: tls           # "none" by default; {name: {its parameters}} if it has any
    keep_keys: true               # key material into the run folder, so that Wireshark reads on
    people:
      - {at: peer, server: guest, account: CLIENT}
      - {at: guest, server: guest, account: SERVER}
    lines:                        # in order; the next is said when this one has arrived
      - {from: CLIENT, to: SERVER, text: Good evening}   # between two, `to` may be left out
      - {from: SERVER, size: 200}                        # a text of so many characters

A line that does not arrive as it was said is an error, not a finding.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from experiments.workloads.chat import repositories
from lab.errors import Fault, LabError
from provisioning import countermeasures, messaging
from provisioning.countermeasures import Participant, Setting
from provisioning.messaging import Message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from experiments.workloads import Stage
    from lab.plan import Plan
    from provisioning.messaging import Client, Exchange

_TOP = ("system", "countermeasure", "keep_keys", "people", "lines")
_PERSON = ("at", "server", "account")
_LINE = ("from", "to", "text", "size")
_WORDS = ("karibu", "habari", "asante", "kesho", "rafiki", "safari", "chakula", "nyumba", "barua")
MAX_SIZE = 4000  # characters; what a system carries in one message may be less (IRC: 400)
MAX_PEOPLE, MAX_LINES = 50, 10_000
ARRIVAL_DEADLINE = 20.0  # seconds for one line


def check(parameters: dict[str, Any], plan: Plan) -> list[str]:
    """Return what is wrong with the parameters."""
    faults = [f"conversation has no parameter {key!r}" for key in parameters if key not in _TOP]
    system = messaging.systems().get(str(parameters.get("system")))
    if system is None:
        there = ", ".join(sorted(messaging.systems()))
        faults.append(f"conversation: system is {parameters.get('system')!r}; there are: {there}")
    if not isinstance(parameters.get("keep_keys", False), bool):
        faults.append("conversation: keep_keys must be true or false")
    faults += _countermeasure_faults(parameters.get("countermeasure"), system, plan)
    people, lines = parameters.get("people"), parameters.get("lines")
    if not isinstance(people, list) or not 1 < len(people) <= MAX_PEOPLE:
        return [*faults, f"conversation: people must be a list of 2 to {MAX_PEOPLE}"]
    if not isinstance(lines, list) or not 0 < len(lines) <= MAX_LINES:
        return [*faults, f"conversation: lines must be a list of 1 to {MAX_LINES}"]
    known = {
        "at": {host.name for host in plan.hosts},
        "server": {
            host.name
            for host in plan.hosts
            if system is None or any(role.name == parameters["system"] for role in host.roles)
        },
        "account": {account.name for account in plan.accounts},
    }
    faults += _row_faults("person", people, _PERSON, known)
    names = [person.get("account") for person in people if isinstance(person, dict)]
    faults += [
        f"conversation: {name!r} takes part twice"
        for name, times in Counter(map(str, names)).items()
        if times > 1
    ]
    present = {name for name in names if isinstance(name, str)}
    faults += _row_faults("line", lines, _LINE, {"from": present, "to": present})
    return faults


def _countermeasure_faults(
    given: Any,  # noqa: ANN401 -- from YAML
    system: messaging.System | None,
    plan: Plan,
) -> list[str]:
    chosen = _chosen(given)
    if chosen is None or chosen[0] not in countermeasures.names():
        there = ", ".join(countermeasures.names())
        return [f"conversation: countermeasure is {given!r}; there are: {there}"]
    found = countermeasures.find(chosen[0])
    faults = [f"conversation: {fault}" for fault in found.check(chosen[1], plan)]
    if system is not None and (lack := found.lacks(system)):
        faults.append(f"conversation: no {chosen[0]} for this system: {lack}")
    return faults


def _chosen(given: Any) -> tuple[str, dict[str, Any]] | None:  # noqa: ANN401 -- from YAML
    """Return a countermeasure's name and parameters, None for what is neither."""
    if given is None:
        return "none", {}
    if isinstance(given, str):
        return given, {}
    if isinstance(given, dict) and len(given) == 1:
        ((name, parameters),) = given.items()
        if isinstance(name, str) and isinstance(parameters or {}, dict):
            return name, parameters or {}
    return None


def _row_faults(
    what: str, rows: list[Any], keys: tuple[str, ...], known: dict[str, set[str]]
) -> Iterator[str]:
    for number, row in enumerate(rows, 1):
        where = f"conversation: {what} {number}"
        if not isinstance(row, dict):
            yield f"{where} must be a mapping"
            continue
        yield from (f"{where} has no key {key!r}" for key in row if key not in keys)
        for key, there in known.items():
            left_out = key == "to" and key not in row and len(there) == 2  # noqa: PLR2004 -- a pair
            if not left_out and row.get(key) not in there:
                yield f"{where}: {key} is {row.get(key)!r}; there are: {', '.join(sorted(there))}"
        if "text" in keys:
            yield from _text_faults(where, row)
        if "to" in row and row["to"] == row.get("from"):
            yield f"{where}: {row['to']} talks to nobody else"


def _text_faults(where: str, line: dict[str, Any]) -> Iterator[str]:
    text, size = line.get("text"), line.get("size")
    if ("text" in line) == ("size" in line):
        yield f"{where} must have a text or a size"
    elif "text" in line and not (isinstance(text, str) and text):
        yield f"{where}: text must be a text"
    elif "size" in line and not (type(size) is int and 1 <= size <= MAX_SIZE):
        yield f"{where}: size is {size!r}, must be a whole number from 1 to {MAX_SIZE}"


def _text(line: dict[str, Any], number: int, seed: int) -> str:
    """Return what a line says: its text, or words by chance to its size, no two lines alike."""
    if "text" in line:
        return str(line["text"])
    chance = random.Random(f"{seed}/{number}")  # noqa: S311 - words to be had again, no secret
    words = [f"{chance.randrange(16**6):06x}"]
    while len(" ".join(words)) < line["size"]:
        words.append(chance.choice(_WORDS))
    # No blank at the end: some systems cut it off.
    return " ".join(words)[: line["size"]].rstrip().ljust(line["size"], "-")


def run(stage: Stage, parameters: dict[str, Any]) -> dict[str, Any]:
    """Hold the conversation; return "chat" (what was done and said) and "repository".

    Raises LabError when somebody cannot take part, or a line does not arrive.
    """
    name, own = _chosen(parameters.get("countermeasure")) or ("none", {})
    if parameters.get("keep_keys") and stage.reserve is None:
        raise LabError(
            "keeping the keys of a conversation",
            "there is no run folder to keep them in",
            fault=Fault.USER,
            todo="run it as an experiment, or without keep_keys",
        )
    accounts = {account.name: account for account in stage.plan.accounts}
    people = tuple(
        Participant(person["at"], person["server"], accounts[person["account"]])
        for person in parameters["people"]
    )
    system = messaging.find(parameters["system"])
    setting = Setting(
        stage.plan,
        {host.name: stage.sessions[host.name] for host in stage.plan.hosts},
        parameters["system"],
        system,
        people,
        own,
        stage.reserve if parameters.get("keep_keys") else None,
    )
    exchanges: list[Exchange] = []
    with countermeasures.find(name).applied(setting) as protection:
        clients: dict[str, Client] = {}
        with ExitStack() as visits:
            try:
                for person in people:
                    who = person.account.name
                    stage.note(
                        f"{who} at {person.at} joins {person.server}, countermeasure: {name}"
                    )
                    clients[who] = protection.client(person)
                    visits.callback(clients[who].close)
                    clients[who].sign_in(person.account)
                lines = [
                    {**line, "text": _text(line, number, stage.seed)}
                    for number, line in enumerate(parameters["lines"])
                ]
                said = _talk(stage, clients, lines)
            finally:
                exchanges += [each for client in clients.values() for each in client.exchanges]
        # Messages that rest on disk are looked for while the countermeasure is still in force.
        planted = tuple(
            messaging.readable(item, protection.places(item), system)
            for item in messaging.planted(exchanges)
        )
        repository = repositories(stage, system, planted)
    ids = {(item.sender, item.text): item.id for item in planted if item.kind == "message"}
    return {
        "chat": {
            "system": parameters["system"],
            "countermeasure": name,
            "visits": [exchange.to_json() for exchange in exchanges],
            "planted": [item.to_json() for item in planted],
            "lines": [
                {"from": by, "to": to, "planted": ids[by, text], "latency_s": round(latency, 6)}
                for by, to, text, latency in said
            ],
        },
        "repository": repository,
    }


def _talk(
    stage: Stage, clients: dict[str, Client], lines: list[dict[str, str]]
) -> list[tuple[str, str, str, float]]:
    """Say the lines; return (sender, recipient, text, seconds until it arrived) of each."""
    # What is there from earlier conversations is not what is waited for.
    there = {who: Counter(client.incoming()) for who, client in clients.items()}
    said = []
    for line in lines:
        by = line["from"]
        to = line.get("to") or next(name for name in clients if name != by)
        message = Message(by, line["text"])
        there[to][message] += 1
        stage.note(f"{by} to {to}: {len(line['text'])} characters")
        before = time.monotonic()
        clients[by].send(message.text, to)
        arrived = clients[to].receive(message, there[to][message], ARRIVAL_DEADLINE)
        said.append((by, to, message.text, arrived - before))
    return said
