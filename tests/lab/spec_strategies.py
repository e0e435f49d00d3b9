"""Specs made at random: sound ones, for what must hold of every lab."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

from hypothesis import strategies as st

from lab.spec import LabSpec

LABELS = st.builds(
    "{}{}{}".format,
    st.sampled_from("abz"),
    st.text("ab0-", max_size=6),
    st.sampled_from("az9"),
)
INTERFACES = st.builds("{}{}".format, st.sampled_from("abZ"), st.text("x0_-", max_size=14))
ALPHABET = "ab1 :#'\"\\{}[],&*!|>%@-é🙂"  # what YAML means something by, and what is not ASCII
TEXTS = st.text(ALPHABET, max_size=12)
NUMBERS = st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
JSON_DATA = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=4,
)
PARAMETERS = st.dictionaries(
    TEXTS,
    JSON_DATA,
    max_size=3,
)


@st.composite
def lab_data(draw: st.DrawFn) -> dict[str, Any]:
    """Return the data of a sound spec: networks apart, guests on earlier hosts, in any order."""
    networks = draw(st.lists(INTERFACES, min_size=1, max_size=3, unique=True))
    subnets = {name: IPv4Network(f"10.{place}.0.0/24") for place, name in enumerate(networks)}
    free = {name: subnet.hosts() for name, subnet in subnets.items()}
    accounts = draw(st.lists(LABELS, max_size=3, unique=True))
    hosts: dict[str, Any] = {}
    reaches: dict[str, dict[str, str]] = {}  # host -> adapter -> network
    depth: dict[str, int] = {}
    for name in draw(st.lists(LABELS, min_size=1, max_size=5, unique=True)):
        parents = [host for host, levels in depth.items() if levels < 7]
        on = draw(st.none() | st.sampled_from(parents)) if parents else None
        depth[name] = depth[on] + 1 if on else 0
        adapters, reaches[name] = {}, {}
        for adapter in draw(st.lists(INTERFACES, max_size=3, unique=True)):
            wires = list(reaches[on]) if on else []
            kind = draw(st.sampled_from(["network", "bridged", "none"] if wires else ["network"]))
            wire: dict[str, Any] = {"model": draw(TEXTS)}
            if kind != "none":
                wire[kind] = draw(st.sampled_from(networks if kind == "network" else wires))
                network = wire[kind] if kind == "network" else reaches[str(on)][wire[kind]]
                reaches[name][adapter] = network
                wire["address"] = str(next(free[network]))
            adapters[adapter] = wire
        roles = draw(st.dictionaries(LABELS, PARAMETERS, max_size=2))
        for parameters in roles.values():
            parameters["accounts"] = accounts
        hosts[name] = {
            "on": on,
            "adapters": adapters,
            "roles": roles,
            "ttl": draw(st.integers(1, 255)),
            "description": draw(TEXTS),
        }
    order = draw(st.permutations(list(hosts)))
    wired = [f"{host}/{adapter}" for host in hosts for adapter in reaches[host]]
    return {
        "imlab": 1,
        "name": draw(LABELS),
        "description": draw(TEXTS),
        "networks": {name: {"subnet": str(subnet)} for name, subnet in subnets.items()},
        "accounts": {
            name: {"password": draw(st.text(ALPHABET, min_size=1, max_size=18))}
            for name in accounts
        },
        "hosts": {name: hosts[name] for name in order},
        "captures": draw(st.lists(st.sampled_from(wired), unique=True)) if wired else [],
    }


SPECS = lab_data().map(LabSpec.model_validate)
