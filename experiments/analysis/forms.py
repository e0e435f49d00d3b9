"""The fields of a form that was sent, whatever its type, and where each lies in the content."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_plus

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterator

_BOUNDARY: Final = re.compile(r'boundary="?([^";,\s]{1,70})', re.IGNORECASE)
_DISPOSITION: Final = re.compile(rb"(?:^|\n)content-disposition:([^\r\n]*)", re.IGNORECASE)
_NAME: Final = re.compile(rb'[;\s]name="?([^";]*)')
_FILE: Final = re.compile(rb'[;\s]filename="?([^";]*)')
# How many fields of one form are read.
MOST: Final = 10_000


class Field(Struct, frozen=True, gc=False):
    """A field, its bytes in the content, and the name of the file that it carries, if any."""

    name: str
    text: str
    start: int
    end: int
    file: str = ""


def pairs(content: bytes) -> Iterator[Field]:
    """Yield the fields of a query or a URL-encoded form."""
    position = 0
    for _ in range(MOST):
        end = content.find(b"&", position)
        end = len(content) if end < 0 else end
        at = content.find(b"=", position, end)
        if at >= 0:
            name, value = _plain(content[position:at]), _plain(content[at + 1 : end])
            yield Field(name, value, at + 1, end)
        position = end + 1
        if position > len(content):
            return


def _plain(part: bytes) -> str:
    written = part.decode("latin-1")
    if "%" not in written and written.isascii():
        return written.replace("+", " ")
    return unquote_plus(written, "utf-8")


def multipart(content: bytes, kind: str) -> Iterator[Field]:
    """Yield the fields of multipart/form-data (RFC 7578); kind is its Content-Type.

    The last part of a body that is cut has no end, and is not a field.
    """
    match = _BOUNDARY.search(kind)
    if not match:
        return
    mark = b"--" + match[1].encode("latin-1", "replace")
    position = content.find(mark)
    for _ in range(MOST):
        if position < 0:
            return
        start = position + len(mark)
        position = content.find(b"\r\n" + mark, start)
        if position < 0:
            return
        head = content.find(b"\r\n\r\n", start, position)
        if head >= 0:
            field = _part(content, start, head, position)
            if field:
                yield field
        position += 2


def _part(content: bytes, start: int, head: int, end: int) -> Field | None:
    disposition = _DISPOSITION.search(content[start : min(head, start + 4096)])
    name = _NAME.search(disposition[1]) if disposition else None
    if not disposition or not name:
        return None
    file = _FILE.search(disposition[1])
    text = content[head + 4 : end].decode("utf-8", "replace")
    called = file[1].decode("utf-8", "replace") if file else ""
    return Field(name[1].decode("utf-8", "replace"), text, head + 4, end, called)
