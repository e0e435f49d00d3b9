"""People of an experiment: signed in to messaging systems, and what they are known to have sent."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from provisioning import messaging

if TYPE_CHECKING:
    from collections.abc import Iterable

    from experiments.workloads import Stage
    from lab.plan import Plan
    from provisioning.messaging import Client, Connect, Exchange

SYSTEMS = ("chat_server", "irc_server", "xmpp_server")


@dataclass
class People:
    """Clients that are closed together, and all exchanges that they had; a context manager."""

    stage: Stage
    exchanges: list[Exchange] = field(default_factory=list)
    _open: ExitStack = field(default_factory=ExitStack)

    def sign_in(
        self, system: str, account: str, at: str, server: str, connect: Connect | None = None
    ) -> Client:
        """Return the client of an account that has just signed in. Raises LabError.

        connect -- how the client connects, if not as the host does.
        """
        plan = self.stage.plan
        how = connect or self.stage.sessions[at].connect
        client = messaging.find(system).client(plan, at, server, how)
        self.keep(client)
        client.sign_in(next(each for each in plan.accounts if each.name == account))
        return client

    def keep(self, client: Client) -> None:
        """Close a client with the others, and note its exchanges."""

        def close() -> None:
            client.close()
            self.exchanges += client.exchanges

        self._open.callback(close)

    def chat(self) -> dict[str, Any]:
        """Return the "chat" of results.json: what was done, and each text that was sent.

        What somebody tried and failed to do may have crossed or not: it is no ground truth.
        """
        planted = messaging.planted(each for each in self.exchanges if each.ok)
        return {
            "visits": [exchange.to_json() for exchange in self.exchanges],
            "planted": [item.to_json() for item in planted],
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()


def faults(  # noqa: PLR0913 -- what a workload has to say of its parameters
    workload: str,
    parameters: dict[str, Any],
    plan: Plan,
    *,
    hosts: Iterable[str],
    accounts: Iterable[str],
    other: Iterable[str] = (),
) -> list[str]:
    """Return what is wrong with parameters of which some name hosts, some accounts: pure."""
    named = {
        **{key: {host.name for host in plan.hosts} for key in hosts},
        **{key: {account.name for account in plan.accounts} for key in accounts},
    }
    known = (*named, *other)
    found = [f"{workload} has no parameter {key!r}" for key in parameters if key not in known]
    return found + [
        f"{workload}: {key} is {parameters.get(key)!r}; there are: {', '.join(sorted(there))}"
        for key, there in named.items()
        if not isinstance(parameters.get(key), str) or parameters[key] not in there
    ]


def role_faults(workload: str, plan: Plan, server: object, systems: Iterable[str]) -> list[str]:
    """Return which of these systems a host does not serve: pure."""
    roles = {role.name for host in plan.hosts if host.name == server for role in host.roles}
    return [f"{workload}: {server} has no role {name}" for name in systems if name not in roles]
