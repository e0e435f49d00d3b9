"""Files for a host: what they are, and how many of them travel in one stream."""

from __future__ import annotations

import io
import secrets
import shlex
import tarfile
import time
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterable


@dataclass(frozen=True, slots=True)
class File:
    """A file as it has to be on a host. owner is "user:group", both by name."""

    path: str
    content: bytes
    mode: int = 0o644
    owner: str = "root:root"


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder as it has to be on a host; owner is "user:group", both by name."""

    path: str
    mode: int = 0o755
    owner: str = "root:root"


def bundle(
    files: Iterable[File],
    folders: Iterable[Folder] = (),
    new: Container[str] = frozenset(),
) -> tuple[bytes, str]:
    """Return a tar archive, and the shell script that puts its members into place from stdin.

    Each file is unpacked into a folder beside its destination, hence on the same file system,
    and renamed over it (rename(2) is atomic); one `mv` moves all files of a folder. Files whose
    path is in `new` replace nothing and are unpacked where they belong. Parent folders are made
    as needed, 0755 and root's. Raises ValueError for a path that is not absolute.
    """
    token = f".new-{secrets.token_hex(6)}"
    buffer = io.BytesIO()
    now = int(time.time())
    staged: dict[PurePosixPath, list[str]] = {}
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        items: tuple[File | Folder, ...] = (*folders, *files)
        for item in items:
            path = PurePosixPath(item.path)
            if not path.is_absolute() or ".." in path.parts or not path.name:
                raise ValueError(f"{item.path!r} is not the absolute path of a file")
            content = item.content if isinstance(item, File) else b""
            if isinstance(item, File) and item.path not in new:
                staged.setdefault(path.parent, []).append(path.name)
                path = path.parent / token / path.name
            member = tarfile.TarInfo(str(path.relative_to("/")))
            member.type = tarfile.REGTYPE if isinstance(item, File) else tarfile.DIRTYPE
            member.size, member.mode, member.mtime = len(content), item.mode, now
            member.uname, member.gname = item.owner.split(":")
            archive.addfile(member, io.BytesIO(content))
    lines = ["set -e", "umask 022", "tar -x -p -m -C / -f -"]
    for parent, names in staged.items():
        sources = [str(parent / token / name) for name in names]
        lines.append(shlex.join(["mv", "-f", "-t", str(parent), "--", *sources]))
    if staged:
        lines.append(shlex.join(["rmdir", "--", *(str(parent / token) for parent in staged)]))
    return buffer.getvalue(), "\n".join(lines)
