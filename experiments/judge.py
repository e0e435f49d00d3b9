"""From a sealed run folder to its analysis, verdicts and report.

Needs the folder alone, no lab; judging twice gives the same bytes. Evidence is only read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from experiments import crate, report
from experiments.analysis import analyse
from experiments.claims import claims_of, evaluate
from experiments.claims.facts import Facts
from experiments.evidence import CRATE, RunFolder, canonical
from lab.errors import Fault, LabError
from lab.plan import Plan

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Run:
    """A run as it lies on disk."""

    folder: RunFolder
    manifest: dict[str, Any]
    results: dict[str, Any]
    plan: Plan


@dataclass(frozen=True)
class Judgement:
    """What judging found.

    analysis and report are the contents of analysis.json and report.json; faults tells where the
    evidence is not what was sealed, in words, () when all is well; page is report.html.
    """

    run: Run
    analysis: dict[str, Any]
    verdicts: list[dict[str, Any]]
    report: dict[str, Any]
    faults: tuple[str, ...]
    page: Path

    @property
    def score(self) -> dict[str, Any]:
        """Recall and false reports: expected, found, missed, inconclusive, recall, unplanted."""
        score: dict[str, Any] = self.analysis["score"]
        return score


def load_run(path: Path) -> Run:
    """Read a sealed run. Raises LabError when there is none, or it lacks results."""
    folder = RunFolder.open(path)
    manifest = folder.manifest()
    results = folder.read_json("results.json")
    try:
        plan = Plan.from_json(manifest["plan"])
    except (KeyError, TypeError) as error:
        raise LabError(
            f"reading the plan of the run {folder.name}",
            f"{type(error).__name__}: {error}",
            fault=Fault.USER,
            todo="The manifest was not written by this version of imlab; run the experiment again.",
        ) from error
    return Run(folder, manifest, results, plan)


def judge(path: Path, *, engine: str = "native") -> Judgement:
    """Analyse a run, judge its claims and write the derived files.

    Evidence that does not match its hashes is judged all the same, and the report says so on top.
    Raises LabError when the run or a capture cannot be read, or tshark is missing.
    """
    judgement = assess(path, engine=engine)
    run, analysis, told = judgement.run, judgement.analysis, judgement.report
    derived = {
        "analysis.json": canonical(analysis),
        "verdicts.json": canonical(judgement.verdicts),
        "report.json": canonical(told),
        "report.html": report.render(told).encode(),
    }
    images = run.folder.read_json("images.json") if "images.json" in run.manifest["files"] else {}
    derived[CRATE] = crate.metadata(run.manifest, derived, images)
    run.folder.derive(derived, {analysis["engine"]["name"]: analysis["engine"]["version"]})
    return judgement


def assess(path: Path, *, engine: str = "native") -> Judgement:
    """Judge as `judge` does, and write nothing."""
    run = load_run(path)
    faults = tuple(f"{fact.file} {fact.fault}" for fact in run.folder.verify())
    analysis = analyse(run.folder.path, run.plan, run.results, engine_name=engine)
    facts = Facts(run.plan, run.results, analysis)
    verdicts = evaluate(claims_of(run.manifest["experiment"]), facts)
    told = report.content(run.manifest, run.results, analysis, verdicts, list(faults))
    return Judgement(run, analysis, verdicts, told, faults, run.folder.path / "report.html")
