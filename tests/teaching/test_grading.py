"""Grading: what each kind of behaviour gets, and that nobody's submission stops another's."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import random
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import simulated
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl import load_workbook

from teaching import answers, exercise, gradebook, grading, isolated, pages, submissions
from teaching.grading import Grade

if TYPE_CHECKING:
    from teaching.gradebook import Gradebook


def graded(folder: Path, count: int) -> tuple[Gradebook, dict[str, simulated.Truth]]:
    """Grade a simulated class."""
    folder.mkdir()
    students, truth = simulated.make(folder, count)
    found = exercise.find(simulated.EXERCISE)
    book = gradebook.grade_class(folder, students, found, simulated.COURSE, due=simulated.DUE)
    return book, truth


def differences(grade: Grade, truth: simulated.Truth) -> list[str]:
    """Return in what a grade differs from what it must be."""
    seen = (grade.status, grade.points, grade.flags)
    wanted = (truth.status, truth.points, truth.flags)
    found = [f"{grade.student} ({truth.kind}): {seen}, not {wanted}"] if seen != wanted else []
    points = {item.id: item.points for item in grade.items if item.kind == "answer"}
    found += [f"{grade.student}: {name}" for name, n in truth.of_items.items() if points[name] != n]
    others = {other for item in grade.items for other in item.others}
    return found + ([f"{grade.student}: {others}"] if others != set(truth.others) else [])


@pytest.mark.slow
def test_two_hundred_students_get_what_they_must(tmp_path: Path) -> None:
    """Of 200 students of eight kinds nobody gets another grade than was put into the submission."""
    book, truth = graded(tmp_path / "in", 200)
    assert {one.kind for one in truth.values()} == set(simulated.KINDS)
    wrong = [line for grade in book.grades for line in differences(grade, truth[grade.student])]
    assert not wrong


def test_the_same_submissions_twice_give_the_same_bytes(tmp_path: Path) -> None:
    """Grading is a pure function: the tables and pages of two gradings are equal."""
    first, _ = graded(tmp_path / "in", 16)
    again = gradebook.grade_class(
        tmp_path / "in", simulated.roster(16), exercise.find(simulated.EXERCISE), simulated.COURSE,
        due=simulated.DUE,
    )  # fmt: skip
    gradebook.write(first, tmp_path / "one")
    gradebook.write(again, tmp_path / "two")
    files = [p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*.*")]
    assert len(files) == 19
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("maker", [*simulated.HOSTILE, simulated.header_bomb])
def test_hostile_submissions_get_a_row_and_touch_nothing(tmp_path: Path, maker: object) -> None:
    """Each gets 0 points with a reason, its neighbour is graded, and nothing is written outside."""
    one, two = simulated.roster(2)
    (tmp_path / "in").mkdir()
    maker(tmp_path / "in", one)  # type: ignore[operator] # one of simulated.HOSTILE
    simulated.MAKERS["right"](tmp_path / "in", two, one, random.Random(1))
    before = {path.name for path in Path("/tmp").iterdir()}
    book = gradebook.grade_class(
        tmp_path / "in", (one, two), exercise.find(simulated.EXERCISE), simulated.COURSE
    )
    assert [grade.status for grade in book.grades] == ["refused", "graded"]
    assert book.grades[0].points == 0
    assert book.grades[0].note
    assert book.grades[1].points == 20
    left = {path.name for path in Path("/tmp").iterdir()} - before
    assert "imlab-was-here" not in left
    assert not [name for name in left if name.startswith("imlab-grade-")]


def test_late_submissions_lose_what_the_rubric_says(tmp_path: Path) -> None:
    """Half of the points count after the date, and the page says why."""
    (student, other), folder = simulated.roster(2), tmp_path / "in"
    folder.mkdir()
    simulated.MAKERS["right"](folder, student, other, random.Random(2))
    book = gradebook.grade_class(
        folder, (student,), exercise.find(simulated.EXERCISE), simulated.COURSE,
        due=simulated.DUE - 1000,
    )  # fmt: skip
    assert (book.grades[0].status, book.grades[0].points) == ("late", 10)
    assert "50% of 20 points" in book.grades[0].note


def test_two_submissions_of_one_student_are_told(tmp_path: Path) -> None:
    """Which of them counts is for people to decide."""
    (student, other), folder = simulated.roster(2), tmp_path / "in"
    folder.mkdir()
    simulated.MAKERS["right"](folder, student, other, random.Random(1))
    simulated.broken(folder, student) if not (folder / f"{student.id}.zip").exists() else (
        folder / student.id
    ).mkdir()
    (folder / "whoever.zip").write_bytes(b"")
    book = gradebook.grade_class(
        folder, (student,), exercise.find(simulated.EXERCISE), simulated.COURSE
    )
    assert book.grades[0].status == "refused"
    assert "leave one" in book.grades[0].note
    assert book.strangers == ("whoever.zip",)


def test_what_a_submission_says_of_itself_does_not_count(tmp_path: Path) -> None:
    """An answers.yaml that names another student, and files named as another's, change nothing."""
    (student, other), folder = simulated.roster(2), tmp_path / "in"
    folder.mkdir()
    work = simulated.assigned(student)
    answers_ = {**simulated.right_answers(work), "student": other.id, "points": 100}
    simulated.hand_in(
        folder,
        student,
        answers_,
        {f"{other.id}.pcap": simulated.capture_of(work)},
        random.Random(3),
    )
    book = gradebook.grade_class(
        folder, (student, other), exercise.find(simulated.EXERCISE), simulated.COURSE
    )
    assert book.grades[0].points == 20
    assert "no question" in book.grades[0].remarks[0]


def test_a_child_that_dies_or_never_ends_is_a_row_and_no_more() -> None:
    """Endless work, memory without end and a crash are told of, and all others go on."""

    def work(task: str) -> dict[str, object]:
        if task == "endless":
            while True:
                pass
        if task == "memory":
            return {"long": len(bytearray(8 << 30))}
        if task == "crash":
            faulthandler.disable()
            os.abort()
        return {"said": task}

    tasks = ["a", "endless", "memory", "crash", "b"]
    bounds = isolated.Bounds(processor_s=1, wall_s=20)
    ended = {task: (answer, why) for task, answer, why in isolated.each(tasks, work, bounds=bounds)}
    assert ended["a"] == ({"said": "a"}, "")
    assert ended["b"] == ({"said": "b"}, "")
    assert "longer" in ended["endless"][1]
    assert "memory" in ended["memory"][1]
    assert "failed" in ended["crash"][1]


def test_pages_and_tables_show_names_as_text(tmp_path: Path) -> None:
    """A name that is a formula or HTML stays what it is in CSV, XLSX and the pages."""
    evil = "=cmd|' /C calc'!A0<script>alert(1)</script>"
    found = exercise.find(simulated.EXERCISE)
    grade = Grade("s001", evil, "nothing", 0, 20, "nothing was handed in")
    gradebook.write(gradebook.Gradebook(found, (grade,), ("<b>.zip",)), tmp_path)
    table = (tmp_path / "grades.csv").read_text("utf-8-sig")
    assert ",\"'=cmd" in table or ",'=cmd" in table
    sheet = load_workbook(tmp_path / "grades.xlsx").active
    assert sheet is not None
    assert str(sheet["B2"].value).startswith("'=cmd")
    for page in (tmp_path / "teacher.html", tmp_path / "students" / "s001.html"):
        text = page.read_text()
        assert "<script>alert" not in text
        assert "script-src" not in text
        assert "default-src 'none'" in text


def test_the_teachers_page_says_where_the_class_struggled(tmp_path: Path) -> None:
    """Questions come with the lowest share first, of submissions that could be looked at."""
    book, _ = graded(tmp_path / "in", 16)
    rows = pages.struggles(book.grades)
    assert [row["share"] for row in rows] == sorted(row["share"] for row in rows)
    looked_at = sum(bool(grade.items) for grade in book.grades)
    assert {row["students"] for row in rows} == {looked_at}
    assert pages.summary(book.grades)["status"]["refused"] == 2


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(sorted(answers.TYPES)),
    said=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=8,
    ),
)
def test_no_answer_is_worth_more_than_its_points_or_breaks_the_check(
    kind: str, said: object
) -> None:
    """Whatever YAML can hold gets a share from 0 to 1 and a reason."""
    right = ["x1", "y2"] if kind == "set" else "17"
    verdict = answers.check(kind, said, right, {"options": ["17", "yes"]})
    assert 0 <= verdict.share <= 1
    assert verdict.reason


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=3000), ending=st.sampled_from(submissions.ARCHIVES))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes,
                                       ending: str) -> None:  # fmt: skip
    """No bytes under an archive's name raise anything but a refusal."""
    folder = tmp_path_factory.mktemp("any")
    path = folder / f"s{ending}"
    path.write_bytes(data)
    (folder / "into").mkdir()
    with contextlib.suppress(submissions.RefusedError):
        submissions.read(path, folder / "into")
    shutil.rmtree(folder)


def test_a_wrong_or_merged_capture_is_no_proof(tmp_path: Path) -> None:
    """A capture with frames of two labs counts for neither, and is named as another's."""
    one, two = simulated.roster(2)
    mine, theirs = (simulated.capture_of(simulated.assigned(s)) for s in (one, two))
    simulated.hand_in(tmp_path, one, None, {"all.pcap": mine + theirs[24:]}, random.Random(4))
    key = grading.key_of([simulated.assigned(one), simulated.assigned(two)])
    grade = grading.grade(key, one, submissions.find(tmp_path, [one])[0][one.id])
    assert grade.points == 0
    assert grade.flags == ("another's",)
    assert grade.items[-1].others == (two.id,)
