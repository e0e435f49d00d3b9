"""What a provider is: the seam between a plan and whatever makes it real.

A provider is one module or package of lab/providers/ that exports PROVIDER. It owns only what its
lab's ledger lists, destroys only that, and needs no spec to do it. None imports another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lab.hosts import Dial
    from lab.ledger import Ledger
    from lab.plan import Plan


@dataclass(frozen=True, slots=True)
class Image:
    """A base image on this machine.

    rootfs -- folder with the root file system, owned by the mapped id range (lab/userns.py).
    lock   -- file on which a lab holds a shared flock for as long as it uses the image.
    """

    name: str
    key: str
    rootfs: Path
    lock: Path


@dataclass(frozen=True, slots=True)
class Order:
    """Everything a provider needs to make a lab.

    record -- the ledger's first entry (plan, keys, where the spec was); plain JSON data.
    files  -- per host: path -> (mode, text) to be there before its sshd starts.
    images -- by the names that the plan uses.
    """

    root: Path
    plan: Plan
    record: dict[str, Any]
    files: Mapping[str, dict[str, tuple[int, str]]]
    images: Mapping[str, Image]


class Provider(Protocol):
    """Create, observe, destroy, and hand out a way in."""

    name: str

    def prepare(self) -> None:
        """Begin what any lab will need, while the plan is still being made; leaves no trace."""

    def create(self, order: Order) -> Ledger:
        """Make the lab, whole or not at all, with its ledger; return when it is committed.

        Raises LabError; FileExistsError when a lab of that name is there already.
        """

    def observe(self, ledger: Ledger) -> dict[str, str | None]:
        """Return each host of the plan with None if it lives, else why it does not."""

    def destroy(self, ledger: Ledger, deadline: float) -> None:
        """End all that the ledger lists, and the ledger; safe to repeat. Raises LabError."""

    def dial(self, ledger: Ledger, host: str) -> Dial:
        """Return how to open TCP connections to a host's own loopback."""
