"""What the tasks' results look like on a terminal. Pure: data in, rich renderables out."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text
from rich.tree import Tree

from lab import links

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from commands.classroom import Seat
    from commands.labs import Raised
    from commands.matrix import Outcome as MatrixOutcome
    from lab.lifecycle import LabStatus
    from lab.plan import Plan
    from lab.providers.base import Finding
    from teaching.gradebook import Gradebook

MARKS = {
    "confirmed": "[green]✔ confirmed[/]",
    "refuted": "[red]✘ refuted[/]",
    "inconclusive": "[yellow]? inconclusive[/]",
    "not measured": "[yellow]– not measured[/]",
}


def plan_tree(plan: Plan) -> Tree:
    """Return a plan as a tree: switches, the hosts on them, the guests inside hosts."""
    tree = Tree(f"[bold]{escape(plan.lab)}[/]  {escape(plan.description.strip())}")
    for network in plan.networks:
        tree.add(f"switch [bold]{escape(network.name)}[/]  {network.subnet}")
    branches: dict[str, Tree] = {}
    observed = {(capture.host, capture.adapter) for capture in plan.captures}
    for host in plan.hosts:
        above = branches[host.on] if host.on else tree
        memory = f"{host.memory_mib} MiB, {host.cpus} CPU"
        branch = above.add(
            f"[bold]{escape(host.name)}[/]  image {escape(host.image)}, TTL {host.ttl}, {memory}"
        )
        branches[host.name] = branch
        for adapter in host.adapters:
            where = f"on {adapter.network}" if adapter.network else "not connected"
            where = f"bridged to {host.on}/{adapter.bridged}" if adapter.bridged else where
            tap = "  [cyan]captured[/]" if (host.name, adapter.name) in observed else ""
            line = f"{adapter.name}  {adapter.address or '–'}  {adapter.mac}  {where}{tap}"
            line += "".join(f"  {key} {value:g}" for key, value in (adapter.link or {}).items())
            branch.add(f"{line}  [dim]{escape(adapter.model)}[/]")
        for role in host.roles:
            branch.add(f"role [bold]{escape(role.name)}[/]  [dim]{escape(str(role.parameters))}[/]")
    return tree


def raised_tree(raised: Raised) -> Tree:
    """Return what lab-up did."""
    state = "is up" if raised.new else "was up already; nothing was made"
    tree = Tree(f"lab [bold]{escape(raised.lab.name)}[/] {state}")
    for host in raised.lab.plan.hosts:
        address = next((a.address for a in host.adapters if a.address), "–")
        branch = tree.add(f"[bold]{escape(host.name)}[/]  {address}")
        for row in raised.links:
            if row["host"] == host.name:
                branch.add(escape(links.told(row)))
        for change in shortened(raised.changes.get(host.name, ())):
            branch.add(escape(change))
        if host.roles and not raised.changes.get(host.name):
            branch.add("[dim]roles as described; nothing to change[/]")
    return tree


def shortened(changes: Sequence[str], most: int = 3) -> list[str]:
    """Return changes so that they fit on a screen: many of one kind become their number.

    A change begins with its kind ("file /etc/x"); --json tells each.
    """
    kinds = Counter(change.partition(" ")[0] for change in changes)
    told: dict[str, None] = {}
    for change in changes:
        kind = change.partition(" ")[0]
        told[change if kinds[kind] <= most else f"{kinds[kind]} {kind}s"] = None
    return list(told)


def status_table(labs: list[LabStatus]) -> Table | Text:
    """Return the labs on this machine."""
    if not labs:
        return Text("no lab is up; put one up with ./inv lab-up")
    table = Table("lab", "state", "provider", "host", "alive", "since", "spec")
    for lab in labs:
        since = "–" if lab.created is None else _clock(lab.created)
        rows = list(lab.hosts.items()) or [("–", None)]
        for number, (host, reason) in enumerate(rows):
            alive = "[green]yes[/]" if reason is None else f"[red]no:[/] {escape(reason)}"
            of_all = (escape(lab.name), lab.state.value, ", ".join(lab.providers))
            head = of_all if number == 0 else ("",) * 3
            tail = (since, escape(lab.spec or "–")) if number == 0 else ("", "")
            table.add_row(*head, escape(host), alive if lab.hosts else "–", *tail)
    return table


def verdict_table(
    verdicts: list[dict[str, Any]], folder: Path, durations_s: dict[str, float]
) -> Group:
    """Return a run's verdicts and where the report is."""
    table = Table("verdict", "claim of the paper", "figure", "measured here")
    for row in verdicts:
        table.add_row(
            MARKS.get(row["verdict"], escape(row["verdict"])),
            escape(row["claim"]),
            escape(str(row["figure"])),
            escape(str(row["measured"])),
        )
    # The other durations are parts of these.
    times = ", ".join(
        f"{words} {durations_s[phase]:.1f} s"
        for phase, words in (("lab_up", "lab up"), ("run", "run"))
        if phase in durations_s
    )
    report = Text(
        f"report  {folder / 'report.html'}\ntime    {times}", no_wrap=True, overflow="ignore"
    )
    return Group(table, report)


LEVELS = {
    "everything": "[red]all[/]",
    "messages": "[red]messages[/]",
    "passwords": "[yellow]passwords[/]",
    "people": "[yellow]names[/]",
    "times": "[green]size, time[/]",
    "nothing": "[green]nothing[/]",
    "open": "[yellow]?[/]",
    "unmeasured": "[dim]–[/]",
}


def matrix_table(outcome: MatrixOutcome) -> Group:
    """Return who reads what, a row a cell, and where the page is."""
    cells = outcome.content["cells"]
    observers = list(dict.fromkeys(name for cell in cells for name in cell["observers"]))
    first = [Column("system", no_wrap=True), Column("countermeasure", no_wrap=True)]
    table = Table(*first, *observers, "ms, median / 95 %", box=box.SIMPLE_HEAD)
    before = ""
    for cell in cells:
        levels = [cell["observers"].get(name, {}).get("level", "") for name in observers]
        latency = cell["cost"]["latency_s"]
        median, late = (latency[name]["value"] * 1e3 for name in ("median", "p95"))
        table.add_row(
            "" if cell["system"] == before else escape(cell["system"]),
            escape(cell["countermeasure"]),
            *(LEVELS.get(level, escape(level)) for level in levels),
            f"{median:.3g} / {late:.3g}",
        )
        before = cell["system"]
    times = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in outcome.durations_s.items())
    scores = [score for cell in cells for score in cell["score"]["observers"].values()]
    found, expected = (sum(score[key] for score in scores) for key in ("found", "expected"))
    false = sum(
        len(score["beyond"]) + len(score["decoys_found"]) + score["unplanted"] for score in scores
    )
    truth = f"{found} of {expected} texts found that could be read, {false} false reports"
    said = Text(
        f"truth {truth}\npage  {outcome.page}\ntime  {times}", no_wrap=True, overflow="ignore"
    )
    return Group(table, said)


def runs_table(rows: list[dict[str, Any]]) -> Table | Text:
    """Return the runs on record."""
    if not rows:
        return Text("no run yet; make one with ./inv reproduce")
    table = Table("run", "experiment", "lab", "claims confirmed", "MB", "started")
    for row in rows:
        table.add_row(
            escape(row["run"]), escape(row["experiment"]) + _cells(row), escape(row["lab"]),
            f"{row['confirmed']} of {row['claims']}", f"{row['bytes'] / 1e6:.1f}", row["started"],
        )  # fmt: skip
    return table


def _cells(row: dict[str, Any]) -> str:
    return ", {} of {} cells".format(*row["cells"]) if "cells" in row else ""


def snapshots_table(there: dict[str, list[str]]) -> Table | Text:
    """Return what each host of a lab is saved as."""
    if not any(there.values()):
        return Text("no snapshot yet; make one with ./inv lab-snapshot NAME")
    table = Table("host", "snapshots, oldest first")
    for host, names in there.items():
        table.add_row(escape(host), escape(", ".join(names)))
    return table


def seats_table(seats: Sequence[Seat]) -> Group:
    """Return who of a class is up and what it costs."""
    table = Table("student", "lab", "state", "memory", "processes", "disk", "up in", "note")
    for seat in seats:
        table.add_row(
            escape(seat.student), escape(seat.lab), seat.state, _mib(seat.memory),
            "–" if seat.processes is None else str(seat.processes), _mib(seat.disk),
            "–" if seat.up_s is None else f"{seat.up_s:.2f} s", escape(seat.note),
        )  # fmt: skip
    memory = sum(seat.memory or 0 for seat in seats)
    up = sum(seat.memory is not None for seat in seats)
    return Group(table, Text(f"{up} labs up, {memory >> 20} MiB"))


def _mib(size: int | None) -> str:
    return "–" if size is None else f"{size / (1 << 20):.0f} MiB"


def grades_table(graded: tuple[Gradebook, Path]) -> Group:
    """Return a class's grades, and where its pages are."""
    book, folder = graded
    table = Table("student", "points", "status", "note")
    for grade in book.grades:
        flags = "".join(f" · {flag}" for flag in grade.flags)
        table.add_row(
            escape(f"{grade.name} ({grade.student})"), f"{grade.points:g} of {grade.of:g}",
            escape(grade.status + flags), escape(grade.note),
        )  # fmt: skip
    lost = [Text(f"of nobody in the roster: {', '.join(book.strangers)}")] if book.strangers else []
    return Group(table, *lost, Text(f"{folder}/: grades.csv, grades.xlsx, teacher.html, students/"))


def doctor_view(checks: list[Finding]) -> Group:
    """Return what `doctor` found; commands to copy stand below the table, unwrapped."""
    colours = {"ok": "green", "warn": "yellow", "fail": "red"}
    table = Table("what", "state", "seen")
    for check in checks:
        colour = colours[check.state]
        table.add_row(escape(check.name), f"[{colour}]{check.state}[/]", escape(check.saw))
    names: dict[str, list[str]] = {}
    for check in checks:
        if check.todo:
            names.setdefault(check.todo, []).append(check.name)
    todo = [
        Text(f"{', '.join(who)}: {what}", no_wrap=True, overflow="ignore")
        for what, who in names.items()
    ]
    return Group(table, *todo)


def images_table(rows: list[dict[str, Any]]) -> Table | Text:
    """Return the images in the cache."""
    if not rows:
        return Text("no image yet; lab-up builds what it needs")
    table = Table("image", "form", "key", "MiB", "built", "took", "")
    for row in rows:
        table.add_row(
            escape(row["name"]), row["form"], row["key"], str(row["bytes"] >> 20), row["built"],
            f"{row['duration_s']} s", "" if row["current"] else "old",
        )  # fmt: skip
    return table


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
