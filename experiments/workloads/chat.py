"""People who chat: visits to a messaging system's servers, each typed from the host it is made at.

Parameters: `system` (a role that is a messaging system) and `visits`, in order, each

    at: peer             # the host where somebody sits
    server: guest        # the host whose server is visited
    account: CLIENT      # who signs in
    post: [text, …]      # what is posted
    read: [incoming, outgoing]

What a client receives is held against what was posted before: a message that got lost is an
error, not a finding. Texts travel in the requests of Figures 10 to 13 and 19.
"""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Any

from lab.errors import Fault, LabError
from provisioning import messaging

if TYPE_CHECKING:
    from experiments.workloads import Stage
    from lab.plan import Plan
    from provisioning.messaging import Client, Exchange, Planted

_KEYS = {"at", "server", "account", "post", "read"}
_READS = ("incoming", "outgoing")
MAX_VISITS, MAX_POSTS = 200, 1000


def check(parameters: dict[str, Any], plan: Plan) -> list[str]:
    """Return what is wrong with the parameters."""
    faults = [f"chat has no parameter {key!r}" for key in parameters if key not in _TOP]
    if parameters.get("system") not in messaging.systems():
        there = ", ".join(sorted(messaging.systems()))
        faults.append(f"chat: system is {parameters.get('system')!r}; there are: {there}")
    visits = parameters.get("visits")
    if not isinstance(visits, list) or not 0 < len(visits) <= MAX_VISITS:
        return [*faults, f"chat: visits must be a list of 1 to {MAX_VISITS}"]
    hosts = {host.name for host in plan.hosts}
    accounts = {account.name for account in plan.accounts}
    for number, visit in enumerate(visits, 1):
        where = f"chat: visit {number}"
        if not isinstance(visit, dict):
            faults.append(f"{where} must be a mapping")
            continue
        faults += [f"{where} has no key {key!r}" for key in visit if key not in _KEYS]
        faults += [
            f"{where}: {key} is {visit.get(key)!r}; there are: {', '.join(sorted(known))}"
            for key, known in (("at", hosts), ("server", hosts), ("account", accounts))
            if visit.get(key) not in known
        ]
        posts, reads = visit.get("post", []), visit.get("read", [])
        if not isinstance(posts, list) or not all(isinstance(text, str) for text in posts):
            faults.append(f"{where}: post must be a list of texts")
        elif len(posts) > MAX_POSTS:
            faults.append(f"{where}: at most {MAX_POSTS} posts")
        if not isinstance(reads, list) or not all(read in _READS for read in reads):
            faults.append(f"{where}: read must be a list of {' and '.join(_READS)}")
    return faults


_TOP = {"system", "visits"}


def run(stage: Stage, parameters: dict[str, Any]) -> dict[str, Any]:
    """Make the visits; return "chat" (visits, planted texts) and "repository" (what rests where).

    Raises LabError when a visit fails, or a message does not arrive as it was sent.
    """
    system = messaging.find(parameters["system"])
    accounts = {account.name: account for account in stage.plan.accounts}
    exchanges: list[Exchange] = []
    posted: Counter[tuple[str, str, str]] = Counter()
    for visit in parameters["visits"]:
        at, server, account = visit["at"], visit["server"], visit["account"]
        stage.note(f"{account} at {at} visits {server}")
        others = [name for name in accounts if name != account]
        to = others[0] if len(others) == 1 else None
        session = stage.sessions[at]
        client = (
            system.browser(stage.plan, at, server, session)
            if stage.browser and isinstance(system, messaging.InBrowser)
            else system.client(stage.plan, at, server, session.connect)
        )
        with closing(client):
            try:
                client.sign_in(accounts[account])
                for text in visit.get("post", []):
                    client.send(text, to)
                    posted[server, account, text] += 1
                for direction in visit.get("read", []):
                    _read(client, direction, server, account, posted)
            finally:
                exchanges += client.exchanges
    planted = messaging.planted(exchanges)
    return {
        "chat": {
            "visits": [exchange.to_json() for exchange in exchanges],
            "planted": [item.to_json() for item in planted],
        },
        "repository": repositories(stage, system, planted),
    }


def _read(
    client: Client,
    direction: str,
    server: str,
    account: str,
    posted: Counter[tuple[str, str, str]],
) -> None:
    """Read a table and see that everything that was posted to it is there."""
    if direction == "incoming":
        received, mine = client.incoming(), False
    else:
        received, mine = client.outgoing(), True
    there = Counter((message.sender, message.text) for message in received)
    missing = [
        f"{text!r} of {sender}"
        for (place, sender, text), times in posted.items()
        if place == server and (sender == account) is mine and there[sender, text] < times
    ]
    if missing:
        raise LabError(
            f"reading the {direction} messages of {account} on {server}",
            "posted and confirmed, but not shown: " + ", ".join(missing),
            fault=Fault.GUEST,
            todo=f"look at the repository on {server}: a message was lost",
        )


def repositories(
    stage: Stage, system: messaging.System, planted: tuple[Planted, ...]
) -> list[dict[str, Any]]:
    """Return, per server, which posted messages can be read in its store without its service."""
    rows = []
    for server in dict.fromkeys(item.server for item in planted):
        ids = {item.text: item.id for item in planted
               if item.server == server and item.kind == "message"}  # fmt: skip
        if not ids:
            continue
        rest = system.at_rest(stage.sessions[server], ids)
        rows.append(
            {
                "host": server,
                "found": [ids[text] for text in rest.found],
                "missing": [ids[text] for text in rest.missing],
                "evidence": f"{rest.path}, {rest.size} bytes, read as it lies on disk",
            }
        )
    return rows
