"""A lab brought back between cells to what it was when it had been provisioned.

Where every host can be saved as it runs (lifecycle.snapshot), by a snapshot; elsewhere service by
service, by what it keeps (provisioning.baseline). What a countermeasure set up it undoes itself.
"""

from __future__ import annotations

from secrets import token_hex
from typing import TYPE_CHECKING, Self

from lab import lifecycle, providers
from lab.errors import LabError
from lab.providers.base import Snapshots
from provisioning.baseline import Baseline
from provisioning.sessions import Sessions

if TYPE_CHECKING:
    from lab.lifecycle import Lab


class Resets:
    """A context manager with the lab's `sessions`, which a reset may open anew.

    way -- "snapshots" or "services".
    """

    def __init__(self, lab: Lab) -> None:
        """Log in to every host. Raises LabError."""
        self._lab = lab
        self.sessions = Sessions(lab)
        hosts = lab.plan.hosts
        savable = all(isinstance(providers.get(host.provider), Snapshots) for host in hosts)
        self.way = "snapshots" if savable else "services"
        self._snapshot = ""
        self._kept: dict[str, list[Baseline]] = {}

    def keep(self, role: str) -> None:
        """Remember what a service is like now. Raises LabError."""
        if self.way == "snapshots":
            if not self._snapshot:
                self._snapshot = f"matrix-{token_hex(4)}"
                lifecycle.snapshot(self._lab, self._snapshot)
            return
        plan = self._lab.plan
        self._kept[role] = [
            Baseline.take(plan, self.sessions[host.name], host.name, role)
            for host in plan.hosts
            if any(planned.name == role for planned in host.roles)
        ]

    def reset(self, role: str) -> None:
        """Bring it back to that. Raises LabError."""
        if self.way == "snapshots":
            self.sessions.close()
            lifecycle.restore(self._lab, self._snapshot)
            self.sessions = Sessions(self._lab)
            return
        for baseline in self._kept.get(role, []):
            baseline.put_back()

    def close(self) -> None:
        """Remove the copies, as far as hosts still answer, and log out."""
        try:
            for baselines in self._kept.values():
                for baseline in baselines:
                    baseline.forget()
        except LabError:
            pass  # the lab has gone, and they with it
        finally:
            self.sessions.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
