"""The tasks of a class; tasks.py has them beside its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.tasks import task

from commands.cli import guarded, jsonable, progress, show

if TYPE_CHECKING:
    from rich.console import RenderableType

JSON = {"json": "print JSON for programs"}
ROSTER = {"roster": "CSV of the class: columns id, name, key"}
EXERCISE = {"exercise": "an exercise's number, name or folder"}
COURSE = {
    "course": "the folder of the course, which has its secret",
    "typed": "ask for the course's secret instead",
}


@task(
    name="class-handout",
    positional=["roster"],
    help={
        **ROSTER,
        **EXERCISE,
        **COURSE,
        "server": "ADDRESS:PORT at which students reach the gate",
        "user": "who runs the gate there; you, by default",
        "pdf": "print PDF too, with Chromium",
        "out": "folder of the hand-outs; in the course's by default",
        **JSON,
    },
)
@guarded
def class_handout(
    _: Context,
    roster: str,
    exercise: str = "1",
    course: str = "course",
    typed: bool = False,
    server: str = "127.0.0.1:2222",
    user: str = "",
    pdf: bool = False,
    out: str = "",
    json: bool = False,
) -> None:
    """Write every student's hand-out, with the student's own values and way in."""
    import getpass

    from commands import classes

    with progress(quiet=json) as told:
        taught = classes.of(roster, exercise, course, typed=typed, new=True, note=told.note)
        folder = Path(out) if out else taught.folder / "handouts" / taught.exercise.name
        door = classes.door_at(taught, server, user or getpass.getuser())
        made = classes.write_handouts(taught, door, folder, pdf=pdf, note=told.note)
    show(lambda: f"{made['handouts']} hand-outs and teacher.html in {folder}", made, as_json=json)


@task(
    name="class-up",
    positional=["roster"],
    help={
        **ROSTER,
        **EXERCISE,
        **COURSE,
        "only": "ids of students, with commas between; all by default",
        **JSON,
    },
)
@guarded
def class_up(
    _: Context,
    roster: str,
    exercise: str = "1",
    course: str = "course",
    typed: bool = False,
    only: str = "",
    json: bool = False,
) -> None:
    """Put up a lab a student, while memory lasts; exit 1 if one failed."""
    from commands import classes, classroom

    with progress(quiet=json) as told:
        taught = classes.of(roster, exercise, course, typed=typed, new=True, note=told.note)
        seats = classroom.up_all(taught, classroom.chosen(taught, only), told.note)
    show(lambda: _view("seats_table", seats), [jsonable(seat) for seat in seats], as_json=json)
    if any(seat.state == "failed" for seat in seats):
        sys.exit(1)


@task(
    name="class-serve",
    positional=["roster"],
    help={
        **ROSTER,
        **EXERCISE,
        "course": COURSE["course"],
        "address": "where to listen; this machine alone by default",
        "port": "TCP port",
    },
)
@guarded
def class_serve(
    _: Context,
    roster: str,
    exercise: str = "1",
    course: str = "course",
    address: str = "127.0.0.1",
    port: int = 2222,
) -> None:
    """Let students into their own labs by SSH until Ctrl-C; a lab is put up when it is entered."""
    from commands import classes, serving

    taught = classes.of(roster, exercise, course, typed=False, new=True)
    command = serving.prepare(taught, roster, address, port)
    print(f"the gate is open at {address}:{port} (Ctrl-C closes it)", file=sys.stderr)
    sys.exit(serving.serve(command))


@task(name="class-status", help=JSON)
@guarded
def class_status(_: Context, json: bool = False) -> None:
    """Show the students' labs that are up, and what each costs."""
    from commands import classroom

    seats = classroom.seats()
    show(lambda: _view("seats_table", seats), [jsonable(seat) for seat in seats], as_json=json)


@task(
    name="class-down",
    positional=["roster"],
    help={
        **ROSTER,
        **EXERCISE,
        **COURSE,
        "only": "ids of students, with commas between; all by default",
        "forget": "do not keep what students have in /root",
        **JSON,
    },
)
@guarded
def class_down(
    _: Context,
    roster: str,
    exercise: str = "1",
    course: str = "course",
    typed: bool = False,
    only: str = "",
    forget: bool = False,
    json: bool = False,
) -> None:
    """Take the students' labs down; what they have in /root is kept."""
    from commands import classes, classroom

    taught = classes.of(roster, exercise, course, typed=typed, new=False)
    ids = [student.id for student in classroom.chosen(taught, only)]
    gone = classroom.down_all(taught, ids, keep=not forget)
    show(lambda: f"{len(gone)} labs are down", gone, as_json=json)


@task(
    name="class-grade",
    positional=["submissions"],
    help={
        "submissions": "folder with a folder or an archive a student, named by the id",
        **ROSTER,
        **EXERCISE,
        **COURSE,
        "due": "when it is late: '2026-12-01 18:00'",
        "out": "folder of the grades; in the course's by default",
        **JSON,
    },
)
@guarded
def class_grade(
    _: Context,
    submissions: str,
    roster: str,
    exercise: str = "1",
    course: str = "course",
    typed: bool = False,
    due: str = "",
    out: str = "",
    json: bool = False,
) -> None:
    """Grade a class: a table (CSV, XLSX), a page a student, one for the teacher."""
    from commands import classes

    with progress(quiet=json) as told:
        taught = classes.of(roster, exercise, course, typed=typed, new=False)
        folder = Path(out) if out else taught.folder / "grades" / taught.exercise.name
        book, _files = classes.grade(taught, submissions, due, folder, told.note)
    show(
        lambda: _view("grades_table", (book, folder)),
        [grade.to_json() for grade in book.grades],
        as_json=json,
    )


def _view(name: str, value: object) -> RenderableType:
    from commands import show as views

    view: RenderableType = getattr(views, name)(value)
    return view
