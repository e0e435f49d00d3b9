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
    observers: [store, memory, ends]     # who looks at the server and the ends
    decoys: [{kind: message, text: …}]   # never sent, and looked for all the same

A line that does not arrive as it was said is an error, not a finding.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from experiments import observers, processor_time
from experiments.observers import Scene
from experiments.workloads.chat import repositories
from lab.errors import Fault, LabError
from provisioning import countermeasures, messaging
from provisioning.countermeasures import Participant, Setting
from provisioning.messaging import Message, Planted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from experiments.observers import Sight
    from experiments.workloads import Stage
    from lab.plan import Plan
    from provisioning.messaging import Client, Exchange

_TOP = (
    "system", "countermeasure", "keep_keys", "people", "lines", "observers", "decoys",
)  # fmt: skip
_PERSON = ("at", "server", "account")
_LINE = ("from", "to", "text", "size")
_WORDS = ("karibu", "habari", "asante", "kesho", "rafiki", "safari", "chakula", "nyumba", "barua")
MAX_SIZE = 4000  # characters; what a system carries in one message may be less (IRC: 400)
_DECOY = ("kind", "text")
KINDS = ("message", "password", "user", "contact")
MAX_PEOPLE, MAX_LINES = 50, 10_000
PARTS = 6  # of a conversation, whose processor time is measured each for itself
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
    faults += _observer_faults(parameters)
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


def _observer_faults(parameters: dict[str, Any]) -> Iterator[str]:
    wanted, decoys = parameters.get("observers", []), parameters.get("decoys", [])
    if not isinstance(wanted, list) or not all(name in observers.names() for name in wanted):
        there = ", ".join(observers.names())
        yield f"conversation: observers must be a list of some of: {there}"
    if not isinstance(decoys, list):
        yield "conversation: decoys must be a list"
    else:
        yield from _row_faults("decoy", decoys, _DECOY, {"kind": set(KINDS)})


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
    wanted = {name: observers.get(name) for name in parameters.get("observers", [])}
    sights: list[Sight] = []
    with countermeasures.find(name).applied(setting) as protection:
        clients: dict[str, Client] = {}
        scene = Scene(stage, setting, clients)
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
                talk = _measured(stage, setting, clients, lines)
                sights += _looks(scene, wanted, later=False)
            finally:
                exchanges += [each for client in clients.values() for each in client.exchanges]
        left = time.time()
        # Messages that rest on disk are looked for while the countermeasure is still in force.
        planted = tuple(
            messaging.readable(item, protection.places(item), system)
            for item in messaging.planted(exchanges)
        )
        planted += _never_sent(people, planted)
        repository = repositories(stage, system, planted)
        sights += _looks(scene, wanted, later=True)
    ids = {(item.sender, item.text): item.id for item in planted if item.kind == "message"}
    return {
        "chat": {
            "system": parameters["system"],
            "countermeasure": name,
            "people": [
                {"account": who.account.name, "at": who.at, "server": who.server} for who in people
            ],
            "visits": [exchange.to_json() for exchange in exchanges],
            "planted": [item.to_json() for item in planted],
            "lines": [
                {
                    "from": line.by,
                    "to": line.to,
                    "planted": ids[line.by, line.text],
                    "at": round(line.at, 6),
                    "latency_s": round(line.latency_s, 6),
                }
                for line in talk.lines
            ],
            "talk": {"started": talk.started, "ended": talk.ended, "parts": talk.parts},
            "left": left,
        },
        "repository": repository,
        "sights": [sight.to_json() for sight in sights],
    }


def _looks(
    scene: Scene, wanted: Mapping[str, observers.Observer], *, later: bool
) -> Iterator[Sight]:
    for name, observer in wanted.items():
        if observer.LATER is later:
            scene.stage.note(f"looking: {name}")
            yield from observer.look(scene)


def _never_sent(
    people: tuple[Participant, ...], planted: tuple[Planted, ...]
) -> tuple[Planted, ...]:
    """Return the passwords that were typed and never sent in any form: the ends alone have them."""
    sent = {item.text for item in planted if item.kind == "password"}
    typed = [who for who in people if who.account.password not in sent]
    first = sum(item.kind == "password" for item in planted) + 1
    return tuple(
        Planted(
            f"password-{number}",
            "password",
            who.account.password,
            who.account.name,
            None,
            who.server,
            who.at,
            wire=False,
            directions=(),
            readable=("ends",),
        )
        for number, who in enumerate(typed, first)
    )


@dataclass(frozen=True, slots=True)
class _Said:
    """A line; at is when it was said, in seconds since the epoch."""

    by: str
    to: str
    text: str
    at: float
    latency_s: float


@dataclass(frozen=True, slots=True)
class _Talk:
    """What was said from when to when; parts -- processor time by place and program, and lines."""

    lines: list[_Said]
    started: float
    ended: float
    parts: list[dict[str, Any]]


def _measured(
    stage: Stage, setting: Setting, clients: Mapping[str, Client], lines: list[dict[str, str]]
) -> _Talk:
    """Talk, and tell what it cost; the clients' own share is that of this process."""
    hosts = tuple(dict.fromkeys((*(who.at for who in setting.people), *setting.servers)))
    there = {who: Counter(client.incoming()) for who, client in clients.items()}
    size = -(-len(lines) // PARTS)
    said: list[_Said] = []
    parts: list[dict[str, Any]] = []
    for first in range(0, len(lines), size):
        before, looks = _processors(stage, hosts)
        mine = time.process_time()
        part = _talk(stage, clients, there, lines[first : first + size])
        spent = time.process_time() - mine
        after, later = _processors(stage, hosts)
        cpu = {host: processor_time.since(before[host], after[host]) for host in hosts}
        ours = {"clients": {"imlab": [round(spent, 6)] * 2}}
        row = {"lines": len(part), "ended": time.time(), "looks_s": [*looks, *later]}
        parts.append({**row, "cpu_s": {**ours, **cpu}})
        said += part
    return _Talk(said, said[0].at, said[-1].at + said[-1].latency_s, parts)


def _processors(
    stage: Stage, hosts: tuple[str, ...]
) -> tuple[dict[str, processor_time.Used], list[float]]:
    """Return the processor time used at each host, and how long each took to tell.

    It is the same question every time: how long it takes tells how busy the machine is.
    """
    used, took = {}, []
    for host in hosts:
        before = time.monotonic()
        used[host] = processor_time.used(stage.sessions[host])
        took.append(round(time.monotonic() - before, 6))
    return used, took


def _talk(
    stage: Stage,
    clients: Mapping[str, Client],
    there: dict[str, Counter[Message]],
    lines: list[dict[str, str]],
) -> list[_Said]:
    """Say the lines, one after the other.

    there -- what each has received: what is there from before is not what is waited for.
    """
    said = []
    for line in lines:
        by = line["from"]
        to = line.get("to") or next(name for name in clients if name != by)
        message = Message(by, line["text"])
        there[to][message] += 1
        stage.note(f"{by} to {to}: {len(line['text'])} characters")
        before, at = time.monotonic(), time.time()
        clients[by].send(message.text, to)
        arrived = clients[to].receive(message, there[to][message], ARRIVAL_DEADLINE)
        said.append(_Said(by, to, message.text, at, arrived - before))
    return said
