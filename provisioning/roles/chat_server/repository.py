"""What rests in the repository of a chat server: read from MariaDB, and from its files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from provisioning.messaging import AtRest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from provisioning.transport import Session

TABLE = "imlab_chat.messages"
DATA_FILE = "/var/lib/mysql/imlab_chat/messages.ibd"
QUERY = (
    "SET NAMES utf8mb4; SELECT JSON_OBJECT('id', id, 'sender', sender, 'content', content,"
    " 'posted', DATE_FORMAT(posted, '%Y-%m-%dT%H:%i:%sZ'))"
    f" FROM {TABLE} ORDER BY id;\n"
)
# FOR EXPORT writes every changed page of the table to its file before it returns.
FLUSH = f"FLUSH TABLES {TABLE} FOR EXPORT; UNLOCK TABLES;\n"
CLIENT = ("mariadb", "--batch", "--raw", "--skip-column-names")


@dataclass(frozen=True, slots=True)
class Row:
    """A stored message; posted is RFC 3339, UTC."""

    id: int
    sender: str
    content: str
    posted: str


def repository(session: Session) -> tuple[Row, ...]:
    """Return all messages that the database holds, in the order of posting."""
    printed = session.run(CLIENT, stdin=QUERY.encode()).stdout.decode()
    return tuple(Row(**json.loads(line)) for line in printed.split("\n") if line)


def at_rest(session: Session, texts: Iterable[str]) -> AtRest:
    """Search the database's own file for texts, as somebody with the disk could."""
    session.run(CLIENT, stdin=FLUSH.encode())
    raw = session.get(DATA_FILE)
    wanted = tuple(dict.fromkeys(texts))
    found = tuple(text for text in wanted if text.encode() in raw)
    missing = tuple(text for text in wanted if text not in found)
    return AtRest(DATA_FILE, len(raw), found, missing)
