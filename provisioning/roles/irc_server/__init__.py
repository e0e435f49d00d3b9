"""Internet Relay Chat (RFC 1459, RFC 2812) by ngIRCd; accounts are asked of PAM.

Parameters: accounts, names from the lab's accounts. An account's name is its nickname.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.errors import LabError
from provisioning import accounts, bridging, state, store
from provisioning.probing import wait_until
from provisioning.roles.irc_server import desired

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

    from lab.plan import Plan
    from provisioning.messaging import AtRest, Connect, Kind
    from provisioning.roles import RoleContext
    from provisioning.roles.irc_server.client import IrcClient
    from provisioning.transport import Session


@dataclass(frozen=True, slots=True)
class IrcServer:
    """The role."""

    packages: tuple[str, ...] = ("ngircd", "libpam-pwdfile")

    def check(self, context: RoleContext) -> tuple[str, ...]:
        """Return what is wrong with the parameters, one sentence each; pure."""
        return desired.faults(context)

    def prepare(self, context: RoleContext) -> None:
        """Begin to hash the passwords; apply() takes up the results."""
        if not desired.faults(context):
            accounts.begin(context.plan, context.parameters["accounts"])

    def apply(self, session: Session, context: RoleContext) -> tuple[str, ...]:
        """Bring the host to the role's state; return what was changed, in words."""
        hashing = accounts.begin(context.plan, context.parameters["accounts"])
        hashes = {name: future.result() for name, future in hashing.items()}
        return state.apply(session, desired.desired(context, hashes))

    def probe(self, session: Session, context: RoleContext, deadline: float) -> None:
        """Return once the server answers; LabError with the last reason after `deadline` s."""
        connect: Connect = session.connect
        port = desired.PORT
        if context.certificate:
            trusted = context.certificate.context()
            connect, port = bridging.tls(connect, trusted, context.host.name), desired.TLS_PORT

        def why_not() -> str:
            try:
                link = connect("127.0.0.1", port)
                try:
                    link.settimeout(1.0)
                    link.sendall(b"PING\r\n")  # too early (451): the answer is what counts
                    return "" if link.recv(512) else "it hung up"
                finally:
                    link.close()
            except LabError as error:
                return error.saw
            except OSError as error:
                return str(error) or type(error).__name__

        todo = f"see the system log on {context.host.name}, and `ngircd --configtest`"
        wait_until(session, "the IRC server", why_not, deadline, todo)


@dataclass(frozen=True, slots=True)
class IrcSystem:
    """The messaging system: nobody keeps messages, and a password crosses as it was typed."""

    ports: tuple[int, ...] = (desired.PORT,)
    longest: int = desired.LONGEST
    stores: frozenset[Kind] = frozenset({"user"})
    folders: tuple[str, ...] = ("/etc/ngircd", "/var/log/syslog", "/var/log/daemon.log")
    programs: tuple[str, ...] = ("ngircd",)
    backup: tuple[str, ...] = ()

    def client(self, plan: Plan, at: str, server: str, connect: Connect) -> IrcClient:
        """Return a client at host `at` of the server on host `server`."""
        return _client(plan, at, server, connect, desired.PORT)

    def over_tls(
        self, plan: Plan, at: str, server: str, connect: Connect, context: ssl.SSLContext
    ) -> IrcClient:
        """Return the same over TLS from the first byte on (RFC 7194)."""
        secured = bridging.tls(connect, context, server)
        return _client(plan, at, server, secured, desired.TLS_PORT)

    def at_rest(self, session: Session, texts: Iterable[str]) -> AtRest:
        """Search all that ngIRCd writes, and its settings."""
        return store.search(session, desired.FOLDERS, texts)


def _client(plan: Plan, at: str, server: str, connect: Connect, port: int) -> IrcClient:
    from provisioning.roles.irc_server.client import (  # noqa: PLC0415 -- loads a library
        IrcClient,
    )

    return IrcClient(plan, at, server, connect, port)


ROLE = IrcServer()
MESSAGING = IrcSystem()
