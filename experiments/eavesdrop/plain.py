"""Captured text made harmless for a terminal, a page or JSON.

What was captured may hold escape sequences, carriage returns and marks that turn the direction of
writing; printed as they are they rewrite a terminal. All that is not printable (Unicode's control,
format, separator, surrogate, private and unassigned characters) is shown as an escape.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

# What json leaves as it is with ensure_ascii=False and a terminal would obey, or no encoder takes.
_UNSAFE: Final = re.compile(
    "[\x7f-\x9f\xad\u0600-\u0605\u061c\u180e\u200b-\u200f\u2028-\u202f\u2060-\u206f"
    "\ud800-\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def plain(text: str, most: int = 0, keep: str = "") -> str:
    r"""Return text with \n, \x1b, \u202e … for what is not printable.

    most -- cut after so many characters (0: never), with an ellipsis; keep -- what stays as it is.
    """
    if most and len(text) > most:
        text = text[: most - 1] + "…"
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in keep else _escaped(char) for char in text)


def readable(data: bytes) -> str:
    r"""Return bytes as text over several lines; what is no text is escaped as \x00."""
    text = data.decode("utf-8", "surrogateescape").replace("\r\n", "\n")
    return "".join(
        char
        if char.isprintable() or char in "\n\t"
        else f"\\x{ord(char) - 0xDC00:02x}"
        if "\udc80" <= char <= "\udcff"
        else _escaped(char)
        for char in text
    )


def dumps(value: Any) -> str:  # noqa: ANN401 - JSON data
    """Return JSON on one line that every terminal and every UTF-8 encoder takes."""
    text = _encode(value)
    return _UNSAFE.sub(_unicode, text) if not text.isascii() or "\x7f" in text else text


def _unicode(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code > 0xFFFF:  # noqa: PLR2004 - beyond it JSON writes two surrogates (RFC 8259, 7)
        code -= 0x10000
        return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
    return f"\\u{code:04x}"


def _escaped(char: str) -> str:
    names = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0"}
    code = ord(char)
    short = code <= 0xFF  # noqa: PLR2004 - what two hexadecimal digits hold
    wide = code > 0xFFFF  # noqa: PLR2004 - what four hold
    form = f"\\x{code:02x}" if short else f"\\U{code:08x}" if wide else f"\\u{code:04x}"
    return names.get(char, form)
