"""Types of answers: how what a student wrote is held against what is right for that student.

A check returns the share of the points (0 to 1) and a reason that the student can read. It never
says what is right: the page may come before the second try.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from teaching.submissions import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_TEXT: Final = 4000
MAX_ITEMS: Final = 200
#: Of text: the share for the right letters in other case, where case counts; by the rubric.
OTHER_CASE: Final = 0.5
_NUMBER: Final = re.compile(r"[-+]?[0-9]{1,15}(?:[.,][0-9]{1,9})?")


@dataclass(frozen=True, slots=True)
class Verdict:
    """The share of a question's points, and why."""

    share: float
    reason: str


def plain(value: object) -> str:
    """Return a text as texts are compared: NFC, one space between words, none around."""
    return " ".join(unicodedata.normalize("NFC", str(value)[:MAX_TEXT]).split())


def pieces(value: object) -> list[str]:
    """Return the texts that an answer consists of, for comparing with what others have."""
    if isinstance(value, list):
        return [plain(item) for item in value[:MAX_ITEMS] if not isinstance(item, (list, dict))]
    return [] if isinstance(value, dict) or value is None else [plain(value)]


def _text(given: object, right: Any, _: Mapping[str, Any]) -> Verdict:  # noqa: ANN401 - by type
    words = _single(given)
    if words is None:
        return Verdict(0, "one text is expected here, not a list or mapping")
    if words.casefold() == plain(right).casefold():
        return Verdict(1, "right")
    return Verdict(0, f"{shown(words)} is not what your lab has")


def _exact(given: object, right: Any, how: Mapping[str, Any]) -> Verdict:  # noqa: ANN401 - as above
    words = _single(given)
    if words is None:
        return Verdict(0, "one text is expected here, not a list or mapping")
    if words == plain(right):
        return Verdict(1, "right")
    if words.casefold() == plain(right).casefold():
        share = float(how.get("other_case", OTHER_CASE))
        return Verdict(share, f"{shown(words)} has the right letters, but capitals matter here")
    return Verdict(0, f"{shown(words)} is not what your lab has")


def _number(given: object, right: Any, how: Mapping[str, Any]) -> Verdict:  # noqa: ANN401 - as above
    words = _single(given)
    if words is None or not _NUMBER.fullmatch(words):
        return Verdict(0, "a number is expected here")
    number = float(words.replace(",", "."))
    away = abs(number - float(right))
    if away == 0:
        return Verdict(1, "right")
    for step in how.get("within", ()):
        if away <= float(step["by"]):
            return Verdict(float(step["share"]), f"{shown(words)} is close, but not exact")
    return Verdict(0, f"{shown(words)} is not what your lab has")


def _choice(given: object, right: Any, how: Mapping[str, Any]) -> Verdict:  # noqa: ANN401 - as above
    words = _single(given)
    if isinstance(given, bool):  # YAML takes true and false for more than words
        words = "yes" if given else "no"
    options = [plain(word) for word in how.get("options", ())]
    if words is None or words.casefold() not in {word.casefold() for word in options}:
        return Verdict(0, f"one of these is expected: {', '.join(options)}")
    if words.casefold() == plain(right).casefold():
        return Verdict(1, "right")
    return Verdict(0, f"not {shown(words)}: look again")


def _set(given: object, right: Any, _: Mapping[str, Any]) -> Verdict:  # noqa: ANN401 - as above
    """Each right one counts; each that is none takes one away, so that guessing does not pay."""
    wanted = {plain(item).casefold() for item in right}
    if isinstance(given, dict) or given is None:
        return Verdict(0, "a list is expected here: one line a text, each with a dash before it")
    have = {words.casefold() for words in pieces(given)}
    found, wrong = len(wanted & have), len(have - wanted)
    share = max(0, found - wrong) / len(wanted)
    if found == len(wanted) and not wrong:
        return Verdict(1, "right, all of them")
    said = f"{found} of {len(wanted)} found"
    return Verdict(share, said + (f", and {wrong} that your lab does not have" if wrong else ""))


TYPES: Final[dict[str, Callable[[object, Any, Mapping[str, Any]], Verdict]]] = {
    "text": _text,
    "exact": _exact,
    "number": _number,
    "choice": _choice,
    "set": _set,
}


def check(kind: str, given: object, right: Any, how: Mapping[str, Any]) -> Verdict:  # noqa: ANN401 - as above
    """Judge one answer. how: the question's and the rubric's settings."""
    if given is None or (isinstance(given, str) and not given.strip()):
        return Verdict(0, "no answer")
    return TYPES[kind](given, right, how)


def _single(given: object) -> str | None:
    return None if isinstance(given, (list, dict)) else plain(given)
