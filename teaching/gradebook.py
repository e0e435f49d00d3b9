"""Grading a whole class: every submission in a process of its own, and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from teaching import exercise as exercises
from teaching import grading, isolated, marksheet, pages, submissions
from teaching.grading import Grade

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from teaching.course import Course
    from teaching.exercise import Exercise
    from teaching.roster import Student


@dataclass(frozen=True, slots=True)
class Gradebook:
    """The grades of a class in the order of its roster, and submissions that are nobody's."""

    exercise: Exercise
    grades: tuple[Grade, ...]
    strangers: tuple[str, ...]


def grade_class(  # noqa: PLR0913 - a class, and how to go about it by keyword
    folder: Path,
    students: Iterable[Student],
    exercise: Exercise,
    course: Course,
    *,
    due: float | None = None,
    note: Callable[..., None] = lambda *_: None,
    bounds: isolated.Bounds | None = None,
) -> Gradebook:
    """Grade every student's submission in a folder. Raises LabError for a fault of ours alone.

    due -- s since 1970; what is handed in after it is late.
    """
    students = tuple(students)
    note("deriving what each student's lab has")
    key = grading.key_of((exercises.assign(exercise, s, course) for s in students), due)
    mine, strangers = submissions.find(folder, students)
    _warm()

    def work(student: Student) -> dict[str, object]:
        return grading.grade(key, student, mine[student.id]).to_json()

    made: dict[str, Grade] = {}
    for student, answer, why in isolated.each(students, work, bounds=bounds):
        made[student.id] = (
            Grade.from_json(answer) if answer is not None else grading.failed(key, student, why)
        )
        note(f"graded {len(made)} of {len(students)}", len(made) / len(students))
    return Gradebook(exercise, tuple(made[s.id] for s in students), tuple(strangers))


def write(book: Gradebook, out: Path) -> list[Path]:
    """Write grades.csv, grades.xlsx, teacher.html and students/ID.html; return the first three."""
    (out / "students").mkdir(parents=True, exist_ok=True)
    table, sheet, page = (out / name for name in ("grades.csv", "grades.xlsx", "teacher.html"))
    marksheet.write_csv(book.grades, table)
    marksheet.write_xlsx(book.grades, sheet)
    page.write_text(pages.of_teacher(book.exercise, book.grades, book.strangers), "utf-8")
    for grade in book.grades:
        target = out / "students" / f"{grade.student}.html"
        target.write_text(pages.of_student(book.exercise, grade), encoding="utf-8")
    return [table, sheet, page]


def _warm() -> None:
    """Load what every child needs once, before they are forked."""
    from experiments.analysis import decoders  # noqa: PLC0415 - as the docstring says
    from experiments.analysis.compiled import native  # noqa: PLC0415 - as above
    from teaching import captures  # noqa: F401, PLC0415 - as above

    native.engine()
    decoders.decoders()
