"""What the contract of every provider is tried on: one module a provider, found by its name.

A module exports BENCH, a class that is made with a folder of its own.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lab.making import Images
    from lab.plan import Plan
    from lab.providers.base import Image


class Setup(Protocol):
    """A provider's test bench: a lab of three hosts for it, host, guest and peer.

    blank -- where booting takes longer than most tests have time for: what gives images that have
    nothing to boot, for labs of which no SSH is wanted.
    """

    blank: Images | None

    def __init__(self, folder: Path) -> None:
        """Begin; whatever processes it needs end with `close`."""

    def plan(self, name: str = "small") -> Plan:
        """Return such a lab."""

    def images(self, form: str, wanted: set[str]) -> Mapping[str, Image]:
        """Return images as the life cycle wants them."""

    def unmakeable(self) -> Plan:
        """Return a lab that cannot be made, though nothing is wrong with its plan."""

    def left(self) -> list[str]:
        """Return what of any lab there is still; [] once all are down."""

    def close(self) -> None:
        """End what was begun."""


def get(provider: str, folder: Path) -> Setup:
    """Return the bench of a provider."""
    setup: Setup = importlib.import_module(f"benches.{provider}").BENCH(folder)
    return setup
