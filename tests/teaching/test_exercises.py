"""Exercises, rosters, the course secret, and what is derived from it."""

from __future__ import annotations

import re
import stat
from collections import Counter
from typing import TYPE_CHECKING

import pytest
import simulated
import yaml

from lab.errors import LabError
from teaching import course, exercise, grading, handout, roster, staging
from teaching.roster import Student

if TYPE_CHECKING:
    from pathlib import Path

DOOR = handout.Door("127.0.0.1", 2222, "teacher", "ssh-ed25519 AAAA")


@pytest.mark.parametrize("name", exercise.names())
def test_every_exercise_is_whole(name: str) -> None:
    """Spec, experiment, rubric, questions and hand-out fit together, for any student."""
    found = exercise.find(name)
    assert found.minutes
    assert found.aim
    assert len(found.listen_for) >= 4
    for student in simulated.roster(20):
        work = exercise.assign(found, student, simulated.COURSE)
        assert staging.experiment(work).steps
        for rule in found.rules:
            assert work.need(rule)
        files = handout.files(work, simulated.COURSE, DOOR)
        assert "{{" not in files["handout.html"]
        given = yaml.safe_load(files["answers.yaml"])["answers"]
        assert set(given) == {question.id for question in found.questions}


@pytest.mark.parametrize("name", exercise.names())
def test_a_hand_out_tells_no_answer_and_nobody_elses(name: str) -> None:
    """What is to be found is not in the hand-out; what is another student's neither."""
    found = exercise.find(name)
    one, two = simulated.roster(2)
    works = [exercise.assign(found, student, simulated.COURSE) for student in (one, two)]
    text = "".join(handout.files(works[0], simulated.COURSE, DOOR).values())
    allowed = {str(works[0].values[key]) for key in ("pattern", "key") if key in works[0].values}
    assert not [value for value in works[0].telling if value in text and value not in allowed]
    assert not [value for value in works[1].telling if value in text]


@pytest.mark.parametrize("name", exercise.names())
def test_students_values_are_their_own(name: str) -> None:
    """Of 300 students no two have the same lab, and hardly any value of one is another's."""
    found = exercise.find(name)
    students = [Student(f"s{n}", f"S {n}") for n in range(300)]
    key = grading.key_of(exercise.assign(found, s, simulated.COURSE) for s in students)
    assert len(key.macs) == 300 * 3
    assert len({work.spec_text for work in key.assignments.values()}) == 300 or name.startswith("1")
    shared = Counter(len(owners) for owners in key.owners.values())
    assert sum(n for times, n in shared.items() if times > 1) < 0.02 * len(key.owners)


def test_values_follow_from_secret_and_student_alone() -> None:
    """The same secret gives the same values, another one gives others."""
    found = exercise.find("2")
    student = Student("amina", "Amina")
    first = exercise.assign(found, student, simulated.COURSE)
    again = exercise.assign(found, student, course.of_text("a secret of the course, for tests"))
    other = exercise.assign(found, student, course.of_text("another secret of the course"))
    assert first.values == again.values
    assert not set(map(str, first.values.values())) & set(map(str, other.values.values()))
    for shown in (repr(first), repr(simulated.COURSE), repr(again)):
        assert str(first.values["alice_password"]) not in shown
        assert "a secret of" not in shown


def test_a_secret_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """It is made with 0600, and no other mode, short secret or link is taken."""
    path = tmp_path / "secret"
    course.create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    made = course.read(path)
    assert made == course.read(path)
    with pytest.raises(LabError, match="secret"):
        course.create(path)
    path.chmod(0o640)
    with pytest.raises(LabError, match="0640"):
        course.read(path)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(LabError):
        course.read(tmp_path / "link")
    with pytest.raises(LabError, match="16"):
        course.of_text("short")


def test_rosters_of_offices_are_read(tmp_path: Path) -> None:
    """Semicolons, a mark at the beginning, more columns, empty lines; ids in small letters."""
    path = tmp_path / "r.csv"
    path.write_text("\ufeffName;Group;ID;Key\nAmina W.;A;amina;\n;;;\nBen;B;BEN-2;\n", "utf-8")
    assert roster.read(path) == (Student("amina", "Amina W."), Student("ben-2", "Ben"))


def test_every_fault_of_a_roster_is_told_at_once(tmp_path: Path) -> None:
    """Ids that cannot be, twins, keys that are none or have options: each with its line."""
    path = tmp_path / "r.csv"
    path.write_text(
        "id,name,key\n../x,A,\namina,A,\namina,B,\nben,B,not a key\n"
        'eve,E,"command=""sh"" ssh-ed25519 AAAA"\n'
    )
    with pytest.raises(LabError) as caught:
        roster.read(path)
    assert [int(n) for n in re.findall(r"line (\d)", caught.value.saw)] == [2, 4, 5, 6]


def test_faults_of_an_exercise_are_told(tmp_path: Path) -> None:
    """A question without points, an unknown type and an unknown need."""
    (tmp_path / "exercise.yaml").write_text(
        "imlab_exercise: 1\ntitle: t\nminutes: 5\naim: a\nlisten_for: []\nvalues: {}\n"
        "questions:\n  - {id: a, ask: b, type: telepathy, answer: c}\n"
    )
    (tmp_path / "rubric.yaml").write_text(
        "answers: {}\ncaptures: [{id: x, say: y, points: 1, need: {smells: 1}}]\n"
    )
    with pytest.raises(LabError) as caught:
        exercise.load(tmp_path)
    for part in ("type must be", "no points", "smells"):
        assert part in caught.value.saw
