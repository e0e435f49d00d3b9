"""A plan decides everything, from the spec alone."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spec_strategies import SPECS, lab_data

from lab import planning, providers
from lab.errors import LabError
from lab.plan import Plan
from lab.planning import creation_order, make_plan
from lab.spec import LabSpec, SpecError, load_spec, star

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

PAPER = Path(__file__).resolve().parents[2] / "vm_specs" / "paper.yaml"


def macs_of(plan: Plan) -> dict[tuple[str, str], str]:
    """Return host, adapter -> MAC."""
    return {(h.name, a.name): a.mac for h in plan.hosts for a in h.adapters}


def addresses_of(plan: Plan) -> Iterator[tuple[str, str]]:
    """Return the addresses with the MAC that has each."""
    return ((a.address, a.mac) for h in plan.hosts for a in h.adapters if a.address)


def test_the_papers_plan() -> None:
    """The paper's lab, decided: order, addresses with prefix, wires, TTLs and defaults."""
    plan = make_plan(load_spec(PAPER))
    assert [h.name for h in plan.hosts] == ["host", "guest", "peer"]
    assert plan.address("guest") == "192.168.1.10"
    guest = plan.host("guest")
    assert (guest.on, guest.ttl, guest.memory_mib, guest.cpus) == ("host", 128, 1024, 1)
    (adapter,) = guest.adapters
    assert (adapter.address, adapter.bridged, adapter.network) == ("192.168.1.10/24", "eth0", None)
    assert plan.host("peer").ttl == 64
    assert plan.host("host").adapters[1].address is None
    assert guest.roles[0].parameters == {"other": "peer", "accounts": ["CLIENT", "SERVER"]}
    assert [(c.host, c.adapter) for c in plan.captures] == [
        ("peer", "eth0"),
        ("guest", "eth0"),
        ("host", "eth0"),
    ]


def test_macs_of_the_paper_stay_what_they_were() -> None:
    """A MAC is part of the evidence of old runs: how it is derived does not change unnoticed."""
    assert macs_of(make_plan(load_spec(PAPER))) == {
        ("host", "eth0"): "0a:27:1f:50:b5:b4",
        ("host", "wlan0"): "0a:11:cf:a9:6a:81",
        ("guest", "eth0"): "0a:21:16:52:72:79",
        ("peer", "eth0"): "0a:77:25:05:fb:63",
    }


@given(spec=SPECS)
def test_the_same_spec_gives_the_same_plan(spec: LabSpec) -> None:
    """Byte for byte, and through JSON and back."""
    plan = make_plan(spec)
    assert make_plan(spec.model_copy(deep=True)).dumps(secrets=True) == plan.dumps(secrets=True)
    stored = json.loads(json.dumps(plan.to_json(secrets=True)))
    assert Plan.from_json(stored).to_json(secrets=True) == plan.to_json(secrets=True)


@given(spec=SPECS)
def test_parents_come_before_their_guests(spec: LabSpec) -> None:
    """Every host is in the order once; who has no guests keeps the place the spec gave it."""
    order = creation_order(spec)
    assert sorted(order) == sorted(spec.hosts)
    for name, host in spec.hosts.items():
        assert host.on is None or order.index(host.on) < order.index(name)
    flat = [name for name, host in spec.hosts.items() if host.on is None]
    if len(flat) == len(order):
        assert order == flat


@given(spec=SPECS)
def test_macs_and_addresses_are_usable(spec: LabSpec) -> None:
    """MACs are local, unicast and unique; addresses are usable in their network and unique."""
    plan = make_plan(spec)
    macs = list(macs_of(plan).values())
    assert len(set(macs)) == len(macs)
    for mac in macs:
        assert int(mac[:2], 16) & 0b11 == 0b10
    networks = [IPv4Network(network.subnet) for network in plan.networks]
    addresses = [address for address, _ in addresses_of(plan)]
    assert len(set(addresses)) == len(addresses)
    for address in addresses:
        interface = IPv4Interface(address)
        assert interface.network in networks
        assert interface.ip not in (
            interface.network.network_address,
            interface.network.broadcast_address,
        )


@given(data=lab_data(), choice=st.randoms(use_true_random=False))
def test_the_order_of_a_spec_decides_order_alone(data: dict[str, Any], choice: Random) -> None:
    """Hosts in another order get the same MACs, addresses and sizes."""
    shuffled = list(data["hosts"])
    choice.shuffle(shuffled)
    other = {**data, "hosts": {name: data["hosts"][name] for name in shuffled}}
    one, two = (make_plan(LabSpec.model_validate(d)) for d in (data, other))
    assert {h.name: h for h in one.hosts} == {h.name: h for h in two.hosts}


def test_two_adapters_never_share_a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one byte of hash, 200 adapters collide; each still gets one of its own."""
    monkeypatch.setattr(planning, "MAC_HASHED_BYTES", 1)
    assert len(set(macs_of(make_plan(star(200))).values())) == 200


def test_a_plan_can_have_another_name() -> None:
    """Labs of one spec side by side: another name, other MACs, the same addresses."""
    spec = load_spec(PAPER)
    one, two = make_plan(spec), make_plan(spec, name="second")
    assert (one.lab, two.lab) == ("paper", "second")
    assert set(macs_of(one).values()).isdisjoint(macs_of(two).values())
    assert [a for a, _ in addresses_of(one)] == [a for a, _ in addresses_of(two)]
    for name in ("../x", "", "A", "x" * 33):
        with pytest.raises(SpecError, match="--name"):
            make_plan(spec, name=name)


def test_who_makes_a_host_is_said_for_it_or_by_the_spec_or_for_all() -> None:
    """In this order; nothing else of the plan changes with it."""
    spec = load_spec(PAPER.with_name("mixed.yaml"))
    plan = make_plan(spec, provider="external", providers={"peer": "virtualbox"})
    assert {h.name: h.provider for h in plan.hosts} == {
        "host": "netns", "guest": "virtualbox", "peer": "virtualbox",
    }  # fmt: skip
    assert {h.provider for h in make_plan(load_spec(PAPER), provider="external").hosts} == {
        "external"
    }
    as_it_says = make_plan(spec)
    peer = replace(as_it_says.host("peer"), provider="virtualbox")
    hosts = tuple(peer if h.name == "peer" else h for h in as_it_says.hosts)
    assert plan == replace(as_it_says, hosts=hosts)


@pytest.mark.parametrize(
    ("text", "default", "by_host"),
    [
        ("", "", {}),
        ("netns", "netns", {}),
        ("guest=virtualbox", "", {"guest": "virtualbox"}),
        ("external,a=netns,b=virtualbox", "external", {"a": "netns", "b": "virtualbox"}),
    ],
)
def test_who_makes_the_hosts_is_chosen_in_a_few_words(
    text: str, default: str, by_host: dict[str, str]
) -> None:
    """A provider for all of which nothing is said, and HOST=PROVIDER for others."""
    assert providers.chosen(text) == (default, by_host)


@pytest.mark.parametrize(
    ("text", "saw"),
    [
        ("vmware", "there is none of that name"),
        ("a=", "there is none of that name"),
        ("a=netns,a=external", "of a it says two things"),
        ("netns,external", "the hosts that are not named it says two things"),
    ],
)
def test_a_choice_that_is_none_is_told(text: str, saw: str) -> None:
    """No provider of that name, or two for one host."""
    with pytest.raises(LabError, match=saw):
        providers.chosen(text)


def test_a_spec_built_wrongly_in_python_is_not_planned() -> None:
    """Values that do not fit together are refused whoever wrote them."""
    spec = star(2)
    crossed = spec.model_copy(update={"hosts": {**spec.hosts, "h3": spec.hosts["h1"]}})
    with pytest.raises(SpecError, match=r"10\.77\.0\.1 is the address of h1/eth0 already"):
        make_plan(crossed)


def test_a_plan_keeps_no_hold_on_its_spec() -> None:
    """Changing a role's parameters afterwards does not change the plan."""
    parameters: dict[str, Any] = {"port": [7]}
    spec = star(1, roles={"echo": parameters})
    plan = make_plan(spec)
    parameters["port"].append(8)
    spec.hosts["h1"].roles["echo"]["more"] = True
    assert plan.host("h1").roles[0].parameters == {"port": [7]}
