"""Tables of what is found by name: every module of a package that exports one thing.

Adding an entry is adding a file; nothing else is edited.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from types import ModuleType


def scan(package: ModuleType, export: str) -> dict[str, Any]:
    """Return {module name: its `export`} for the modules of a package that have it, by name."""
    table = {}
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        if hasattr(module, export):
            table[info.name] = getattr(module, export)
    return table


def pick(table: dict[str, Any], kind: str, name: str) -> Any:  # noqa: ANN401 (what the table holds)
    """Return the entry of that name. Raises LabError that lists what there is."""
    try:
        return table[name]
    except KeyError:
        raise LabError(
            f"looking for the {kind} {name!r}",
            f"there is none of that name; there are: {', '.join(table) or 'none'}",
            fault=Fault.USER,
            todo=f"Use one of these names, or add the file that makes a new {kind}.",
        ) from None
