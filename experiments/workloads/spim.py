"""Spim: one sender writes to many who did not ask, and what each system does about it.

    server: guest
    sender: MALLORY          # who has an account and knows nobody
    sender_at: attacker
    victims: {WANJIKU: peer, OTIENO: host}     # account: where somebody sits
    count: 3                 # messages to each
    systems: [irc_server]    # all three if left out

It is done twice: as the systems are, and after each victim has done what its system offers against
it: on IRC mode +C (only who is in a channel with me), on XMPP a block of the sender (XEP-0191), on
the web chat nothing. Then one victim writes to the next, to see what else is refused.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from experiments import attacks, people
from experiments.people import SYSTEMS, Record
from lab.errors import Fault, LabError
from provisioning.messaging import Message

if TYPE_CHECKING:
    from experiments.people import Scene
    from experiments.workloads import Stage
    from lab.plan import Plan

MAX_COUNT, MAX_VICTIMS, COUNT = 20, 10, 3
ARRIVAL_DEADLINE = 15.0  # seconds
DEFENCES = ("none", "refuse")
MEANS = {"irc_server": "mode +C", "xmpp_server": "a block of the sender", "chat_server": ""}


def check(parameters: dict[str, Any], plan: Plan) -> list[str]:
    """Return what is wrong with the parameters."""
    faults = people.faults(
        "spim",
        parameters,
        plan,
        hosts=("server", "sender_at"),
        accounts=("sender",),
        other=("victims", "count", "systems"),
    )
    victims = parameters.get("victims")
    if not isinstance(victims, dict) or not 1 < len(victims) <= MAX_VICTIMS:
        return [*faults, f"spim: victims must be a mapping of 2 to {MAX_VICTIMS}: account to host"]
    known = {account.name for account in plan.accounts} - {str(parameters.get("sender"))}
    faults += [f"spim: {name!r} is no account of another" for name in victims if name not in known]
    named = (parameters.get("server"), parameters.get("sender_at"), *victims.values())
    faults += [f"spim: {fault}" for fault in attacks.faults(plan, named)]
    count = parameters.get("count", COUNT)
    if not isinstance(count, int) or isinstance(count, bool) or not 0 < count <= MAX_COUNT:
        faults.append(f"spim: count is {count!r}, must be 1 to {MAX_COUNT}")
    systems = parameters.get("systems", list(SYSTEMS))
    if wrong := people.choice_faults("spim", "systems", systems, SYSTEMS):
        return faults + wrong
    return faults + people.role_faults("spim", plan, parameters.get("server"), systems)


def run(stage: Stage, parameters: dict[str, Any]) -> dict[str, Any]:
    """Write to all under each defence; return "chat" and "spim": a row a system and defence."""
    record = Record()
    sender = parameters["sender"]
    seats = {sender: parameters["sender_at"], **parameters["victims"]}
    rows = []
    for system in parameters.get("systems", SYSTEMS):
        for defence in DEFENCES:
            stage.note(f"{sender} writes to all, {system}, defence: {defence}")
            with people.scene(stage, record, system, parameters["server"], seats) as here:
                rows.append(_round(here, parameters, defence))
    return {
        "chat": record.chat(),
        "spim": {"sender": sender, "victims": list(parameters["victims"]), "rows": rows},
    }


def _round(scene: Scene, parameters: dict[str, Any], defence: str) -> dict[str, Any]:
    sender, count = parameters["sender"], parameters.get("count", COUNT)
    # Of this time alone: a lab that is used again holds what was said before.
    tag = f"{scene.system.partition('_')[0]} {defence} {time.time_ns() // 1_000_000:x}"
    texts = [f"You have won, number {number}, {tag}" for number in range(1, count + 1)]
    with scene.people() as here:
        victims = {name: here.sign_in(name) for name in parameters["victims"]}
        if defence == "refuse":
            for client in victims.values():
                _refuse(scene.system, client, sender)
        spimmer = here.sign_in(sender)
        for name in victims:
            for text in texts:
                # On the web chat, where all read everything, what is written twice is there twice.
                spimmer.send(text if scene.system != "chat_server" else f"{text}, {name}", name)
        wanted = {
            name: {Message(sender, text if scene.system != "chat_server" else f"{text}, {name}")
                   for text in texts} for name in victims
        }  # fmt: skip
        shown, refused = _outcome(victims, wanted, spimmer)
        first, second, *_ = victims
        friend = _friend(victims[first], victims[second], first, second, f"It is I, {tag}")
        if defence == "refuse" and scene.system == "xmpp_server":
            for client in victims.values():
                client.unblock(sender)
    return {
        "system": scene.system,
        "defence": defence,
        "means": MEANS[scene.system] if defence == "refuse" else "",
        "sent": count * len(victims),
        "shown": shown,
        "told_to_the_sender": refused,
        "friend": friend,
    }


def _refuse(system: str, client: Any, sender: str) -> None:  # noqa: ANN401 -- each system's own client
    """Do what somebody can against a sender."""
    if system == "irc_server":
        client.set_mode("+C")
    elif system == "xmpp_server":
        client.block(sender)


def _outcome(
    victims: dict[str, Any], wanted: dict[str, set[Message]], spimmer: Any  # noqa: ANN401 -- as above
) -> tuple[int, list[str]]:  # fmt: skip
    """Return how many messages were shown, and what the sender was told of the others.

    Each is one or the other; where neither comes by the deadline, it is counted as not shown.
    """
    total = sum(len(messages) for messages in wanted.values())
    until = time.monotonic() + ARRIVAL_DEADLINE
    while True:
        shown = sum(len(wanted[name] & set(client.incoming())) for name, client in victims.items())
        refused = list(spimmer.refusals()) if hasattr(spimmer, "refusals") else []
        if shown + len(refused) >= total or time.monotonic() > until:
            return shown, sorted(set(refused)) if refused else []
        time.sleep(0.02)


def _friend(writer: Any, reader: Any, by: str, to: str, text: str) -> str:  # noqa: ANN401 -- as above
    """Return what became of a message between two victims: "shown", or why it was not."""
    told = len(writer.refusals()) if hasattr(writer, "refusals") else 0
    writer.send(text, to)
    until = time.monotonic() + ARRIVAL_DEADLINE
    while Message(by, text) not in reader.incoming():
        if hasattr(writer, "refusals") and len(writer.refusals()) > told:
            return str(writer.refusals()[-1])
        if time.monotonic() > until:
            raise LabError(
                f"waiting for {text!r} of {by}",
                f"it was neither shown nor refused after {ARRIVAL_DEADLINE:g} s",
                fault=Fault.GUEST,
                todo="see the server's log: a message was lost",
            )
        time.sleep(0.02)
    return "shown"
