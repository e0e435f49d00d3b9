"""The ways in which a text may be written so that nothing is hidden: every one to be looked for.

Whoever listens undoes them without a key, so a secret in any of these forms has been read.
"""

from __future__ import annotations

import base64
import html
import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterator

AS_IS: Final = "as is"
UTF16: Final = "UTF-16"
URL: Final = "url-encoded"
HTML: Final = "html-escaped"
JSON: Final = "JSON-escaped"
QUOTED: Final = "quoted-printable"
BASE64: Final = "base64"
HEX: Final = "hex"
LUA: Final = "Lua-escaped"
SQL: Final = "SQL-escaped"

# Fewer characters of base64 than these would be found by chance.
LEAST_BASE64: Final = 5
LEAST_HEX: Final = 4  # bytes
# What a browser leaves as it is in a form (URL standard, application/x-www-form-urlencoded).
_FORM_SAFE: Final = "*-._"
_PERCENT: Final = re.compile(r"%[0-9A-F]{2}")
_LUA: Final = {34: b'\\"', 92: b"\\\\", 10: b"\\n", 9: b"\\t"}
_ESCAPE: Final = re.compile(r"\\u[0-9a-f]{4}")


def spellings(text: str) -> dict[bytes, str]:
    """Return every way to write a text, with the name of the form; what comes first is plainer."""
    found: dict[bytes, str] = {}
    for form, needle in _all(text):
        if needle:
            found.setdefault(needle, form)
    return found


def _all(text: str) -> Iterator[tuple[str, bytes]]:
    lines = text.replace("\r\n", "\n")
    variants = dict.fromkeys((lines, lines.replace("\n", "\r\n")))
    for variant in variants:
        plain = variant.encode("utf-8", "replace")
        yield AS_IS, plain
        with suppress(UnicodeEncodeError):
            yield AS_IS, variant.encode("latin-1")
        yield from ((UTF16, needle) for needle in _wide(variant))
        for written in _percent(variant):
            yield URL, written.encode()
        for written in _entities(variant):
            yield HTML, written.encode("utf-8", "replace")
        for written in _escapes(variant):
            yield JSON, written.encode("utf-8", "replace")
        yield LUA, _lua(plain)
        yield SQL, re.sub(rb"([\\'\"])", rb"\\\1", plain)  # as mysqldump(1) writes strings
        yield QUOTED, _quoted_printable(plain)
        for needle in _base64(plain):
            yield BASE64, needle
        if len(plain) >= LEAST_HEX:
            yield HEX, plain.hex().encode()  # looked for in either case


def _percent(text: str) -> Iterator[str]:
    kinds = (
        quote(text, safe=""),
        quote(text),
        quote(text, safe=_FORM_SAFE),
        quote_plus(text),
        quote_plus(text, safe=_FORM_SAFE),
        quote(text, safe="!'()*-._~"),  # what JavaScript's encodeURIComponent leaves
        quote(text, safe="!#$&'()*+,-./:;=?@_~"),  # and its encodeURI
    )
    for written in dict.fromkeys(kinds):
        yield written
        yield _PERCENT.sub(lambda match: match[0].lower(), written)


def _entities(text: str) -> Iterator[str]:
    for written in (html.escape(text, quote=False), html.escape(text)):
        yield written
        yield written.replace("&#x27;", "&#39;")
        yield written.replace("&#x27;", "&#039;")  # as PHP writes it
        yield written.replace("&#x27;", "&apos;")
    # By number: what has a meaning in HTML, and what is not ASCII.
    for shape in ("&#{};", "&#x{:x};", "&#x{:X};"):
        yield "".join(
            shape.format(ord(char)) if char in "<>&\"'" or not char.isascii() else char
            for char in text
        )


def _escapes(text: str) -> Iterator[str]:
    for ascii_only in (True, False):
        written = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        for each in (written, written.replace("/", "\\/")):
            yield each
            yield _ESCAPE.sub(lambda match: "\\u" + match[0][2:].upper(), each)


def _wide(text: str) -> Iterator[bytes]:
    """Yield UTF-16 of both byte orders; of ASCII one needle, which both contain."""
    if text.isascii():
        yield b"\0".join(bytes([byte]) for byte in text.encode())
    else:
        yield text.encode("utf-16-le", "replace")
        yield text.encode("utf-16-be", "replace")


def _quoted_printable(plain: bytes) -> bytes:
    return b"".join(
        bytes([byte]) if 32 <= byte < 127 and byte != ord("=") else b"=%02X" % byte  # noqa: PLR2004 - printable ASCII
        for byte in plain
    )


def _lua(plain: bytes) -> bytes:
    """Write it as a string of Lua, which is what Prosody keeps things in (Lua manual, 3.1)."""
    return b"".join(
        _LUA.get(byte) or (bytes([byte]) if 32 <= byte < 127 else b"\\%d" % byte)  # noqa: PLR2004 - printable ASCII
        for byte in plain
    )


def _base64(plain: bytes) -> Iterator[bytes]:
    """Yield what is the same of it at each of the three places in a group, both alphabets."""
    for shift in range(3):
        whole = base64.b64encode(bytes(shift) + plain)
        first = (0, 2, 3)[shift]  # characters that the bytes before it have a part in
        last = (shift + len(plain)) * 8 // 6  # and behind it those that come after
        core = whole[first:last]
        if len(core) >= LEAST_BASE64:
            yield core
            yield core.replace(b"+", b"-").replace(b"/", b"_")
