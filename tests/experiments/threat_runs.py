"""Runs of a threat's experiment on a real lab, judged as `./inv run` judges them."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from experiments import definition
from experiments.claims import claims_of, evaluate
from experiments.claims.facts import Facts
from experiments.judge import judge
from experiments.run import Request, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from real_labs import OpenLab

    from experiments.judge import Judgement


def held(lab: OpenLab, name: str, out: Path) -> Judgement:
    """Return the judgement on one run of an experiment of the folder `threats`."""
    experiment = definition.load(f"threats/{name}")
    sessions: Any = lab.sessions
    folder = run(Request(experiment, lab.lab, out), sessions)
    return judge(folder.path)


def verdicts(judgement: Judgement) -> dict[str, str]:
    """Return each claim's verdict."""
    return {row["id"]: row["verdict"] for row in judgement.verdicts}


def judged_anew(
    judgement: Judgement,
    change: Callable[[dict[str, Any]], None] = lambda _: None,
    change_seen: Callable[[dict[str, Any]], None] = lambda _: None,
) -> dict[str, str]:
    """Return the verdicts on other results, or on another analysis, than there were."""
    results = copy.deepcopy(judgement.run.results)
    analysis = copy.deepcopy(judgement.analysis)
    change(results)
    change_seen(analysis)
    facts = Facts(judgement.run.plan, results, analysis)
    rows = evaluate(claims_of(judgement.run.manifest["experiment"]), facts)
    return {row["id"]: row["verdict"] for row in rows}
