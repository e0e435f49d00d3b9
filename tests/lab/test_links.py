"""Cables with conditions: what is declared, what is made of it, and that it is measured."""

from __future__ import annotations

import os
import random
import signal
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from real_labs import images

from lab import lifecycle, links
from lab.errors import LabError
from lab.plan import Plan
from lab.planning import make_plan
from lab.providers.netns.shaper import QUEUE_S, Direction
from lab.providers.netns.wires import Link, Wiring
from lab.providers.netns.wiring import wire
from lab.spec import parse_spec
from provisioning.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import Iterator

SPEC = """
imlab: 1
name: linked
networks:
  lan: {subnet: 10.0.0.0/24, link: {delay_ms: 10}}
hosts:
  alice: {adapters: {eth0: {network: lan, address: 10.0.0.1}}}
  bob: {adapters: {eth0: {network: lan, address: 10.0.0.2,
                          link: {rate_mbit: 4, loss_percent: 20}}}}
  carol: {on: bob, adapters: {eth0: {bridged: eth0, address: 10.0.0.3, link: {delay_ms: 30}}}}
"""

# A fast machine carries the most that a spec may declare, 1000, so a plan has to go past it.
BEYOND_MBIT = 3_000


def plan() -> Plan:
    """Return the plan of the spec above."""
    return make_plan(parse_spec(SPEC))


# -- what is declared -------------------------------------------------------------------------


def test_an_adapters_own_link_is_instead_of_its_networks() -> None:
    """A network's conditions hold for what is plugged in; a guest's cable has its own alone."""
    found = {host.name: host.adapters[0].link for host in plan().hosts}
    assert found == {
        "alice": {"delay_ms": 10},
        "bob": {"rate_mbit": 4, "loss_percent": 20},
        "carol": {"delay_ms": 30},
    }
    assert Plan.from_json(plan().to_json(secrets=True)) == plan()


def test_a_cable_with_conditions_is_two_with_a_relay_between() -> None:
    """Both ends of the relay are in the switches' namespace; the wiring survives JSON."""
    import json

    made = wire(plan())
    assert [(link.host, link.port) for link in made.links] == [
        ("alice", (-1, "p0")), ("bob", (-1, "p2")), ("carol", (1, "vm4")),
    ]  # fmt: skip
    names = {port.name: port.where for cable in made.cables for port in cable[:2]}
    assert all(names[link.near] == names[link.far] == -1 for link in made.links)
    indexes = [(p.where, p.ifindex) for cable in made.cables for p in cable[:2]]
    assert len(set(indexes)) == len(indexes)
    assert Wiring.from_json(json.loads(json.dumps(made))) == made
    assert made.links[1].declared() == {"rate_mbit": 4, "loss_percent": 20}


def test_a_provider_without_such_cables_says_so() -> None:
    """Machines and computers that are there already: a sentence for each adapter."""
    for provider in ("virtualbox", "external"):
        faults = lifecycle.faults(make_plan(parse_spec(SPEC), provider=provider))
        told = [fault for fault in faults if "`link` is for hosts of namespaces" in fault]
        assert [fault.split(":")[0] for fault in told] == ["host alice", "host bob", "host carol"]


# -- what is made of it -----------------------------------------------------------------------


def link(rate: float = 0.0, loss: float = 0.0, delay: float = 0.0) -> Link:
    """Return a link of these conditions."""
    return Link("h", "eth0", 0, (-1, "p0"), "n0", "f0", rate, loss, delay, ())


class Way:
    """One direction between two sockets of this process, without any interface."""

    def __init__(self, conditions: Link, seed: str = "x") -> None:
        self.enter, source = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sink, self.leave = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (source, sink, self.leave):
            end.settimeout(0)
        self.direction = Direction(conditions, source, sink, random.Random(seed))

    def pass_through(self, frames: list[bytes], patience: float = 5.0) -> list[tuple[float, bytes]]:
        """Send frames; return those that come out, with the seconds since they were sent."""
        buffer, found = bytearray(65535), list[tuple[float, bytes]]()
        start = time.monotonic()
        for frame in frames:
            self.enter.send(frame)
            self.direction.take(buffer, memoryview(buffer))
        while self.direction.due() is not None:
            assert time.monotonic() < start + patience
            self.direction.deliver()
            try:
                while True:
                    found.append((time.monotonic() - start, self.leave.recv(65535)))
            except BlockingIOError:
                continue
        return found

    def close(self) -> None:
        """Close all sockets."""
        for end in (self.enter, self.leave, self.direction.source, self.direction.sink):
            end.close()


@pytest.fixture
def ways() -> Iterator[Any]:
    """Give a maker of ways."""
    made: list[Way] = []

    def make(conditions: Link, seed: str = "x") -> Way:
        made.append(Way(conditions, seed))
        return made[-1]

    yield make
    for way in made:
        way.close()


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=30),
    st.sampled_from([0.0, 5.0]),
    st.sampled_from([0.0, 50.0]),
)
def test_frames_come_unchanged_in_order_and_never_early(
    frames: list[bytes], delay: float, rate: float
) -> None:
    """Whatever the frames: none is lost without loss, and none arrives before its time."""
    way = Way(link(rate=rate, delay=delay))
    try:
        found = way.pass_through(frames)
    finally:
        way.close()
    assert [frame for _, frame in found] == frames
    assert all(after >= delay / 1000 for after, _ in found)


def test_frames_take_the_time_of_the_rate(ways: Any) -> None:  # noqa: ANN401 - a function
    """100 frames of 1000 bytes at 40 Mbit/s cannot be there before 20 ms have passed."""
    found = ways(link(rate=40)).pass_through([bytes(1000)] * 100)
    assert len(found) == 100
    assert found[-1][0] >= 100 * 1024 * 8 / 40e6


def test_what_does_not_fit_into_the_queue_is_lost(ways: Any) -> None:  # noqa: ANN401 - as above
    """Of two seconds' worth of frames at once, what the queue holds comes through."""
    count = 250
    found = ways(link(rate=1)).pass_through([bytes(976)] * count)
    fits = QUEUE_S / (1000 * 8 / 1e6)
    assert fits <= len(found) <= 2 * fits + 2  # time passes while they are sent


@pytest.mark.parametrize("loss", [0.0, 10.0, 50.0])
def test_losses_are_as_many_as_declared_and_others_each_time(ways: Any, loss: float) -> None:  # noqa: ANN401 - as above
    """Of 4000 frames within five standard deviations; under another chance others are lost."""
    frames = [number.to_bytes(4, "big") for number in range(4000)]
    lost = []
    for seed in ("a", "b"):
        way, kept = ways(link(loss=loss), seed), set[bytes]()
        for start in range(0, len(frames), 100):
            kept |= {frame for _, frame in way.pass_through(frames[start : start + 100])}
        lost.append(set(frames) - kept)
    assert not loss or lost[0] != lost[1]
    part = loss / 100
    assert abs(len(lost[0]) - 4000 * part) <= 5 * (4000 * part * (1 - part)) ** 0.5


# -- whether it holds -------------------------------------------------------------------------


def row(declared: dict[str, float], **found: float | None) -> dict[str, Any]:
    """Return a measured link that does the same both ways."""
    way = {"rate_mbit": None, "delay_ms": 0.1, "loss_percent": 0.0, "loss_frames": 2000, **found}
    return {"host": "h", "adapter": "eth0", "declared": declared, "sending": way, "receiving": way}


@pytest.mark.parametrize(
    ("declared", "found", "told"),
    [
        ({"rate_mbit": 10}, {"rate_mbit": 9.5}, None),
        ({"rate_mbit": 10}, {"rate_mbit": 8.5}, "8.5 Mbit/s instead of 10 Mbit/s"),
        ({"rate_mbit": 10}, {}, "nothing measured instead of 10 Mbit/s"),
        ({"delay_ms": 20}, {"delay_ms": 22}, None),
        ({"delay_ms": 20}, {"delay_ms": 19}, "a delay of 19 ms instead of 20 ms"),
        ({"delay_ms": 20}, {"delay_ms": 30}, "a delay of 30 ms instead of 20 ms"),
        ({"loss_percent": 5}, {"loss_percent": 6.5}, None),
        ({"loss_percent": 5}, {"loss_percent": 9}, "9 % lost instead of 5 %"),
        ({"loss_percent": 0}, {"loss_percent": 0.1}, None),
        ({"loss_percent": 0}, {"loss_percent": 2}, "2 % lost instead of 0 %"),
        ({}, {"loss_percent": 50, "delay_ms": 900}, None),
    ],
)
def test_departures_are_told(
    declared: dict[str, float], found: dict[str, float | None], told: str | None
) -> None:
    """What lies outside of what chance and a busy machine explain, in words, both ways."""
    faults = links.departures([row(declared, **found)])
    wanted = [f"h/eth0 {way}: {told}" for way in ("sending", "receiving")] if told else []
    assert faults == wanted


@pytest.mark.lab
def test_a_lab_has_what_its_links_declare(tmp_path: Path) -> None:
    """Measured when it comes up, on record, and what ping sees over two cables agrees with it."""
    lab, _ = lifecycle.up(plan(), images, root=tmp_path)
    try:
        record = lab.ledger.read()["links"]
        assert [one["host"] for one in record] == ["alice", "bob", "carol"]
        assert links.departures(record) == []
        with Sessions(lab) as sessions:
            argv = ["ping", "-n", "-c", "40", "-i", "0.02", "-W", "1", "10.0.0.3"]
            said = sessions["alice"].run(argv, check=False).stdout.decode()
        times = [float(line.split("time=")[1].split()[0]) for line in said.splitlines()
                 if "time=" in line]  # fmt: skip
        # There and back: alice's cable, bob's, which loses a fifth each way, and carol's.
        assert min(times) >= 2 * (10 + 30)
        assert 5 <= len(times) < 40
        assert lifecycle.up(plan(), images, root=tmp_path)[1] is False
    finally:
        lifecycle.down("linked", tmp_path)


@pytest.mark.lab
def test_a_lab_whose_links_do_not_hold_is_not_left(tmp_path: Path) -> None:
    """More than any relay carries: told with what was measured, nothing is left."""
    declared = make_plan(parse_spec(SPEC.replace("{delay_ms: 10}", "{rate_mbit: 1000}")))
    hosts = [
        replace(host, adapters=[replace(a, link={"rate_mbit": BEYOND_MBIT}) for a in host.adapters])
        if host.name == "alice"
        else host
        for host in declared.hosts
    ]
    with pytest.raises(LabError, match="measuring the links") as caught:
        lifecycle.up(replace(declared, hosts=hosts), images, root=tmp_path)
    assert "alice/eth0 sending" in caught.value.saw
    assert f"instead of {BEYOND_MBIT} Mbit/s" in caught.value.saw
    assert lifecycle.status("linked", tmp_path).state is lifecycle.State.ABSENT


@pytest.mark.lab
def test_a_lab_ends_with_the_process_that_carries_its_links(tmp_path: Path) -> None:
    """A cable that silently stopped would be measured as a lab's property: it is lost instead."""
    lab, _ = lifecycle.up(plan(), images, root=tmp_path)
    try:
        found = lab.ledger.keeper()
        assert found
        (parent,) = _children(found[0])
        (supervisor,) = _children(parent)
        carrier = _children(supervisor)[-1]  # made after the hosts
        os.kill(carrier, signal.SIGKILL)
        end = time.monotonic() + 10
        gone = {lifecycle.State.LOST, lifecycle.State.ABSENT}
        while lifecycle.status("linked", tmp_path).state not in gone:
            assert time.monotonic() < end
            time.sleep(0.01)
    finally:
        lifecycle.down("linked", tmp_path)


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
