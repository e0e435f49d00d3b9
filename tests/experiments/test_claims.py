"""Verdicts: yes, no, not measured, inconclusive, and never a yes without evidence."""

from __future__ import annotations

import copy
import functools
import json
from typing import TYPE_CHECKING, Any

import pytest
from fixture_run import FIXTURE, needs_tshark, results

from experiments.analysis import analyse
from experiments.claims import checks, claims_of, evaluate
from experiments.claims.facts import Facts
from experiments.definition import load, names
from experiments.judge import load_run
from lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = needs_tshark


@functools.cache
def recorded() -> str:
    """Return the analysis of the recorded run as JSON text."""
    run = load_run(FIXTURE)
    return json.dumps(analyse(FIXTURE, run.plan, run.results))


def verdicts(
    change: Callable[[dict[str, Any], dict[str, Any]], None] = lambda _, __: None,
) -> dict[str, dict[str, Any]]:
    """Judge the paper's claims on the recorded facts after a change of (results, analysis)."""
    told, analysis = copy.deepcopy(results()), json.loads(recorded())
    change(told, analysis)
    facts = Facts(load_run(FIXTURE).plan, told, analysis)
    return {row["id"]: row for row in evaluate(claims_of({"name": "paper"}), facts)}


def seen_as(analysis: dict[str, Any], state: str, kind: str = "message") -> None:
    """Pretend that the first planted text of a kind was seen so, by everybody."""
    row = next(row for row in analysis["planted"] if row["kind"] == kind)
    for seen in row["observers"].values():
        seen["state"], seen["hits"] = state, []
        seen["directions"] = dict.fromkeys(seen["directions"], state)


def test_the_recorded_run_confirms_what_it_measured() -> None:
    """All claims are confirmed but the one that the recording has nothing about."""
    found = {name: row["verdict"] for name, row in verdicts().items()}
    assert found.pop("repository") == "not measured"
    assert set(found.values()) == {"confirmed"}
    assert len(found) == 8


def test_every_yes_has_evidence_that_can_be_looked_up() -> None:
    """Evidence names a file of the run; where it names frames, the capture has them."""
    run = load_run(FIXTURE)
    counts = {row["file"]: row["packets"] for row in run.results["captures"]}
    for row in verdicts().values():
        assert bool(row["evidence"]) is (row["verdict"] == "confirmed"), row["id"]
        for proof in row["evidence"]:
            assert (FIXTURE / proof["file"]).is_file()
            for frame in proof.get("frames", ()):
                assert 1 <= frame <= counts[proof["file"]]


def test_without_any_measurement_there_is_no_verdict() -> None:
    """An empty run answers no claim: not one yes, not one no, not one number."""

    def empty(told: dict[str, Any], analysis: dict[str, Any]) -> None:
        told.clear()
        analysis.update(observers=[], planted=[], unplanted=[])

    for row in verdicts(empty).values():
        assert row["verdict"] == "not measured", row["id"]
        assert row["measured"].startswith("Not measured: ")
        assert not any(char.isdigit() for char in row["measured"])


def lose_a_reply(told: dict[str, Any], _: dict[str, Any]) -> None:
    """Lose one echo reply."""
    told["ping"][0].update(received=3, loss_percent=25.0)


def wrong_ttl(told: dict[str, Any], _: dict[str, Any]) -> None:
    """Give a reply another TTL."""
    told["ping"][0]["replies"][2]["ttl"] = 63


def forget_a_pair(told: dict[str, Any], _: dict[str, Any]) -> None:
    """Leave a pair out."""
    told["ping"].pop()


def miss_a_message(_: dict[str, Any], analysis: dict[str, Any]) -> None:
    """Miss a message in captures without a doubt."""
    seen_as(analysis, "not found")


def doubt_a_message(_: dict[str, Any], analysis: dict[str, Any]) -> None:
    """Miss a message in captures with drops."""
    seen_as(analysis, "inconclusive")


def miss_a_password(_: dict[str, Any], analysis: dict[str, Any]) -> None:
    """Miss a password."""
    seen_as(analysis, "not found", "password")


def no_second_step(_: dict[str, Any], analysis: dict[str, Any]) -> None:
    """Take the SYN/ACK from connections with messages."""
    for observer in analysis["observers"]:
        for shake in observer["handshakes"]:
            shake["complete"] = False


def no_second_step_and_drops(told: dict[str, Any], analysis: dict[str, Any]) -> None:
    """Do the same in captures that dropped packets."""
    no_second_step(told, analysis)
    for observer in analysis["observers"]:
        observer["doubts"] = ["2 packets were dropped"]


def host_saw_something_else(_: dict[str, Any], analysis: dict[str, Any]) -> None:
    """Give the hypervisor's adapter other bytes than its guest."""
    host = next(row for row in analysis["observers"] if row["host"] == "host")
    host["streams"][0]["sha256"] = "0" * 64


def no_referer(_: dict[str, Any], analysis: dict[str, Any]) -> None:
    """Let one observer read no referer."""
    rows = analysis["observers"][0]["findings"]
    rows[:] = [row for row in rows if row["kind"] != "referer"]


def no_header(_: dict[str, Any], analysis: dict[str, Any]) -> None:
    """Take the header from all requests."""
    for observer in analysis["observers"]:
        observer["findings"] = [r for r in observer["findings"] if r["kind"] != "header"]


def one_way_only(_: dict[str, Any], analysis: dict[str, Any]) -> None:
    """Send messages in one direction only."""
    for row in analysis["planted"]:
        row["directions"] = [way for way in row["directions"] if way == "guest->peer"]


def found_in_the_database(told: dict[str, Any], _: dict[str, Any]) -> None:
    """Look at a repository that holds all."""
    told["repository"] = [{"host": "guest", "found": ["a", "b"], "missing": [], "evidence": "t"}]


def missing_in_the_database(told: dict[str, Any], _: dict[str, Any]) -> None:
    """Look at a repository that lacks a message."""
    told["repository"] = [{"host": "guest", "found": ["a"], "missing": ["b"], "evidence": "t"}]


@pytest.mark.parametrize(
    ("change", "claim", "verdict"),
    [
        (lose_a_reply, "ping", "refuted"),
        (wrong_ttl, "ping", "refuted"),
        (forget_a_pair, "ping", "not measured"),
        (miss_a_message, "plaintext-sender", "refuted"),
        (miss_a_message, "plaintext-receiver", "refuted"),
        (doubt_a_message, "plaintext-sender", "inconclusive"),
        (miss_a_password, "credentials", "refuted"),
        (miss_a_password, "plaintext-sender", "confirmed"),
        (no_second_step, "handshake", "refuted"),
        (no_second_step_and_drops, "handshake", "inconclusive"),
        (host_saw_something_else, "hypervisor", "refuted"),
        (no_referer, "exposure", "refuted"),
        (no_header, "insecure-request", "refuted"),
        (one_way_only, "plaintext-sender", "not measured"),
        (found_in_the_database, "repository", "confirmed"),
        (missing_in_the_database, "repository", "refuted"),
    ],
)
def test_a_different_measurement_gives_a_different_verdict(
    change: Callable[[dict[str, Any], dict[str, Any]], None], claim: str, verdict: str
) -> None:
    """Each claim can fail, and fails for its own reason."""
    row = verdicts(change)[claim]
    assert row["verdict"] == verdict, row["measured"]


def test_the_papers_misreading_is_set_right() -> None:
    """The header does not mark a request as insecure; the verdict's own words say so."""
    assert "prefers https" in verdicts()["insecure-request"]["measured"]


def test_a_password_that_was_missed_is_not_printed() -> None:
    """A secret that nobody could read is not told by the report."""
    measured = verdicts(miss_a_password)["credentials"]["measured"]
    assert "***" in measured
    assert "Kisumu-2016" not in measured


def test_a_check_that_does_not_exist_lists_those_that_do() -> None:
    """A wrong name in a claim is answered with the names that there are."""
    facts = Facts(load_run(FIXTURE).plan, {}, {})
    with pytest.raises(LabError, match="at_rest, bridge, exposed, .*handshake"):
        evaluate([{"id": "x", "claim": "x", "check": "pings"}], facts)


def test_a_parameter_that_does_not_exist_is_named() -> None:
    """So is a wrong parameter."""
    facts = Facts(load_run(FIXTURE).plan, {}, {})
    rows = [{"id": "x", "claim": "x", "check": "readable", "with": {"kind": ["message"]}}]
    with pytest.raises(LabError, match="kinds"):
        evaluate(rows, facts)


def test_claims_travel_with_the_run() -> None:
    """An experiment's own claims are judged, not those of the definition of its name."""
    row = {"id": "x", "claim": "x", "check": "ping"}
    assert claims_of({"name": "paper", "claims": [row]}) == [row]
    assert claims_of({"name": "no-such-experiment"}) == []
    with pytest.raises(LabError, match="no claim"):
        claims_of({"claims": [{"claim": "without a check"}]})


def test_every_check_is_used_by_an_experiment() -> None:
    """The experiments that come with the project and the checks belong together: none is over."""
    used = {row["check"] for name in names() for row in claims_of(load(name).data)}
    assert used == set(checks())
