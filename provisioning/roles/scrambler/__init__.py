"""The paper's proposal: data scrambled at the end devices, port by port, by a key users enter.

Parameters: ports, the TCP ports that are scrambled on this host, on the way out and on the way
in; account, the account of the lab whose password is the key that is entered here. Without an
account nobody has entered a key: the ports are shut until a user does, by `scrambler-key` on the
host. docs/scrambler.md tells what it protects and what not.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab.errors import Fault, LabError
from provisioning import state
from provisioning.probing import wait_until
from provisioning.roles.scrambler import desired
from provisioning.roles.scrambler.ends import shim
from provisioning.roles.scrambler.ends.keys import entered

if TYPE_CHECKING:
    from collections.abc import Iterable

    from provisioning.roles import RoleContext
    from provisioning.transport import Session

PARAMETERS = ("ports", "account")
RESERVED = (22, shim.WIRE, shim.AWAY)
LAST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Scrambler:
    """The role."""

    packages: tuple[str, ...] = desired.PACKAGES

    def check(self, context: RoleContext) -> tuple[str, ...]:
        """Return what is wrong with the parameters, one sentence each; pure."""
        parameters = context.parameters
        faults = [
            f"unknown key {key!r}: scrambler takes {' and '.join(PARAMETERS)}"
            for key in parameters
            if key not in PARAMETERS
        ]
        faults += port_faults(parameters.get("ports"))
        name = parameters.get("account")
        known = {account.name: account for account in context.plan.accounts}
        if name is not None and name not in known:
            faults.append(f"account: {name!r} is unknown; there are: {', '.join(known) or 'none'}")
        elif name is not None and not can_be_entered(known[name].password):
            faults.append(f"account: the password of {name!r} can't be entered as a key")
        return tuple(faults)

    def prepare(self, context: RoleContext) -> None:
        """Need nothing beforehand."""

    def apply(self, session: Session, context: RoleContext) -> tuple[str, ...]:
        """Set the scrambler up, lead the ports through it, enter the key."""
        if faults := self.check(context):
            raise LabError(
                f"provisioning scrambler on {context.host.name}",
                "\n".join(faults),
                fault=Fault.SPEC,
                todo="correct the parameters of scrambler in the spec",
            )
        return set_up(session, context.parameters["ports"], _passphrase(context))

    def probe(self, session: Session, context: RoleContext, deadline: float) -> None:
        """Return once it runs and, if one is to be entered, has the key."""
        wanted = ("ready",) if context.parameters.get("account") else ("ready", "locked")

        def why_not() -> str:
            state_now = status(session).get("state", "stopped")
            return "" if state_now in wanted else f"it is {state_now}"

        wait_until(session, "the scrambler", why_not, deadline, f"see {desired.LOG} on the host")


def port_faults(ports: object) -> list[str]:
    """Return what is wrong with a list of ports, one sentence each; pure."""
    if not isinstance(ports, list) or not ports:
        return ["'ports' must be a list of at least one TCP port"]
    faults = []
    for port in ports:
        if not isinstance(port, int) or isinstance(port, bool) or not 0 < port <= LAST_PORT:
            faults.append(f"ports: {port!r} is no TCP port, 1 to {LAST_PORT}")
        elif port in RESERVED:
            faults.append(f"ports: {port} is the lab's or the scrambler's own")
    return faults


def set_up(session: Session, ports: Iterable[int], passphrase: str | None) -> tuple[str, ...]:
    """Make a host an end device of the scrambler; return what was changed, in words.

    passphrase -- what is entered there; None leaves it to a user, and the ports shut until then.
    """
    wanted = desired.desired(ports, passphrase, session.host.private_key)
    words = state.apply(session, wanted)
    if words and passphrase is not None:
        # A scrambler that was started anew has forgotten the key that it had when it was asked.
        words += state.apply(session, wanted)
    return words


def remove(session: Session) -> None:
    """Take away all that `set_up` made; the ports carry plain connections again."""
    session.run(["/bin/sh", "-s"], stdin=desired.REMOVE.encode())


def status(session: Session) -> dict[str, Any]:
    """Return what the scrambler of a host says about itself; empty if none runs there.

    state, ports, open and carried connections, those refused by reason, and the last of them.
    """
    result = session.run([desired.COMMAND, "--status"], check=False)
    try:
        told: dict[str, Any] = json.loads(result.stdout)
    except ValueError:
        return {}
    return told


def _passphrase(context: RoleContext) -> str | None:
    name = context.parameters.get("account")
    return next((a.password for a in context.plan.accounts if a.name == name), None)


def can_be_entered(passphrase: str) -> bool:
    """Say whether a key is one that a user can type."""
    try:
        entered(passphrase)
    except ValueError:
        return False
    return True


ROLE = Scrambler()
