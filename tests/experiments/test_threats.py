"""Forged senders, chat in port 80, presence: on a real lab, each claim shown to be refutable."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
from threat_runs import held, judged_anew, verdicts

from experiments import workloads
from experiments.workloads import port80

if TYPE_CHECKING:
    from pathlib import Path

    from real_labs import OpenLab

pytestmark = pytest.mark.lab


def test_forged_datagrams_are_believed_and_connections_not(
    threats_lab: OpenLab, tmp_path: Path
) -> None:
    """All claims hold; the frames that prove it left at the attacker's adapter alone."""
    judgement = held(threats_lab, "forgery", tmp_path)
    assert verdicts(judgement) == dict.fromkeys(("udp", "tcp", "bound"), "confirmed")
    victim, receiver = (threats_lab.plan.address(name) for name in ("peer", "guest"))
    left = {
        observer["host"]: sum(
            row[2:5] == [victim, receiver, "UDP"] for row in observer["packet_list"]
        )
        for observer in judgement.analysis["observers"]
    }
    assert left == {"attacker": 16, "guest": 16, "peer": 0}
    (seen,) = [row for row in judgement.analysis["observers"] if row["host"] == "guest"]
    shakes = {(row["source"], row["complete"]) for row in seen["handshakes"]}
    # An acknowledgement of another number than it has completes nothing.
    assert shakes == {("peer", False), ("attacker", True)}
    assert (
        "imlab" not in threats_lab.session("guest").run(["nft", "list", "tables"]).stdout.decode()
    )


def test_claims_on_forgery_follow_what_was_accepted(threats_lab: OpenLab, tmp_path: Path) -> None:
    """With the filter in place of none, or had a connection been taken, they are refuted."""
    judgement = held(threats_lab, "forgery", tmp_path)

    def filtered(results: dict[str, Any]) -> None:
        free, bound = results["forgery"]["rounds"]
        free["accepted"], bound["accepted"] = bound["accepted"], free["accepted"]

    def taken(results: dict[str, Any]) -> None:
        results["forgery"]["rounds"][0]["accepted"]["connections"] = 1

    def deaf(results: dict[str, Any]) -> None:
        for row in results["forgery"]["rounds"]:
            row["honest"] = {"datagrams": 0, "connections": 0}

    assert judged_anew(judgement, filtered) == {
        "udp": "refuted",
        "tcp": "confirmed",
        "bound": "refuted",
    }
    assert judged_anew(judgement, taken)["tcp"] == "refuted"
    assert set(judged_anew(judgement, deaf).values()) == {"not measured"}


def test_only_what_was_forged_is_judged(threats_lab: OpenLab, tmp_path: Path) -> None:
    """A complete handshake in the victim's name refutes the claim, at the receiver's port alone."""
    judgement = held(threats_lab, "forgery", tmp_path)

    def completed(analysis: dict[str, Any]) -> None:
        for observer in analysis["observers"]:
            for shake in observer["handshakes"]:
                shake["complete"] = True

    def beside(analysis: dict[str, Any]) -> None:
        for observer in analysis["observers"]:
            other = copy.deepcopy(observer["handshakes"][:1])
            for shake in other:
                shake |= {"complete": True, "server": shake["server"].replace(":4444", ":80")}
            observer["handshakes"] += other

    assert judged_anew(judgement, change_seen=completed)["tcp"] == "refuted"
    assert judged_anew(judgement, change_seen=beside)["tcp"] == "confirmed"


def test_chat_hides_in_port_80_and_is_told_from_the_web(
    threats_lab: OpenLab, tmp_path: Path
) -> None:
    """All claims hold, and firewall and redirection are gone afterwards."""
    judgement = held(threats_lab, "port80", tmp_path)
    assert verdicts(judgement) == dict.fromkeys(("passes", "told", "words"), "confirmed")
    assert (
        "imlab" not in threats_lab.session("guest").run(["nft", "list", "tables"]).stdout.decode()
    )

    def swapped(results: dict[str, Any]) -> None:
        for row in results["port80"]["attempts"]:
            row["firewall"] = {"ports": "words", "words": "ports"}[row["firewall"]]

    def web_refused(results: dict[str, Any]) -> None:
        for row in results["port80"]["attempts"]:
            row["passed"] &= row["system"] != "chat_server"

    def mistaken(analysis: dict[str, Any]) -> None:
        for observer in analysis["observers"]:
            for stream in observer["streams"]:
                stream["protocol"] = "http"

    assert judged_anew(judgement, swapped)["passes"] == "refuted"
    assert judged_anew(judgement, swapped)["words"] == "refuted"
    assert judged_anew(judgement, web_refused)["words"] == "refuted"
    assert judged_anew(judgement, change_seen=mistaken)["told"] == "refuted"


def test_a_system_that_is_not_served_is_told_before(threats_lab: OpenLab) -> None:
    """Parameters are held against the lab."""
    given = {"at": "guest", "server": "peer", "from": "WANJIKU", "to": "WANJIKU", "port": 25}
    faults = port80.check(given, threats_lab.plan)
    assert "port80: from and to must be two" in faults
    assert "port80 has no parameter 'port'" in faults
    assert "port80: peer has no role irc_server" in faults


def test_presence_and_contacts_leak(threats_lab: OpenLab, tmp_path: Path) -> None:
    """All claims hold; had nothing been told, or something to XMPP's stranger, they did not."""
    judgement = held(threats_lab, "presence", tmp_path)
    assert set(verdicts(judgement).values()) == {"confirmed"}, judgement.verdicts
    (irc,) = [
        row for row in judgement.run.results["presence"]["told"] if row["system"] == "irc_server"
    ]
    assert irc["addresses"] == {"OTIENO": threats_lab.plan.address("host")}

    def silent(results: dict[str, Any]) -> None:
        for row in results["presence"]["told"]:
            row |= {"presence": [], "contacts": [], "addresses": {}}

    def talkative(results: dict[str, Any]) -> None:
        for row in results["presence"]["told"]:
            row |= {"presence": [["otieno", "available"]], "contacts": ["otieno"]}

    def unread(analysis: dict[str, Any]) -> None:
        for observer in analysis["observers"]:
            observer["findings"] = []

    assert judged_anew(judgement, silent)["irc"] == "refuted"
    assert judged_anew(judgement, silent)["chat"] == "refuted"
    assert judged_anew(judgement, talkative)["xmpp"] == "refuted"
    assert judged_anew(judgement, change_seen=unread)["wire"] == "refuted"


def test_tls_hides_presence_from_the_wire_and_not_from_contacts(
    threats_lab: OpenLab, tmp_path: Path
) -> None:
    """What the wire tells without TLS it does not tell with it: the same check, the other way."""
    judgement = held(threats_lab, "presence-tls", tmp_path)
    assert verdicts(judgement) == {"wire": "confirmed", "server": "confirmed"}


def test_presence_refuses_what_it_cannot_ask(threats_lab: OpenLab) -> None:
    """Parameters are held against the lab and each other."""
    who = {"watched": "OTIENO", "contact": "WANJIKU", "stranger": "OTIENO"}
    where = {f"{role}_at": "peer" for role in who}
    check = workloads.get("presence").check
    faults = check({**who, **where, "server": "guest", "countermeasure": "tls"}, threats_lab.plan)
    assert faults == [
        "presence: watched, contact and stranger must be three",
        "presence: irc_server is asked without a countermeasure only",
    ]


def test_spim_is_accepted_unless_its_victims_can_refuse_it(
    threats_lab: OpenLab, tmp_path: Path
) -> None:
    """All claims hold; judged by what the other defence made of it, they do not."""
    judgement = held(threats_lab, "spim", tmp_path)
    assert set(verdicts(judgement).values()) == {"confirmed"}, judgement.verdicts
    assert (judgement.score["recall"], judgement.score["unplanted"]) == (1.0, 0)

    def swapped(results: dict[str, Any]) -> None:
        names = {"none": "refuse", "refuse": "none"}
        for row in results["spim"]["rows"]:
            row["defence"] = names[row["defence"]]

    def lost(results: dict[str, Any]) -> None:
        for row in results["spim"]["rows"]:
            row["shown"] = 1

    refuted = {name for name, verdict in judged_anew(judgement, swapped).items()
               if verdict == "refuted"}  # fmt: skip
    assert refuted == {"irc", "irc-refused", "xmpp", "xmpp-refused"}
    assert set(judged_anew(judgement, lost).values()) == {"refuted"}
    # Who was blocked is no longer: whoever uses the lab next finds it as it was.
    again = held(threats_lab, "spim", tmp_path / "again")
    assert verdicts(again)["xmpp"] == "confirmed"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"count": 21}, "spim: count is 21, must be 1 to 20"),
        ({"victims": {"WANJIKU": "peer"}}, "spim: victims must be a mapping of 2 to 10"),
        ({"victims": {"WANJIKU": "192.168.1.20", "OTIENO": "peer"}}, "no host of this lab"),
        ({"victims": {"MALLORY": "peer", "OTIENO": "peer"}}, "'MALLORY' is no account of another"),
    ],
)
def test_spim_is_bounded_and_stays_in_the_lab(
    change: dict[str, object], fault: str, threats_lab: OpenLab
) -> None:
    """More messages or victims than the maximum, and other targets, are refused beforehand."""
    given = {"server": "guest", "sender": "MALLORY", "sender_at": "attacker"}
    victims = {"victims": {"WANJIKU": "peer", "OTIENO": "host"}}
    faults = workloads.get("spim").check({**given, **victims, **change}, threats_lab.plan)
    assert len(faults) == 1
    assert fault in faults[0]
