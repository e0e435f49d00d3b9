"""The pages of a class: one a student, one for the teacher, and hand-outs. HTML, no script.

A page loads nothing and runs nothing (content security policy); what came from students is
escaped. The same content gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from teaching.exercise import Exercise
    from teaching.grading import Grade

TEMPLATES: Final = Path(__file__).resolve().parent / "templates"
BARS: Final = 10  # of the distribution


def render(template: str, **context: Any) -> str:  # noqa: ANN401 - what the template shows
    """Return a page."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["points"] = lambda number: f"{number:g}"
    style = (TEMPLATES / "class.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return environment.get_template(template).render(
        style=Markup(style),  # noqa: S704 - a file of ours
        style_hash=f"sha256-{digest}",
        **context,
    )


def markdown(text: str) -> Markup:
    """Return the HTML of a Markdown text; HTML in it is shown and not taken."""
    return Markup(MarkdownIt("commonmark", {"html": False}).enable("table").render(text))  # noqa: S704 - markdown-it escapes


def of_student(exercise: Exercise, grade: Grade) -> str:
    """Return the page that a student gets: points with reasons; nobody else's name is on it."""
    return render("grade.html.j2", exercise=exercise, grade=grade)


def of_teacher(exercise: Exercise, grades: Sequence[Grade], strangers: Sequence[str]) -> str:
    """Return the teacher's page: how the class did, where it struggled, who copied of whom."""
    return render(
        "teacher.html.j2",
        exercise=exercise,
        grades=sorted(grades, key=lambda grade: grade.name.casefold()),
        items=struggles(grades),
        summary=summary(grades),
        bars=distribution(grades),
        flagged=borrowed(grades),
        names={grade.student: grade.name for grade in grades},
        strangers=strangers,
    )


def summary(grades: Sequence[Grade]) -> dict[str, Any]:
    """Return how many there are of each status and flag, and the median of what was looked at."""
    shares = sorted(grade.points / grade.of for grade in grades if grade.items)
    middle = len(shares) // 2
    median = None
    if shares:
        median = shares[middle] if len(shares) % 2 else (shares[middle - 1] + shares[middle]) / 2
    return {
        "students": len(grades),
        "status": {
            status: sum(grade.status == status for grade in grades)
            for status in ("graded", "late", "malformed", "refused", "nothing")
        },
        "copied": sum("copied" in grade.flags for grade in grades),
        "anothers": sum("another's" in grade.flags for grade in grades),
        "median": median,
    }


def borrowed(grades: Sequence[Grade]) -> list[dict[str, Any]]:
    """Return who handed in answers or captures of whose, a row each."""
    rows: dict[tuple[str, str, tuple[str, ...]], dict[str, Any]] = {}
    for grade in grades:
        for item in grade.items:
            if item.flag:
                row = rows.setdefault(
                    (grade.student, item.kind, item.others),
                    {"name": grade.name, "kind": item.kind, "others": item.others, "what": []},
                )
                row["what"].append(item.id)
    return list(rows.values())


def struggles(grades: Sequence[Grade]) -> list[dict[str, Any]]:
    """Return each question and capture with the share of its points that was got, worst first.

    Of those only whose submission could be looked at.
    """
    rows: dict[str, dict[str, Any]] = {}
    for grade in grades:
        for item in grade.items:
            row = rows.setdefault(
                f"{item.kind} {item.id}",
                {"title": item.title, "kind": item.kind, "got": 0.0, "of": 0.0, "full": 0,
                 "none": 0, "silent": 0, "students": 0},
            )  # fmt: skip
            row["got"] += item.points
            row["of"] += item.of
            row["students"] += 1
            row["full"] += item.points == item.of
            row["none"] += item.points == 0
            row["silent"] += item.reason in {"no answer", "no capture was handed in"}
    made = [{**row, "share": row["got"] / row["of"] if row["of"] else 0} for row in rows.values()]
    return sorted(made, key=lambda row: row["share"])


def distribution(grades: Sequence[Grade]) -> list[dict[str, Any]]:
    """Return how many students are in each tenth of the points, of those with a submission."""
    counts = [0] * BARS
    for grade in grades:
        if grade.items:
            counts[min(int(grade.points / grade.of * BARS), BARS - 1)] += 1
    top = max([*counts, 1])
    return [
        {"from": n * 100 // BARS, "to": (n + 1) * 100 // BARS, "count": count,
         "height": round(100 * count / top)}
        for n, count in enumerate(counts)
    ]  # fmt: skip
