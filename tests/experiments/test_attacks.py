"""Attacks refuse whatever is not in their own lab."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from real_labs import PROJECT, small_plan
from scapy.layers.inet import IP, TCP, UDP

from experiments import attacks, definition, workloads
from experiments.attacks.ends import packets
from experiments.workloads import Stage
from lab import providers
from lab.errors import LabError

if TYPE_CHECKING:
    from real_labs import OpenLab

FORGERY = {"attacker": "host", "victim": "peer", "receiver": "guest"}
PROGRAMS = sorted(
    path.stem
    for path in (PROJECT / "experiments/attacks/ends").glob("*.py")
    if "__main__" in path.read_text()
)


@pytest.mark.parametrize("target", ["192.168.1.20", "localhost", "example.org", "nobody", 7, None])
def test_a_target_is_named_and_never_addressed(target: object) -> None:
    """What is no host of the plan cannot be told to an attack, whatever else it may be."""
    assert attacks.faults(small_plan(), [target])
    with pytest.raises(LabError, match="no host of this lab"):
        attacks.order(small_plan(), "host", [target])  # type: ignore[list-item] # as YAML has it
    faults = workloads.get("forgery").check({**FORGERY, "receiver": target}, small_plan())
    assert any("no host of this lab" in fault for fault in faults)


@pytest.mark.parametrize("provider", sorted(set(providers.names()) - {"netns"}))
def test_only_namespaces_are_attacked(provider: str) -> None:
    """A computer that was there already, or a machine with a network of its own, is refused."""
    plan = small_plan()
    plan = replace(
        plan, hosts=tuple(replace(host, provider=provider) for host in plan.hosts if host.name)
    )
    with pytest.raises(LabError, match="only namespaces are attacked"):
        attacks.order(plan, "host", ["peer"])


@pytest.mark.parametrize("count", [0, 65, 10**9, True, "8", 1.5])
def test_bounds_are_the_programs_own(count: object) -> None:
    """More than the hard-coded maximum is refused before anything is done."""
    faults = workloads.get("forgery").check({**FORGERY, "count": count}, small_plan())
    assert faults == [f"forgery: count is {count!r}, must be 1 to 64"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_refuses_a_machine_that_is_no_host_of_the_lab(program: str) -> None:
    """Run by hand with an order for somewhere else, a program sends nothing."""
    order = attacks.order(small_plan(), "host", ["peer", "guest"])
    order["here"]["adapter"] = "lo"
    done = subprocess.run(
        [sys.executable, "-m", f"experiments.attacks.ends.{program}"],
        cwd=PROJECT,
        input=json.dumps(order) + "\n",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert "this is not host" in json.loads(done.stdout)["why"]


@pytest.mark.lab
@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    ("target", "why"),
    [("192.168.2.20/24", "is not in 192.168.1.0/24"), ("127.0.0.1/8", "is not in 192.168.1.0/24")],
)
def test_a_program_refuses_targets_elsewhere(
    program: str, target: str, why: str, threats_lab: OpenLab
) -> None:
    """Even an order that was tampered with leads to nobody beyond the lab's own network."""
    answer = _told(threats_lab, program, target)
    assert why in answer["why"]


@pytest.mark.lab
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_refuses_a_host_with_a_way_out(program: str, threats_lab: OpenLab) -> None:
    """Where a route leads through a gateway, nothing is sent, not even to a neighbour."""
    session = threats_lab.session("attacker")
    session.run(["ip", "route", "add", "default", "via", threats_lab.plan.address("host")])
    try:
        answer = _told(threats_lab, program, f"{threats_lab.plan.address('guest')}/24")
    finally:
        session.run(["ip", "route", "del", "default"])
    assert "a route leads out" in answer["why"]


def _told(lab: OpenLab, program: str, target: str) -> dict[str, Any]:
    """Give a program on the attacker's host an order with another address for its target."""
    sessions: Any = lab.sessions
    stage = Stage(lab.plan, sessions, 1)
    order = attacks.order(lab.plan, "attacker", ["guest"])
    order["targets"]["guest"]["address"] = target
    attacks.put(stage.sessions["attacker"])
    done = lab.session("attacker").run(
        [*attacks.PYTHON, f"ends.{program}"], stdin=json.dumps(order).encode() + b"\n", check=False
    )
    assert done.exit_code == 3, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


ADDRESSES = st.ip_addresses(v=4).map(str)
ENDS = st.tuples(ADDRESSES, st.integers(0, 65535))
NUMBERS = st.integers(0, 2**32 - 1)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a machine may be busy
@given(source=ENDS, target=ENDS, numbers=st.tuples(NUMBERS, NUMBERS), data=st.binary(max_size=99))
def test_packets_by_hand_are_those_of_a_library(
    source: tuple[str, int], target: tuple[str, int], numbers: tuple[int, int], data: bytes
) -> None:
    """Headers and checksums are what scapy makes of the same fields."""
    made = IP(packets.udp(source, target, data))
    assert made[UDP].chksum == _again(made, UDP)
    assert bytes(made[UDP])[8:] == data
    made = IP(packets.tcp(source, target, *numbers, packets.SYN, data))
    assert made[TCP].chksum == _again(made, TCP)
    assert (made[TCP].seq, made[TCP].ack, made[TCP].flags) == (*numbers, "S")
    assert (made.src, made.sport, made.dst, made.dport) == (*source, *target)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(
        ["guest", "peer", "host", "WANJIKU", "irc_server", "none", "tls", "10.0.0.1", ""]
    ),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["WANJIKU", "peer", "x"]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
KEYS = (
    "attacker", "victim", "receiver", "count", "at", "server", "from", "from_at", "to", "to_at",
    "watched", "watched_at", "contact", "contact_at", "stranger", "stranger_at", "systems",
    "countermeasure", "countermeasures", "sender", "sender_at", "victims", "visitor", "syns",
    "requests", "connections", "visits",
)  # fmt: skip
THREATS = ("flood", "forgery", "logs", "onpath", "port80", "presence", "spim")


@pytest.mark.parametrize("threat", THREATS)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a machine may be busy
@given(parameters=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=9))
def test_whatever_an_experiment_says_is_judged(threat: str, parameters: dict[str, Any]) -> None:
    """No parameters make a check fail itself; where no server is in the lab, all are faulty."""
    faults = workloads.get(threat).check(parameters, small_plan())
    assert faults or threat == "forgery"  # which needs hosts alone
    assert all(isinstance(fault, str) for fault in faults)


def _again(packet: IP, layer: type[UDP | TCP]) -> int:
    """Return the checksum that scapy computes for a layer."""
    copy = packet.copy()
    del copy[layer].chksum
    return int(packet.__class__(bytes(copy))[layer].chksum)


def test_every_threat_is_found_by_name() -> None:
    """Each definition of the folder can be read, fits its lab, and makes claims."""
    names = [name for name in definition.names() if name.startswith("threats/")]
    assert {"threats/forgery", "threats/port80", "threats/presence"} <= set(names)
    from commands import labs

    for name in names:
        experiment = definition.load(name)
        definition.check(experiment, labs.plan_of(labs.spec_path(experiment.spec)))
        assert experiment.data["claims"]
