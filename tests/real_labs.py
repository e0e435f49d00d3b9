"""Real labs as tests put them up. Apart from conftest.py: of that name there are several."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lab import lifecycle
from lab.images import ensure_image
from lab.plan import Plan, PlannedAdapter, PlannedHost, PlannedNetwork
from lab.providers.base import Image

if TYPE_CHECKING:
    from collections.abc import Mapping

    from provisioning.transport import Session

PROJECT = Path(__file__).resolve().parent.parent


def images(form: str, wanted: set[str]) -> Mapping[str, Image]:
    """Return base images as the life cycle wants them, building what is missing."""
    assert form == "rootfs"
    made = {name: ensure_image(name) for name in wanted}
    return {n: Image(ref.name, ref.key, ref.rootfs, ref.lock) for n, ref in made.items()}


def small_plan(name: str = "small", extra: int = 0) -> Plan:
    """Return the paper's wiring on the small image, with `extra` further hosts on the switch."""

    def host(
        label: str, address: str, number: int, on: str | None = None, ttl: int = 64
    ) -> PlannedHost:
        adapter = PlannedAdapter(
            "eth0",
            f"02:00:00:00:{number // 256:02x}:{number % 256:02x}",
            "wired",
            "",
            f"{address}/24",
            None if on else "lan",
            "eth0" if on else None,
        )
        return PlannedHost(label, "debian-base", "debian", ttl, 256, 1, 64, on, (adapter,), ())

    hosts = (
        host("host", "192.168.1.30", 1, ttl=128),
        host("guest", "192.168.1.10", 2, on="host", ttl=128),
        host("peer", "192.168.1.20", 3),
        *(host(f"h{n}", f"192.168.1.{40 + n}", 10 + n) for n in range(extra)),
    )
    return Plan(name, "", (PlannedNetwork("lan", "192.168.1.0/24"),), hosts, (), ())


@dataclass
class LabMaker:
    """Makes labs under a state folder of its own and ends all of them."""

    root: Path
    made: list[str] = field(default_factory=list)

    def up(self, plan: Plan) -> lifecycle.Lab:
        """Put a lab up on the small image."""
        self.made.append(plan.lab)
        lab, _ = lifecycle.up(plan, images, root=self.root)
        return lab

    def close(self) -> None:
        """Take down what is left."""
        for name in self.made:
            lifecycle.down(name, self.root)


@dataclass
class OpenLab:
    """A lab with its sessions."""

    lab: lifecycle.Lab
    sessions: object

    @property
    def plan(self) -> Plan:
        """The lab's plan."""
        return self.lab.plan

    def session(self, host: str) -> Session:
        """Return the SSH session of a host."""
        session: Session = self.sessions[host]  # type: ignore[index] # provisioning.sessions.Sessions
        return session
