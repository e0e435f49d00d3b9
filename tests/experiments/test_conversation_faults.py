"""What is wrong with a conversation is told before anything is done."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.labs import plan_of, spec_path
from experiments.workloads import Stage, conversation
from lab.errors import LabError
from provisioning import countermeasures

PLAN = plan_of(spec_path("im"))
RIGHT: dict[str, Any] = {
    "system": "irc_server",
    "people": [
        {"at": "peer", "server": "guest", "account": "WANJIKU"},
        {"at": "guest", "server": "guest", "account": "OTIENO"},
    ],
    "lines": [{"from": "WANJIKU", "text": "Hi"}],
}


@pytest.mark.parametrize("countermeasure", [None, "none", {"tls": None}, {"end-to-end": {}}])
def test_a_right_one_has_no_faults(countermeasure: object) -> None:
    """A countermeasure is named alone, or with its parameters."""
    assert conversation.check({**RIGHT, "countermeasure": countermeasure}, PLAN) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"system": "telegram"}, "system is 'telegram'; there are: chat_server, irc_server"),
        ({"countermeasure": "hope"}, "countermeasure is 'hope'; there are: end-to-end, none"),
        ({"countermeasure": ["tls"]}, "countermeasure is ['tls']; there are"),
        ({"countermeasure": {"tls": {"bits": 1}}}, "tls has no parameter 'bits'"),
        ({"keep_keys": "yes"}, "keep_keys must be true or false"),
        ({"colour": "red"}, "no parameter 'colour'"),
        ({"people": []}, "people must be a list of 2 to 50"),
        ({"people": RIGHT["people"][:1]}, "people must be a list of 2 to 50"),
        ({"lines": "Hi"}, "lines must be a list of 1 to 10000"),
        ({"lines": [{"from": "EVE", "text": "Hi"}]}, "line 1: from is 'EVE'"),
        ({"lines": [{"from": "OTIENO", "to": "OTIENO", "text": "x"}]}, "talks to nobody else"),
        ({"lines": [{"from": "OTIENO", "text": ""}]}, "line 1: text must be a text"),
        ({"lines": [{"from": "OTIENO", "text": "x", "at": 1}]}, "line 1 has no key 'at'"),
        ({"lines": [{"from": "OTIENO"}]}, "line 1 must have a text or a size"),
        ({"lines": [{"from": "OTIENO", "text": "x", "size": 1}]}, "must have a text or a size"),
        ({"lines": [{"from": "OTIENO", "size": 0}]}, "size is 0, must be a whole number from 1"),
        ({"lines": [None]}, "line 1 must be a mapping"),
    ],
)
def test_faults_are_told(change: dict[str, Any], expected: str) -> None:
    """Each fault is one sentence that says what there is."""
    (fault,) = conversation.check({**RIGHT, **change}, PLAN)
    assert expected in fault


def test_faults_of_people_are_told() -> None:
    """A server is a host that has the system's role; nobody takes part twice."""
    one, other = RIGHT["people"]
    people = [{**one, "server": "peer"}, {**other, "account": "WANJIKU"}]
    faults = conversation.check({**RIGHT, "people": people}, PLAN)
    assert "person 1: server is 'peer'; there are: guest" in faults[0]
    assert any("'WANJIKU' takes part twice" in fault for fault in faults)


def test_with_three_people_a_line_says_whom_it_is_for() -> None:
    """Between two it goes without saying."""
    from dataclasses import replace

    from lab.plan import PlannedAccount

    plan = replace(PLAN, accounts=(*PLAN.accounts, PlannedAccount("AKINYI", "x")))
    people = [*RIGHT["people"], {"at": "host", "server": "guest", "account": "AKINYI"}]
    (fault,) = conversation.check({**RIGHT, "people": people}, plan)
    assert "line 1: to is None; there are: AKINYI, OTIENO, WANJIKU" in fault


def test_keys_are_kept_in_a_run_folder_only() -> None:
    """Without one there is an error before anybody signs in."""
    stage = Stage(PLAN, None, 1)  # type: ignore[arg-type] # no host is asked for
    with pytest.raises(LabError, match="no run folder"):
        conversation.run(stage, {**RIGHT, "keep_keys": True})


def test_an_unknown_countermeasure_lists_those_there_are() -> None:
    """They are found by scanning a package, by a name with '-' for '_'."""
    assert {"none", "tls", "end-to-end"} <= set(countermeasures.names())
    with pytest.raises(LabError, match="end-to-end, none"):
        countermeasures.find("hope")


@given(st.integers(1, conversation.MAX_SIZE), st.integers(), st.integers(0, 10_000))
def test_a_line_of_a_size_has_that_size(size: int, seed: int, number: int) -> None:
    """Its text is the same for the same seed, has no blank at its ends, and is on one line."""
    text = conversation._text({"size": size}, number, seed)
    assert len(text) == size
    assert text == text.strip()
    assert text.isprintable()
    assert text == conversation._text({"size": size}, number, seed)
