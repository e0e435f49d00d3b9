"""The search for all texts of a cell in any content, in every form that hides nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from experiments.analysis import spellings
from experiments.analysis.matching import Matcher

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from experiments.matrix.secrets import Item

_DIGITS: Final = frozenset(b"0123456789")
# Numbers: they must not be a part of a longer one. Names and messages are in nobody's words.
_NUMBERS: Final = frozenset({"time", "address"})


@dataclass(frozen=True, slots=True)
class Hit:
    """A text at a place in a content. form: how it is written there."""

    id: str
    form: str
    start: int
    end: int


class Needles:
    """The texts, compiled once."""

    def __init__(self, items: Iterable[Item]) -> None:
        """Compile every spelling of every text; times and addresses are written in one way."""
        self._owners: list[list[tuple[str, str, bool]]] = []
        places: dict[bytes, int] = {}
        for item in items:
            number = item.kind in _NUMBERS
            text = item.text.strip()
            forms = {text.encode(): spellings.AS_IS} if number else spellings.spellings(text)
            for needle, form in forms.items():
                index = places.setdefault(needle, len(places))
                if index == len(self._owners):
                    self._owners.append([])
                self._owners[index].append((item.id, form, number))
        caseless = frozenset(
            index
            for index, owners in enumerate(self._owners)
            if any(form == spellings.HEX for _, form, _ in owners)
        )
        self._matcher = Matcher(list(places), caseless=caseless)

    def find(self, content: bytes) -> Iterator[Hit]:
        """Yield where the texts stand, in order."""
        for index, start, end in sorted(self._matcher.spans(content), key=lambda span: span[1:]):
            for name, form, number in self._owners[index]:
                if not number or _whole(content, start, end):
                    yield Hit(name, form, start, end)


def _whole(content: bytes, start: int, end: int) -> bool:
    """Whether no digit goes on before or after."""
    before = start > 0 and content[start - 1] in _DIGITS
    return not before and not (end < len(content) and content[end] in _DIGITS)
