"""What a server keeps of a conversation when everybody has gone: which files, holding what.

    server: guest
    from: WANJIKU            # who says the lines …
    from_at: peer            # … at this host
    to: OTIENO               # who reads them, at `to_at`
    to_at: host
    systems: [irc_server]            # all three if left out
    countermeasures: [none, end-to-end]

The disk is searched as somebody with the disk could: every file below /var and /etc, for the
messages, the names, and the address of who wrote.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from experiments import people
from experiments.people import SYSTEMS, Record
from provisioning.messaging import Message

if TYPE_CHECKING:
    from experiments.people import Scene
    from experiments.workloads import Stage
    from lab.plan import Plan
    from provisioning.transport import Session

COUNTERMEASURES = ("none", "end-to-end")
PLACES = ("/var/lib", "/var/log", "/var/spool", "/etc", "/run")
OWN = "/run/imlab-attacks"
ARRIVAL_DEADLINE = 20.0  # seconds
LINES = 3
_SEARCH = 'pattern=$(cat); for f; do grep -rlaF -D skip -- "$pattern" "$f"; done 2>/dev/null; true'


def check(parameters: dict[str, Any], plan: Plan) -> list[str]:
    """Return what is wrong with the parameters."""
    faults = people.faults(
        "logs",
        parameters,
        plan,
        hosts=("server", "from_at", "to_at"),
        accounts=("from", "to"),
        other=("systems", "countermeasures"),
    )
    if parameters.get("from") == parameters.get("to"):
        faults.append("logs: from and to must be two")
    chosen = parameters.get("countermeasures", list(COUNTERMEASURES))
    faults += people.choice_faults("logs", "countermeasures", chosen, COUNTERMEASURES)
    systems = parameters.get("systems", list(SYSTEMS))
    if wrong := people.choice_faults("logs", "systems", systems, SYSTEMS):
        return faults + wrong
    return faults + people.role_faults("logs", plan, parameters.get("server"), systems)


def run(stage: Stage, parameters: dict[str, Any]) -> dict[str, Any]:
    """Chat, go, and look; return "chat" and "logs": a row a system and countermeasure."""
    record = Record()
    seats = {parameters["from"]: parameters["from_at"], parameters["to"]: parameters["to_at"]}
    rows = []
    for system in parameters.get("systems", SYSTEMS):
        for name in parameters.get("countermeasures", COUNTERMEASURES):
            stage.note(f"{system}, countermeasure: {name}")
            server = parameters["server"]
            with people.scene(stage, record, system, server, seats, countermeasure=name) as here:
                texts = _chat(here, parameters, name)
                rows.append({"system": system, "countermeasure": name, **_kept(here, texts)})
    return {
        "chat": record.chat(),
        "logs": {key: parameters[key] for key in ("server", "from", "from_at", "to")}
        | {"rows": rows},
    }


def _chat(scene: Scene, parameters: dict[str, Any], name: str) -> list[str]:
    """Say some lines that are nowhere else; return them when all have arrived and all are gone."""
    by, to = parameters["from"], parameters["to"]
    # Of this time alone: a lab that is used again holds what was said before.
    tag = f"{scene.system.partition('_')[0]} {name} {time.time_ns() // 1_000_000:x}"
    texts = [f"kept or not {number}, {tag}" for number in range(1, LINES + 1)]
    with scene.people() as here:
        reader, writer = here.sign_in(to), here.sign_in(by)
        for text in texts:
            writer.send(text, to)
            reader.receive(Message(by, text), 1, ARRIVAL_DEADLINE)
    return texts


def _kept(scene: Scene, texts: list[str]) -> dict[str, Any]:
    """Return which files hold how many of the texts, the names, and addresses (logs only)."""
    session = scene.stage.sessions[scene.server]
    # Makes the database write what it has in memory to its files, and searches them.
    scene.setting.system.at_rest(session, texts)
    files: dict[str, int] = {}
    for text in texts:
        for path in _holding(session, text, PLACES):
            files[path] = files.get(path, 0) + 1
    who = {}
    for person in scene.setting.people:
        names = {person.account.name, person.account.name.lower()}
        address = scene.stage.plan.address(person.at)
        who[person.account.name] = {
            "names": sorted({p for n in names for p in _holding(session, n, ("/var/log",))}),
            "address": _holding(session, address, ("/var/log",)),
        }
    return {"said": len(texts), "files": files, "who": who}


def _holding(session: Session, text: str, places: tuple[str, ...]) -> list[str]:
    """Return the files below some places that hold a text as it is."""
    found = session.run(["/bin/sh", "-c", _SEARCH, "sh", *places], stdin=text.encode())
    return sorted(p for p in found.stdout.decode().splitlines() if not p.startswith(OWN))
