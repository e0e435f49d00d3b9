"""No countermeasure: the system as its role makes it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from provisioning.countermeasures import EVERYWHERE, Participant, Setting, no_parameters

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lab.plan import Plan
    from provisioning.messaging import Client, Place, Planted, System


@dataclass(frozen=True, slots=True)
class Unprotected:
    """What is in force when nothing is."""

    setting: Setting

    def client(self, who: Participant) -> Client:
        """Return the system's client as it is."""
        return self.setting.plain_client(who)

    def places(self, item: Planted, /) -> frozenset[Place]:
        """Say that whatever is sent can be read everywhere."""
        del item
        return EVERYWHERE


@dataclass(frozen=True, slots=True)
class Nothing:
    """The countermeasure `none`."""

    def check(self, parameters: Mapping[str, Any], plan: Plan) -> list[str]:
        """Return what is wrong with its parameters; there are none."""
        del plan
        return no_parameters(parameters, "none")

    def lacks(self, system: System) -> str:
        """Say that every system can do without."""
        del system
        return ""

    @contextmanager
    def applied(self, setting: Setting) -> Iterator[Unprotected]:
        """Do nothing."""
        yield Unprotected(setting)


COUNTERMEASURE = Nothing()
