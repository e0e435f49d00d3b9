"""An attacker on the path: false ARP replies bring what two hosts say to a third, which changes it.

    attacker: attacker       # where the attacker sits
    server: guest
    from: WANJIKU            # who writes, from `from_at`: the way from there to the server is taken
    from_at: peer
    to: OTIENO               # who reads, at the server
    systems: [irc_server]            # all three if left out
    countermeasures: [none, port-scrambler, tls, end-to-end]

Each time WANJIKU writes twice. First the attacker looks for the text and puts another of the same
length in its place; then it changes one bit of whatever is sent. What OTIENO is shown tells.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from experiments import attacks, people
from experiments.people import SYSTEMS, Record
from lab.errors import LabError
from provisioning.messaging import Message

if TYPE_CHECKING:
    from experiments.attacks import Running
    from experiments.people import Scene
    from experiments.workloads import Stage
    from lab.plan import Plan

COUNTERMEASURES = ("none", "port-scrambler", "tls", "end-to-end")
ARRIVAL_DEADLINE = 10.0  # seconds
REFUSAL_DEADLINE = 4.0  # for what must not come; a message takes a fiftieth of it
TEXT, PUT = "Pay-500-to-Akinyi", "Pay-900-to-Malory"  # of the same length, one word in any protocol
SECOND = "Then-come-home-at-six"
NEVER = "what nobody says"
LOOK_S = 0.02


def check(parameters: dict[str, Any], plan: Plan) -> list[str]:
    """Return what is wrong with the parameters."""
    faults = people.faults(
        "onpath",
        parameters,
        plan,
        hosts=("attacker", "server", "from_at"),
        accounts=("from", "to"),
        other=("systems", "countermeasures"),
    )
    named = [parameters.get(key) for key in ("attacker", "server", "from_at")]
    faults += [f"onpath: {fault}" for fault in attacks.faults(plan, named)]
    if len(set(map(str, named))) < len(named):
        faults.append("onpath: attacker, server and from_at must be three hosts")
    chosen = parameters.get("countermeasures", list(COUNTERMEASURES))
    faults += people.choice_faults("onpath", "countermeasures", chosen, COUNTERMEASURES)
    systems = parameters.get("systems", list(SYSTEMS))
    if wrong := people.choice_faults("onpath", "systems", systems, SYSTEMS):
        return faults + wrong
    return faults + people.role_faults("onpath", plan, parameters.get("server"), systems)


def run(stage: Stage, parameters: dict[str, Any]) -> dict[str, Any]:
    """Attack each system under each countermeasure; return "chat" and "onpath"."""
    record = Record()
    server = parameters["server"]
    seats = {parameters["from"]: parameters["from_at"], parameters["to"]: server}
    rows: list[dict[str, Any]] = []
    for system in parameters.get("systems", SYSTEMS):
        for name in parameters.get("countermeasures", COUNTERMEASURES):
            stage.note(f"{system}, countermeasure: {name}, with {parameters['attacker']} between")
            with people.scene(stage, record, system, server, seats, countermeasure=name) as here:
                row = _attacked(here, parameters, f"-{len(rows) + 1}")
            rows.append({"system": system, "countermeasure": name, **row})
    keys = ("attacker", "server", "from", "from_at", "to")
    return {
        "chat": record.chat(),
        "onpath": {**{key: parameters[key] for key in keys}, "rows": rows},
    }


def _attacked(scene: Scene, parameters: dict[str, Any], tag: str) -> dict[str, Any]:
    """Let somebody write with an attacker on the way; return what came of it."""
    stage, server, at = scene.stage, parameters["server"], parameters["from_at"]
    by, to = parameters["from"], parameters["to"]
    text, put, second = (each + tag for each in (TEXT, PUT, SECOND))
    numbers = {"server": server, "find": text, "put": put}
    # A host takes a reply that it did not ask for if it knows the other one already.
    for host in (at, server):
        stage.sessions[host].run(["ip", "neigh", "flush", "all"])
    stage.sessions[at].run(["ping", "-n", "-c", "1", "-W", "2", stage.plan.address(server)])
    with attacks.start(stage, "onpath", parameters["attacker"], [at, server], numbers) as between:
        between.until("ready")
        _deceived(stage, parameters)
        with scene.people() as here:
            reader = here.sign_in(to)
            writer = here.sign_in(by)
            known = reader.incoming()
            _turn(between, "replace")
            writer.send(text, to)
            arrived = _new(reader, known, ARRIVAL_DEADLINE)
            _turn(between, "flip")
            known = reader.incoming()
            flipped, why = _flipped(writer, reader, Message(by, second), to, known)
        _turn(between, "truth")
        _honest(stage, parameters)
        ended = next(event for event in between.end() if event["event"] == "done")
    return {
        "text": text,
        "put": put,
        "arrived": arrived,
        "second": second,
        "flipped": flipped,
        "why": why,
        "relayed": ended["relayed"],
        "changed": ended["changed"],
    }


def _flipped(
    writer: Any, reader: Any, message: Message, to: str, known: tuple[Message, ...]  # noqa: ANN401 -- each system's own client
) -> tuple[list[str], str]:  # fmt: skip
    """Return what is shown of a message of which one bit was changed, and what is said of it."""
    try:
        writer.send(message.text, to)
    except LabError as error:
        return _new(reader, known, 0.0), error.saw.strip()
    until = time.monotonic() + REFUSAL_DEADLINE
    while True:
        shown = _new(reader, known, 0.0)
        why = "" if shown else _complaint(writer) or _complaint(reader)
        if shown or why or time.monotonic() > until:
            return shown, why
        time.sleep(LOOK_S)


def _complaint(client: Any) -> str:  # noqa: ANN401 -- as above
    """Return why somebody is shown nothing, as a client tells who waits; "" if it has no reason."""
    try:
        client.receive(Message("", NEVER), 1, 0.0)
    except LabError as error:
        return "\n".join(line for line in error.saw.splitlines() if "has not arrived" not in line)
    return ""


def _new(reader: Any, known: tuple[Message, ...], deadline: float) -> list[str]:  # noqa: ANN401 -- as above
    """Return the texts that somebody is shown and was not before, as soon as there are any."""
    until = time.monotonic() + deadline
    while True:
        try:
            there = list(reader.incoming())
        except LabError:
            there = list(known)
        for message in known:
            if message in there:
                there.remove(message)
        if there or time.monotonic() > until:
            return [message.text for message in there]
        time.sleep(LOOK_S)


def _turn(between: Running, mode: str) -> None:
    between.tell(mode)
    while between.until("mode")["mode"] != mode:
        pass


def _deceived(stage: Stage, parameters: dict[str, Any]) -> None:
    """Return when both ends take the attacker for the other one."""
    mac = attacks.order(stage.plan, parameters["attacker"], [])["here"]["mac"]
    _neighbours(stage, parameters, lambda _: mac, "to be deceived")


def _honest(stage: Stage, parameters: dict[str, Any]) -> None:
    """Return when both ends know again where the other one is."""

    def true(host: str) -> str:
        found: str = attacks.order(stage.plan, host, [])["here"]["mac"]
        return found

    _neighbours(stage, parameters, true, "to know the truth again")


def _neighbours(stage: Stage, parameters: dict[str, Any], wanted: Any, what: str) -> None:  # noqa: ANN401 -- host -> MAC
    ends = (parameters["from_at"], parameters["server"])
    for host, other in (ends, ends[::-1]):
        address = stage.plan.address(other)

        def why_not(host: str = host, other: str = other, address: str = address) -> str:
            said = stage.sessions[host].run(["ip", "neigh", "show", address]).stdout.decode()
            return "" if wanted(other) in said else f"{host} knows {said.strip() or 'nothing'}"

        attacks.wait_for(f"{host} {what}", why_not)
