"""What is decided before VirtualBox is asked for anything: orders for machines, from a plan."""

from __future__ import annotations

import itertools
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from real_labs import PROJECT, small_plan

from commands.labs import plan_of
from lab.errors import Fault, LabError
from lab.patches import Patch
from lab.plan import PlannedAdapter
from lab.providers.base import Image, Order
from lab.providers.virtualbox import jobs, this_machine
from lab.providers.virtualbox.adapters import HostAdapter

if TYPE_CHECKING:
    from lab.plan import Plan, PlannedHost

pytestmark = pytest.mark.virtualbox

WIRED = HostAdapter("enp3s0", up=True, wireless=False, address="192.168.1.30")
WIRELESS = HostAdapter("wlp2s0", up=True, wireless=True)
DISK = Image("debian-base", "key", Path("/cache/disk.vdi"), Path("/cache/lock"))


def decide(
    plan: Plan,
    *,
    patches: tuple[Patch, ...] = (),
    adapters: tuple[HostAdapter, ...] = (WIRED, WIRELESS),
) -> Any:  # noqa: ANN401 - jobs by host
    """Return the jobs of a plan, by host."""
    hosts = tuple(host for host in plan.hosts if host.provider == "virtualbox")
    images = {host.image: DISK for host in hosts}
    order = Order(Path("/state"), plan, hosts, {}, {}, images, patches)
    ports = itertools.count(20000)
    facts = jobs.Facts("id", Path("/state/lab/virtualbox"), lambda: next(ports), adapters)
    return {job.host: job for job in jobs.jobs(order, facts)}


def on_virtualbox(plan: Plan, *names: str) -> Plan:
    """Return the plan with these hosts, or all, as machines."""
    return replace(
        plan,
        hosts=tuple(
            replace(h, provider="virtualbox") if not names or h.name in names else h
            for h in plan.hosts
        ),
    )


def attachments(job: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - a job
    """Return how its adapters are attached, without the one that SSH uses."""
    return [nic["attach"] for nic in job.order["nics"]][:-1]


def test_the_papers_host_is_this_machine() -> None:
    """Its guest is bridged to the wired adapter, and so is the peer on the same network."""
    plan = plan_of(PROJECT / "vm_specs" / "paper.yaml", provider="virtualbox")
    made = decide(plan)
    assert list(made) == ["guest", "peer"]
    assert attachments(made["guest"]) == [{"bridged": "enp3s0"}]
    assert attachments(made["peer"]) == [{"bridged": "enp3s0"}]
    assert made["guest"].bridges == ("enp3s0",)
    assert made["guest"].order["os"] == "Debian_64"  # the image says what runs, not the paper


def test_two_wired_adapters_are_not_chosen_between() -> None:
    """The spec has to name one."""
    plan = plan_of(PROJECT / "vm_specs" / "paper.yaml", provider="virtualbox")
    second = replace(WIRED, name="enp4s0")
    with pytest.raises(LabError, match="2 that are up fit"):
        decide(plan, adapters=(WIRED, second))
    host = plan.host("host")
    named = replace(host.adapters[0], attach={"bridged": "enp4s0"})
    parents = tuple(
        replace(h, adapters=(named, *h.adapters[1:])) if h.name == "host" else h for h in plan.hosts
    )
    made = decide(replace(plan, hosts=parents), adapters=(WIRED, second))
    assert attachments(made["guest"]) == [{"bridged": "enp4s0"}]


def test_a_machine_among_namespaces_is_patched() -> None:
    """Its frames go to the switch's port in datagrams, and come from there."""
    plan = on_virtualbox(small_plan(), "guest")
    made = decide(plan, patches=(Patch("guest", "eth0", 5001, 5002),))
    properties = {"dest": "127.0.0.1", "sport": "5002", "dport": "5001"}
    assert attachments(made["guest"]) == [
        {"generic": {"driver": "UDPTunnel", "properties": properties}}
    ]


def test_machines_alone_have_internal_networks_of_their_own() -> None:
    """Named by the lab's id: two labs never meet; without a cable there is none."""
    plan = on_virtualbox(small_plan(), "peer")
    bare = PlannedAdapter("eth1", "0a:00:00:00:00:09", "wireless", "")
    peer = replace(plan.host("peer"), adapters=(*plan.host("peer").adapters, bare))
    made = decide(replace(plan, hosts=(peer,)))
    assert attachments(made["peer"]) == [{"internal": "imlab-id-lan"}, {"none": True}]


@pytest.mark.parametrize(
    ("attach", "becomes"),
    [
        ({"bridged": "wireless"}, {"bridged": "wlp2s0"}),
        ({"internal": "mine"}, {"internal": "mine"}),
        ({"nat": {"forwards": {"web": {"host": 8080, "guest": 80}}}},
         {"nat": {"forwards": [{"name": "web", "host_port": 8080, "guest_port": 80}]}}),
        ({"nat": {"forwards": {"web": {"host": 0, "guest": 80}}}},
         {"nat": {"forwards": [{"name": "web", "host_port": 20001, "guest_port": 80}]}}),
        ({"generic": {"driver": "UDPTunnel", "properties": {"dport": "9"}}},
         {"generic": {"driver": "UDPTunnel", "properties": {"dport": "9"}}}),
    ],
)  # fmt: skip
def test_the_spec_has_its_way(attach: dict[str, Any], becomes: dict[str, Any]) -> None:
    """Each kind of attachment that a spec can name."""
    plan = on_virtualbox(small_plan(), "peer")
    adapter = replace(plan.host("peer").adapters[0], attach=attach)
    made = decide(replace(plan, hosts=(replace(plan.host("peer"), adapters=(adapter,)),)))
    assert attachments(made["peer"]) == [becomes]


def test_the_way_in_is_an_adapter_more() -> None:
    """The last one, with a port of this machine's loopback that leads to sshd."""
    made = decide(on_virtualbox(small_plan(), "peer"))
    nic = made["peer"].order["nics"][-1]
    (forward,) = nic["attach"]["nat"]["forwards"]
    assert nic["attach"]["nat"]["closed"] is True
    assert (forward["host_port"], forward["guest_port"]) == (made["peer"].port, 22)
    first = int(nic["mac"][:2], 16)
    assert first & 0b11 == 0b10  # locally administered, unicast


def _hosts(**changes: Any) -> tuple[PlannedHost, ...]:  # noqa: ANN401 - fields of a host
    plan = on_virtualbox(small_plan())
    return tuple(replace(host, **changes.get(host.name, {})) for host in plan.hosts)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({}, ""),
        ({"peer": {"adapters": tuple(
            PlannedAdapter(f"eth{n}", f"0a:00:00:00:00:{n:02x}", "wired", "") for n in range(8)
        )}}, "host peer: it has 8 adapters"),
        ({"host": {"on": "peer"}}, "hosts host, peer"),
        ({"peer": {"on": "guest"}}, "host guest: it lives `on` host and has guests itself"),
    ],
)  # fmt: skip
def test_what_cannot_be_made_is_said_before(changes: dict[str, Any], fault: str) -> None:
    """From the plan alone, a sentence each."""
    hosts = _hosts(**changes)
    said = jobs.faults(replace(small_plan(), hosts=hosts), hosts)
    assert any(fault in sentence for sentence in said) if fault else said == []


def test_this_machine_without_the_address_is_told_how_to_set_it() -> None:
    """The exact command, for the adapter that guests share; nothing is changed unasked."""
    host = small_plan().host("host")
    adapter = replace(host.adapters[0], address="198.51.100.30/24")
    with pytest.raises(LabError) as caught:
        this_machine.check_addresses(
            replace(host, adapters=(adapter,)), ["enp3s0"], configure=False
        )
    assert caught.value.fault is Fault.MACHINE
    assert caught.value.todo.endswith("sudo ip address add 198.51.100.30/24 dev enp3s0")
    there = replace(host.adapters[0], address="127.0.0.1/8")
    this_machine.check_addresses(replace(host, adapters=(there,)), ["lo"], configure=False)


@pytest.mark.parametrize(
    ("system", "adapter", "command"),
    [
        ("Linux", "enp3s0", "sudo ip address add 192.168.1.30/24 dev enp3s0"),
        ("Darwin", "en0: Ethernet", "sudo ifconfig en0 alias 192.168.1.30 netmask 255.255.255.0"),
        ("Windows", "LAN 2", '"name=LAN 2" address=192.168.1.30 mask=255.255.255.0'),
    ],
)  # fmt: skip
def test_every_system_has_its_own_command(system: str, adapter: str, command: str) -> None:
    """It adds an address; the machine keeps those that it has."""
    words = this_machine.how_to_set(adapter, "192.168.1.30/24", system)
    assert this_machine.written(words, system).endswith(command)


CONFIGURE = """
import subprocess, sys
from dataclasses import replace
sys.path[:0] = sys.argv[1:]
from real_labs import PROJECT, small_plan
from lab.providers.virtualbox import this_machine
# Until a namespace has its first address, Linux lets everybody bind to any.
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
host = small_plan().host("host")
adapter = replace(host.adapters[0], address="198.51.100.30/20")
host = replace(host, adapters=(adapter,))
assert not this_machine.has_address("198.51.100.30")
this_machine.check_addresses(host, ["lo"], configure=True)
assert this_machine.has_address("198.51.100.30")
this_machine.check_addresses(host, ["lo"], configure=False)
try:
    this_machine.check_addresses(
        replace(host, adapters=(replace(adapter, address="192.0.2.31/24"),)),
        ["none0"],
        configure=True,
    )
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.lab
def test_this_machine_is_given_the_address_when_that_is_asked() -> None:
    """In a network namespace for this test; a command that fails is shown, with what it said."""
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", CONFIGURE, PROJECT, PROJECT / "tests"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("LabError")
    assert "ip address add 192.0.2.31/24 dev none0" in done.stdout
    assert 'Cannot find device "none0"' in done.stdout


def test_this_machine_is_dialled_on_its_loopback() -> None:
    """Whatever port: it is our own machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection = this_machine.dial()(server.getsockname()[1])
        connection.close()


def test_a_key_that_logs_in_here_is_the_users_own(tmp_path: Path) -> None:
    """One that this account accepts already; none is put there, and what to do is said."""
    with pytest.raises(LabError, match="ssh-keygen -t ed25519"):
        this_machine._private_key("host", tmp_path)
    folder = tmp_path / ".ssh"
    folder.mkdir()
    (folder / "id_rsa").write_text("private")
    (folder / "id_rsa.pub").write_text("ssh-rsa AAAAB3 me@here\n")
    with pytest.raises(LabError, match=r"cat ~/.ssh/id_rsa.pub >> ~/.ssh/authorized_keys"):
        this_machine._private_key("host", tmp_path)
    (folder / "authorized_keys").write_text("ssh-ed25519 OTHER\nssh-rsa AAAAB3 somebody\n")
    assert this_machine._private_key("host", tmp_path) == "private"
