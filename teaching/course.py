"""The course secret, and what is derived from it for a student: never stored, always the same.

derive(student, purpose) = HKDF-SHA-256 (RFC 5869) of the course secret, with the student and the
purpose in `info`. Whoever has the secret knows every student's values; whoever has one student's
values knows nothing about another's.
"""

from __future__ import annotations

import os
import secrets
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from pathlib import Path

SHORTEST: Final = 16  # bytes; what `create` makes has 43
LONGEST: Final = 1024


@dataclass(frozen=True, slots=True)
class Course:
    """A course by its secret, which repr hides."""

    secret: bytes = field(repr=False)

    def derive(self, *purpose: str, size: int = 32) -> bytes:
        """Return `size` bytes for a purpose: (student, exercise, value), for instance."""
        info = b"imlab course 1" + b"".join(
            len(word.encode()).to_bytes(4, "big") + word.encode() for word in purpose
        )
        return HKDF(SHA256(), size, salt=None, info=info).derive(self.secret)


def of_text(text: str) -> Course:
    """Return the course of a secret that was typed. Raises LabError."""
    secret = text.strip().encode()
    if not SHORTEST <= len(secret) <= LONGEST:
        raise LabError(
            "reading the course secret",
            f"it must have {SHORTEST} to {LONGEST} bytes",
            fault=Fault.USER,
            todo="let `./inv class-secret FILE` make one",
        )
    return Course(secret)


def read(path: Path) -> Course:
    """Return the course of a secret in a file that nobody else can read. Raises LabError."""
    doing = f"reading the course secret in {path.name}"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise LabError(
            doing,
            error.strerror or str(error),
            fault=Fault.USER,
            todo="name the file, or make one with `./inv class-secret FILE`",
        ) from error
    try:
        seen = os.fstat(descriptor)
        if not stat.S_ISREG(seen.st_mode) or seen.st_mode & 0o077:
            raise LabError(
                doing,
                f"its mode is {stat.S_IMODE(seen.st_mode):04o}: others of this machine can read it",
                fault=Fault.USER,
                todo=f"chmod 600 {path}",
            )
        text = os.read(descriptor, LONGEST + 2)
    finally:
        os.close(descriptor)
    try:
        return of_text(text.decode())
    except UnicodeDecodeError:
        raise LabError(
            doing, "it is no text", fault=Fault.USER, todo="is that the right file?"
        ) from None


def create(path: Path) -> None:
    """Make a secret by chance in a new file of mode 0600. Raises LabError when it is there."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LabError(
            f"making the course secret {path.name}",
            error.strerror or str(error),
            fault=Fault.USER,
            todo="choose another name; a secret that is in use must not be replaced",
        ) from error
    with open(descriptor, "w", encoding="ascii") as stream:  # noqa: PTH123 - a descriptor has no path
        stream.write(secrets.token_urlsafe(32) + "\n")
