"""What people can do against being read: a factor of an experiment, for any system that takes it.

Each module or folder here that exports COUNTERMEASURE is one. Its name is the file's with '-' for
'_': `end_to_end` is "end-to-end". A countermeasure sets up hosts for as long as a conversation
lasts, makes the clients, and says what can still be read where.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from lab import table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from lab.plan import Plan, PlannedAccount
    from provisioning.messaging import Client, Place, Planted, System
    from provisioning.transport import Session

    Hosts = Mapping[str, Session]

EVERYWHERE: frozenset[Place] = frozenset({"wire", "server", "ends"})
AT_THE_SERVER: frozenset[Place] = frozenset({"server", "ends"})
AT_THE_ENDS: frozenset[Place] = frozenset({"ends"})


@dataclass(frozen=True, slots=True)
class Participant:
    """Somebody who takes part: at which host, on which host's server, as whom."""

    at: str
    server: str
    account: PlannedAccount


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a countermeasure is put up.

    sessions   -- host -> its open session, for all hosts of the plan.
    name       -- of the system, which is the name of its role.
    parameters -- the countermeasure's own, from the experiment.
    keep       -- gives the path of a new file for key material; None if nobody asked for any.
    """

    plan: Plan
    sessions: Hosts
    name: str
    system: System
    people: tuple[Participant, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    keep: Callable[[str], Path] | None = None

    @property
    def servers(self) -> tuple[str, ...]:
        """The hosts whose servers are used, each once."""
        return tuple(dict.fromkeys(person.server for person in self.people))

    def plain_client(self, who: Participant) -> Client:
        """Return the system's client as it is."""
        connect = self.sessions[who.at].connect
        return self.system.client(self.plan, who.at, who.server, connect)


class Protection(Protocol):
    """A countermeasure that is in force."""

    def client(self, who: Participant) -> Client:
        """Return the client that somebody uses under it."""

    def places(self, item: Planted, /) -> frozenset[Place]:
        """Return where a text can be read, if it goes there: all but "store"."""


class Countermeasure(Protocol):
    """What a module of this package exports as COUNTERMEASURE."""

    def check(self, parameters: Mapping[str, Any], plan: Plan) -> list[str]:
        """Return what is wrong with its parameters, a sentence each; pure."""

    def lacks(self, system: System) -> str:
        """Say why a system cannot take it, "" if it can; pure."""

    def applied(self, setting: Setting) -> AbstractContextManager[Protection]:
        """Set up what it needs, and undo that when the block ends. Raises LabError."""


def names() -> list[str]:
    """Return the names of all countermeasures."""
    return [name.replace("_", "-") for name in table.names(__path__)]


def find(name: str) -> Countermeasure:
    """Return the countermeasure of that name. Raises LabError, listing those there are."""
    known = table.names(__path__)
    module = name.replace("-", "_")
    if module not in known:
        table.pick(dict.fromkeys(names()), "countermeasure", name)
    made: Countermeasure = table.load(__name__, known, "countermeasure", module).COUNTERMEASURE
    return made


def no_parameters(parameters: Mapping[str, Any], name: str) -> list[str]:
    """Return the faults of parameters where there should be none; pure."""
    return [f"{name} has no parameter {key!r}" for key in parameters]
