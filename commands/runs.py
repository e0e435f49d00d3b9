"""Experiments from the command line: run one, judge one, list them, reproduce the paper."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands import labs
from experiments import definition, evidence, series
from experiments.evidence import RunFolder
from lab import lifecycle
from lab.errors import Fault, LabError
from lab.making import uninterrupted

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.making import Images

RUNS = Path(__file__).resolve().parent.parent / "runs"


@dataclass(frozen=True, slots=True)
class Options:
    """How `run` goes about it. keep: leave a lab up that was put up for the run.

    bases -- where base images come from; the cache, which builds what is missing, by default.
    """

    name: str | None = None
    provider: str = "netns"
    out: Path = RUNS
    browser: bool = False
    keep: bool = False
    bases: Images | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished and judged run."""

    folder: Path
    verdicts: list[dict[str, Any]]
    durations_s: dict[str, float]

    @property
    def confirmed(self) -> bool:
        """Whether every claim was confirmed."""
        return all(row["verdict"] == "confirmed" for row in self.verdicts)


def run_experiment(
    name: str, options: Options, note: Callable[..., None] = lambda *_: None
) -> Outcome:
    """Run an experiment, by name or path, on the lab that it names. Raises LabError as `run`."""
    experiment = definition.load(name)
    return run(experiment, labs.spec_path(experiment.spec), options, note)


def run(
    experiment: definition.Experiment,
    path: Path,
    options: Options,
    note: Callable[..., None] = lambda *_: None,
) -> Outcome:
    """Run an experiment on the lab that is up, or on one of its own that goes again afterwards.

    path -- the spec. Raises LabError. Whatever happens, a lab that was made for this is taken
    down; one that somebody else made meanwhile, or works on, is not.
    """
    plan = labs.plan_of(path, options.name, provider=options.provider, browser=options.browser)
    definition.check(experiment, plan)
    evidence.require_writable(options.out)  # before a lab is made for it
    ours = lifecycle.status(plan.lab).state in {lifecycle.State.ABSENT, lifecycle.State.LOST}
    since = time.monotonic()
    with contextlib.ExitStack() as held:
        try:
            raised = labs.bring_up(
                path,
                name=options.name,
                provider=options.provider,
                browser=options.browser,
                bases=options.bases,
                note=note,
                held=held,
            )
            before = {"lab_up": round(time.monotonic() - since, 4)}
            folder = _measure(experiment, raised.lab, options, before, note)
        finally:
            if ours and not options.keep and lifecycle.made_here(plan.lab):
                note("taking the lab down")
                with uninterrupted():
                    lifecycle.down(plan.lab)
    note("reading the captures and judging")
    return judge(folder.path)


def _measure(
    experiment: definition.Experiment,
    lab: lifecycle.Lab,
    options: Options,
    before: dict[str, float],
    note: Callable[..., None],
) -> RunFolder:
    from experiments.run import Request  # noqa: PLC0415 - loads paramiko
    from experiments.run import run as run_on  # noqa: PLC0415 - as above
    from provisioning.sessions import Sessions  # noqa: PLC0415 - as above

    request = Request(experiment, lab, options.out, options.browser, before)
    with Sessions(lab) as sessions:
        return run_on(request, sessions, note)


def judge(path: Path, *, engine: str = "native") -> Outcome:
    """Judge a run from its folder alone, and write its verdicts and report anew."""
    from experiments.judge import judge as judge_folder  # noqa: PLC0415 - loads jinja2

    judgement = judge_folder(path, engine=engine)
    folder = RunFolder.open(path)
    return Outcome(path, judgement.verdicts, folder.manifest()["durations_s"])


def find(name: str, root: Path = RUNS) -> Path:
    """Return a run's folder: a path, a run's name, or "last". Raises LabError."""
    if Path(name).is_dir():
        return Path(name)
    there = evidence.runs(root)
    if name == "last" and there:
        return there[-1].path
    for folder in there:
        if folder.name == name:
            return folder.path
    raise LabError(
        f"finding the run {name!r}",
        f"runs in {root}: " + (", ".join(f.name for f in there[-5:]) or "none"),
        fault=Fault.USER,
        todo="name one of these, or give the path of a run folder",
    )


def listing(root: Path = RUNS) -> list[dict[str, Any]]:
    """Return a row a run: name, started, experiment, lab, verdict counts, bytes.

    A series is one row, with the claims of all its runs; `cells` is how many are done, and of how
    many.
    """
    rows = [_row(folder) for folder in evidence.runs(root)]
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        if series.is_series(path):
            there = series.load(path)
            runs_ = [_row(folder) for folder in there.done().values()]
            total = {
                key: sum(row[key] for row in runs_) for key in ("confirmed", "claims", "bytes")
            }
            started = min((row["started"] for row in runs_), default="")
            cells = [len(runs_), len(there.cells())]
            row = {"run": path.name, "started": started, "experiment": there.experiment.name}
            rows.append({**row, "lab": there.lab, **total, "cells": cells})
    return sorted(rows, key=lambda row: str(row["run"]))


def _row(folder: RunFolder) -> dict[str, Any]:
    manifest = folder.manifest()
    judged = (folder.path / "verdicts.json").exists()
    verdicts = folder.read_json("verdicts.json") if judged else []
    return {
        "run": folder.name,
        "started": manifest["started"],
        "experiment": manifest["name"],
        "lab": manifest["plan"]["lab"],
        "confirmed": sum(row["verdict"] == "confirmed" for row in verdicts),
        "claims": len(verdicts),
        "bytes": sum(file["bytes"] for file in manifest["files"].values()),
    }
