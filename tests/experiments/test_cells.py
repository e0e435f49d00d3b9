"""Which cells a lab has, and what is said in them: pure, on the plan of vm_specs/im.yaml."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import yaml

from commands import labs
from experiments import cells as making
from experiments import definition, processor_time
from experiments.workloads import conversation
from lab.errors import LabError
from provisioning import countermeasures

if TYPE_CHECKING:
    from pathlib import Path

    from lab.plan import Plan


@pytest.fixture(scope="module")
def plan() -> Plan:
    """Give the plan of the lab with every messaging system."""
    return labs.plan_of(labs.spec_path("im"))


def named(cells: list[making.Cell]) -> list[str]:
    """Return what cells are called."""
    return [f"{cell.system} {cell.countermeasure}" for cell in cells]


def test_every_pair_is_a_cell_and_none_comes_first(plan: Plan) -> None:
    """Three systems by as many countermeasures as there are files."""
    found = making.cells(plan)
    assert len(found) == 3 * len(countermeasures.names())
    assert named(found)[0] == "chat_server none"
    assert {cell.lacks for cell in found} == {""}


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        (("xmpp", "tls"), ["xmpp_server tls"]),
        (("xmpp_server", "port", "none"), ["xmpp_server none", "xmpp_server port-scrambler"]),
        (("irc",), [f"irc_server {m}" for m in ("none", "end-to-end", "port-scrambler", "tls")]),
    ],
)
def test_only_names_systems_and_countermeasures(
    plan: Plan, only: tuple[str, ...], expected: list[str]
) -> None:
    """By name, or by what a name begins with; of what is not named all are meant."""
    assert named(making.cells(plan, only)) == expected


def test_a_system_that_the_lab_has_not_is_unknown(plan: Plan) -> None:
    """Only what a host has as a role can be in a cell."""
    guest = plan.host("guest")
    poorer = replace(guest, roles=tuple(role for role in guest.roles if "irc" not in role.name))
    hosts = tuple(poorer if host is guest else host for host in plan.hosts)
    with pytest.raises(LabError, match="is called irc; there are: chat_server, xmpp_server, end"):
        making.cells(replace(plan, hosts=hosts), ("irc",))


def test_a_cell_is_an_experiment_that_can_be_held_by_itself(plan: Plan, tmp_path: Path) -> None:
    """Its text is a file that loads and fits; nothing is said twice, decoys are not said."""
    said: set[str] = set()
    for cell in making.cells(plan):
        made = making.experiment(cell, plan, "im", repeats=20)
        path = tmp_path / f"{cell.name}.yaml"
        path.write_text(made.text)
        loaded = definition.load(str(path))
        definition.check(loaded, plan)
        assert loaded.steps == made.steps
        parameters = made.steps[0].parameters
        texts = [line["text"] for line in parameters["lines"]]
        tokens = {text.split()[1] for text in texts}
        assert len(tokens) == 20
        assert not said & tokens
        said |= tokens
        decoys = {row["text"] for row in parameters["decoys"]}
        secrets = {*texts, *(account.name for account in plan.accounts)}
        secrets |= {account.password for account in plan.accounts}
        assert not any(decoy in secret for decoy in decoys for secret in secrets)
        assert [person["at"] for person in parameters["people"]] == ["peer", "guest"]
        assert yaml.safe_load(made.text) == made.data


def test_observers_and_decoys_that_are_wrong_are_told(plan: Plan) -> None:
    """Each fault in a sentence, before anything is done."""
    made = making.experiment(making.cells(plan)[0], plan, "im", repeats=2)
    good = made.steps[0].parameters
    assert conversation.check(good, plan) == []
    bad = {**good, "observers": ["satellite"], "decoys": [{"kind": "rumour", "text": "x"}, "y"]}
    faults = conversation.check(bad, plan)
    assert faults[0] == "conversation: observers must be a list of some of: ends, memory, store"
    assert "decoy 1: kind is 'rumour'; there are: contact, message, password, user" in faults[1]
    assert faults[2] == "conversation: decoy 2 must be a mapping"


def test_processor_time_is_what_was_used_between_two_looks() -> None:
    """By program, both ways to count; a process that came meanwhile counts from nothing."""
    before = {(1, "ngircd"): (1.0, 1.0), (2, "python3"): (0.5, 0.5), (3, "gone"): (9.0, 9.0)}
    after = {(1, "ngircd"): (1.25, 1.3), (2, "python3"): (0.1, 0.6), (4, "python3"): (0.2, 0.0)}
    used = processor_time.since(before, after)
    assert used == {"ngircd": [0.25, 0.3], "python3": [0.2, 0.1]}
