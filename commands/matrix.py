"""`./inv matrix`: the lab is put up once, each cell is held on it, and all are judged together."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from commands import labs
from commands.runs import RUNS
from experiments import evidence
from lab import lifecycle
from lab.errors import Fault, LabError
from lab.making import uninterrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from experiments.cells import Cell

SPEC = "im"


@dataclass(frozen=True, slots=True)
class Options:
    """How to go about it. only -- systems and countermeasures; claims -- runs for the page."""

    only: tuple[str, ...] = ()
    repeats: int = 0
    spec: str = SPEC
    name: str | None = None
    out: Path = RUNS
    keep: bool = False
    claims: tuple[str, ...] = ()


@dataclass(slots=True)
class Outcome:
    """A finished matrix: its folder, what matrix.json holds, and seconds by phase."""

    folder: Path
    content: dict[str, Any]
    durations_s: dict[str, float] = field(default_factory=dict)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row for each system, countermeasure, observer and kind, as `--json` prints them."""
        return [row for cell in self.content["cells"] for row in cell["rows"]]

    @property
    def sound(self) -> bool:
        """Whether all that could be read was found, and nothing else was."""
        scores = [
            score for cell in self.content["cells"] for score in cell["score"]["observers"].values()
        ]
        return not any(
            score["missed"] or score["beyond"] or score["decoys_found"] or score["unplanted"]
            for score in scores
        )

    @property
    def page(self) -> Path:
        """The page."""
        return self.folder / "matrix.html"


def run_matrix(options: Options, note: Callable[..., None] = lambda *_: None) -> Outcome:
    """Hold and judge all cells. Raises LabError; interrupted, nothing is left but what was there.

    A lab that was up is used, and its services are put back to what they were.
    """
    from experiments import cells as making  # noqa: PLC0415 - loads the systems' clients

    began = time.monotonic()
    repeats = options.repeats or making.REPEATS
    if not 2 <= repeats <= making.MOST_REPEATS:  # noqa: PLR2004 - both ways at least once
        raise LabError(
            "choosing how often something is said in a cell",
            f"--repeats is {repeats}",
            fault=Fault.USER,
            todo=f"2 to {making.MOST_REPEATS}; {making.REPEATS} is what the 95th percentile needs",
        )
    path = labs.spec_path(options.spec)
    plan = labs.plan_of(path, options.name)
    chosen = making.cells(plan, options.only)
    evidence.require_writable(options.out)
    ours = lifecycle.status(plan.lab).state in {lifecycle.State.ABSENT, lifecycle.State.LOST}
    durations: dict[str, float] = {}
    with contextlib.ExitStack() as held:
        try:
            raised = labs.bring_up(path, name=options.name, note=note, held=held)
            durations["lab_up"] = round(time.monotonic() - began, 3)
            with _folder(options.out, raised.lab) as folder:
                since = time.monotonic()
                _hold(chosen, raised.lab, options.spec, repeats, folder, note)
                durations["cells"] = round(time.monotonic() - since, 3)
                outcome = judge(folder, options.claims, note, durations)
        finally:
            if ours and not options.keep and lifecycle.made_here(plan.lab):
                note("taking the lab down")
                with uninterrupted():
                    lifecycle.down(plan.lab)
    outcome.durations_s["all"] = round(time.monotonic() - began, 3)
    return outcome


def judge(
    folder: Path,
    claims: tuple[str, ...] = (),
    note: Callable[..., None] = lambda *_: None,
    durations: dict[str, float] | None = None,
) -> Outcome:
    """Judge a matrix from its folder alone, and write matrix.json and matrix.html anew."""
    from commands.runs import find  # noqa: PLC0415 - as below
    from experiments.matrix import judging  # noqa: PLC0415 - loads the engine

    since = time.monotonic()
    given = [find(name) for name in claims]
    content = judging.judge(folder, given, note)
    times = dict(durations or {})
    times["judging"] = round(time.monotonic() - since, 3)
    return Outcome(folder, content, times)


@contextlib.contextmanager
def _folder(out: Path, lab: lifecycle.Lab) -> Iterator[Path]:
    """Make the folder of a matrix; interrupted it is removed, killed it goes with the lab."""
    stem = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-matrix"
    names = (stem, *(f"{stem}-{number}" for number in range(2, 1000)))
    for name in names:
        with contextlib.suppress(FileExistsError):
            (out / name).mkdir()
            break
    folder = (out / name).resolve()
    claim = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(claim, fcntl.LOCK_EX)
        lab.ledger.expect(folder)
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        lab.ledger.finished(folder)
        os.close(claim)


def _hold(  # noqa: PLR0913, PLR0917 - what is done, where, and who is told
    cells: list[Cell],
    lab: lifecycle.Lab,
    spec: str,
    repeats: int,
    folder: Path,
    note: Callable[..., None],
) -> None:
    """Hold the conversation of each cell, and bring the lab back to what it was after each."""
    from experiments import cells as making  # noqa: PLC0415 - loads paramiko
    from experiments.resets import Resets  # noqa: PLC0415 - as above
    from experiments.run import Request, run  # noqa: PLC0415 - as above

    possible = [cell for cell in cells if not cell.lacks]
    skipped = [cell for cell in cells if cell.lacks]
    evidence_of = folder / "cells"
    evidence_of.mkdir()
    (folder / "impossible.json").write_bytes(
        evidence.canonical(
            [
                {"system": c.system, "countermeasure": c.countermeasure, "why": c.lacks}
                for c in skipped
            ]
        )
    )
    with Resets(lab) as resets:
        for system in dict.fromkeys(cell.system for cell in possible):
            note(f"keeping the state of {system}")
            resets.keep(system)
        for number, cell in enumerate(possible, 1):
            note(f"cell {number} of {len(possible)}: {cell.system}, {cell.countermeasure}")
            held = making.experiment(cell, lab.plan, spec, repeats=repeats)
            try:
                run(Request(held, lab, evidence_of), resets.sessions)
            finally:
                resets.reset(cell.system)
