"""The role scrambler without a host: its parameters, its rules, the state it decides on."""

from __future__ import annotations

import pytest

from lab.plan import Plan, PlannedAccount, PlannedAdapter, PlannedHost, PlannedNetwork
from provisioning import countermeasures, messaging, roles
from provisioning.roles import RoleContext
from provisioning.roles.scrambler import desired
from provisioning.roles.scrambler.rules import rules

KEY, SECRET = "Bondo-2016", "the lab's private key"
ADAPTER = PlannedAdapter("eth0", "02:00:00:00:00:01", "wired", "x", "192.168.1.10/24", "lan")
PLAN = Plan(
    lab="paper",
    description="",
    networks=(PlannedNetwork("lan", "192.168.1.0/24"),),
    hosts=(PlannedHost("guest", "i", "o", 64, 512, 1, 1024, None, (ADAPTER,), ()),),
    accounts=(PlannedAccount("KEY", KEY), PlannedAccount("ODD", "two\nlines")),
    captures=(),
)


def faults(**parameters: object) -> tuple[str, ...]:
    """Return the faults of the role's parameters."""
    context = RoleContext(PLAN, PLAN.hosts[0], parameters)
    return roles.find("scrambler").check(context)


@pytest.mark.parametrize("parameters", [{"ports": [80], "account": "KEY"}, {"ports": [80, 5222]}])
def test_right_parameters(parameters: dict[str, object]) -> None:
    """Ports are enough; without an account the key is left to a user."""
    assert faults(**parameters) == ()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"ports": [80], "key": "x"}, "unknown key 'key': scrambler takes ports and account"),
        ({}, "'ports' must be a list of at least one TCP port"),
        ({"ports": []}, "'ports' must be a list of at least one TCP port"),
        ({"ports": 80}, "'ports' must be a list of at least one TCP port"),
        ({"ports": [0]}, "ports: 0 is no TCP port, 1 to 65535"),
        ({"ports": ["80; flush ruleset"]}, "ports: '80; flush ruleset' is no TCP port"),
        ({"ports": [True]}, "ports: True is no TCP port"),
        ({"ports": [22]}, "ports: 22 is the lab's or the scrambler's own"),
        ({"ports": [61080]}, "ports: 61080 is the lab's or the scrambler's own"),
        ({"ports": [80], "account": "BOB"}, "account: 'BOB' is unknown; there are: KEY, ODD"),
        ({"ports": [80], "account": "ODD"}, "account: the password of 'ODD' can't be entered"),
    ],
)
def test_wrong_parameters_are_told(parameters: dict[str, object], message: str) -> None:
    """Each wrong parameter gets one sentence that says what would be right."""
    (fault,) = faults(**parameters)
    assert message in fault
    assert KEY not in fault


def test_the_key_is_in_no_command_and_no_file() -> None:
    """The passphrase is in what goes through standard input alone, which repr does not show."""
    wanted = desired.desired([80], KEY, SECRET)
    assert KEY not in repr(wanted)
    assert not any(KEY.encode() in file.content for file in wanted.files)
    assert [KEY.encode() in data.content for data in wanted.data] == [False, True]


def test_without_a_key_nothing_enters_one() -> None:
    """Where a user has to enter the key, the state has the rules and no key."""
    (only,) = desired.desired([80], None, SECRET).data
    assert only.name == "rules: port 80 through the scrambler only"


def test_the_mark_depends_on_key_and_secret() -> None:
    """The mark on the host tells one key from another, and is no hash of the key alone."""
    marks = {desired.mark(k, s) for k in (KEY, "other") for s in (SECRET, "other")}
    assert len(marks) == 4


def test_the_same_ports_want_the_same_state() -> None:
    """The order of the ports does not matter, another port does."""
    assert desired.desired([80, 5222], KEY, SECRET) == desired.desired([5222, 80, 80], KEY, SECRET)
    assert desired.desired([80], KEY, SECRET) != desired.desired([81], KEY, SECRET)


def test_rules_shut_the_ports_whatever_runs() -> None:
    """In each chain the named ports lead to the scrambler or are refused, both ways."""
    text = rules([5222, 80])
    assert text.count("{ 80, 5222 }") == 4
    assert text.count("reject with tcp reset") == 3
    assert text.count("redirect to :61081") == 1


@pytest.mark.parametrize(
    ("parameters", "messages"),
    [
        ({}, []),
        ({"passphrase": KEY, "passphrases": {"guest": "another"}}, []),
        (
            {"key": "x"},
            ["port-scrambler has no parameter 'key'; it has passphrase and passphrases"],
        ),
        ({"passphrase": ""}, ["'passphrase' must be text that can be typed, 1 to 1024 bytes"]),
        ({"passphrase": 2016}, ["'passphrase' must be text that can be typed, 1 to 1024 bytes"]),
        ({"passphrases": [KEY]}, ["'passphrases' must be a mapping from hosts to what is entered"]),
        ({"passphrases": {"moon": KEY}}, ["passphrases: 'moon' is no host; hosts are guest"]),
        ({"passphrases": {"guest": "a\nb"}}, ["passphrases: that of 'guest' must be text that"]),
    ],
)
def test_parameters_of_the_countermeasure(
    parameters: dict[str, object], messages: list[str]
) -> None:
    """Each wrong parameter of port-scrambler gets a sentence, and none repeats a key."""
    found = countermeasures.find("port-scrambler").check(parameters, PLAN)
    assert len(found) == len(messages)
    for fault, message in zip(found, messages, strict=True):
        assert fault.startswith(message)
        assert KEY not in fault


def test_every_system_can_take_the_countermeasure() -> None:
    """The ports of all systems that there are can be scrambled."""
    measure = countermeasures.find("port-scrambler")
    assert {
        name: measure.lacks(system) for name, system in messaging.systems().items()
    } == dict.fromkeys(messaging.systems(), "")
