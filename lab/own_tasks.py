"""Tasks that a provider adds to ./inv. `lab` has no command line: tasks.py makes one of them.

A provider that is a package has them in its module `tasks`, as TASKS. That module is loaded at
every ./inv, and must load the rest when a task runs.
"""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import providers

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.image_build import Progress


@dataclass(frozen=True, slots=True)
class Answer:
    """What a task has to say: text for people, JSON data for programs."""

    text: str
    data: Any


@dataclass(frozen=True, slots=True)
class OwnTask:
    """One task.

    name    -- as in ./inv NAME; also the group of system_packages.txt that it needs.
    summary -- one line, as in ./inv --list.
    run     -- does it, and reports progress to what it is given. Raises LabError.
    """

    name: str
    summary: str
    run: Callable[[Progress], Answer]


def of_providers() -> list[OwnTask]:
    """Return all tasks of all providers, by provider."""
    found: list[OwnTask] = []
    for name in sorted(m.name for m in pkgutil.iter_modules(providers.__path__) if m.ispkg):
        if any((Path(folder) / name / "tasks.py").is_file() for folder in providers.__path__):
            found += import_module(f"{providers.__name__}.{name}.tasks").TASKS
    return found
