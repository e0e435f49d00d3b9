"""What is done on the hosts of a lab. A workload acts and returns data.

Every module of this package is one workload, found by its name, and has

    run(stage: Stage, parameters: dict) -> dict    results to be merged into results.json
    check(parameters, plan) -> list[str]           what is wrong with the parameters; pure

so that a further workload is one file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

from lab import table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lab.plan import Plan
    from provisioning.sessions import Sessions


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a workload acts.

    browser -- drive a real browser where the workload can, instead of an HTTP client.
    note    -- is told in a few words what goes on.
    reserve -- gives the path of a new evidence file by its name; None outside of a run.
    """

    plan: Plan
    sessions: Sessions
    seed: int
    browser: bool = False
    note: Callable[[str], None] = field(default=lambda _: None)
    reserve: Callable[[str], Path] | None = None


class Workload(Protocol):
    """A module of this package, as seen from outside."""

    def run(self, stage: Stage, parameters: dict[str, Any]) -> dict[str, Any]:
        """Act on the lab and return results."""

    def check(self, parameters: dict[str, Any], plan: Plan) -> list[str]:
        """Return what is wrong with the parameters, before anything is done."""


def names() -> list[str]:
    """Return the names of all workloads."""
    return table.names(__path__)


def get(name: str) -> Workload:
    """Return a workload by name. Raises LabError that lists what there is."""
    return cast("Workload", table.load(__name__, names(), "workload", name))
