"""XMPP (RFC 6120, RFC 6121) by Prosody, with the archive of messages (XEP-0313) that it keeps.

Parameters: accounts, names from the lab's accounts. The domain is the host's name; an account's
address is its name in small letters: client@guest. All are in each other's list of contacts, but
for those of `strangers`, who have none and are in none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.errors import LabError
from provisioning import state, store
from provisioning.probing import wait_until
from provisioning.roles.xmpp_server import desired

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

    from lab.plan import Plan
    from provisioning.messaging import AtRest, Connect, Kind
    from provisioning.roles import RoleContext
    from provisioning.roles.xmpp_server.client import XmppClient
    from provisioning.transport import Session


_LUA = {ord(char): "\\" + by for char, by in zip('"\\\n\t', '"\\nt', strict=True)}


@dataclass(frozen=True, slots=True)
class XmppServer:
    """The role."""

    packages: tuple[str, ...] = ("prosody", "lua-sec")

    def check(self, context: RoleContext) -> tuple[str, ...]:
        """Return what is wrong with the parameters, one sentence each; pure."""
        return desired.faults(context)

    def prepare(self, context: RoleContext) -> None:
        """Need nothing beforehand."""

    def apply(self, session: Session, context: RoleContext) -> tuple[str, ...]:
        """Bring the host to the role's state; return what was changed, in words."""
        return state.apply(session, desired.desired(context))

    def probe(self, session: Session, context: RoleContext, deadline: float) -> None:
        """Return once the server answers; LabError with the last reason after `deadline` s."""
        header = (
            f"<?xml version='1.0'?><stream:stream to='{context.host.name}' version='1.0'"
            " xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
        ).encode()

        def why_not() -> str:
            try:
                link = session.connect("127.0.0.1", desired.PORT)
                try:
                    link.settimeout(1.0)
                    link.sendall(header)
                    said = b""
                    while b"</stream:features>" not in said:
                        if not (more := link.recv(4096)):
                            return "it hung up: " + said.decode(errors="replace")
                        said += more
                    wanted = b"<required/>" if context.certificate else b"<mechanisms"
                    return "" if wanted in said else "other settings hold: " + said.decode()
                finally:
                    link.close()
            except LabError as error:
                return error.saw
            except OSError as error:
                return str(error) or type(error).__name__

        todo = f"see {desired.LOGS}/prosody.log on {context.host.name}"
        wait_until(session, "the XMPP server", why_not, deadline, todo)


@dataclass(frozen=True, slots=True)
class XmppSystem:
    """The messaging system: a password never crosses (SCRAM), the server archives messages."""

    ports: tuple[int, ...] = (desired.PORT,)
    longest: int = desired.LONGEST
    stores: frozenset[Kind] = frozenset({"message", "user", "contact"})
    folders: tuple[str, ...] = (desired.DATA, desired.LOGS)
    programs: tuple[str, ...] = (desired.LUA.rpartition("/")[2],)
    backup: tuple[str, ...] = ()

    def client(self, plan: Plan, at: str, server: str, connect: Connect) -> XmppClient:
        """Return a client at host `at` of the server on host `server`."""
        return _client()(plan, at, server, connect)

    def over_tls(
        self, plan: Plan, at: str, server: str, connect: Connect, context: ssl.SSLContext
    ) -> XmppClient:
        """Return the same, which turns to TLS before it signs in, or does not sign in."""
        return _client()(plan, at, server, connect, context=context)

    def sealed(
        self, plan: Plan, at: str, server: str, connect: Connect, ring: dict[str, bytes]
    ) -> XmppClient:
        """Return the same with OMEMO (XEP-0384)."""
        from provisioning.roles.xmpp_server.omemo import (  # noqa: PLC0415 -- takes seconds
            Sealer,
        )

        return _client()(plan, at, server, connect, sealer=Sealer(ring))

    def at_rest(self, session: Session, texts: Iterable[str]) -> AtRest:
        """Search Prosody's data and logs."""
        return store.search(session, (desired.DATA, desired.LOGS), texts, _written)


def _client() -> type[XmppClient]:
    from provisioning.roles.xmpp_server.client import (  # noqa: PLC0415 -- loads a library
        XmppClient,
    )

    return XmppClient


def _written(text: str) -> tuple[str, ...]:
    """Return a text as logs have it, and as a string of Lua, which the archive is made of."""
    lua = "".join(_LUA.get(char) or (chr(char) if char < 0x80 else f"\\{char}")  # noqa: PLR2004 -- ASCII
                  for char in text.encode())  # fmt: skip
    return text, lua


ROLE = XmppServer()
MESSAGING = XmppSystem()
