"""The engines that read captures; a file here that exports ENGINE is one."""

from __future__ import annotations

import sys
from typing import cast

from experiments.analysis.model import Engine  # noqa: TC001 (part of this module's interface)
from lab import table


def engines() -> dict[str, Engine]:
    """Return the engines by name."""
    return table.scan(sys.modules[__name__], "ENGINE")


def engine(name: str) -> Engine:
    """Return an engine. Raises LabError when there is none of that name."""
    return cast("Engine", table.pick(engines(), "engine", name))
