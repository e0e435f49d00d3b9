"""Who learns who is on line, who knows whom, and from where: contacts, strangers, the wire.

    server: guest            # the host with the systems
    watched: OTIENO          # who comes and goes …
    watched_at: host         # … at this host
    contact: WANJIKU         # who has him as a contact
    contact_at: peer
    stranger: MALLORY        # who has an account and knows nobody
    stranger_at: attacker
    systems: [xmpp_server]   # all three if left out
    countermeasure: tls      # none if left out; irc_server's stranger speaks no other

A stranger asks as everybody may: on IRC NAMES, WHOIS and ISON, on XMPP a presence probe, on the
web chat the page of incoming messages.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from experiments import people
from experiments.attacks import wait_for
from experiments.people import SYSTEMS, Record, Scene
from lab.errors import Fault, LabError
from provisioning import countermeasures
from provisioning.messaging import Carried, Message, recorded

if TYPE_CHECKING:
    from experiments.people import People
    from experiments.workloads import Stage
    from lab.plan import Plan
    from provisioning.roles.xmpp_server.client import XmppClient

ROLES = ("watched", "contact", "stranger")
ARRIVAL_DEADLINE = 15.0  # seconds
MAX_LINES = 500  # of an IRC server's answers
IRC_DEADLINE = 15.0
# Numeric replies of RFC 2812, 5.1.
_NAMES, _END_OF_NAMES, _WHOIS, _IDLE, _END_OF_WHOIS, _ISON = (
    "353",
    "366",
    "311",
    "317",
    "318",
    "303",
)
_WELCOME = "001"


def check(parameters: dict[str, Any], plan: Plan) -> list[str]:
    """Return what is wrong with the parameters."""
    hosts = ("server", *(f"{role}_at" for role in ROLES))
    faults = people.faults(
        "presence",
        parameters,
        plan,
        hosts=hosts,
        accounts=ROLES,
        other=("systems", "countermeasure"),
    )
    if len({str(parameters.get(role)) for role in ROLES}) < len(ROLES):
        faults.append("presence: watched, contact and stranger must be three")
    systems = parameters.get("systems", list(SYSTEMS))
    if not isinstance(systems, list) or not systems or not set(map(str, systems)) <= set(SYSTEMS):
        return [*faults, f"presence: systems must be some of {', '.join(SYSTEMS)}"]
    name = parameters.get("countermeasure", "none")
    if name not in countermeasures.names():
        faults.append(f"presence: countermeasure is {name!r}")
    elif name != "none" and "irc_server" in systems:
        faults.append("presence: irc_server is asked without a countermeasure only")
    return faults + people.role_faults("presence", plan, parameters.get("server"), systems)


def run(stage: Stage, parameters: dict[str, Any]) -> dict[str, Any]:
    """Come, be asked about, and go; return "chat" and "presence": who was told what."""
    rows: list[dict[str, Any]] = []
    record = Record()
    seats = {parameters[role]: parameters[f"{role}_at"] for role in ROLES}
    who = {role: parameters[role] for role in ROLES}
    name, server = parameters.get("countermeasure", "none"), parameters["server"]
    for system in parameters.get("systems", SYSTEMS):
        stage.note(f"{parameters['watched']} comes and goes: {system}")
        with people.scene(stage, record, system, server, seats, countermeasure=name) as here:
            rows += _ASKED[system](here, who)
    return {
        "chat": record.chat(),
        "presence": {key: parameters[key] for key in ("server", *ROLES)}
        | {f"{role}_at": parameters[f"{role}_at"] for role in ROLES}
        | {"told": rows},
    }


def _row(scene: Scene, by: str, **told: object) -> dict[str, Any]:
    """Return what somebody was told."""
    nothing: dict[str, object] = {"presence": [], "contacts": [], "addresses": {}, "idle_s": {}}
    return {"system": scene.system, "to": by, **nothing, **told}


def _xmpp(scene: Scene, who: dict[str, str]) -> list[dict[str, Any]]:
    watched = who["watched"].lower()
    with scene.people() as here:
        contact: XmppClient = here.sign_in(who["contact"])
        with scene.people() as gone:
            gone.sign_in(who["watched"])
            _told(contact, watched, "available")
            stranger: XmppClient = here.sign_in(who["stranger"])
            stranger.probe(watched)
        _told(contact, watched, "unavailable")
        stranger.probe(watched)
        # "unsubscribed" is how a server says that there is nothing to be told (RFC 6121, 4.3.2).
        return [
            _row(
                scene,
                role,
                presence=[p for p in client.presences() if p[1] != "unsubscribed"],
                contacts=list(client.contacts()),
            )
            for role, client in (("contact", contact), ("stranger", stranger))
        ]


def _told(client: XmppClient, who: str, state: str) -> None:
    def why_not() -> str:
        states = [known for name, known in client.presences() if name == who]
        return "" if states[-1:] == [state] else f"told so far: {states}"

    wait_for(f"the news that {who} is {state}", why_not, ARRIVAL_DEADLINE)


def _irc(scene: Scene, who: dict[str, str]) -> list[dict[str, Any]]:
    watched = who["watched"]
    with scene.people() as here, closing(_IrcStranger(scene, here, who["stranger"])) as stranger:
        here.sign_in(who["contact"])
        with scene.people() as gone:
            gone.sign_in(watched)
            names = stranger.ask("NAMES", _NAMES, _END_OF_NAMES)
            whois = stranger.ask(f"WHOIS {watched}", _WHOIS, _END_OF_WHOIS, _IDLE)
            before = stranger.on_line(watched)

        def why_not() -> str:
            return "he is still on line" if stranger.on_line(watched) else ""

        wait_for(f"{watched} to be gone", why_not, ARRIVAL_DEADLINE)
    seen = [line for line in whois if line[1] == _WHOIS]
    idle = [line for line in whois if line[1] == _IDLE]
    listed = [name.lstrip("@+~&%") for line in names for name in line[-1].split()]
    presence = [(watched, "available")] if before else []
    return [
        _row(
            scene,
            "stranger",
            presence=[*presence, (watched, "unavailable")],
            contacts=sorted(set(listed) - {who["stranger"]}),
            addresses={line[3]: line[5] for line in seen},
            idle_s={line[3]: int(line[4]) for line in idle},
        )
    ]


class _IrcStranger:
    """Somebody on IRC who asks; the library of the others' clients only chats."""

    def __init__(self, scene: Scene, here: People, account: str) -> None:
        who = next(each for each in scene.setting.people if each.account.name == account)
        session = scene.stage.sessions[who.at]
        (port,) = scene.setting.system.ports
        self._link = session.connect(scene.stage.plan.address(scene.server), port)
        self._link.settimeout(IRC_DEADLINE)
        self._lines = self._link.makefile("rb")
        name = account
        with recorded(here.exchanges, who.at, scene.server, name, "sign_in") as exchange:
            exchange.carried += [
                Carried("password", who.account.password, up=True, sender=name),
                Carried("user", name, up=True),
                Carried("user", name, up=False),
            ]
            self._say(f"PASS {who.account.password}")
            self._say(f"NICK {name}")
            self.ask(f"USER {name} 0 * :{name}", _WELCOME, _WELCOME)

    def _say(self, line: str) -> None:
        self._link.sendall(f"{line}\r\n".encode())

    def ask(self, line: str, wanted: str, last: str, *more: str) -> list[list[str]]:
        """Say a line; return the answers of these numbers, in words, up to `last`."""
        self._say(line)
        found = []
        for _ in range(MAX_LINES):
            raw = self._lines.readline().decode(errors="replace").rstrip("\r\n")
            head, colon, tail = raw.removeprefix(":").partition(" :")
            words = [*head.split(), *([tail] if colon else [])]
            if len(words) > 1 and words[1] in {wanted, *more}:
                found.append(words)
            if len(words) > 1 and words[1] == last:
                return found
            if not raw or words[0] == "ERROR":
                break
        raise LabError(
            f"asking the IRC server: {line.partition(' ')[0]}",
            raw or "it hung up",
            fault=Fault.GUEST,
            todo="see the system log of the server",
        )

    def on_line(self, name: str) -> bool:
        """Whether somebody is on line, as ISON tells (RFC 2812, 4.9)."""
        (answer,) = self.ask(f"ISON {name}", _ISON, _ISON)
        return name in answer[-1].split()

    def close(self) -> None:
        """Hang up."""
        self._lines.close()
        self._link.close()


def _chat(scene: Scene, who: dict[str, str]) -> list[dict[str, Any]]:
    text = "Is anybody there?"
    with scene.people() as here:
        here.sign_in(who["watched"]).send(text)
        stranger = here.sign_in(who["stranger"])
        stranger.receive(Message(who["watched"], text), 1, ARRIVAL_DEADLINE)
        names = {message.sender for message in stranger.incoming()}
    return [_row(scene, "stranger", contacts=sorted(names))]


_ASKED = {"chat_server": _chat, "irc_server": _irc, "xmpp_server": _xmpp}
