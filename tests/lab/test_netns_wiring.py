"""From a plan to wires."""

from __future__ import annotations

import errno
import json
import struct
from dataclasses import replace

import pytest
from real_labs import small_plan

from lab.plan import Plan, PlannedAdapter, PlannedHost, PlannedNetwork
from lab.providers.netns import seccomp
from lab.providers.netns.seccomp import lab_filter
from lab.providers.netns.wires import FIRST_ADAPTER, FIRST_BRIDGE, SWITCHES, Wiring
from lab.providers.netns.wiring import wire


def test_the_guest_hangs_on_a_bridge_inside_its_host() -> None:
    """Figures 4 to 6: the guest's cable ends in the host, on the bridge of its wired adapter."""
    wiring = wire(small_plan())
    inner = next(bridge for bridge in wiring.bridges if bridge.where == 0)
    to_guest = next(cable for cable in wiring.cables if cable.far.where == 1)
    wired = next(cable for cable in wiring.cables if cable.far.where == 0)
    assert to_guest.near.where == 0
    assert to_guest.near.master == inner.ifindex == wired.far.master
    assert (wired.near.where, wired.near.master) == (SWITCHES, FIRST_BRIDGE)


def test_a_bridged_adapters_address_and_mac_move_to_the_bridge() -> None:
    """The host's own address sits on the bridge, which answers with the adapter's MAC."""
    wiring = wire(small_plan())
    inner = next(bridge for bridge in wiring.bridges if bridge.where == 0)
    of_host = next(address for address in wiring.addresses if address.where == 0)
    of_peer = next(address for address in wiring.addresses if address.where == 2)
    assert inner.mac == "02:00:00:00:00:01"
    assert (of_host.ifindex, of_host.address) == (inner.ifindex, "192.168.1.30/24")
    assert of_peer.ifindex == FIRST_ADAPTER


def test_an_adapter_without_a_network_gets_no_carrier() -> None:
    """Figure 6's wireless adapter is there and leads nowhere."""
    plan = small_plan()
    wireless = PlannedAdapter("wlan0", "02:00:00:00:00:09", "wireless", "Qualcomm")
    host = replace(plan.hosts[0], adapters=(*plan.hosts[0].adapters, wireless))
    cables = wire(replace(plan, hosts=(host, *plan.hosts[1:]))).cables
    loose = next(cable for cable in cables if cable.far.name == "wlan0")
    assert (loose.up, loose.near.master, loose.far.master) == (False, 0, 0)


def test_names_indexes_and_macs_are_unique_in_each_namespace() -> None:
    """A thousand ports do not clash."""
    wiring = wire(small_plan(extra=200))
    ports = [port for cable in wiring.cables for port in (cable.near, cable.far)]
    assert len({(port.where, port.name) for port in ports}) == len(ports)
    assert len({(port.where, port.ifindex) for port in ports}) == len(ports)
    assert len({port.mac for port in ports}) == len(ports)
    assert all(len(port.name) <= 15 for port in ports)


def decide(machine: str, number: int, first: int = 0, arch: int | None = None) -> int:
    """Run the filter as the kernel does (seccomp(2)) and return its verdict."""
    program = lab_filter(machine)
    lines = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    data = {
        seccomp.ARCH: seccomp.NUMBERS[machine][0] if arch is None else arch,
        seccomp.NR: number,
        seccomp.ARG0: first,
    }
    at, value = 0, 0
    while True:
        code, if_true, if_false, k = lines[at]
        at += 1
        if code == seccomp.RETURN:
            return int(k)
        if code == seccomp.LOAD:
            value = data[k]
        else:
            at += (
                if_true if (value == k if code == seccomp.JUMP_EQUAL else value >= k) else if_false
            )


@pytest.mark.parametrize("machine", sorted(seccomp.NUMBERS))
def test_the_filter_allows_confined_families_only(machine: str) -> None:
    """Sockets and pairs of other families are as on a kernel that does not have them."""
    _, *makers, _ = seccomp.NUMBERS[machine]
    for maker in makers:
        allowed = {f for f in range(64) if decide(machine, maker, f) == seccomp.ALLOW}
        assert allowed == {1, 2, 10, 16, 17}
        assert decide(machine, maker, 40) == seccomp.ERRNO | errno.EAFNOSUPPORT


@pytest.mark.parametrize("machine", sorted(seccomp.NUMBERS))
def test_the_filter_refuses_what_has_no_namespace_and_nothing_else(machine: str) -> None:
    """Keyrings, BPF, counters, the log and io_uring are refused; so is every foreign call."""
    _, *makers, refused = seccomp.NUMBERS[machine]
    for number in set(range(600)) - set(makers):
        wanted = seccomp.ERRNO | errno.EPERM if number in refused else seccomp.ALLOW
        assert decide(machine, number, 40) == wanted
    assert decide(machine, 0x40000000 + 1) == seccomp.ERRNO | errno.EPERM
    assert decide(machine, 1, arch=0x40000003) == seccomp.ERRNO | errno.EPERM


def odd_host(*names: str, shared: tuple[str, ...] = ("eth0",)) -> Plan:
    """Return a plan of a host with adapters of those names and a guest on each shared one."""
    lan = PlannedNetwork("lan", "10.0.0.0/8")

    def adapter(name: str, number: int, *, bridged: str | None = None) -> PlannedAdapter:
        return PlannedAdapter(
            name, f"02:00:00:00:01:{number:02x}", "wired", "", f"10.0.0.{number}/8",
            None if bridged else "lan", bridged,
        )  # fmt: skip

    def host(name: str, on: str | None, *adapters: PlannedAdapter) -> PlannedHost:
        return PlannedHost(name, "debian-base", "debian", 64, 256, 1, 64, on, adapters, ())

    own = [adapter(name, number) for number, name in enumerate(names, 1)]
    guests = [
        host(f"g{number}", "host", adapter("eth0", number, bridged=name))
        for number, name in enumerate(shared, 200)
    ]
    return Plan("odd", "", (lan,), (host("host", None, *own), *guests), (), ())


@pytest.mark.parametrize(
    "plan",
    [
        odd_host("eth0", "br-eth0", "br0", "vm1", "vm2", "vm4", "vm5"),
        odd_host("adapter-long-00", "adapter-long-01", shared=("adapter-long-00",
                                                               "adapter-long-01")),
        odd_host(*(f"e{n}" for n in range(150)), shared=tuple(f"e{n}" for n in range(50))),
    ],
    ids=["names of ours", "fifteen characters", "a hundred and fifty adapters"],
)  # fmt: skip
def test_no_name_of_a_spec_clashes_with_one_of_ours(plan: Plan) -> None:
    """Bridges and ports inside a host evade the host's own adapters, and each other."""
    wiring = wire(plan)
    ports = [port for cable in wiring.cables for port in (cable.near, cable.far)]
    links = [(each.where, each.name) for each in (*wiring.bridges, *ports)]
    indexes = [(each.where, each.ifindex) for each in (*wiring.bridges, *ports)]
    assert len(set(links)) == len(links)
    assert len(set(indexes)) == len(indexes)
    assert all(len(name.encode()) <= 15 for _, name in links)
    assert {p.name for p in ports if p.where == 0} >= {a.name for a in plan.hosts[0].adapters}


def test_a_model_of_any_script_fits_into_an_alias() -> None:
    """The kernel takes 254 bytes; what is cut is cut between characters."""
    plan = odd_host("eth0")
    adapter = replace(plan.hosts[0].adapters[0], model="適" * 128)
    host = replace(plan.hosts[0], adapters=(adapter,))
    cables = wire(replace(plan, hosts=(host, *plan.hosts[1:]))).cables
    alias = next(cable.far.alias for cable in cables if cable.far.where == 0)
    assert alias == "適" * 84


def test_a_wiring_survives_the_way_to_the_keeper() -> None:
    """JSON and back gives the same wires."""
    wiring = wire(small_plan(extra=3))
    assert Wiring.from_json(json.loads(json.dumps(wiring))) == wiring
