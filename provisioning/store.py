"""What lies on a server's disk: its folders searched as somebody with the disk could."""

from __future__ import annotations

from typing import TYPE_CHECKING

from provisioning.messaging import AtRest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from provisioning.transport import Session

# A file may change or go while it is read; what was there is what counts (tar's exit code 1).
_PACK = 'tar -cf - --ignore-failed-read -- "$@" 2>/dev/null || [ $? -eq 1 ]'


def search(
    session: Session,
    folders: Iterable[str],
    texts: Iterable[str],
    forms: Callable[[str], Iterable[str]] = lambda text: (text,),
) -> AtRest:
    """Search every file below folders that exist; forms -- how a text may be written there."""
    places = tuple(folders)
    there = 'for f; do [ -e "$f" ] && set -- "$@" "$f"; shift; done; [ $# -eq 0 ] || ' + _PACK
    raw = session.run(["/bin/sh", "-c", there, "sh", *places], deadline=60.0).stdout
    wanted = tuple(dict.fromkeys(texts))
    found = tuple(text for text in wanted if any(form.encode() in raw for form in forms(text)))
    missing = tuple(text for text in wanted if text not in found)
    return AtRest(", ".join(places), len(raw), found, missing)
