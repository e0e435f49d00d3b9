"""Cables between hosts of different providers: Ethernet frames in UDP datagrams over loopback.

What a namespace switch and a virtual machine have in common: VirtualBox's generic driver
`UDPTunnel` and QEMU's `socket,udp=` both send each frame as it is, one a datagram. Every datagram
stays on 127.0.0.1, and each end takes only what the other one sends.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection

    from lab.plan import Plan

LOOPBACK = "127.0.0.1"


class Patch(NamedTuple):
    """One cable: the UDP ports of its two ends.

    near -- the switch's end, held by whoever makes the switch.
    far  -- the end of the adapter's own provider.
    """

    host: str
    adapter: str
    near: int
    far: int


def patches_of(plan: Plan, switching: str, patched: Collection[str]) -> tuple[Patch, ...]:
    """Return the cables that a plan needs, on ports that are free now.

    switching -- the provider that makes the switches; patched -- those whose adapters are cabled.
    An adapter with an attachment of its own is left to its provider, and so is one whose wire
    ends in a host that is not of the switching provider.
    """
    wires = [
        (host.name, adapter.name)
        for host in plan.hosts
        if host.provider in patched
        for adapter in host.adapters
        if adapter.attach is None
        and (
            adapter.network
            or (adapter.bridged and host.on and plan.host(host.on).provider == switching)
        )
    ]
    ports = _free_ports(2 * len(wires))
    return tuple(
        Patch(host, adapter, ports[2 * n], ports[2 * n + 1])
        for n, (host, adapter) in enumerate(wires)
    )


def _free_ports(count: int) -> list[int]:
    """Return UDP ports of loopback that nobody has; whoever binds one first, has it."""
    with contextlib.ExitStack() as held:
        ports = []
        for _ in range(count):
            made = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            made.bind((LOOPBACK, 0))
            ports.append(made.getsockname()[1])
        return ports
