"""Exercises: a folder each of teaching/exercises, and what one is for one student.

    exercise.yaml     title, time, aim, what to listen for, values, acts, questions
    rubric.yaml       points for answers and captures
    spec.yaml.j2      the lab, with the student's own values
    experiment.yaml.j2  what happens in it, an experiment as any other
    handout.md.j2     what the student reads

Answers that are right are templates over the student's values and the lab's plan, so they are
derived like these and stored nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml
from jinja2 import Environment, StrictUndefined, TemplateError

from lab.errors import Fault, LabError
from lab.planning import make_plan
from lab.spec import parse_spec
from teaching import values
from teaching.answers import TYPES
from teaching.values import TELLING

if TYPE_CHECKING:
    from lab.plan import Plan
    from teaching.course import Course
    from teaching.roster import Student
    from teaching.values import Value

FOLDER: Final = Path(__file__).resolve().parent / "exercises"
FORMAT: Final = 1
_TOP: Final = frozenset(
    {"imlab_exercise", "title", "minutes", "aim", "listen_for", "needs", "values", "prepare",
     "acts", "questions"}
)  # fmt: skip
_QUESTION: Final = frozenset({"id", "ask", "type", "answer", "options"})
_REQUIRED: Final = ("id", "ask", "type", "answer")
_KINDS: Final[dict[str, type]] = {
    "title": str, "aim": str, "minutes": int, "listen_for": list, "values": dict, "questions": list,
}  # fmt: skip
#: What a capture is asked: see captures.py.
NEEDS: Final = frozenset({"reads", "hides", "pings", "talks", "handshake", "tls", "scrambled"})


@dataclass(frozen=True, slots=True)
class Question:
    """One question. answer is a template, or a list of them for a set."""

    id: str
    ask: str
    type: str
    answer: Any
    options: tuple[str, ...]
    points: float
    settings: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rule:
    """What is asked of the captures: `need` maps what (NEEDS) to its parameter, a template."""

    id: str
    say: str
    points: float
    need: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Exercise:
    """One exercise. prepare: what is done on hosts of a new lab; acts: name -> steps by number."""

    name: str
    title: str
    minutes: int
    aim: str
    listen_for: tuple[str, ...]
    needs: str
    values: dict[str, dict[str, Any]]
    prepare: tuple[dict[str, Any], ...]
    acts: dict[str, dict[str, Any]]
    questions: tuple[Question, ...]
    rules: tuple[Rule, ...]
    late: float
    folder: Path

    @property
    def points(self) -> float:
        """All points that there are."""
        answers = sum(question.points for question in self.questions)
        return answers + sum(rule.points for rule in self.rules)

    def text(self, name: str) -> str:
        """Return one of its files."""
        return (self.folder / name).read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Assignment:
    """An exercise as one student has it: everything follows from the course and the student.

    values   -- the student's own, by name; they are secrets.
    right    -- question -> what is right.
    telling  -- texts that only this student's lab has: whoever hands them in has them from it.
    """

    exercise: Exercise
    student: Student
    plan: Plan
    spec_text: str = field(repr=False)
    values: dict[str, Value] = field(repr=False)
    right: dict[str, Any] = field(repr=False)
    telling: tuple[str, ...] = field(repr=False)

    @property
    def context(self) -> dict[str, Any]:
        """What templates of the exercise see."""
        return _context(self.exercise, self.student, self.values, self.plan)

    def need(self, rule: Rule) -> dict[str, Any]:
        """Return what a rule asks of this student's captures."""
        filled = _fill_all(rule.need, self.context, self.exercise.name)
        return dict(filled)


def names() -> list[str]:
    """Return the names of the exercises, in the order of teaching."""
    return sorted(path.parent.name for path in FOLDER.glob("*/exercise.yaml"))


def find(name: str) -> Exercise:
    """Return an exercise by its name, its number, or the path of its folder. Raises LabError."""
    there = names()
    fitting = [each for each in there if name in {each, each.split("-", 1)[0]}]
    if fitting:
        return load(FOLDER / fitting[0])
    if (Path(name) / "exercise.yaml").is_file():
        return load(Path(name))
    raise LabError(
        f"looking for the exercise {name!r}",
        f"there are: {', '.join(there)}",
        fault=Fault.USER,
        todo="name one of these, its number, or a folder with an exercise.yaml",
    )


def load(folder: Path) -> Exercise:
    """Read an exercise. Raises LabError with everything that is wrong."""
    doing = f"reading the exercise {folder.name!r}"
    try:
        data = yaml.safe_load((folder / "exercise.yaml").read_text(encoding="utf-8"))
        rubric = yaml.safe_load((folder / "rubric.yaml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise LabError(doing, str(error), fault=Fault.SPEC, todo="correct the file") from error
    faults = _faults(data, rubric)
    if faults:
        raise LabError(doing, "\n".join(faults), fault=Fault.SPEC, todo="correct the files")
    return Exercise(
        name=folder.name,
        title=data["title"],
        minutes=data["minutes"],
        aim=" ".join(data["aim"].split()),
        listen_for=tuple(" ".join(said.split()) for said in data["listen_for"]),
        needs=str(data.get("needs", "")),
        values=data["values"],
        prepare=tuple(data.get("prepare", ())),
        acts=data.get("acts", {}),
        questions=tuple(_question(row, rubric["answers"][row["id"]]) for row in data["questions"]),
        rules=tuple(
            Rule(row["id"], row["say"], float(row["points"]), row["need"])
            for row in rubric.get("captures", ())
        ),
        late=float(rubric.get("late", 1)),
        folder=folder,
    )


def assign(exercise: Exercise, student: Student, course: Course) -> Assignment:
    """Return the exercise as this student has it. Pure. Raises LabError."""
    own = values.of_student(course, student.id, exercise.name, exercise.values)
    context = _context(exercise, student, own, None)
    spec_text = fill(exercise.text("spec.yaml.j2"), context, exercise.name)
    spec = parse_spec(spec_text, f"spec of {exercise.name} for {student.id}")
    plan = make_plan(spec, name=lab_name(exercise, student))
    context = _context(exercise, student, own, plan)
    right = {
        question.id: _fill_all(question.answer, context, exercise.name)
        for question in exercise.questions
    }
    telling = [str(own[name]) for name, how in exercise.values.items() if how["kind"] in TELLING]
    telling += [adapter.mac for host in plan.hosts for adapter in host.adapters]
    return Assignment(exercise, student, plan, spec_text, own, right, tuple(telling))


def lab_name(exercise: Exercise, student: Student) -> str:
    """Return the name of a student's lab: 32 letters at most."""
    return f"{exercise.name.split('-', 1)[0]}-{student.id}"


def _question(row: dict[str, Any], rubric: dict[str, Any]) -> Question:
    options = tuple(str(option) for option in row.get("options", ()))
    settings = {**rubric, "options": options}
    return Question(
        row["id"], " ".join(row["ask"].split()), row["type"], row["answer"], options,
        float(rubric["points"]), settings,
    )  # fmt: skip


def _context(
    exercise: Exercise, student: Student, own: dict[str, Value], plan: Plan | None
) -> dict[str, Any]:
    macs = {h.name: {a.name: a.mac for a in h.adapters} for h in plan.hosts} if plan else {}
    return {
        **own,
        "student": {"id": student.id, "name": student.name},
        "lab": lab_name(exercise, student),
        "mac": macs,
    }


def fill(template: str, context: dict[str, Any], name: str) -> str:
    """Fill in a template of the exercise of that name. Raises LabError."""
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)  # noqa: S701 - YAML and Markdown
    try:
        return environment.from_string(template).render(context)
    except TemplateError as error:
        raise LabError(
            f"filling in the exercise {name!r}", str(error), fault=Fault.SPEC, todo="correct it"
        ) from error


def _fill_all(data: Any, context: dict[str, Any], name: str) -> Any:  # noqa: ANN401 - YAML data
    """Fill in every text of some data."""
    if isinstance(data, str):
        return fill(data, context, name)
    if isinstance(data, list):
        return [_fill_all(item, context, name) for item in data]
    if isinstance(data, dict):
        return {key: _fill_all(item, context, name) for key, item in data.items()}
    return data


# -- what can be wrong -----------------------------------------------------------------------


def _faults(data: object, rubric: object) -> list[str]:
    if not isinstance(data, dict) or not isinstance(rubric, dict):
        return ["exercise.yaml and rubric.yaml must be mappings"]
    faults = [f"exercise.yaml: unknown key {key!r}" for key in data if key not in _TOP]
    if data.get("imlab_exercise") != FORMAT:
        faults.append(f"exercise.yaml: imlab_exercise must be {FORMAT}")
    faults += [
        f"exercise.yaml: {key} must be a {kind.__name__}"
        for key, kind in _KINDS.items()
        if not isinstance(data.get(key), kind)
    ]
    if faults:
        return faults
    return [*_question_faults(data["questions"], rubric.get("answers", {})), *_rule_faults(rubric)]


def _question_faults(questions: list[Any], points: dict[str, Any]) -> list[str]:
    faults, asked = [], set()
    for number, row in enumerate(questions, 1):
        asked.add(row.get("id"))
        faults += [f"question {number}: unknown key {key!r}" for key in row if key not in _QUESTION]
        faults += [f"question {number}: no {key}" for key in _REQUIRED if key not in row]
        if row.get("type") not in TYPES:
            faults.append(f"question {number}: type must be one of {', '.join(TYPES)}")
        if not isinstance(points.get(row.get("id"), {}).get("points"), (int, float)):
            faults.append(f"rubric.yaml: no points for the answer {row.get('id')!r}")
    return faults + [f"rubric.yaml: no question {name!r}" for name in points if name not in asked]


def _rule_faults(rubric: dict[str, Any]) -> list[str]:
    faults = []
    for number, row in enumerate(rubric.get("captures", ()), 1):
        if not {"id", "say", "points", "need"} <= set(row):
            faults.append(f"rubric.yaml: capture {number} must have id, say, points and need")
        elif unknown := set(row["need"]) - NEEDS:
            faults.append(f"rubric.yaml: capture {number} needs {unknown}; known: {set(NEEDS)}")
    return faults
