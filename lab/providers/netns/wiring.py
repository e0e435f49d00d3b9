"""From a plan to wires: which bridges, cables and addresses a lab of namespaces has. Pure.

The paper's wiring (Figures 4 to 6): a switch joins host and peer; a guest hangs on a bridge
*inside its host* that is enslaved to the host's wired adapter, so that this adapter sees the
guest's frames, as VirtualBox's net filter driver makes it. The host's own address then sits on
that bridge, which carries the adapter's MAC.

Where an adapter belongs to another provider's host, its cable ends among the switches, in a plug
whose frames relay.py carries to and from that host. A cable with conditions is two, and shaper.py
relays between them.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from lab.providers.netns.wires import (
    FIRST_ADAPTER,
    FIRST_BRIDGE,
    FIRST_LINK,
    FIRST_PATCH,
    FIRST_PORT,
    SWITCHES,
    Address,
    Bridge,
    Cable,
    Link,
    Port,
    Wiring,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.patches import Patch
    from lab.plan import Plan, PlannedAdapter, PlannedHost


NAME_BYTES = 15  # IFNAMSIZ, less the final NUL
ALIAS_BYTES = 254  # IFALIASZ, less the final NUL, less one that the kernel counts twice


def _mac(*parts: str) -> str:
    digest = hashlib.sha256("/".join(parts).encode()).digest()[:5]
    return ":".join(f"{byte:02x}" for byte in (0x06, *digest))


class _Names:
    """Interface names that are taken in each host; the spec's own come first."""

    def __init__(self, plan: Plan) -> None:
        self._taken = {host.name: {a.name for a in host.adapters} for host in plan.hosts}

    def free(self, host: str, wanted: str) -> str:
        """Take a name: `wanted` if it is free and short enough (IFNAMSIZ), else one like it."""
        taken, name, attempt = self._taken[host], wanted[:NAME_BYTES], 0
        while name in taken:
            ending = f"_{attempt}"
            name, attempt = wanted[: NAME_BYTES - len(ending)] + ending, attempt + 1
        taken.add(name)
        return name


def _alias(text: str) -> str:
    """Return what the kernel takes as an interface's alias of that text (IFALIASZ)."""
    return text.encode()[:ALIAS_BYTES].decode(errors="ignore")


def wire(
    plan: Plan, hosts: Sequence[PlannedHost] | None = None, patches: Sequence[Patch] = ()
) -> Wiring:
    """Return the wiring of a plan: of those of its hosts that are namespaces (all by default)."""
    hosts = plan.hosts if hosts is None else hosts
    names = _Names(plan)
    position = {host.name: number for number, host in enumerate(hosts)}
    switch = {network.name: FIRST_BRIDGE + n for n, network in enumerate(plan.networks)}
    bridges = [
        Bridge(SWITCHES, f"sw{n}", FIRST_BRIDGE + n, _mac(plan.lab, network.name))
        for n, network in enumerate(plan.networks)
    ]
    cables: list[Cable] = []
    links: list[Link] = []
    addresses: list[Address] = []
    shared = {(h.on, a.bridged) for h in plan.hosts for a in h.adapters if h.on and a.bridged}
    bridge_of: dict[tuple[str, str], int] = {}
    for host in hosts:
        here = position[host.name]
        for n, adapter in enumerate(host.adapters):
            index = FIRST_ADAPTER + n
            inner = 0
            if (host.name, adapter.name) in shared:
                inner = FIRST_BRIDGE + n
                bridge_of[host.name, adapter.name] = inner
                name = names.free(host.name, f"br-{adapter.name}")
                bridges.append(Bridge(here, name, inner, adapter.mac))
            near = _near(host, adapter, switch, position, bridge_of, names, len(cables))
            far = Port(here, adapter.name, index, adapter.mac, _alias(adapter.model), inner)
            if adapter.link and near.master:
                links.append(_link(host.name, adapter, near, far, len(links)))
                cables += _cables(links[-1], near, far, len(links))
            else:
                cables.append(Cable(near, far, up=near.master != 0))
            if adapter.address:
                addresses.append(Address(here, inner or index, adapter.address))
    plugs = []
    for patch in patches:
        host, number = plan.host(patch.host), len(cables)
        adapter = next(a for a in host.adapters if a.name == patch.adapter)
        near = _near(host, adapter, switch, position, bridge_of, names, number)
        plug = Port(SWITCHES, f"x{number}", FIRST_PATCH + number, _mac(near.alias, "plug"), "", 0)
        cables.append(Cable(near, plug, up=True))
        plugs.append(plug.name)
    return Wiring(tuple(bridges), tuple(cables), tuple(addresses), tuple(plugs), tuple(links))


def _link(host: str, adapter: PlannedAdapter, near: Port, far: Port, number: int) -> Link:
    given = adapter.link or {}
    return Link(
        host=host,
        adapter=adapter.name,
        place=far.where,
        port=(near.where, near.name),
        near=f"n{number}",
        far=f"f{number}",
        rate_mbit=given.get("rate_mbit", 0.0),
        loss_percent=given.get("loss_percent", 0.0),
        delay_ms=given.get("delay_ms", 0.0),
        given=tuple(given),
    )


def _cables(link: Link, near: Port, far: Port, number: int) -> list[Cable]:
    """Return the two cables of a link: what relays between them has an end of each."""
    index = FIRST_LINK + 2 * number
    inner = Port(SWITCHES, link.near, index, _mac(near.alias, link.near), near.alias, 0)
    outer = Port(SWITCHES, link.far, index + 1, _mac(near.alias, link.far), near.alias, 0)
    return [Cable(near, inner, up=True), Cable(outer, far, up=True)]


def _near(  # noqa: PLR0913, PLR0917 - the tables of one pass, passed instead of kept in an object
    host: PlannedHost,
    adapter: PlannedAdapter,
    switch: dict[str, int],
    position: dict[str, int],
    bridge_of: dict[tuple[str, str], int],
    names: _Names,
    number: int,
) -> Port:
    """Return what an adapter's cable ends in: a switch port, a port in the parent, or nothing."""
    index = FIRST_PORT + number
    alias = f"{host.name}/{adapter.name}"
    mac = _mac(alias, "port")
    if adapter.bridged and host.on:
        master = bridge_of[host.on, adapter.bridged]
        name = names.free(host.on, f"vm{number}")
        return Port(position[host.on], name, index, mac, alias, master)
    master = switch[adapter.network] if adapter.network else 0
    return Port(SWITCHES, f"p{number}", index, mac, alias, master)
