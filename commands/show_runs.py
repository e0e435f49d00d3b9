"""What verifying, repeating and comparing runs look like on a terminal. Pure, as show.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from commands.show import MARKS

if TYPE_CHECKING:
    from rich.console import RenderableType

    from commands.repeat import Verified
    from commands.rerun import Rerun
    from commands.series import Outcome

WITHIN = {True: "[green]✔[/]", False: "[red]✘[/]", None: "[dim]–[/]"}
PACKAGES = 8  # lines of packages that differ; --json has all


def verified_view(found: Verified) -> Table | Text:
    """Return whether a run is whole, or which files are not."""
    if not found.facts:
        seal = f"\nseal {found.seal}" if found.seal else ""
        return Text(f"{found.run}: {found.files} files, every byte as it was sealed{seal}")
    table = Table("file", "what is wrong", title=f"{escape(found.run)} is not what was sealed")
    for fact in found.facts:
        table.add_row(escape(fact.file), escape(fact.fault))
    return table


def rerun_view(outcome: Rerun) -> Group:
    """Return whether a run came out the same, measure by measure, and what was different."""
    data = outcome.comparison
    parts: list[RenderableType] = [_verdicts(data), _measures(data), *_around(data)]
    if data["told"]:
        told = ", ".join(data["told"])
        parts.append(Text(f"its own verdicts.json says otherwise than its evidence: {told}"))
    equal = "equal" if data["equal"] else "NOT equal"
    out = [row["name"] for row in data["measures"] if row["within"] is False]
    measured = [row for row in data["measures"] if row["within"] is not None]
    line = f"verdicts {equal}; {len(measured) - len(out)} of {len(measured)} measures within"
    parts.append(Text(f"{line}\nthe new run  {outcome.folder}", no_wrap=True, overflow="ignore"))
    return Group(*parts)


def _verdicts(data: dict[str, Any]) -> Table:
    table = Table("", "claim", "then", "now")
    for row in data["verdicts"]:
        then, now = (MARKS.get(row[key] or "", row[key] or "–") for key in ("first", "second"))
        table.add_row(WITHIN[row["equal"]], escape(row["claim"]), then, now)
    return table


def _measures(data: dict[str, Any]) -> Table:
    table = Table("", "measure", "then", "now", caption="with intervals of 95 %; ✔ they meet")
    for row in data["measures"]:
        table.add_row(
            WITHIN[row["within"]],
            escape(row["name"]),
            estimate_text(row["first"], row["unit"]),
            estimate_text(row["second"], row["unit"]),
        )
    return table


def estimate_text(value: dict[str, Any] | None, unit: str) -> str:
    """Return an estimate in words: value, interval, unit; a dash for what was not measured."""
    if value is None:
        return "–"
    told = f"{value['value']:.4g}"
    if value["low"] is not None:
        told += f" [{value['low']:.4g}, {value['high']:.4g}]"
    return escape(f"{told} {unit}".rstrip())


def _around(data: dict[str, Any]) -> list[RenderableType]:
    """Return what differed of plan, experiment, software, machine and packages."""
    rows = [(row["what"], row["first"], row["second"]) for row in data["environment"]]
    rows += [(f"plan {row['path']}", row["first"], row["second"]) for row in data["plan"]]
    rows += [
        (f"experiment {row['path']}", row["first"], row["second"]) for row in data["experiment"]
    ]
    rows += [(f"recipe of {image}", "another", "another") for image in data["recipes"]]
    for image, packages in data["packages"].items():
        rows += [
            (f"{image}: {row['package']}", row["first"], row["second"])
            for row in packages[:PACKAGES]
        ]
        if more := len(packages) - PACKAGES:
            rows += [(f"{image}: {more} packages more", "", "")] if more > 0 else []
    if not rows:
        return [Text("nothing differed of plan, experiment, software, machine and packages")]
    table = Table("what differed", "then", "now")
    for what, then, now in rows:
        told = ["–" if value is None else str(value) for value in (then, now)]
        table.add_row(escape(what), *(escape(text[:60]) for text in told))
    return [table]


def series_view(outcome: Outcome) -> Group:
    """Return what a series came to."""
    parts: list[RenderableType] = [compare_view(outcome.comparison)] if outcome.comparison else []
    if outcome.failed:
        table = Table("cell that failed", "why")
        for cell, why in outcome.failed:
            table.add_row(escape(cell), escape(why))
        parts.append(table)
    told = f"{outcome.made} cells run, {outcome.there} were there, {len(outcome.failed)} failed"
    more = f"\ngo on with   ./inv run {outcome.folder}" if outcome.failed else ""
    page = f"\npage         {outcome.folder / 'compare.html'}" if outcome.comparison else ""
    parts.append(Text(f"{told}{page}{more}", no_wrap=True, overflow="ignore"))
    return Group(*parts)


def compare_view(data: dict[str, Any]) -> Group:
    """Return runs side by side: a column a run, or a column the repeats of a cell."""
    labels = [escape(column["label"]) for column in data["columns"]]
    verdicts = Table("claim", *labels)
    for row in data["verdicts"]:
        told = [
            "; ".join(
                MARKS.get(word, escape(word)) + (f", {n} times" if n > 1 else "")
                for word, n in column.items()
            )
            or "–"
            for column in row["columns"]
        ]
        verdicts.add_row(escape(row["claim"]), *told)
    measures = Table("measure", *labels, caption="medians with intervals of 95 %")
    for row in data["measures"]:
        values = [estimate_text(value, row["unit"]) for value in row["values"]]
        measures.add_row(escape(row["name"]), *values)
    parts: list[RenderableType] = [verdicts] if data["verdicts"] else []
    parts.append(measures)
    if data["environment"]:
        around = Table("what differed", *labels)
        for row in data["environment"]:
            around.add_row(escape(row["what"]), *map(escape, row["values"]))
        parts.append(around)
    return Group(*parts)
