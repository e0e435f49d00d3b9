"""What students hand in, read as what it is: the input of strangers.

SUBMISSIONS/ has a folder or an archive a student, named by the student's id: `amina/`,
`amina.zip`, `amina.tar.gz`. In it are `answers.yaml` and captures; other files are left alone, and
so is what the files say about whose they are.

Nothing is unpacked by the names that it brings: answers are read into memory, captures are copied
under names of our own, both up to a limit. What is unusual for a hand-in (links, devices, paths
that lead out, more than fits) makes the whole of it refused, with the reason.
"""

from __future__ import annotations

import os
import stat
import tarfile
import zipfile
import zlib
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from teaching.roster import Student

MAX_ANSWERS: Final = 64 << 10
MAX_CAPTURE: Final = 64 << 20
MAX_ALL: Final = 128 << 20
MAX_ARCHIVE: Final = 80 << 20
MAX_FILES: Final = 100
MAX_CAPTURES: Final = 12
MAX_DEPTH: Final = 4
ARCHIVES: Final = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
CAPTURES: Final = (".pcap", ".pcapng", ".cap")
ANSWERS: Final = ("answers.yaml", "answers.yml")
#: First bytes of pcap (both orders, µs and ns) and pcapng: nothing packed, nothing else.
MAGIC: Final = tuple(
    bytes.fromhex(word) for word in ("a1b2c3d4", "d4c3b2a1", "a1b23c4d", "4d3cb2a1", "0a0d0d0a")
)
_PIECE: Final = 1 << 16
_S_IFLNK: Final = 0o120000


class RefusedError(Exception):
    """A submission that is not looked into; the text says why, to its student."""


@dataclass(slots=True)
class Submission:
    """What there is of one student's.

    answers  -- the bytes of answers.yaml, None without.
    captures -- (name as handed in, file to read).
    remarks  -- files that were left out, with why.
    handed   -- when it was handed in (s since 1970): the newest change of it.
    """

    answers: bytes | None = None
    captures: list[tuple[str, Path]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    handed: float = 0.0
    size: int = 0
    files: int = 0


def find(folder: Path, students: Iterable[Student]) -> tuple[dict[str, list[Path]], list[str]]:
    """Return each student's submissions by id, and the names that belong to nobody, sorted."""
    mine: dict[str, list[Path]] = {student.id: [] for student in students}
    strangers = []
    for path in sorted(folder.iterdir()):
        name = path.name.lower()
        stem = next((name.removesuffix(end) for end in ARCHIVES if name.endswith(end)), name)
        if stem in mine:
            mine[stem].append(path)
        elif not name.startswith("."):
            strangers.append(path.name)
    return mine, strangers


def read(path: Path, into: Path) -> Submission:
    """Read one submission; captures of an archive are copied into a folder of ours.

    Raises RefusedError.
    """
    seen = path.lstat()
    taken = Submission(handed=seen.st_mtime)
    if stat.S_ISDIR(seen.st_mode):
        _folder(path, taken, 0)
        if taken.files:  # the folder itself changes when a copy is made of it
            taken.handed = max(file.lstat().st_mtime for file in _files(path, 0))
        return taken
    if not stat.S_ISREG(seen.st_mode):
        raise RefusedError("it is a link or a special file, not a folder or an archive")
    if seen.st_size > MAX_ARCHIVE:
        raise RefusedError(f"the archive has more than {MAX_ARCHIVE >> 20} MiB")
    try:
        if path.name.lower().endswith(".zip"):
            _zip(path, taken, into)
        else:
            _tar(path, taken, into)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise RefusedError(f"the archive cannot be unpacked: {error}") from error
    except (NotImplementedError, RuntimeError, ValueError) as error:
        raise RefusedError(f"the archive is of a kind that is not read: {error}") from error
    except MemoryError:
        raise RefusedError("unpacking it would take more memory than a submission may") from None
    return taken


# -- folders ---------------------------------------------------------------------------------


def _files(folder: Path, depth: int) -> Iterator[Path]:
    """Yield the regular files below a folder, in order. Raises RefusedError."""
    if depth > MAX_DEPTH:
        raise RefusedError(f"its folders are more than {MAX_DEPTH} deep")
    with os.scandir(folder) as listed:
        entries = []
        for entry in listed:
            entries.append(entry)
            if len(entries) > MAX_FILES:
                raise RefusedError(f"it has more than {MAX_FILES} files")
    for entry in sorted(entries, key=lambda each: each.name):
        if entry.is_symlink():
            raise RefusedError(f"{shown(entry.name)} is a link")
        if entry.is_dir(follow_symlinks=False):
            yield from _files(folder / entry.name, depth + 1)
        elif entry.is_file(follow_symlinks=False):
            yield folder / entry.name
        else:
            raise RefusedError(f"{shown(entry.name)} is no ordinary file")


def _folder(folder: Path, taken: Submission, depth: int) -> None:
    for path in _files(folder, depth):
        kind = _kind(path.name)
        _count(taken, path.name, path.lstat().st_size if kind else 0, kind)
        if kind == "answers":
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with open(descriptor, "rb") as stream:  # noqa: PTH123 - a descriptor has no path
                _answers(taken, path.name, stream)
        elif kind == "capture":
            with path.open("rb") as stream:
                if _is_capture(taken, path.name, stream.read(4)):
                    taken.captures.append((path.name, path))


# -- archives --------------------------------------------------------------------------------


def _zip(path: Path, taken: Submission, into: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if len(entries) > MAX_FILES:
            raise RefusedError(f"it has more than {MAX_FILES} files")
        for entry in entries:
            name = _inside(entry.filename)
            if entry.external_attr >> 16 & 0o170000 == _S_IFLNK:
                raise RefusedError(f"{shown(entry.filename)} is a link")
            if entry.is_dir():
                continue
            if entry.flag_bits & 1:
                raise RefusedError("the archive is locked with a password")
            kind = _kind(name)
            _count(taken, name, entry.file_size, kind or "other")
            if kind:
                with archive.open(entry) as stream:
                    _take(taken, name, kind, stream, into)


def _tar(path: Path, taken: Submission, into: Path) -> None:
    with tarfile.open(path, "r:*") as archive:
        while (entry := archive.next()) is not None:
            name = _inside(entry.name)
            if entry.isdir():
                continue
            if not entry.isreg() or entry.issparse():
                raise RefusedError(f"{shown(entry.name)} is a link or no ordinary file")
            kind = _kind(name)
            _count(taken, name, entry.size, kind or "other")
            stream = archive.extractfile(entry)
            if kind and stream is not None:
                with stream:
                    _take(taken, name, kind, stream, into)


def _inside(name: str) -> str:
    """Return the last part of a path in an archive. Raises RefusedError if it leads out."""
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in name:
        raise RefusedError(f"the path {shown(name)} leads out of the archive")
    if len(parts) > MAX_DEPTH + 2:
        raise RefusedError(f"its folders are more than {MAX_DEPTH} deep")
    if "__MACOSX" in parts:
        return "of the file manager"
    return parts[-1]


def _take(taken: Submission, name: str, kind: str, stream: IO[bytes], into: Path) -> None:
    if kind == "answers":
        _answers(taken, name, stream)
        return
    first = stream.read(4)
    if not _is_capture(taken, name, first):
        return
    target = into / f"{len(taken.captures)}.pcap"
    left = MAX_CAPTURE - len(first)
    with target.open("xb") as out:
        out.write(first)
        while piece := stream.read(_PIECE):  # what it says of its size may be a lie
            left -= len(piece)
            if left < 0:
                raise RefusedError(f"{shown(name)} has more than {MAX_CAPTURE >> 20} MiB")
            out.write(piece)
    taken.captures.append((name, target))


# -- the same for all ------------------------------------------------------------------------


def _kind(name: str) -> str:
    low = name.lower()
    if low.startswith("."):
        return ""
    if low in ANSWERS:
        return "answers"
    return "capture" if low.endswith(CAPTURES) else ""


def _count(taken: Submission, name: str, size: int, kind: str) -> None:
    taken.files += 1
    taken.size += size
    if taken.files > MAX_FILES:
        raise RefusedError(f"it has more than {MAX_FILES} files")
    limit = MAX_ANSWERS if kind == "answers" else MAX_CAPTURE
    if size > limit:
        raise RefusedError(f"{shown(name)} has more than {limit >> 10} KiB")
    if taken.size > MAX_ALL:
        raise RefusedError(f"all of it has more than {MAX_ALL >> 20} MiB")


def _answers(taken: Submission, name: str, stream: IO[bytes]) -> None:
    if taken.answers is not None:
        raise RefusedError("it has answers.yaml twice")
    data = stream.read(MAX_ANSWERS + 1)
    if len(data) > MAX_ANSWERS:
        raise RefusedError(f"{shown(name)} has more than {MAX_ANSWERS >> 10} KiB")
    taken.answers = data


def _is_capture(taken: Submission, name: str, first: bytes) -> bool:
    if len(taken.captures) >= MAX_CAPTURES:
        raise RefusedError(f"it has more than {MAX_CAPTURES} captures")
    if first in MAGIC:
        return True
    taken.remarks.append(f"{shown(name)} is no pcap or pcapng file and was left out")
    return False


def shown(text: str, most: int = 60) -> str:
    """Return a text of a stranger as a page or terminal may show it: one short printable line."""
    plain = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return f"“{plain[:most]}{'…' if len(plain) > most else ''}”"
