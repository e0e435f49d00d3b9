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
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class File:
    """A file as it has to be on a host. owner is "user:group", both by name."""

    path: str
    content: bytes
    mode: int = 0o644
    owner: str = "root:root"


def bundle(files: Iterable[File]) -> tuple[bytes, str]:
    """Return a tar archive, and the shell script that puts its members into place from stdin.

    Each file is unpacked into a folder beside its destination, hence on the same file system,
    and renamed over it (rename(2) is atomic); one `mv` moves all files of a folder. Folders
    are made as needed, 0755 and root's. Raises ValueError for a path that is not absolute.
    """
    token = f".new-{secrets.token_hex(6)}"
    buffer = io.BytesIO()
    now = int(time.time())
    folders: dict[PurePosixPath, list[str]] = {}
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for file in files:
            path = PurePosixPath(file.path)
            if not path.is_absolute() or ".." in path.parts or not path.name:
                raise ValueError(f"{file.path!r} is not the absolute path of a file")
            staged = path.parent / token / path.name
            folders.setdefault(path.parent, []).append(str(staged))
            member = tarfile.TarInfo(str(staged.relative_to("/")))
            member.size, member.mode, member.mtime = len(file.content), file.mode, now
            member.uname, member.gname = file.owner.split(":")
            archive.addfile(member, io.BytesIO(file.content))
    lines = ["set -e", "umask 022", "tar -x -p -m -C / -f -"]
    for parent, names in folders.items():
        lines.append(shlex.join(["mv", "-f", "-t", str(parent), "--", *names]))
        lines.append(shlex.join(["rmdir", "--", str(parent / token)]))
    return buffer.getvalue(), "\n".join(lines)
