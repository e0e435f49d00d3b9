"""Who is in the class: a CSV file with a header, one student a row.

    id,name,key
    amina,Amina Wanjiru,ssh-ed25519 AAAA… amina@home

`id` names the student's lab, files and rows; `name` is for people; `key`, if it is not empty, is
the student's public SSH key. Other columns are left alone: the list of an office will do.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES: Final = 4 << 20
MAX_STUDENTS: Final = 5000
MAX_NAME: Final = 120
#: A student's id becomes part of a lab's name (32 at most) and of file names.
ID: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,18}[a-z0-9])?")
#: One line of authorized_keys without options (sshd(8)): type, base64, comment.
KEY: Final = re.compile(
    r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)|sk-ssh-ed25519@openssh\.com"
    r"|sk-ecdsa-sha2-nistp256@openssh\.com) [A-Za-z0-9+/]{40,}={0,2}(?: [^\r\n]*)?"
)


@dataclass(frozen=True, slots=True)
class Student:
    """One student. key is a line of authorized_keys without its comment, or ""."""

    id: str
    name: str
    key: str = ""


def read(path: Path) -> tuple[Student, ...]:
    """Return the students in the file's order. Raises LabError with everything that is wrong."""
    doing = f"reading the roster {path.name}"
    text = _text(path, doing)
    faults: list[str] = []
    students: dict[str, Student] = {}
    try:
        rows = csv.DictReader(text.splitlines(), dialect=_dialect(text), strict=True)
        columns = [(name or "").strip().lower() for name in rows.fieldnames or ()]
        if "id" not in columns:
            raise _wrong(doing, [f"no column 'id' in the first line; there are: {columns}"])
        rows.fieldnames = columns
        for row in rows:
            cells = {name: cell for name, cell in row.items() if isinstance(cell, str)}
            _take(cells, rows.line_num, students, faults)
    except csv.Error as error:
        faults.append(f"no CSV: {error}")
    if not students and not faults:
        faults.append("it has no student")
    if len(students) > MAX_STUDENTS:
        faults.append(f"more than {MAX_STUDENTS} students")
    if faults:
        raise _wrong(doing, faults)
    return tuple(students.values())


def _text(path: Path, doing: str) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LabError(
            doing, error.strerror or str(error), fault=Fault.USER, todo="check the path"
        ) from error
    if len(data) > MAX_BYTES:
        raise _wrong(doing, [f"the file has more than {MAX_BYTES >> 20} MiB"])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _wrong(doing, ["it is not UTF-8; export it as 'CSV UTF-8'"]) from None


def _dialect(text: str) -> type[csv.Dialect]:
    try:
        return csv.Sniffer().sniff(text[:4096].split("\n", maxsplit=1)[0], ",;\t")
    except csv.Error:
        return csv.excel


def _take(row: dict[str, str], line: int, students: dict[str, Student], faults: list[str]) -> None:
    student = row.get("id", "").strip().lower()
    name = " ".join(row.get("name", "").split()) or student
    key = " ".join(row.get("key", "").split())
    if not student and not any(value.strip() for value in row.values()):
        return  # an empty line
    if not ID.fullmatch(student):
        faults.append(
            f"line {line}: id {student!r} must be 1 to 20 letters a-z, digits or inner hyphens"
        )
    elif student in students:
        faults.append(f"line {line}: the id {student!r} is there twice")
    elif len(name) > MAX_NAME or not name.isprintable():
        faults.append(f"line {line}: the name must be printable, {MAX_NAME} characters at most")
    elif key and not KEY.fullmatch(key):
        faults.append(f"line {line}: the key is no public SSH key, as 'ssh-ed25519 AAAA…'")
    else:
        students[student] = Student(student, name, " ".join(key.split(" ")[:2]))


def _wrong(doing: str, faults: list[str]) -> LabError:
    return LabError(doing, "\n".join(faults), fault=Fault.USER, todo="correct the file")
