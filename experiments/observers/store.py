"""The server's store as it lies on disk: data, logs, accounts, and a backup as operators do it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from experiments.observers import Sight, packed, unpacked_size

if TYPE_CHECKING:
    from experiments.observers import Scene

LATER = True  # when people have left, logs tell how long they were there

# A file may change or go while it is read; what was there is what counts (tar's exit code 1).
_COPY = (
    'for f; do shift; [ -e "$f" ] && set -- "$@" "$f"; done; '
    '{ [ $# -eq 0 ] || tar -cf - --ignore-failed-read -- "$@" 2>/dev/null || [ $? -eq 1 ]; } '
    "| gzip -1"
)


def look(scene: Scene) -> list[Sight]:
    """Copy the files of each server's service, and its backup."""
    system, name = scene.inspectable(), scene.setting.name
    sights = []
    for server in scene.setting.servers:
        if system is None:
            why = f"{name} does not say where it keeps things"
            sights.append(Sight("store", "store", server, "", "files", lacks=why))
            continue
        session = scene.setting.sessions[server]
        copies = [("files.tar", "files: " + ", ".join(system.folders), _COPY, system.folders)]
        if system.backup:
            words = shlex.join(system.backup)
            copies.append(("backup", f"backup: {words}", f"{words} | gzip -1", ()))
        for ending, what, script, arguments in copies:
            content = packed(session, script, *arguments)
            file = scene.keep(f"store/{server}-{ending}.gz", content)
            size = unpacked_size(content)
            sights.append(Sight("store", "store", server, file, what, size))
    return sights
