"""Visits to the chat of the paper's lab."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from experiments import definition
from experiments.workloads import Stage, chat
from lab.errors import LabError

if TYPE_CHECKING:
    from real_labs import OpenLab


@pytest.mark.lab
def test_the_papers_conversation_goes_both_ways(paper_lab: OpenLab) -> None:
    """All that was planted is known, with the ways that it went, and all of it rests on disk."""
    steps = {step.workload: step.parameters for step in definition.load("paper").steps}
    stage = Stage(paper_lab.plan, paper_lab.sessions, seed=1)  # type: ignore[arg-type] # as in conftest
    results = chat.run(stage, steps["chat"])
    assert all(visit["ok"] for visit in results["chat"]["visits"])
    messages = [row for row in results["chat"]["planted"] if row["kind"] == "message"]
    assert {row["text"] for row in messages} >= {"HI SIR, BLACKOUT!", "Nightmare"}
    ways = {way for row in messages for way in row["directions"]}
    assert ways == {"peer->guest", "guest->peer"}
    assert [row["missing"] for row in results["repository"]] == [[], []]


@pytest.mark.lab
def test_a_wrong_password_ends_the_visit(paper_lab: OpenLab) -> None:
    """Nothing goes on after a sign-in that was refused."""
    from dataclasses import replace

    accounts = tuple(replace(a, password="wrong") for a in paper_lab.plan.accounts)
    plan = replace(paper_lab.plan, accounts=accounts)
    visit = {"at": "peer", "server": "guest", "account": "CLIENT", "post": ["never"]}
    stage = Stage(plan, paper_lab.sessions, seed=1)  # type: ignore[arg-type] # as in conftest
    with pytest.raises(LabError, match="(?i)password"):
        chat.run(stage, {"system": "chat_server", "visits": [visit]})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"at": "nobody"}, "visit 1: at is 'nobody'"),
        ({"account": "EVE"}, "visit 1: account is 'EVE'"),
        ({"post": "hello"}, "visit 1: post must be a list"),
        ({"read": ["all"]}, "visit 1: read must be"),
        ({"colour": "red"}, "visit 1 has no key 'colour'"),
    ],
)
def test_faults_of_a_visit_are_told_before_anything_is_done(
    change: dict[str, object], expected: str
) -> None:
    """Each fault names the visit and what there is."""
    from commands.labs import plan_of, spec_path

    plan = plan_of(spec_path("paper"))
    visit = {"at": "peer", "server": "guest", "account": "CLIENT", "post": ["x"], **change}
    faults = chat.check({"system": "chat_server", "visits": [visit]}, plan)
    assert len(faults) == 1
    assert expected in faults[0]
