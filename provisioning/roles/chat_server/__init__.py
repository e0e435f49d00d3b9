"""The paper's chat (Figures 8 to 13): Apache, PHP and MariaDB, and phpMyAdmin to look inside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.errors import Fault, LabError
from provisioning import state
from provisioning.roles.chat_server import client, desired, repository

if TYPE_CHECKING:
    from provisioning.roles import RoleContext
    from provisioning.transport import Session


@dataclass(frozen=True, slots=True)
class ChatServer:
    """The role. Parameters: other, the host whose server Home.php leads to; accounts, names."""

    packages: tuple[str, ...] = desired.PACKAGES

    def check(self, context: RoleContext) -> tuple[str, ...]:
        """Return what is wrong with the parameters, one sentence each; pure."""
        return desired.faults(context)

    def prepare(self, context: RoleContext) -> None:
        """Begin what needs no host, in the background; apply() takes up the results."""
        if not desired.faults(context):
            desired.begin(context)

    def apply(self, session: Session, context: RoleContext) -> tuple[str, ...]:
        """Bring the host to the role's state; return what was changed, in words."""
        if faults := desired.faults(context):
            raise LabError(
                f"provisioning chat_server on {context.host.name}",
                "\n".join(faults),
                fault=Fault.SPEC,
                todo="correct the parameters of chat_server in the spec",
            )
        hashing = desired.begin(context)  # meanwhile the host tells its facts
        facts = state.gather(session, desired.desired(context, {}))
        hashes = {name: future.result() for name, future in hashing.items()}
        return state.apply(session, desired.desired(context, hashes), facts)

    def probe(self, session: Session, context: RoleContext, deadline: float) -> None:
        """Return once PHP and SQL answer; LabError with the last reason after `deadline` s."""
        client.wait_until_healthy(session, context, deadline)


ROLE = ChatServer()
MESSAGING = client.ChatSystem()

__all__ = ["MESSAGING", "ROLE", "ChatServer", "repository"]
