"""JSON with the place of every string in its bytes (RFC 8259).

Lenient where a reader of captures must be: several values one after another, and what stands
before the first, are no fault. Depth and count are bounded, and nothing recurses.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

DEEPEST: Final = 100
# How many values are read of one text; what follows is left.
MOST: Final = 500_000
# How many members of an object are looked through for a name.
_MEMBERS: Final = 64
_TOKEN: Final = re.compile(
    rb'[\s,]*+(?:([{}\[\]:])|"((?:[^"\\]++|\\.)*+)"|(-?[0-9][0-9.eE+-]{0,64}+|true|false|null))',
    re.DOTALL,
)


@dataclass(slots=True)
class Value:
    """An object, an array, a string or another value, which is kept as it is written.

    key -- its name in the object around it. start and end are the bytes of a string's content, or
    of all of another value.
    """

    kind: str
    key: str = ""
    text: str = ""
    start: int = 0
    end: int = 0
    items: list[Value] = field(default_factory=list)
    named: dict[str, Value] | None = None

    def get(self, *names: str) -> Value | None:
        """Return the first member of one of these names, which are compared in small letters."""
        if self.named is None:
            # The first of two members of the same name stays.
            self.named = {item.key.lower(): item for item in reversed(self.items[:_MEMBERS])}
        return next((self.named[name] for name in names if name in self.named), None)

    def walk(self) -> Iterator[tuple[Value, tuple[Value, ...]]]:
        """Yield each value below, and itself, with those around it, the outermost first."""
        waiting: list[tuple[Value, tuple[Value, ...]]] = [(self, ())]
        while waiting:
            value, around = waiting.pop()
            yield value, around
            waiting += [(item, (*around, value)) for item in reversed(value.items)]


def read(content: bytes) -> list[Value] | None:
    """Return the values of a text; None if it is no JSON, or is cut."""
    top: list[Value] = []
    stack: list[Value] = []
    key: str | None = None
    position = count = 0
    while match := _TOKEN.match(content, position):
        position = match.end()
        sign = match[1]
        count += 1
        if count > MOST:
            return top
        if sign in {b"}", b"]"}:
            if not stack or stack[-1].kind != ("object" if sign == b"}" else "array"):
                return None
            stack.pop().end = position
            key = None
            continue
        if sign == b":":
            # The string before it was a name.
            if key is not None or not stack or not stack[-1].items:
                return None
            name = stack[-1].items.pop()
            if stack[-1].kind != "object" or name.kind != "string":
                return None
            key = name.text
            continue
        value = _value(match, key or "")
        (stack[-1].items if stack else top).append(value)
        key = None
        if sign:
            stack.append(value)
            if len(stack) > DEEPEST:
                return None
    whole = not stack and not content[position:].strip(b" \t\r\n,\0")
    return top if top and whole else None


def _value(match: re.Match[bytes], key: str) -> Value:
    if match[1]:
        return Value("object" if match[1] == b"{" else "array", key, "", match.start(1))
    if match[2] is not None:
        return Value("string", key, _string(match[2]), match.start(2), match.end(2))
    return Value("other", key, match[3].decode(), match.start(3), match.end(3))


def _string(written: bytes) -> str:
    text = written.decode("utf-8", "replace")
    if "\\" not in text:
        return text
    try:
        said = json.loads(f'"{text}"', strict=False)
    except ValueError:
        return text
    # Half of a pair of surrogates alone is no character.
    return str(said).encode("utf-8", "replace").decode()
