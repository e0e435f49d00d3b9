"""SHA256SUMS: the seal of a run folder, which coreutils' `sha256sum -c` reads as well.

A line for every file but itself, and a last one with the hash of the lines above, so that a
changed byte of the list is found too. Who changes a file and the list alike is not found out by
either: keep the last line elsewhere, or sign it, where that matters.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

SUMS: Final = "SHA256SUMS"
_LAST: Final = "# sha256 of the lines above: "
_LINE: Final = re.compile(r"([0-9a-f]{64})  ([^\x00-\x1f\x7f\\]+)")


class BrokenError(ValueError):
    """The list is not what was written."""


def render(hashes: Mapping[str, str]) -> bytes:
    """Return the list of these files (name -> SHA-256 in hex), the same for the same files."""
    body = "".join(f"{digest}  {name}\n" for name, digest in sorted(hashes.items())).encode()
    return body + f"{_LAST}{hashlib.sha256(body).hexdigest()}\n".encode()


def parse(content: bytes) -> dict[str, str]:
    """Return name -> SHA-256. Raises BrokenError for a list that is not as `render` wrote it."""
    hashes = {}
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError as error:
        raise BrokenError(str(error)) from error
    for line in lines[:-1]:
        found = _LINE.fullmatch(line)
        if not found:
            raise BrokenError(f"a line of it is {line[:80]!r}")
        hashes[found[2]] = found[1]
    if render(hashes) != content:
        raise BrokenError("its last line is not the hash of the others")
    return hashes


def seal_of(content: bytes) -> str:
    """Return the hash in the last line: one text that stands for every byte of the folder."""
    parse(content)
    return content.decode().rstrip("\n").rpartition(": ")[2]
