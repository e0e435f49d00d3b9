"""Experiments with factors and repeats from the command line: run one, go on with it, compare."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands import labs, runs
from experiments import definition, evidence, factors, series
from experiments.evidence import canonical
from lab import lifecycle
from lab.errors import Fault, LabError
from lab.making import uninterrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from experiments.factors import Cell
    from experiments.series import Series

PAGE, DATA = "compare.html", "compare.json"
SPEC = "spec-of-cell.yaml"  # while a cell is run; whatever kills that, it lies within the series


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a series, or of going on with it.

    made, there -- cells that were run now, and that had a run before; failed -- (cell, why).
    comparison  -- experiments.sidebyside; None as long as no cell has a run.
    """

    folder: Path
    made: int
    there: int
    failed: list[tuple[str, str]]
    comparison: dict[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data."""
        told = {"folder": str(self.folder), "made": self.made, "there": self.there}
        return {**told, "failed": [list(row) for row in self.failed], **(self.comparison or {})}

    @property
    def confirmed(self) -> bool:
        """Whether every cell has a run, and every claim of every run was confirmed."""
        rows = self.comparison["verdicts"] if self.comparison else []
        words = {word for row in rows for column in row["columns"] for word in column}
        return not self.failed and words <= {"confirmed"}


def wanted(name: str) -> bool:
    """Tell whether what `run` was given is a series: one to go on with, or one to begin."""
    return series.is_series(Path(name)) or factors.has_cells(definition.load(name).data)


def run(name: str, options: runs.Options, note: Callable[..., None] = lambda *_: None) -> Outcome:
    """Run every cell of an experiment, or those that are left of a series. Raises LabError.

    Every cell has a lab of its own, which goes with it. A cell that fails is told and left, and
    the others are run: going on with the series tries it again.
    """
    if series.is_series(Path(name)):
        there = series.load(Path(name))
    else:
        experiment = definition.load(name)
        spec = labs.spec_path(experiment.spec)
        evidence.require_writable(options.out)
        how = {"provider": options.provider, "browser": options.browser}
        there = series.create(experiment, spec, options.out, how)
        try:
            _check(there)
        except LabError:
            (there.path / series.FILE).unlink()
            there.path.rmdir()
            raise
    with there.alone():
        _take_down_what_was_left(there)
        left, total = there.left(), len(there.cells())
        failed = []
        for number, cell in enumerate(left, total - len(left) + 1):
            note(f"cell {number} of {total}: {cell.title}")
            try:
                _run_cell(there, cell, there.path, note)
            except LabError as error:
                failed.append((cell.title, f"{error.doing}: {error.saw}"))
                note(f"cell {number} of {total} failed: {error.saw.splitlines()[0]}")
        (there.path / SPEC).unlink(missing_ok=True)
        note("comparing the runs")
        comparison = _compare([there.path]) if there.done() else None
    if comparison:
        _write(comparison, there.path)
    return Outcome(there.path, len(left) - len(failed), total - len(left), failed, comparison)


def _check(there: Series) -> None:
    """See that every combination is a sound lab and experiment, before anything is made."""
    with tempfile.TemporaryDirectory(prefix="imlab-spec-") as space:
        for cell in there.cells():
            if cell.repeat == 1:
                _plan(there, cell, Path(space))


def _plan(there: Series, cell: Cell, space: Path) -> tuple[definition.Experiment, Path]:
    path = space / SPEC
    path.write_text(there.spec_of(cell), "utf-8")
    experiment = definition.parse(cell.text, f"reading the cell {cell.title}")
    plan = labs.plan_of(path, there.lab, **there.how)
    definition.check(experiment, plan)
    return experiment, path


def _run_cell(there: Series, cell: Cell, space: Path, note: Callable[..., None]) -> None:
    experiment, path = _plan(there, cell, space)
    options = runs.Options(there.lab, there.how["provider"], there.runs, there.how["browser"])
    runs.run(experiment, path, options, note)


def _take_down_what_was_left(there: Series) -> None:
    """End the lab of a cell that was interrupted, and judge a run that was sealed and no more."""
    if lifecycle.status(there.lab).state is not lifecycle.State.ABSENT:
        with uninterrupted():
            lifecycle.down(there.lab)
    for folder in there.done().values():
        if not (folder.path / evidence.DERIVED_LIST).is_file():
            runs.judge(folder.path)


def compare(names: Sequence[str], html: str = "") -> dict[str, Any]:
    """Put runs, archives of them and series side by side; write the page too if it is named."""
    from contextlib import ExitStack  # noqa: PLC0415 - only here

    from commands.repeat import located  # noqa: PLC0415 - as above
    from experiments.pack import opened  # noqa: PLC0415 - as above

    if not names:
        raise LabError(
            "comparing runs",
            "no run was named",
            fault=Fault.USER,
            todo="./inv compare RUN RUN …, or a series; ./inv runs lists them",
        )
    with ExitStack() as held:
        paths = [
            Path(name)
            if series.is_series(Path(name))
            else held.enter_context(opened(located(name)))
            for name in names
        ]
        comparison = _compare(paths)
    if html:
        from experiments.compare_page import render  # noqa: PLC0415 - loads jinja2

        Path(html).write_text(render(comparison), "utf-8")
    return comparison


def _compare(paths: Sequence[Path]) -> dict[str, Any]:
    from experiments.sidebyside import side_by_side  # noqa: PLC0415 - loads numpy

    return side_by_side(paths)


def _write(comparison: dict[str, Any], folder: Path) -> None:
    from experiments.compare_page import render  # noqa: PLC0415 - loads jinja2

    (folder / DATA).write_bytes(canonical(comparison))
    (folder / PAGE).write_text(render(comparison), "utf-8")
