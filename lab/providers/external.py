"""Computers that are there already, reached by SSH: nothing is created and nothing destroyed.

The spec says how each is reached (`ssh:`) and which host key it has; no other key is accepted.
Its addresses in the lab's networks are what the spec claims; this provider changes none of them.
"""

from __future__ import annotations

import errno
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.errors import Fault, LabError
from lab.hosts import Host
from lab.plan import Plan, PlannedReach
from lab.providers.base import Finding, unlinked, unreachable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lab.hosts import Dial
    from lab.ledger import Ledger
    from lab.plan import PlannedHost
    from lab.providers.base import Order

SSH = 22
PATIENCE = 5.0  # seconds for a connection across a real network
LOGIN_PATIENCE = 30.0  # seconds; a small computer computes long on a key exchange


class ExternalProvider:
    """Owns nothing: what it is given was there before and stays."""

    name = "external"
    image_form = ""
    patched = False
    ssh_deadline = 20.0

    def check(self) -> Iterable[Finding]:
        """Need nothing of this machine."""
        return (Finding("external computers", "ok", "reached by SSH, as the spec says"),)

    def faults(self, plan: Plan, hosts: Iterable[PlannedHost]) -> list[str]:
        """Complain of hosts that the spec does not say how to reach."""
        del plan
        faults = []
        for host in hosts:
            if host.reach is None:
                faults.append(f"host {host.name}: `ssh` must say how it is reached")
            faults.extend(
                f"host {host.name}: {adapter.name}: `attach` is for virtual machines"
                for adapter in host.adapters
                if adapter.attach
            )
            faults.extend(unlinked(host))
        return faults

    def prepare(self) -> None:
        """Need nothing."""

    def create(self, order: Order, ledger: Ledger) -> None:
        """Make sure that every computer has an sshd that answers; make nothing."""
        del ledger
        for host in order.hosts:
            _private_key(host)
        missing = {name: why for name, why in _look(order.hosts).items() if why}
        if missing:
            raise LabError(
                f"reaching the computers of the lab {order.plan.lab!r}",
                "\n".join(f"{name}: {why}" for name, why in missing.items()),
                fault=Fault.GUEST,
                todo="start them and their sshd, or correct `ssh` in the spec",
            )

    def observe(self, ledger: Ledger) -> dict[str, str | None]:
        """Tell which sshd answers."""
        return _look(_hosts(ledger))

    def destroy(self, ledger: Ledger, deadline: float) -> None:
        """Leave them as they are."""

    def host(self, record: Mapping[str, Any], planned: PlannedHost) -> Host:
        """Log in as the spec says. Raises LabError when its key cannot be read."""
        del record
        reach = _reach(planned)
        return Host(planned.name, reach.user, reach.host_key, _private_key(planned), LOGIN_PATIENCE)

    def dial(self, ledger: Ledger, host: str) -> Dial:
        """Connect to its sshd; its other ports can be reached through that alone."""

        def connect(port: int) -> socket.socket:
            there = {planned.name: planned for planned in _hosts(ledger)}
            if not ledger.current() or host not in there:
                raise unreachable(ledger, host, "the lab is not up, or has no such host")
            if port != SSH:
                saw = "refused: of a computer that is there already only sshd can be dialled"
                raise ConnectionRefusedError(errno.ECONNREFUSED, saw)
            reach = _reach(there[host])
            return socket.create_connection((reach.address, reach.port), timeout=PATIENCE)

        return connect


def _hosts(ledger: Ledger) -> list[PlannedHost]:
    record = ledger.read()
    hosts = Plan.from_json(record["plan"]).hosts if "plan" in record else ()
    return [host for host in hosts if host.provider == PROVIDER.name]


def _reach(host: PlannedHost) -> PlannedReach:
    if host.reach is None:
        raise LabError(
            f"reaching host {host.name!r}",
            "nothing says how",
            fault=Fault.SPEC,
            todo="add `ssh:` with its address, key and host key",
        )
    return host.reach


def _look(hosts: Iterable[PlannedHost]) -> dict[str, str | None]:
    def answers(host: PlannedHost) -> str | None:
        reach = _reach(host)
        try:
            socket.create_connection((reach.address, reach.port), timeout=PATIENCE).close()
        except OSError as error:
            return f"{reach.address}:{reach.port}: {error}"
        return None

    listed = list(hosts)
    with ThreadPoolExecutor(max_workers=8) as pool:
        return dict(zip([host.name for host in listed], pool.map(answers, listed), strict=True))


def _private_key(host: PlannedHost) -> str:
    path = Path(_reach(host).key)
    try:
        return path.read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        raise LabError(
            f"reading the key for host {host.name!r}",
            f"{path}: {error}",
            fault=Fault.USER,
            todo="name the file of your private key as `key` under `ssh:`",
        ) from error


PROVIDER = ExternalProvider()
