"""The archive that a kernel unpacks as its first root: cpio's "newc" format. Pure.

Documentation/driver-api/early-userspace/buffer-format.rst of Linux describes it.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_END = "TRAILER!!!"
_ALIGNED = 4


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, a folder or a link, root's: path without a leading slash, st_mode, content.

    Of a link the content is what it points to.
    """

    path: str
    mode: int
    content: bytes = b""


def folder(path: str, mode: int = 0o755) -> Entry:
    """Return a folder."""
    return Entry(path, stat.S_IFDIR | mode)


def link(path: str, target: str) -> Entry:
    """Return a symbolic link."""
    return Entry(path, stat.S_IFLNK | 0o777, target.encode())


def file(path: str, content: bytes, mode: int = 0o644) -> Entry:
    """Return a file."""
    return Entry(path, stat.S_IFREG | mode, content)


def newc(entries: Iterable[Entry]) -> bytes:
    """Return the archive. Folders come before what is in them; the same entries, the same bytes."""
    out = bytearray()
    for number, entry in enumerate((*entries, Entry(_END, 0)), start=1):
        name = entry.path.encode() + b"\0"
        # inode, mode, uid, gid, links, mtime, size, device, device of a node, name, no checksum
        fields = (number, entry.mode, 0, 0, 1, 0, len(entry.content), 0, 0, 0, 0, len(name), 0)
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + name
        out += bytes(-len(out) % _ALIGNED)
        out += entry.content
        out += bytes(-len(out) % _ALIGNED)
    return bytes(out)
