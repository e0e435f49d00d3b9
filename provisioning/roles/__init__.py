"""The table of roles: each folder here whose package exports ROLE is one, by the folder's name."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.plan import Plan, PlannedHost
    from provisioning.transport import Session


@dataclass(frozen=True, slots=True)
class RoleContext:
    """What a role is applied with: the whole plan, the host, and the role's own parameters."""

    plan: Plan
    host: PlannedHost
    parameters: Mapping[str, Any] = field(default_factory=dict)


class Role(Protocol):
    """What a host is provisioned for."""

    @property
    def packages(self) -> tuple[str, ...]:
        """Debian packages that the host's image must have."""

    def check(self, context: RoleContext) -> tuple[str, ...]:
        """Return what is wrong with the parameters, one sentence each; pure."""

    def apply(self, session: Session, context: RoleContext) -> tuple[str, ...]:
        """Bring the host to the role's state; return what was changed, in words."""

    def probe(self, session: Session, context: RoleContext, deadline: float) -> None:
        """Return once the service answers; LabError with the last reason after `deadline` s."""


@cache
def roles() -> Mapping[str, Role]:
    """Return all roles by name."""
    table: dict[str, Role] = {}
    for module in pkgutil.iter_modules(__path__):
        if module.ispkg:
            package = importlib.import_module(f"{__name__}.{module.name}")
            if hasattr(package, "ROLE"):
                table[module.name] = package.ROLE
    return table


def find(name: str) -> Role:
    """Return the role of that name. Raises LabError, listing the roles that there are."""
    try:
        return roles()[name]
    except KeyError:
        raise LabError(
            f"looking for the role {name!r}",
            "roles are: " + ", ".join(sorted(roles())),
            fault=Fault.SPEC,
            todo="correct the role's name in the spec",
        ) from None
