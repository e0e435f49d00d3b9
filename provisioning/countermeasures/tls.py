"""TLS between each client and the server, by a certificate authority of the conversation's own.

Clients trust that authority alone, and check that the server is who it should be. The server
refuses whoever comes without TLS, and is made again what its role describes at the end.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab.errors import Fault, LabError
from provisioning import roles
from provisioning.authority import Authority, Certificate, trust
from provisioning.countermeasures import AT_THE_SERVER, Participant, Setting, no_parameters
from provisioning.messaging import OverTls
from provisioning.provision import PROBE_DEADLINE

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Mapping

    from lab.plan import Plan
    from provisioning.messaging import Client, Place, Planted, System

KEY_LOG, AUTHORITY = "keys/tls.log", "keys/authority.pem"


@dataclass(frozen=True, slots=True)
class Secured:
    """TLS in force."""

    setting: Setting
    system: OverTls
    context: ssl.SSLContext

    def client(self, who: Participant) -> Client:
        """Return a client that speaks TLS, or not at all."""
        connect = self.setting.sessions[who.at].connect
        return self.system.over_tls(self.setting.plan, who.at, who.server, connect, self.context)

    def places(self, item: Planted, /) -> frozenset[Place]:
        """Say that nothing can be read on the wire, and all at the server."""
        del item
        return AT_THE_SERVER


@dataclass(frozen=True, slots=True)
class Tls:
    """The countermeasure `tls`."""

    def check(self, parameters: Mapping[str, Any], plan: Plan) -> list[str]:
        """Return what is wrong with its parameters; there are none."""
        del plan
        return no_parameters(parameters, "tls")

    def lacks(self, system: System) -> str:
        """Say whether the system's clients know TLS."""
        return "" if isinstance(system, OverTls) else "it has no way to speak TLS"

    @contextmanager
    def applied(self, setting: Setting) -> Iterator[Secured]:
        """Give every server a certificate for its name and address, and take it away again."""
        system = setting.system
        if not isinstance(system, OverTls):
            raise _impossible(setting, self.lacks(system))
        authority = Authority(setting.plan.lab)
        key_log = None
        if setting.keep:
            key_log = setting.keep(KEY_LOG)
            setting.keep(AUTHORITY).write_bytes(authority.certificate)
        try:
            for server in setting.servers:
                names = (server, setting.plan.address(server), "localhost", "127.0.0.1")
                _apply(setting, server, authority.issue(names))
            yield Secured(setting, system, trust(authority.certificate, key_log))
        finally:
            for server in setting.servers:
                _apply(setting, server, None)


def _apply(setting: Setting, server: str, certificate: Certificate | None) -> None:
    """Bring a server to its role's state, with a certificate or without."""
    host = setting.plan.host(server)
    planned = next((role for role in host.roles if role.name == setting.name), None)
    if planned is None:
        raise _impossible(setting, f"{server} has no role {setting.name}")
    role = roles.find(setting.name)
    context = roles.RoleContext(setting.plan, host, planned.parameters, certificate)
    role.apply(setting.sessions[server], context)
    role.probe(setting.sessions[server], context, PROBE_DEADLINE)


def _impossible(setting: Setting, saw: str) -> LabError:
    return LabError(
        f"securing {setting.name} with TLS",
        saw,
        fault=Fault.USER,
        todo="choose another countermeasure or system",
    )


COUNTERMEASURE = Tls()
