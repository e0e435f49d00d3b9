"""A class from the command line: hand-outs, grades, and (classroom.py) its labs."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lab.bootstrap import make_key_pair
from lab.errors import Fault, LabError
from teaching import course as courses
from teaching import exercise as exercises
from teaching import handout, roster
from teaching.handout import Door

if TYPE_CHECKING:
    from collections.abc import Callable

    from teaching.course import Course
    from teaching.exercise import Exercise
    from teaching.gradebook import Gradebook
    from teaching.roster import Student

COURSE: Final = Path("course")  # the folder of a course: secret, the gate's key, hand-outs
SECRET: Final = "secret"  # noqa: S105 - the name of the file
BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")
PDF_DEADLINE: Final = 60.0  # seconds a page


@dataclass(frozen=True, slots=True)
class Class:
    """Who is taught what in which course."""

    students: tuple[Student, ...]
    exercise: Exercise
    course: Course
    folder: Path


def of(  # noqa: PLR0913 - a class, and where its secret comes from by keyword
    roster_file: str, exercise: str, folder: str, *, typed: bool, new: bool,
    note: Callable[..., None] = lambda *_: None,
) -> Class:  # fmt: skip
    """Read what makes a class. Raises LabError.

    typed -- ask for the course secret instead of reading it from the course's folder.
    new   -- make the secret if the folder has none; never for grading, which it would falsify.
    """
    students, found = roster.read(Path(roster_file)), exercises.find(exercise)
    path = Path(folder)
    if typed:
        course = courses.of_text(getpass.getpass("Secret of the course: "))
    else:
        if new and not (path / SECRET).exists():
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            courses.create(path / SECRET)
            note(f"made the course secret {path / SECRET}: keep it, all values follow from it")
        course = courses.read(path / SECRET)
    return Class(students, found, course, path)


def served(folder: Path) -> Class:
    """Return the class that a gate serves, as `class-serve` has left it. Raises LabError."""
    data = json.loads((folder / "run" / "class.json").read_text(encoding="utf-8"))
    if data["state"]:
        os.environ["IMLAB_STATE"] = data["state"]
    course = courses.read(folder / SECRET)
    students = roster.read(Path(data["roster"]))
    return Class(students, exercises.load(Path(data["exercise"])), course, folder)


# -- hand-outs -------------------------------------------------------------------------------


def gate_key(folder: Path) -> tuple[Path, str]:
    """Return the gate's host key: its file, made if it is not there, and its public half."""
    path = folder / "gate_key"
    if not path.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        pair = make_key_pair()
        draft = folder / ".gate_key"
        draft.touch(mode=0o600)
        draft.write_text(pair.private, encoding="ascii")
        (folder / "gate_key.pub").write_text(pair.public + "\n", encoding="ascii")
        draft.rename(path)
    return path, (folder / "gate_key.pub").read_text(encoding="ascii").strip()


def door_at(taught: Class, where: str, user: str) -> Door:
    """Return the gate as students reach it, at ADDRESS:PORT. Raises LabError."""
    address, _, port = where.rpartition(":")
    if not address or not port.isdigit():
        raise LabError(
            f"writing hand-outs for {where!r}",
            "that is not ADDRESS:PORT",
            fault=Fault.USER,
            todo="say where students reach the gate: --server lab.school.example:2222",
        )
    return Door(address.strip("[]"), int(port), user, gate_key(taught.folder)[1])


def write_handouts(
    taught: Class, door: Door, out: Path, *, pdf: bool, note: Callable[..., None]
) -> dict[str, Any]:
    """Write everybody's hand-out and the teacher's sheet; return what was written."""
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    written = []
    for number, student in enumerate(taught.students, 1):
        assignment = exercises.assign(taught.exercise, student, taught.course)
        written.append(handout.write(assignment, taught.course, door, out))
        note(f"hand-out {number} of {len(taught.students)}", number / len(taught.students))
    sheet = out / "teacher.html"
    sheet.write_text(handout.teachers_sheet(taught.exercise), encoding="utf-8")
    printed = _print_all([*written, sheet], note) if pdf else 0
    return {"folder": str(out), "handouts": len(written), "pdf": printed}


def _print_all(pages: list[Path], note: Callable[..., None]) -> int:
    """Print pages to PDF beside them. Raises LabError without a browser."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise LabError(
            "printing hand-outs",
            "no Chromium is installed",
            fault=Fault.MACHINE,
            todo="sudo apt-get install chromium, or print the HTML pages from any browser",
        )
    for number, page in enumerate(pages, 1):
        note(f"printing {number} of {len(pages)}", number / len(pages))
        target = page.with_suffix(".pdf")
        argv = [
            browser, "--headless", "--disable-gpu", "--no-sandbox", "--no-pdf-header-footer",
            f"--print-to-pdf={target}", page.absolute().as_uri(),
        ]  # fmt: skip
        try:
            done = subprocess.run(
                argv, capture_output=True, text=True, timeout=PDF_DEADLINE, check=False
            )
            said = done.stderr.strip().splitlines()[-1:]
        except subprocess.TimeoutExpired:
            said = [f"nothing within {PDF_DEADLINE:.0f} s"]
        if not target.is_file():
            raise LabError(
                f"printing {page.parent.name}/{page.name}",
                "\n".join(said),
                fault=Fault.MACHINE,
                todo="print the HTML pages from any browser",
            )
    return len(pages)


# -- grades ----------------------------------------------------------------------------------


def grade(
    taught: Class, folder: str, due: str, out: Path, note: Callable[..., None]
) -> tuple[Gradebook, list[Path]]:
    """Grade a class's submissions and write tables and pages. Raises LabError."""
    path = Path(folder)
    if not path.is_dir():
        raise LabError(
            f"grading {folder}",
            "no such folder",
            fault=Fault.USER,
            todo="name the folder that has a folder or an archive a student",
        )
    from teaching import gradebook  # noqa: PLC0415 - loads the engine; not for hand-outs, gate …

    book = gradebook.grade_class(
        path, taught.students, taught.exercise, taught.course, due=moment(due), note=note
    )
    return book, gradebook.write(book, out)


def moment(text: str) -> float | None:
    """Return a time of this machine's clock, "2026-12-01 18:00", in s since 1970; None for ""."""
    if not text:
        return None
    with contextlib.suppress(ValueError):
        return datetime.fromisoformat(text).astimezone().timestamp()
    raise LabError(
        "reading the date that submissions are due",
        f"{text!r} is no date",
        fault=Fault.USER,
        todo="write it as --due '2026-12-01 18:00'",
    )


def say(text: str) -> None:
    """Tell the user something beside the task's output."""
    print(text, file=sys.stderr)  # noqa: T201 - talking to the user is its job
