"""Who looks where at the server and at the ends, beside those who listen on the wire.

Every module of this package is one observer, found by its name, and has

    LATER: bool                           it looks when everybody has left, else while all are there
    look(scene: Scene) -> list[Sight]     copies what there is to be seen into the run folder

Nothing is searched here: what was copied is evidence, and judged from the run folder alone.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from lab import table
from lab.errors import Fault, LabError
from provisioning.messaging import Inspectable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from experiments.workloads import Stage
    from provisioning.countermeasures import Setting
    from provisioning.messaging import Client
    from provisioning.transport import Session


@dataclass(frozen=True, slots=True)
class Scene:
    """Where there is something to be seen: a conversation over a system, and who takes part."""

    stage: Stage
    setting: Setting
    clients: Mapping[str, Client]

    def inspectable(self) -> Inspectable | None:
        """Return the system, if it is known what its operator can look into."""
        system = self.setting.system
        return system if isinstance(system, Inspectable) else None

    def keep(self, name: str, content: bytes) -> str:
        """Write a file of the run folder; return its name. Raises LabError outside of a run."""
        if self.stage.reserve is None:
            raise LabError(
                f"keeping {name}",
                "there is no run folder to keep it in",
                fault=Fault.USER,
                todo="run it as an experiment, or without observers",
            )
        self.stage.reserve(name).write_bytes(content)
        return name


@dataclass(frozen=True, slots=True)
class Sight:
    """What an observer copied.

    place    -- which of messaging.Place it shows.
    file     -- in the run folder, packed with gzip where its name ends in .gz; "" if there was
                nothing that could be copied, then `lacks` says why.
    size     -- bytes, unpacked.
    parts    -- (name, offset in the unpacked file, bytes) of what lies in it, as far as it has
                parts; those of an archive are in the archive itself.
    """

    observer: str
    place: str
    host: str
    file: str
    what: str
    size: int = 0
    parts: tuple[tuple[str, int, int], ...] = ()
    lacks: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {**asdict(self), "parts": [list(part) for part in self.parts]}


class Observer(Protocol):
    """A module of this package, as seen from outside."""

    LATER: bool

    def look(self, scene: Scene) -> list[Sight]:
        """Copy what there is to be seen into the run folder."""


def names() -> list[str]:
    """Return the names of all observers."""
    return table.names(__path__)


def get(name: str) -> Observer:
    """Return an observer by name. Raises LabError that lists what there is."""
    return cast("Observer", table.load(__name__, names(), "observer", name))


def unpacked_size(packed: bytes) -> int:
    """Return how many bytes a gzip file holds. Raises LabError where it is damaged."""
    try:
        return len(gzip.decompress(packed))
    except (OSError, EOFError, zlib.error) as error:
        raise LabError(
            "reading what a host packed",
            str(error),
            fault=Fault.GUEST,
            todo="see whether the host has run out of memory, and run again",
        ) from error


def packed(session: Session, script: str, *arguments: str, deadline: float = 60.0) -> bytes:
    """Return what a shell script prints, packed with gzip on the host. Raises LabError."""
    return session.run(["/bin/sh", "-c", script, "sh", *arguments], deadline=deadline).stdout
