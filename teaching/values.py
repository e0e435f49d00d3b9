"""A student's own values: names, passwords, messages, keys, numbers, derived from the course.

An exercise says which it has:

    values:
      alice: {kind: person}
      password: {kind: password}
      first: {kind: sentence}
      lines: {kind: number, from: 3, to: 7}

The same course, student and exercise give the same values on any machine, in any order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lab.errors import Fault, LabError
from teaching.words import PEOPLE, PLACES, SENTENCES, THINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from teaching.course import Course

Value = str | int
#: Kinds whose values no two students share but by an accident of one in millions: to have
#: another's is to have it from there.
TELLING: Final = frozenset({"person", "password", "sentence", "key", "hex"})


class _Draw:
    """Choices from derived bytes, one after the other."""

    def __init__(self, data: bytes) -> None:
        self._number = int.from_bytes(data, "big")

    def below(self, limit: int) -> int:
        """Return a number below the limit (of 512 bits drawn, the bias is nothing)."""
        self._number, rest = divmod(self._number, limit)
        return rest

    def one(self, words: Sequence[str]) -> str:
        """Return one of these."""
        return words[self.below(len(words))]


def _person(draw: _Draw, _: Mapping[str, Any]) -> str:
    """Return a name that every system takes for an account: letters, then digits."""
    return f"{draw.one(PEOPLE)}{100 + draw.below(900)}"


def _password(draw: _Draw, _: Mapping[str, Any]) -> str:
    return f"{draw.one(THINGS).title()}-{draw.one(THINGS)}-{1000 + draw.below(9000)}"


def _sentence(draw: _Draw, _: Mapping[str, Any]) -> str:
    return draw.one(SENTENCES) % {
        "thing": f"{draw.one(THINGS)} {draw.one(THINGS)}",
        "place": draw.one(PLACES),
        "hour": f"{draw.below(24):02d}:{draw.below(60):02d}",
        "number": 1000 + draw.below(9000),
    }


def _key(draw: _Draw, _: Mapping[str, Any]) -> str:
    return " ".join(draw.one(THINGS) for _ in range(5))


def _hex(draw: _Draw, settings: Mapping[str, Any]) -> str:
    return "".join(f"{draw.below(256):02x}" for _ in range(int(settings.get("bytes", 8))))


def _number(draw: _Draw, settings: Mapping[str, Any]) -> int:
    low, high = int(settings["from"]), int(settings["to"])
    return low + draw.below(high - low + 1)


def _choice(draw: _Draw, settings: Mapping[str, Any]) -> str:
    return str(draw.one([str(word) for word in settings["of"]]))


KINDS: Final[dict[str, Callable[[_Draw, Mapping[str, Any]], Value]]] = {
    "person": _person,
    "password": _password,
    "sentence": _sentence,
    "key": _key,
    "hex": _hex,
    "number": _number,
    "choice": _choice,
}


def of_student(
    course: Course, student: str, exercise: str, wanted: Mapping[str, Mapping[str, Any]]
) -> dict[str, Value]:
    """Return the student's values by name; two of an exercise are never the same text.

    Raises LabError for a kind that there is not.
    """
    values: dict[str, Value] = {}
    for name, settings in wanted.items():
        kind = str(settings.get("kind"))
        if kind not in KINDS:
            raise LabError(
                f"making the value {name!r} of the exercise {exercise!r}",
                f"no kind {kind!r}; there are: {', '.join(KINDS)}",
                fault=Fault.SPEC,
                todo="use one of these",
            )
        attempt = 0
        while True:
            data = course.derive(student, exercise, name, str(attempt), size=64)
            value = KINDS[kind](_Draw(data), settings)
            if kind not in TELLING or value not in values.values():
                break
            attempt += 1
        values[name] = value
    return values
