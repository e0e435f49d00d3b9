"""Bring every host of a lab to the state that its roles describe."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from provisioning import roles

if TYPE_CHECKING:
    from lab.plan import Plan, PlannedHost
    from provisioning.sessions import Sessions

PROBE_DEADLINE = 30.0  # seconds for a service to answer; MariaDB and Apache need 0.2


def faults(plan: Plan) -> list[str]:
    """Return what is wrong with the roles' parameters, a sentence each; pure."""
    return [
        f"host {host.name!r}, role {planned.name!r}: {fault}"
        for host in plan.hosts
        for planned in host.roles
        for fault in roles.find(planned.name).check(
            roles.RoleContext(plan, host, planned.parameters)
        )
    ]


def prepare(plan: Plan) -> None:
    """Let the roles begin what needs no host, while the lab comes up."""
    for host in plan.hosts:
        for planned in host.roles:
            roles.find(planned.name).prepare(roles.RoleContext(plan, host, planned.parameters))


def provision(plan: Plan, sessions: Sessions) -> dict[str, tuple[str, ...]]:
    """Apply the roles of every host and wait until each answers; return what was changed.

    Hosts are provisioned at the same time, the roles of one host in the spec's order. The
    second time nothing is changed and every tuple is empty. Raises LabError.
    """

    def one(host: PlannedHost) -> tuple[str, ...]:
        changes: list[str] = []
        for planned in host.roles:
            session = sessions[host.name]
            role = roles.find(planned.name)
            context = roles.RoleContext(plan, host, planned.parameters)
            changes.extend(role.apply(session, context))
            role.probe(session, context, session.within(PROBE_DEADLINE))
        return tuple(changes)

    with ThreadPoolExecutor(max_workers=8) as pool:
        attempts = {host.name: pool.submit(one, host) for host in plan.hosts}
    return {name: attempt.result() for name, attempt in attempts.items()}
