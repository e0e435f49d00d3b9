"""Who is who on the wire, and who can see whose traffic, read off a plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.plan import Plan


@dataclass(frozen=True, slots=True)
class Names:
    """Host names by address."""

    by_address: dict[str, str]

    @classmethod
    def of(cls, plan: Plan) -> Names:
        """Return the names of a plan's addresses."""
        return cls(
            {
                adapter.address.partition("/")[0]: host.name
                for host in plan.hosts
                for adapter in host.adapters
                if adapter.address
            }
        )

    def end(self, end: str) -> str:
        """Return the host of "address:port", or the address when no host has it."""
        address = end.rpartition(":")[0].strip("[]")
        return self.by_address.get(address, address)


def visible(plan: Plan, host: str, adapter: str) -> frozenset[str]:
    """Return the hosts whose own traffic crosses an adapter by the way the lab is wired.

    Its own host's, and that of every guest that is bridged to it, at any depth (Figures 4 to 6).
    A switch shows nobody another's unicast traffic.
    """
    seen = {host}
    for guest in plan.hosts:
        if guest.on == host:
            for own in guest.adapters:
                if own.bridged == adapter:
                    seen |= visible(plan, guest.name, own.name)
    return frozenset(seen)
