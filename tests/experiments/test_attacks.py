"""Attacks refuse whatever is not in their own lab."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from real_labs import PROJECT, small_plan
from scapy.layers.inet import IP, TCP, UDP

from experiments import attacks, definition, workloads
from experiments.attacks.ends import packets
from experiments.workloads import Stage
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


@pytest.mark.parametrize("provider", ["external", "virtualbox"])
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


def test_packets_by_hand_are_those_of_a_library() -> None:
    """Headers and checksums are what scapy makes of the same fields."""
    source, target = ("10.0.0.1", 40000), ("10.0.0.2", 4444)
    for data in (b"", b"odd", b"even"):
        made = IP(packets.udp(source, target, data))
        assert made[UDP].chksum == _again(made, UDP)
        assert bytes(made[UDP].payload) == data
        made = IP(packets.tcp(source, target, 7, 9, packets.SYN, data))
        assert made[TCP].chksum == _again(made, TCP)
        assert (made[TCP].seq, made[TCP].ack, made[TCP].flags) == (7, 9, "S")
        assert (made.src, made.sport, made.dst, made.dport) == (*source, *target)


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
