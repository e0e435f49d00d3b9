"""What fits a screen and a page: counts of everything, and the first of each kind.

It grows with nothing: what would is capped, and counted beyond the cap.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

# Different texts of a kind that are told apart; beyond it they are only counted.
DISTINCT: Final = 20_000
# Rows that are kept for the screen.
SHOWN: Final = 60
_TALLIES: Final = {
    "domain": "names", "server_name": "names", "certificate": "certificates",
    "contact": "contacts", "room": "contacts", "subject": "subjects",
}  # fmt: skip


@dataclass
class Tally:
    """Different texts with how often each was seen and where first; `others` past DISTINCT."""

    rows: dict[tuple[str, ...], dict[str, Any]] = field(default_factory=dict)
    total: int = 0
    others: int = 0

    def add(self, key: tuple[str, ...], row: dict[str, Any]) -> None:
        """Count a text; `row` is kept when it is the first."""
        self.total += 1
        known = self.rows.get(key)
        if known is not None:
            known["times"] += 1
        elif len(self.rows) < DISTINCT:
            self.rows[key] = {**row, "times": 1}
        else:
            self.others += 1

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
        if name in self.names or len(self.names) < DISTINCT:
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
    credentials: Tally = field(default_factory=Tally)
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
        short = {**row, "text": text}
        if kind in {"message", "sealed"}:
            self.messages_total += 1
            if len(self.messages) < SHOWN:
                self.messages.append(short)
        elif kind in {"user", "password", "hash", "token", "cookie"}:
            user = row["about"].get("user", "")
            self.credentials.add((kind, text, user, row["destination"]), short)
        elif kind in _TALLIES:
            getattr(self, _TALLIES[kind]).add((text,), short)
        else:
            self.other[kind] = self.other.get(kind, 0) + 1

    def note(self, sentence: str) -> None:
        """Count a sentence about a stream."""
        if sentence in self.notes or len(self.notes) < DISTINCT:
            self.notes[sentence] = self.notes.get(sentence, 0) + 1
