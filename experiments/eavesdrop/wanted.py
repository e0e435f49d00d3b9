"""What the user wants to know whether it can be read: secrets and patterns, and TLS keys.

Secrets come from a file and never from the command line, where other users of the machine see
them. What is printed about a hit is the secret's id.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import yaml

from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# Bytes of a file of secrets or keys; far more than either needs.
LARGEST: Final = 64 << 20
_STRUCTURED: Final = frozenset({".json", ".yaml", ".yml"})


def secrets_from(path: Path) -> list[tuple[str, str]]:
    """Return (id, text) of each secret in a file.

    A .json, .yaml or .yml file holds a list of texts, or of {id, text}; any other file one text a
    line, known as "line 12". Empty texts are left out. Raises LabError.
    """
    text = _read(path, "secrets").decode("utf-8-sig", "surrogateescape")
    if path.suffix.lower() in _STRUCTURED:
        return [(name, said) for name, said in _structured(path, text) if said]
    lines = text.split("\n")
    return [
        (f"line {number}", line.removesuffix("\r"))
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]


def _structured(path: Path, text: str) -> Iterable[tuple[str, str]]:
    try:
        rows = json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise _wrong(path, f"{type(error).__name__}: {error}") from error
    if not isinstance(rows, list):
        raise _wrong(path, f"a list is expected, there is {_kind(rows)}")
    for number, row in enumerate(rows, 1):
        said = row.get("text") if isinstance(row, dict) else row
        name = row.get("id") if isinstance(row, dict) else None
        if not isinstance(said, str):
            raise _wrong(path, f"item {number} is no text and has no `text` that is one")
        yield (str(name) if name is not None else f"item {number}"), said


def pattern(word: str) -> tuple[str, bytes]:
    """Return (name, expression) of NAME=REGEX. Raises LabError when it is none."""
    name, equals, expression = word.partition("=")
    saw = ""
    if not (name and equals and expression):
        saw = f"{word!r} is not NAME=REGEX"
    else:
        try:
            re.compile(expression.encode())
        except re.error as error:
            saw = f"{expression!r} is no regular expression: {error}"
    if saw:
        raise LabError(
            "reading --pattern", saw, fault=Fault.USER, todo="--pattern card='[0-9]{16}'"
        )
    return name, expression.encode()


def keys_from(path: Path) -> bytes:
    """Return a TLS key log (NSS format). Raises LabError."""
    keys = _read(path, "TLS keys")
    if not re.search(rb"^[A-Z_0-9]+ [0-9a-fA-F]{64} [0-9a-fA-F]+\s*$", keys, re.MULTILINE):
        raise LabError(
            f"reading the TLS keys in {path.name}",
            "no line is LABEL CLIENT_RANDOM SECRET",
            fault=Fault.USER,
            todo="Give the file that SSLKEYLOGFILE named when the connections were made.",
        )
    return keys


def _read(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise LabError(
            f"reading the {what} in {path.name}",
            error.strerror or str(error),
            fault=Fault.USER,
            todo="Check the path.",
        ) from error
    if len(data) > LARGEST:
        raise LabError(
            f"reading the {what} in {path.name}",
            f"it has more than {LARGEST >> 20} MiB",
            fault=Fault.USER,
            todo="Is that the right file?",
        )
    return data


def _kind(value: Any) -> str:  # noqa: ANN401 - whatever YAML holds
    return {dict: "a mapping", str: "a text", type(None): "nothing"}.get(type(value), "a value")


def _wrong(path: Path, saw: str) -> LabError:
    return LabError(
        f"reading the secrets in {path.name}",
        saw,
        fault=Fault.USER,
        todo="Write a list of {id, text}, or one text a line in a file of another name.",
    )
