"""Errors that a user can act on.

Every error says what was being done, what was seen, whose fault it is and what to do next.
`Fault` is part of the value, so that a program can decide as well as a person.
"""

from __future__ import annotations

from enum import Enum


class Fault(Enum):
    """Whose fault an error is; the value is how it reads in a sentence."""

    SPEC = "the spec"
    MACHINE = "this machine"
    GUEST = "a lab host"
    USER = "the request"
    US = "imlab"


class LabError(Exception):
    """Something could not be done, told so that the reader knows what to do next.

    doing -- what was being done, as a phrase: "building the image 'lamp'".
    saw   -- what was seen; may span lines, of which the last twenty are shown.
    fault -- whose fault it is.
    todo  -- what to do next, as a sentence.
    """

    MAX_LINES = 20

    def __init__(self, doing: str, saw: str, *, fault: Fault, todo: str) -> None:
        self.doing, self.saw, self.fault, self.todo = doing, saw, fault, todo
        super().__init__(doing, saw, fault, todo)

    def __str__(self) -> str:
        lines = self.saw.rstrip().splitlines() or ["(nothing)"]
        if len(lines) > self.MAX_LINES:
            lines = [f"… {len(lines) - self.MAX_LINES} earlier lines", *lines[-self.MAX_LINES :]]
        return (
            f"{self.doing}: failed\n"
            + "\n".join(f"  {line}" for line in lines)
            + f"\n  fault: {self.fault.value}\n  next:  {self.todo}"
        )
