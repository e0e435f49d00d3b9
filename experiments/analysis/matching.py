"""Many literals and patterns in one go: hyperscan, with what its interface leaves to do.

hyperscan reports where a match ends and, unless asked, not where it began; of a literal that is
known. It reports every end of a pattern (`a+` in "aaa" three times): `spans` keeps the longest.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import hyperscan

from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Matches of one scan beyond which no more are taken: some text that is everywhere says nothing.
MOST: Final = 1_000_000
# Compiling takes more than twice as long for twice as many; scanning as long whatever the number.
_AT_ONCE: Final = 10_000


class Matcher:
    """Literals, numbered from 0, and after them patterns (regular expressions of hyperscan)."""

    def __init__(
        self,
        literals: Sequence[bytes],
        patterns: Sequence[bytes] = (),
        *,
        caseless: frozenset[int] = frozenset(),
        much: bool = False,
    ) -> None:
        """Compile. Raises LabError when a pattern is no regular expression that hyperscan takes.

        caseless -- the literals of which upper and lower case are the same.
        much -- there is much to go over: compiling takes half as long again, going over it less.
        """
        self._lengths = [len(literal) for literal in literals]
        self.longest = max(self._lengths, default=0)
        # (database, the numbers of what is in it, whether these are literals)
        self._parts: list[tuple[Any, Sequence[int], bool]] = []
        # hyperscan's own call for literals is quicker, and ends at a zero byte: what has one then
        # asks for a pass of its own.
        wide = {n for n, literal in enumerate(literals) if b"\0" in literal}
        plain = [n for n in range(len(literals)) if n not in wide]
        kinds: tuple[tuple[Sequence[int], bool], ...] = ((plain, True), (sorted(wide), False))
        if much and wide:
            kinds = ((range(len(literals)), False),)
        for numbers, as_literals in kinds:
            for first in range(0, len(numbers), _AT_ONCE):
                part = numbers[first : first + _AT_ONCE]
                flags = [hyperscan.HS_FLAG_CASELESS if n in caseless else 0 for n in part]
                each = [literals[n] for n in part]
                if not as_literals:
                    each = ["".join(f"\\x{byte:02x}" for byte in one).encode() for one in each]
                self._parts.append((_database(each, flags, literal=as_literals), part, True))
        if patterns:
            flags = [hyperscan.HS_FLAG_SOM_LEFTMOST | hyperscan.HS_FLAG_DOTALL] * len(patterns)
            rest = range(len(literals), len(literals) + len(patterns))
            self._parts.append((_database(patterns, flags, literal=False), rest, False))

    def spans(self, data: Any) -> Iterator[tuple[int, int, int]]:  # noqa: ANN401 - any buffer
        """Yield (number, start, end) of all matches, in no particular order."""
        for database, numbers, literal in self._parts:
            found: list[tuple[int, int, int]] = []

            def take(
                number: int,
                start: int,
                end: int,
                _flags: int,
                _context: object,
                found: list[tuple[int, int, int]] = found,
            ) -> bool | None:
                found.append((number, start, end))
                return len(found) >= MOST or None

            with suppress(hyperscan.ScanTerminated):
                database.scan(data, match_event_handler=take)
            if literal:
                lengths = self._lengths
                for index, _, end in found:
                    yield numbers[index], end - lengths[numbers[index]], end
            else:
                longest: dict[tuple[int, int], int] = {}
                for index, start, end in found:
                    key = (numbers[index], start)
                    longest[key] = max(longest.get(key, 0), end)
                yield from _outer(longest)


def _outer(longest: dict[tuple[int, int], int]) -> Iterator[tuple[int, int, int]]:
    """Leave out matches of a pattern that lie within another of the same."""
    last: dict[int, int] = {}
    for (number, start), end in sorted(longest.items()):
        if end > last.get(number, -1):
            last[number] = end
            yield number, start, end


def _database(expressions: Sequence[bytes], flags: list[int], *, literal: bool) -> Any:  # noqa: ANN401 - hyperscan has no types
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    try:
        database.compile(
            expressions=list(expressions),
            ids=list(range(len(expressions))),
            flags=flags,
            literal=literal,
        )
    except hyperscan.HyperscanError as error:
        raise LabError(
            "compiling what is to be looked for",
            str(error),
            fault=Fault.USER,
            todo="Use regular expressions without look-around and back references.",
        ) from error
    return database
