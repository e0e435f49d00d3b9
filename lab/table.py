"""Tables of what is found by name: the modules of a package, each of which exports one thing.

Adding an entry is adding a file or folder; nothing else is edited.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence
    from types import ModuleType


def names(path: Iterable[str], *, besides: Container[str] = ()) -> list[str]:
    """Return the names of the modules and folders of a package (its __path__); loads none."""
    return sorted(m.name for m in pkgutil.iter_modules(path) if m.name not in besides)


def load(package: str, known: Sequence[str], kind: str, name: str) -> ModuleType:
    """Return the module of that name. Raises LabError that lists what is known."""
    if name not in known:
        raise _none(kind, name, known)
    return importlib.import_module(f"{package}.{name}")


def scan(package: ModuleType, export: str) -> dict[str, Any]:
    """Return {module name: its `export`} for the modules of a package that have it, by name."""
    table = {}
    for name in names(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{name}")
        if hasattr(module, export):
            table[name] = getattr(module, export)
    return table


def pick(table: dict[str, Any], kind: str, name: str) -> Any:  # noqa: ANN401 (what the table holds)
    """Return the entry of that name. Raises LabError that lists what there is."""
    if name not in table:
        raise _none(kind, name, table)
    return table[name]


def _none(kind: str, name: str, known: Iterable[str]) -> LabError:
    return LabError(
        f"looking for the {kind} {name!r}",
        f"there is none of that name; there are: {', '.join(known) or 'none'}",
        fault=Fault.USER,
        todo=f"Use one of these names, or add the file that makes a new {kind}.",
    )
