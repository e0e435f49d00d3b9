"""Cables between namespaces and hosts of other providers: frames in datagrams on loopback."""

from __future__ import annotations

import socket
import struct
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from real_labs import LabMaker, images, small_plan

from lab import making, providers
from lab.ledger import Ledger
from lab.lifecycle import attach, down, wait_for_ssh
from lab.patches import LOOPBACK, Patch, patches_of
from lab.providers.base import Finding, Order, lab_login
from provisioning.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.lifecycle import Lab
    from lab.plan import Plan, PlannedHost

pytestmark = pytest.mark.lab

GUEST_MAC = "02:00:00:00:00:02"


class Puppets:
    """A provider whose hosts are UDP sockets that a test moves; it makes and keeps nothing."""

    name = "puppets"
    image_form = ""
    patched = True
    ssh_deadline = 1.0

    def __init__(self) -> None:
        self.patches: tuple[Patch, ...] = ()
        self.error: Exception | None = None

    def check(self) -> tuple[Finding, ...]:
        """Need nothing."""
        return ()

    def faults(self, plan: Plan, hosts: object) -> list[str]:
        """Can make all."""
        del plan, hosts
        return []

    def prepare(self) -> None:
        """Need nothing."""

    def create(self, order: Order, ledger: Ledger) -> None:
        """Note where the cables end, or fail as a provider may."""
        self.patches = order.patches
        ledger.own(self.name, "puppet", "guest")
        if self.error:
            raise self.error

    def observe(self, ledger: Ledger) -> dict[str, str | None]:
        """See them live."""
        return dict.fromkeys(row["name"] for row in ledger.owned(self.name))

    def destroy(self, ledger: Ledger, deadline: float) -> None:
        """Take back what was noted."""
        del deadline
        for row in ledger.owned(self.name):
            ledger.disown(self.name, row["kind"], row["name"])

    def host(self, record: dict[str, object], planned: PlannedHost) -> object:
        """Never log in to a puppet."""
        return lab_login(record, planned)

    def dial(self, ledger: Ledger, host: str) -> object:
        """Never log in to a puppet."""
        raise AssertionError(ledger, host)


@pytest.fixture
def puppets(monkeypatch: pytest.MonkeyPatch) -> Puppets:
    """Give a provider of puppets, known to the table of providers."""
    puppets, real = Puppets(), providers.get
    monkeypatch.setattr(providers, "get", lambda name: puppets if name == "puppets" else real(name))
    return puppets


def mixed_plan() -> Plan:
    """Return the paper's wiring with a guest that another provider makes."""
    plan = small_plan()
    hosts = tuple(
        replace(host, provider="puppets") if host.name == "guest" else host for host in plan.hosts
    )
    return replace(plan, hosts=hosts)


@contextmanager
def mixed_lab(labs: LabMaker) -> Iterator[Lab]:
    """Put such a lab up."""
    plan = mixed_plan()
    making.make(plan, images, Order(labs.root, plan, (), {}, {}, {}), ("", ""))
    try:
        lab = attach(plan.lab, labs.root)
        real = {name: host for name, host in lab.hosts.items() if name != "guest"}
        wait_for_ssh(replace(lab, hosts=real))
        yield lab
    finally:
        down(plan.lab, labs.root)


def far_end(patch: Patch) -> socket.socket:
    """Return the other provider's end of a cable."""
    end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    end.bind((LOOPBACK, patch.far))
    end.connect((LOOPBACK, patch.near))
    end.settimeout(10)
    return end


def arp(operation: int, mac: str, own: str, wanted: str) -> bytes:
    """Return an ARP frame (RFC 826) in Ethernet, from `own` at `mac` to everybody."""
    sender = bytes.fromhex(mac.replace(":", ""))
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation)
    body += sender + socket.inet_aton(own) + bytes(6) + socket.inet_aton(wanted)
    return b"\xff" * 6 + sender + b"\x08\x06" + body


def test_frames_cross_between_a_puppet_and_every_host(labs: LabMaker, puppets: Puppets) -> None:
    """Host and peer answer an ARP request of a guest that somebody else makes."""
    with mixed_lab(labs), far_end(puppets.patches[0]) as end:
        for address, host in (("192.168.1.30", 1), ("192.168.1.20", 3)):
            end.send(arp(1, GUEST_MAC, "192.168.1.10", address))
            while True:
                answer = end.recv(2048)
                if answer[12:14] == b"\x08\x06" and answer[20:22] == b"\0\2":
                    break
            assert answer[:6].hex(":") == GUEST_MAC
            assert answer[22:28].hex(":") == f"02:00:00:00:00:{host:02x}"
            assert socket.inet_ntoa(answer[28:32]) == address


def test_a_hosts_frames_arrive_whole(labs: LabMaker, puppets: Puppets) -> None:
    """What a host sends to the guest comes out of the cable as it was, in frames of Ethernet."""
    with mixed_lab(labs) as lab, far_end(puppets.patches[0]) as end, Sessions(lab, ["peer"]) as s:
        neighbour = ["ip", "neigh", "replace", "192.168.1.10", "lladdr", GUEST_MAC, "dev", "eth0"]
        s["peer"].run(neighbour)
        s["peer"].run(["ping", "-nc", "1", "-W", "1", "-s", "1472", "192.168.1.10"], check=False)
        while (frame := end.recv(4096))[12:14] != b"\x08\x00":
            pass
        assert len(frame) == 1514
        assert frame[:6].hex(":") == GUEST_MAC
        assert socket.inet_ntoa(frame[26:30]) == "192.168.1.20"


def test_the_host_sees_what_its_guest_sends(labs: LabMaker, puppets: Puppets) -> None:
    """The guest is bridged to the host's adapter: its frames to the peer pass the host's wire."""
    command = ["tcpdump", "-lni", "eth0", "-c", "1", "arp"]
    with (
        mixed_lab(labs) as lab,
        far_end(puppets.patches[0]) as end,
        Sessions(lab, ["host"]) as sessions,
        sessions["host"].stream(command) as stream,
    ):
        while b"listening" not in stream.stderr.readline():
            pass
        end.send(arp(1, GUEST_MAC, "192.168.1.10", "192.168.1.20"))
        assert b"who-has 192.168.1.20 tell 192.168.1.10" in stream.stdout.readline()


def test_a_strangers_datagram_does_not_enter_the_lab(labs: LabMaker, puppets: Puppets) -> None:
    """The near end takes what the far end's port sends and nothing else."""
    with mixed_lab(labs), far_end(puppets.patches[0]) as end:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(
                arp(1, "02:00:00:00:00:99", "192.168.1.99", "192.168.1.20"),
                (LOOPBACK, puppets.patches[0].near),
            )
        end.send(arp(1, GUEST_MAC, "192.168.1.10", "192.168.1.20"))
        while (answer := end.recv(2048))[20:22] != b"\0\2":
            assert b"\x02\0\0\0\0\x99" not in answer


def test_a_provider_that_fails_takes_the_namespaces_with_it(
    labs: LabMaker, puppets: Puppets
) -> None:
    """A lab is made whole or not at all, whoever's part it is that cannot be made."""
    puppets.error = OSError("out of strings")
    with pytest.raises(OSError, match="strings"), mixed_lab(labs):
        pass
    assert Ledger.all_labs(labs.root) == []


def test_cables_end_where_the_plan_says() -> None:
    """An adapter with an attachment of its own has none, nor one on a host of another provider."""
    plan = mixed_plan()
    assert [(p.host, p.adapter) for p in patches_of(plan, "netns", {"puppets"})] == [
        ("guest", "eth0")
    ]
    assert patches_of(plan, "netns", set()) == ()
    moved = tuple(
        replace(host, provider="puppets") if host.name == "host" else host for host in plan.hosts
    )
    of_both = patches_of(replace(plan, hosts=moved), "netns", {"puppets"})
    assert [(p.host, p.adapter) for p in of_both] == [("host", "eth0")]
    own = tuple(
        replace(host, adapters=(replace(host.adapters[0], attach={"internal": "x"}),))
        for host in moved
    )
    assert patches_of(replace(plan, hosts=own), "netns", {"puppets"}) == ()
