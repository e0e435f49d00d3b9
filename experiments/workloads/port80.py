"""Chat that hides in port 80, where only the web may pass.

    at: peer                 # from where somebody chats
    server: guest            # the host with all three systems
    from: WANJIKU            # who writes, at `at`
    to: OTIENO               # who reads, at the server

The firewall stands before the server and is one of two: `ports` lets port 80 pass and nothing
else; `words` besides refuses at port 80 what begins as IRC or XMPP does. Under each, each system
is tried at its own port and at port 80, where its server is made to answer meanwhile.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from experiments import people
from experiments.people import SYSTEMS, Record
from lab.errors import LabError
from provisioning import messaging
from provisioning.messaging import Message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from experiments.workloads import Stage
    from lab.plan import Plan
    from provisioning.channels import SocketLike
    from provisioning.messaging import Connect
    from provisioning.transport import Session

WEB = 80
FIREWALLS = ("ports", "words")
TABLE = "imlab_port80"
ARRIVAL_DEADLINE = 15.0  # seconds
# The first four bytes that a client says: RFC 2812, 3.1; RFC 6120, 4.2 and 4.3.
WORDS = (b"PASS", b"NICK", b"USER", b"CAP ", b"<?xm", b"<str")


def check(parameters: dict[str, Any], plan: Plan) -> list[str]:
    """Return what is wrong with the parameters."""
    faults = people.faults(
        "port80", parameters, plan, hosts=("at", "server"), accounts=("from", "to")
    )
    for one, other in (("at", "server"), ("from", "to")):
        if parameters.get(one) == parameters.get(other):
            faults.append(f"port80: {one} and {other} must be two")
    return faults + people.role_faults("port80", plan, parameters.get("server"), SYSTEMS)


def run(stage: Stage, parameters: dict[str, Any]) -> dict[str, Any]:
    """Try every system under both firewalls; return "chat" and "port80": a row an attempt."""
    server = parameters["server"]
    rows = []
    record = Record()
    for firewall in FIREWALLS:
        with _firewall(stage.sessions[server], firewall):
            for system in SYSTEMS:
                own = messaging.find(system).ports[0]
                for port in dict.fromkeys((own, WEB)):
                    stage.note(f"{system} at port {port}, firewall: {firewall}")
                    row = {"firewall": firewall, "system": system, "port": port, "own": own}
                    rows.append(row | _attempt(stage, record, parameters, row))
    return {
        "chat": record.chat(),
        "port80": {"at": parameters["at"], "server": server, "attempts": rows},
    }


def _attempt(
    stage: Stage, record: Record, parameters: dict[str, Any], row: dict[str, Any]
) -> dict[str, Any]:
    """Say one line over one port; return the line, whether it came, and why not."""
    system, port, server = row["system"], row["port"], parameters["server"]
    by, to = parameters["from"], parameters["to"]
    session = stage.sessions[server]
    text = f"{row['firewall']} {system.partition('_')[0]} by way of {port}"
    way = _way(stage.sessions[parameters["at"]].connect, row["own"], port)
    seats = {by: parameters["at"], to: server}
    with ExitStack() as undone:
        if port != row["own"]:
            undone.enter_context(_answered(session, row["own"]))
        here = undone.enter_context(people.scene(stage, record, system, server, seats))
        crowd = undone.enter_context(here.people())
        reader = crowd.sign_in(to)
        try:
            writer = crowd.sign_in(by, way)
            writer.send(text, to)
            reader.receive(Message(by, text), 1, ARRIVAL_DEADLINE)
        except LabError as error:
            passed, why = False, error.saw.strip()
        else:
            passed, why = True, ""
    if not passed:
        _forget(session, row["own"])
    return {"text": text, "passed": passed, "why": why}


def _forget(session: Session, port: int) -> None:
    """End what a server still takes for connections: their other ends were reset by the firewall.

    Left alone they would speak up a minute later, in somebody else's capture. A kernel that cannot
    do it says so (ss(8), -K), and that is no reason to fail.
    """
    session.run(["ss", "-K", "-tn", "state", "established", "sport", "=", f":{port}"], check=False)


def _way(connect: Connect, own: int, port: int) -> Connect:
    """Return a `connect` that goes to another port than the one that a client knows."""

    def connected(address: str, wanted: int) -> SocketLike:
        return connect(address, port if wanted == own else wanted)

    return connected


@contextmanager
def _answered(session: Session, own: int) -> Iterator[None]:
    """Let a system answer at port 80 for whoever comes over the network, as its owner could."""
    name = f"{TABLE}_nat"
    rules = f"""table ip {name} {{
  chain prerouting {{
    type nat hook prerouting priority dstnat;
    iifname "eth0" tcp dport {WEB} redirect to :{own}
  }}
}}
"""
    session.run(["nft", "-f", "-"], stdin=rules.encode())
    try:
        yield
    finally:
        session.run(["nft", "delete", "table", "ip", name])


@contextmanager
def _firewall(session: Session, kind: str) -> Iterator[None]:
    """Refuse all that comes to a host but what is for port 80, by its number as it was sent."""
    words = ", ".join(f"0x{word.hex()}" for word in WORDS)
    looks = f"@ih,0,32 {{ {words} }} reject with tcp reset" if kind == "words" else ""
    rules = f"""table ip {TABLE} {{
  chain input {{
    type filter hook input priority 0; policy accept;
    iifname "eth0" meta l4proto tcp ct original proto-dst != {WEB} reject with tcp reset
    {"iifname eth0 meta l4proto tcp " + looks if looks else ""}
  }}
}}
"""
    session.run(["nft", "-f", "-"], stdin=rules.encode())
    try:
        yield
    finally:
        session.run(["nft", "delete", "table", "ip", TABLE])
