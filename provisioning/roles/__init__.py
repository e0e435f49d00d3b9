"""The table of roles: each folder here whose package exports ROLE is one, by the folder's name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from lab import table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.plan import Plan, PlannedHost
    from provisioning.authority import Certificate
    from provisioning.transport import Session


@dataclass(frozen=True, slots=True)
class RoleContext:
    """What a role is applied with: the whole plan, the host, and the role's own parameters.

    certificate -- speak TLS, with this certificate; no plain text then where TLS is wanted.
    """

    plan: Plan
    host: PlannedHost
    parameters: Mapping[str, Any] = field(default_factory=dict)
    certificate: Certificate | None = None


class Role(Protocol):
    """What a host is provisioned for."""

    @property
    def packages(self) -> tuple[str, ...]:
        """Debian packages that the host's image must have."""

    def check(self, context: RoleContext) -> tuple[str, ...]:
        """Return what is wrong with the parameters, one sentence each; pure."""

    def prepare(self, context: RoleContext) -> None:
        """Begin what needs no host, in the background; worth calling while the lab comes up."""

    def apply(self, session: Session, context: RoleContext) -> tuple[str, ...]:
        """Bring the host to the role's state; return what was changed, in words."""

    def probe(self, session: Session, context: RoleContext, deadline: float) -> None:
        """Return once the service answers; LabError with the last reason after `deadline` s."""


def names() -> list[str]:
    """Return the names of all roles, the folders of this package; loads none of them."""
    return table.names(__path__)


def find(name: str) -> Role:
    """Return the role of that name. Raises LabError, listing the roles that there are."""
    role: Role = table.load(__name__, names(), "role", name).ROLE
    return role
