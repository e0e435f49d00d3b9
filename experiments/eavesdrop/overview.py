"""What fits a screen and a page: counts of everything, and the first of each kind.

It grows with nothing: what would is capped, and counted beyond the cap.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

# Different texts of a kind that are kept with where they were first seen, and that are told apart
# at all. Beyond, things are only counted.
KEPT: Final = 500
DISTINCT: Final = 200_000
# Messages that are kept for the screen.
SHOWN: Final = 60
_TALLIES: Final = {
    "password": "passwords", "user": "users", "hash": "secrets", "token": "secrets",
    "cookie": "secrets", "domain": "names", "server_name": "names", "certificate": "certificates",
    "contact": "contacts", "room": "contacts", "subject": "subjects",
}  # fmt: skip

_OWNED: Final = frozenset({"password", "hash", "token", "cookie"})


@dataclass
class Tally:
    """Different texts: how many there are, and of the first KEPT how often and where first."""

    rows: dict[tuple[str, ...], dict[str, Any]] = field(default_factory=dict)
    total: int = 0
    full: bool = False
    _more: set[int] = field(default_factory=set)

    def add(self, key: tuple[str, ...], row: dict[str, Any]) -> None:
        """Count a text; `row` is kept when it is the first."""
        self.total += 1
        known = self.rows.get(key)
        if known is not None:
            known["times"] += 1
        elif len(self.rows) < KEPT:
            self.rows[key] = {**row, "times": 1}
        elif len(self._more) < DISTINCT:
            self._more.add(hash(key))
        elif hash(key) not in self._more:
            self.full = True

    @property
    def different(self) -> int:
        """How many different texts there are; at least, where `full` is true."""
        return len(self.rows) + len(self._more)

    def most(self, number: int) -> list[dict[str, Any]]:
        """Return the rows in the order in which they were first seen."""
        return list(self.rows.values())[:number]


@dataclass
class Sealed:
    """Streams that were seen and not read: how many, their bytes, with whom."""

    streams: int = 0
    bytes: int = 0
    names: dict[str, int] = field(default_factory=dict)

    def add(self, size: int, name: str) -> None:
        """Count a stream."""
        self.streams += 1
        self.bytes += size
        if name in self.names or len(self.names) < KEPT:
            self.names[name] = self.names.get(name, 0) + 1


@dataclass
class Overview:
    """What was read, counted.

    protocols -- streams and bytes by protocol; messages: the first SHOWN of `messages_total`;
    sealed -- by protocol; unread: streams in the clear of which no decoder knows the protocol.
    notes -- sentences about streams and how often each was said; waiting: streams that
    were not looked into, because of an interruption.
    """

    streams: int = 0
    empty: int = 0
    protocols: dict[str, list[int]] = field(default_factory=dict)
    messages: list[dict[str, Any]] = field(default_factory=list)
    messages_total: int = 0
    passwords: Tally = field(default_factory=Tally)
    users: Tally = field(default_factory=Tally)
    secrets: Tally = field(default_factory=Tally)
    names: Tally = field(default_factory=Tally)
    certificates: Tally = field(default_factory=Tally)
    contacts: Tally = field(default_factory=Tally)
    subjects: Tally = field(default_factory=Tally)
    other: dict[str, int] = field(default_factory=dict)
    sealed: dict[str, Sealed] = field(default_factory=dict)
    unread: dict[str, Sealed] = field(default_factory=dict)
    hits: Tally = field(default_factory=Tally)
    notes: dict[str, int] = field(default_factory=dict)
    missing: int = 0
    late: int = 0
    waiting: int = 0

    def told(self, row: dict[str, Any]) -> None:
        """Take something that was read: rows.told's row."""
        kind, text = row["kind"], row["text"][:1000]
        short = {**row, "text": text, "frames": row["frames"][:10]}
        if kind in {"message", "sealed"}:
            self.messages_total += 1
            if len(self.messages) < SHOWN:
                self.messages.append(short)
        elif kind in _TALLIES:
            # The same password of two users is two; the contact that two have is one.
            user = row["about"].get("user", "") if kind in _OWNED else ""
            tally: Tally = getattr(self, _TALLIES[kind])
            tally.add((text, user) if user else (text,), short)
        else:
            self.other[kind] = self.other.get(kind, 0) + 1

    @property
    def credentials(self) -> list[dict[str, Any]]:
        """The first passwords, then users, then what stands for a password."""
        return [row for one in (self.passwords, self.users, self.secrets) for row in one.most(KEPT)]

    def note(self, sentence: str) -> None:
        """Count a sentence about a stream."""
        if sentence in self.notes or len(self.notes) < KEPT:
            self.notes[sentence] = self.notes.get(sentence, 0) + 1
