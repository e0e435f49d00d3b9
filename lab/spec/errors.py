"""What is wrong with a spec: rows that a program can use, one error that a person can read."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from collections.abc import Iterable

SHOWN_NAMES = 8
COMPARED_NAMES = 256


@dataclass(frozen=True, slots=True)
class SpecFault:
    """One fault of one spec file.

    line, column -- 1-based, counted in characters; both 0 where the file as a whole is meant.
    message -- what is wrong. Never holds a password, nor text that could be a mistyped one.
    fix -- what to write instead.
    """

    file: str
    line: int
    column: int
    message: str
    fix: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{where}: {self.message}\n    {self.fix}"

    def to_json(self) -> dict[str, Any]:
        """Return the fault as JSON data."""
        return asdict(self)


class SpecError(LabError):
    """A spec with at least one fault; nothing was created.

    faults -- every fault, in the order of the file.
    """

    SHOWN = 50

    def __init__(
        self, name: str, faults: Iterable[SpecFault], *, fault: Fault = Fault.SPEC
    ) -> None:
        self.name = name
        self.faults = tuple(sorted(set(faults), key=_place))
        super().__init__(
            f"reading the spec {name}",
            "\n".join(str(row) for row in self.faults),
            fault=fault,
            todo="correct what is shown above; docs/spec.md tells every key",
        )
        self.args = (name, self.faults)  # what pickle and copy call the constructor with

    def __str__(self) -> str:
        rows = [str(row) for row in self.faults[: self.SHOWN]]
        if len(self.faults) > self.SHOWN:
            rows.append(f"… and {len(self.faults) - self.SHOWN} more")
        count = "1 fault" if len(self.faults) == 1 else f"{len(self.faults)} faults"
        return "\n".join([*rows, f"{count} in {self.name}; nothing was created. {self.todo}"])


def _place(row: SpecFault) -> tuple[int, int, str]:
    return row.line, row.column, row.message


def quote(value: object, limit: int = 60) -> str:
    """Return a value as it may stand in a message: on one line, printable, not too long."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def listed(names: Iterable[str]) -> str:
    """Return "a, b, c" or "a, b and 90 more" for a message."""
    found = [str(name) for name in names]
    if len(found) <= SHOWN_NAMES:
        return ", ".join(found)
    return f"{', '.join(found[:SHOWN_NAMES])} and {len(found) - SHOWN_NAMES} more"


def closest(name: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate that `name` was probably meant to be, if one is near."""
    # difflib is slow on hundreds of nearly equal names, and a suggestion is only a courtesy.
    pool = [str(candidate) for candidate in candidates][:COMPARED_NAMES]
    for candidate in pool:
        if candidate.lower() == name.lower():
            return candidate
    from difflib import get_close_matches  # noqa: PLC0415 - a correct spec does not pay for it

    return next(iter(get_close_matches(name, pool, n=1, cutoff=0.6)), None)


def suggest(name: str, candidates: Iterable[str], kind: str) -> str:
    """Return the fix for a name that is unknown: the nearest one, or all there are."""
    pool = list(candidates)
    near = closest(name, pool)
    if near is not None:
        return f"did you mean {quote(near)}?"
    return f"{kind}: {listed(pool)}" if pool else f"{kind}: there is none"
