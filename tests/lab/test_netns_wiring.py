"""From a plan to wires."""

from __future__ import annotations

import json
from dataclasses import replace

from real_labs import small_plan

from lab.plan import PlannedAdapter
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


def test_the_seccomp_filter_is_whole_instructions() -> None:
    """Every instruction of struct sock_filter is eight bytes; both machines have one."""
    assert len(lab_filter("x86_64")) == len(lab_filter("aarch64")) == 12 * 8


def test_a_wiring_survives_the_way_to_the_keeper() -> None:
    """JSON and back gives the same wires."""
    wiring = wire(small_plan(extra=3))
    assert Wiring.from_json(json.loads(json.dumps(wiring))) == wiring
