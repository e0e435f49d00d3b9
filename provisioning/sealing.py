"""Messages sealed from end to end, for systems that carry text and know nothing of it.

A message is encrypted and authenticated between two people's own keys (NaCl's box: X25519,
XSalsa20 and Poly1305), and travels as one or more lines of plain letters, each short enough for
the system:

    imlab1.<message>.<part>.<parts>.<base64>

Inside is who says it to whom, as which message of theirs, and the text. A box opens in both
directions alike and as often as it comes; so what a server sends back, sends again or moves to
another conversation is refused by what is inside. What is not protected: who talks to whom, when,
and about how much; and what was said before, once somebody gets a key (no forward secrecy).
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field

from nacl.exceptions import CryptoError
from nacl.public import Box, PrivateKey, PublicKey

MARK = "imlab1"
_FRAME = re.compile(rf"{MARK}\.([0-9a-f]{{16}})\.([0-9]{{1,4}})\.([0-9]{{1,4}})\.([A-Za-z0-9_-]+)")
_HEAD = len(f"{MARK}.{'0' * 16}.0000.0000.")
MAX_PARTS = 9999
MAX_WAITING = 32  # messages of one sender of which parts are missing; the oldest is given up


class RefusedError(Exception):
    """A frame or message that is not what it claims to be; the text says why."""


def split(sealed: bytes, message: str, longest: int) -> tuple[str, ...]:
    """Return the lines, of at most `longest` bytes each, that carry a sealed message: pure.

    message -- 16 hexadecimal digits that tell it from others. Raises ValueError when it has no
    room.
    """
    room = longest - _HEAD
    text = base64.urlsafe_b64encode(sealed).decode("ascii").rstrip("=")
    parts = max(1, -(-len(text) // room)) if room > 0 else MAX_PARTS + 1
    if parts > MAX_PARTS:
        raise ValueError(f"{len(sealed)} bytes do not fit into lines of {longest}")
    return tuple(
        f"{MARK}.{message}.{number}.{parts}.{text[number * room : (number + 1) * room]}"
        for number in range(parts)
    )


@dataclass(slots=True)
class Joiner:
    """Lines put together again, in whatever order they come, one joiner a sender."""

    _waiting: dict[tuple[str, int], dict[int, str]] = field(default_factory=dict)

    def take(self, line: str) -> bytes | None:
        """Take a line; return the sealed message that it completes, else None.

        Raises RefusedError for a line that is no part of one.
        """
        found = _FRAME.fullmatch(line)
        if not found:
            raise RefusedError("it is not sealed")
        message, number, parts, text = found[1], int(found[2]), int(found[3]), found[4]
        if not number < parts <= MAX_PARTS:
            raise RefusedError(f"it is part {number} of {parts}")
        there = self._waiting.setdefault((message, parts), {})
        if len(self._waiting) > MAX_WAITING:
            del self._waiting[next(iter(self._waiting))]
        there.setdefault(number, text)
        if len(there) < parts:
            return None
        del self._waiting[message, parts]
        whole = "".join(there[number] for number in range(parts))
        try:
            return base64.b64decode(whole + "=" * (-len(whole) % 4), altchars=b"-_", validate=True)
        except ValueError as error:
            raise RefusedError("it is no base64") from error


@dataclass(slots=True)
class Keys:
    """One person's key, and what others have told about theirs.

    ring -- public keys by name, told beforehand and out of the server's reach.
    """

    name: str
    ring: dict[str, bytes]
    _private: PrivateKey = field(default_factory=PrivateKey.generate, repr=False)
    _sent: dict[str, int] = field(default_factory=dict)
    _seen: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Tell the others one's own public key."""
        self.ring[self.name] = bytes(self._private.public_key)

    def seal(self, text: str, to: str) -> bytes:
        """Return a message that `to` alone can read. Raises RefusedError without a key of his."""
        number = self._sent[to] = self._sent.get(to, 0) + 1
        inside = json.dumps([self.name, to, number, text], ensure_ascii=False).encode()
        return bytes(self._box(to).encrypt(inside))

    def open(self, sealed: bytes, sender: str) -> str:
        """Return a message's text. Raises RefusedError for one that is not `sender`'s, or old."""
        try:
            inside = json.loads(self._box(sender).decrypt(sealed))
        except (CryptoError, ValueError) as error:
            raise RefusedError(f"it is not sealed by {sender} for {self.name}") from error
        said_by, to, number, text = inside
        if (said_by, to) != (sender, self.name):
            raise RefusedError(f"it was said by {said_by} to {to}")
        if number <= self._seen.get(sender, 0):
            raise RefusedError(f"message {number} of {sender} came already, or out of its order")
        self._seen[sender] = number
        return str(text)

    def _box(self, other: str) -> Box:
        if other not in self.ring:
            raise RefusedError(f"{other} has told no key")
        return Box(self._private, PublicKey(self.ring[other]))
