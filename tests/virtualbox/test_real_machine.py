"""A real machine: made by `lab-up`, booted, logged into, put to work, saved, restored, gone."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from benches.virtualbox import MEMORY_MIB, TINY, nowhere
from guard import GUARD
from real_labs import PROJECT, small_plan

from commands.labs import plan_of, provision
from experiments.capture import Captures
from experiments.resets import Resets
from lab import lifecycle
from lab.providers.base import Image
from lab.providers.virtualbox.testbed.tiny import build_tiny
from provisioning.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from virtualbox_labs import Box

    from lab.lifecycle import Lab
    from lab.plan import Plan

pytestmark = [pytest.mark.lab, pytest.mark.virtualbox, pytest.mark.slow]


def images(form: str, wanted: set[str]) -> Mapping[str, Image]:
    """Return the small disk for machines, and the usual images for namespaces."""
    if form != "disk":
        from real_labs import images as usual

        return usual(form, wanted)
    disk = build_tiny(TINY).vdi
    return {name: Image(name, "tiny", disk, disk) for name in wanted}


def one_machine() -> Plan:
    """Return a lab of one machine."""
    plan = small_plan("one")
    peer = plan.host("peer")
    adapters = tuple(replace(a, attach=nowhere()) for a in peer.adapters)
    host = replace(peer, provider="virtualbox", memory_mib=MEMORY_MIB, adapters=adapters)
    return replace(plan, hosts=(host,))


@pytest.fixture(scope="module")
def lab(box: Box, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Put one machine up for this module."""
    before, root = box.lists(), tmp_path_factory.mktemp("one") / "state"
    found, _ = lifecycle.up(one_machine(), images, root=root)
    yield found
    lifecycle.down("one", root)
    assert box.lists() == before


def test_it_is_logged_into_and_is_what_the_plan_says(lab: Lab) -> None:
    """With the lab's key, its own host key pinned, its name, its address and its TTL."""
    with Sessions(lab) as sessions:
        peer = sessions["peer"]
        assert peer.run(["hostname"]).stdout == b"peer\n"
        assert b"192.168.1.20/24" in peer.run(["ip", "address", "show", "eth0"]).stdout
        ttl = peer.run(["cat", "/proc/sys/net/ipv4/ip_default_ttl"]).stdout
        assert int(ttl) == lab.plan.host("peer").ttl


def test_its_console_is_in_a_file(lab: Lab) -> None:
    """What it prints on its serial port, for whoever wants to know why it did not boot."""
    assert (lab.ledger.folder / "virtualbox" / "peer" / "console.log").stat().st_size > 0


def test_the_way_in_is_no_way_out(lab: Lab) -> None:
    """What listens on this computer is not reached from the machine, by any address of the NAT."""
    with socket.create_server(("127.0.0.1", 0)) as server, Sessions(lab) as sessions:
        server.settimeout(0.01)
        port = str(server.getsockname()[1])
        peer = sessions["peer"]
        assert b"default" not in peer.run(["ip", "route"]).stdout
        for address in ("10.0.3.2", "10.0.3.3", "10.0.2.2", "10.0.3.15"):
            assert peer.run(["nc", "-w", "3", address, port], check=False).exit_code != 0
        assert peer.run(["nc", "-w", "3", "127.0.0.1", "22"], check=False).stdout[:4] == b"SSH-"
        with pytest.raises(TimeoutError):
            server.accept()


def test_it_is_saved_and_restored(lab: Lab) -> None:
    """What was written after it was saved is gone; what ran then runs again, and SSH answers.

    Files are written to it one by one, too, though its sshd (dropbear) has no SFTP.
    """
    content = bytes(range(256)) * 300
    with Sessions(lab) as sessions:
        sessions["peer"].put(b"replaced", "/tmp/before")
        sessions["peer"].put(content, "/tmp/before")
    lifecycle.snapshot(lab, "clean")
    with Sessions(lab) as sessions:
        sessions["peer"].put(b"", "/tmp/after")
    lifecycle.restore(lab, "clean")
    with Sessions(lab) as sessions:
        there = sessions["peer"].run(["ls", "/tmp"]).stdout.split()
        assert sessions["peer"].get("/tmp/before") == content
    assert b"before" in there
    assert b"after" not in there


def test_a_lab_of_machines_is_reset_by_its_snapshot(lab: Lab) -> None:
    """As often as it is wanted: what was written since is gone, and one is logged in again."""
    with Resets(lab) as resets:
        assert resets.way == "snapshots"
        resets.sessions["peer"].put(b"kept", "/tmp/kept")
        resets.keep("chat_server")
        resets.keep("irc_server")  # one snapshot holds all services
        for service in ("chat_server", "irc_server"):
            resets.sessions["peer"].put(b"", "/tmp/said")
            resets.reset(service)
            there = resets.sessions["peer"].run(["ls", "/tmp"]).stdout.split()
            assert b"kept" in there
            assert b"said" not in there
    saved = [name for name in lifecycle.snapshots(lab)["peer"] if name.startswith("matrix-")]
    assert len(saved) == 1


def test_a_machine_on_a_lab_network_of_namespaces(box: Box, tmp_path: Path) -> None:
    """The guest of vm_specs/mixed.yaml: provisioned, pinged, fetched from, captured, saved.

    Its cable is a tunnel of datagrams to the bridge inside its host, which is a namespace.
    """
    from scapy.all import ICMP, IP, TCP, rdpcap

    before = box.lists()
    plan = plan_of(PROJECT / "vm_specs" / "mixed.yaml")
    guest = replace(plan.host("guest"), memory_mib=MEMORY_MIB)
    plan = replace(plan, hosts=tuple(guest if h.name == "guest" else h for h in plan.hosts))
    GUARD.watch_labs(tmp_path / "state")
    lab, _ = lifecycle.up(plan, images, root=tmp_path / "state")
    try:
        assert lifecycle.status("mixed", tmp_path / "state").state is lifecycle.State.CREATED
        assert provision(lab)["guest"]
        with Sessions(lab) as sessions:
            points = [(c.host, c.adapter) for c in plan.captures]
            with Captures(sessions, points, lambda name: tmp_path / Path(name).name) as captures:
                peer = sessions["peer"]
                peer.run(["ping", "-c", "3", "-W", "5", "192.168.1.10"])
                page = peer.run(["curl", "-sS", "--max-time", "20", "http://192.168.1.10/"])
            assert b"The guest is a virtual machine." in page.stdout
        assert [row["dropped"] for row in captures.rows] == [0] * len(points)
        packets = rdpcap(str(tmp_path / "peer-eth0.pcapng"))
        echoes = [p for p in packets if p.haslayer(ICMP) and p[IP].src == "192.168.1.10"]
        assert len(echoes) == 3
        assert {p[IP].ttl for p in echoes} == {guest.ttl}
        assert any(p.haslayer(TCP) and p[TCP].sport == 80 for p in packets)
        assert lifecycle.snapshot(lab, "provisioned") == ["guest"]
        lifecycle.restore(lab, "provisioned")
        with Sessions(lab) as sessions:
            again = sessions["peer"].run(page.argv)
        assert again.stdout == page.stdout
    finally:
        lifecycle.down("mixed", tmp_path / "state")
    assert box.lists() == before
