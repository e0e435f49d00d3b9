"""Grading: a submission against what its student's lab has. Pure; the same in, the same out.

Nothing that a submission says about itself counts: whose it is follows from where it lies, what is
right from the course secret. One submission is read in a process of its own (isolated.py), so that
whatever it is stops nobody else's.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lab.spec.yaml_positions import read_yaml
from teaching import answers, captures, submissions
from teaching.submissions import RefusedError, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from teaching.exercise import Assignment, Question, Rule
    from teaching.roster import Student

#: How a submission is, in the order of how much there is of it.
GRADED, LATE, MALFORMED, REFUSED, NOTHING = "graded", "late", "malformed", "refused", "nothing"
MAX_FAULTS: Final = 3


@dataclass(frozen=True, slots=True)
class Item:
    """One line of a grade. flag: "", "copied" (an answer) or "another's" (a capture).

    others -- whose it is then; for the teacher, not for the student.
    """

    id: str
    kind: str
    title: str
    points: float
    of: float
    reason: str
    flag: str = ""
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Grade:
    """What a student gets, and why. points are after what lateness costs."""

    student: str
    name: str
    status: str
    points: float
    of: float
    note: str
    items: tuple[Item, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def flags(self) -> tuple[str, ...]:
        """The flags of its items, each once."""
        return tuple(sorted({item.flag for item in self.items if item.flag}))

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Grade:
        """Rebuild a grade."""
        items = tuple(
            Item(**{**item, "others": tuple(item["others"])}) for item in data.pop("items")
        )
        return cls(**{**data, "remarks": tuple(data["remarks"])}, items=items)


@dataclass(frozen=True, slots=True)
class Key:
    """What grading knows of a whole class, made once.

    assignments -- by student.
    owners -- a text that only one lab has, as `answers.plain` has it, folded -> whose.
    macs   -- a hardware address -> whose lab.
    due    -- when it is late (s since 1970), None for never.
    """

    assignments: Mapping[str, Assignment] = field(repr=False)
    owners: Mapping[str, tuple[str, ...]] = field(repr=False)
    macs: Mapping[str, str] = field(repr=False)
    due: float | None = None


def key_of(assignments: Iterable[Assignment], due: float | None = None) -> Key:
    """Make the key of a class."""
    made = {assignment.student.id: assignment for assignment in assignments}
    owners: dict[str, tuple[str, ...]] = {}
    macs: dict[str, str] = {}
    for student, assignment in made.items():
        for text in assignment.telling:
            folded = answers.plain(text).casefold()
            owners[folded] = (*owners.get(folded, ()), student)
        for host in assignment.plan.hosts:
            macs |= {adapter.mac: student for adapter in host.adapters}
    return Key(made, owners, macs, due)


def grade(key: Key, student: Student, handed_in: list[Path]) -> Grade:
    """Grade what a student handed in. Never raises for what is in it."""
    assignment = key.assignments[student.id]
    of = assignment.exercise.points
    if not handed_in:
        return _none(student, of, NOTHING, "nothing was handed in")
    if len(handed_in) > 1:
        there = ", ".join(shown(path.name) for path in handed_in)
        return _none(student, of, REFUSED, f"there are several submissions: {there}; leave one")
    with tempfile.TemporaryDirectory(prefix="imlab-grade-") as folder:
        try:
            taken = submissions.read(handed_in[0], Path(folder))
        except RefusedError as error:
            return _none(student, of, REFUSED, f"not looked into: {error}")
        if taken.answers is None and not taken.captures:
            said = "; ".join(taken.remarks) or "neither answers.yaml nor a capture is in it"
            return _none(student, of, NOTHING, said)
        given, fault = _answers(taken.answers)
        items = [_answer(key, assignment, q, given, fault) for q in assignment.exercise.questions]
        items += _captures(key, assignment, taken.captures)
    status, note = GRADED, ""
    if fault and taken.answers is not None:
        status, note = MALFORMED, f"answers.yaml cannot be read: {fault}"
    points = sum(item.points for item in items)
    if key.due is not None and taken.handed > key.due:
        when = datetime.fromtimestamp(taken.handed, UTC).strftime("%Y-%m-%d %H:%M UTC")
        part = assignment.exercise.late
        late = f"late (handed in {when}): {part:.0%} of {points:g} points count"
        status, note = (LATE if status == GRADED else status), "; ".join(filter(None, (note, late)))
        points *= part
    remarks = (*taken.remarks, *_unknown(assignment, given))
    return Grade(
        student.id, student.name, status, round(points, 2), of, note, tuple(items), remarks
    )


def failed(key: Key, student: Student, why: str) -> Grade:
    """Return the grade of a submission that could not be read to its end."""
    return _none(student, key.assignments[student.id].exercise.points, REFUSED, why)


def _none(student: Student, of: float, status: str, note: str) -> Grade:
    return Grade(student.id, student.name, status, 0, of, note)


# -- answers ---------------------------------------------------------------------------------


def _answers(data: bytes | None) -> tuple[dict[str, Any], str]:
    """Return what answers.yaml says, and what is wrong with it."""
    if data is None:
        return {}, "there is no answers.yaml"
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return {}, "it is not UTF-8 text"
    document = read_yaml(text, "answers.yaml")
    if document.faults:
        said = [f"line {fault.line}: {fault.message}" for fault in document.faults[:MAX_FAULTS]]
        return {}, "; ".join(said)
    given = document.data
    if isinstance(given, dict) and isinstance(given.get("answers"), dict):
        given = given["answers"]
    if not isinstance(given, dict):
        return {}, "it must be lines of 'question: answer'"
    return given, ""


def _answer(
    key: Key, assignment: Assignment, question: Question, given: dict[str, Any], fault: str
) -> Item:
    item = Item(question.id, "answer", question.ask, 0, question.points, fault or "no answer")
    if fault:
        return item
    said = given.get(question.id)
    verdict = answers.check(question.type, said, assignment.right[question.id], question.settings)
    points = round(question.points * verdict.share, 2)
    item = replace(item, points=points, reason=verdict.reason)
    others = _others(key, assignment, said)
    if others:
        reason = "this is a value of another student's lab, not of yours"
        return replace(item, reason=f"{reason}; {verdict.reason}" if points else reason,
                       flag="copied", others=others)  # fmt: skip
    return item


def _others(key: Key, assignment: Assignment, said: object) -> tuple[str, ...]:
    """Return whose values are in an answer that are not the student's own."""
    me, found = assignment.student.id, set()
    for text in answers.pieces(said):
        owners = key.owners.get(text.casefold(), ())
        if owners and me not in owners:
            found |= set(owners)
    return tuple(sorted(found))


def _unknown(assignment: Assignment, given: dict[str, Any]) -> list[str]:
    known = {question.id for question in assignment.exercise.questions}
    there = [shown(name) for name in given if name not in known]
    return [f"answers.yaml has answers to no question: {', '.join(there[:5])}"] if there else []


# -- captures --------------------------------------------------------------------------------


def _captures(key: Key, assignment: Assignment, files: list[tuple[str, Path]]) -> list[Item]:
    rules = [(rule, assignment.need(rule)) for rule in assignment.exercise.rules]
    if not rules:
        return []
    texts = [text for _, need in rules for text in captures.texts_of(need)]
    looked = [captures.look(path, name, texts) for name, path in files]
    own = frozenset(a.mac for host in assignment.plan.hosts for a in host.adapters)
    strangers = {mac: who for mac, who in key.macs.items() if who != assignment.student.id}
    usable, others, why = [], set(), []
    for seen in looked:
        owner = captures.whose(seen, own, strangers)
        if seen.fault:
            why.append(f"{shown(seen.name)} cannot be read: {seen.fault}")
        elif owner.others:
            others |= set(owner.others)
            why.append(f"{captures.told(seen)} is of another student's lab")
        elif not owner.own:
            why.append(f"{captures.told(seen)} has no frame of your lab's adapters")
        else:
            usable.append(seen)
    return [_rule(rule, need, usable, tuple(sorted(others)), why) for rule, need in rules]


def _rule(
    rule: Rule,
    need: dict[str, Any],
    usable: list[captures.Seen],
    others: tuple[str, ...],
    why: list[str],
) -> Item:
    item = Item(rule.id, "capture", rule.say, 0, rule.points, "no capture was handed in")
    best, reason = 0.0, "; ".join(why)
    for seen in usable:
        part, missing = captures.share(seen, need)
        if part > best or not reason:
            best, reason = max(part, best), missing or f"found in {captures.told(seen)}"
    if best == 0 and others:
        return replace(item, reason="; ".join(why), flag="another's", others=others)
    return replace(item, points=round(rule.points * best, 2), reason=reason or item.reason)
