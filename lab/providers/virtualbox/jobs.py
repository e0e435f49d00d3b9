"""From a plan to orders for machines: every name, UUID, port and adapter decided. Pure.

The agent is told what to make in plain data (machines.py says what is in an order); nothing is
decided there.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.errors import Fault, LabError
from lab.providers.base import unlinked
from lab.providers.virtualbox.adapters import HostAdapter, choose

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lab.plan import Plan, PlannedAdapter, PlannedHost
    from lab.providers.base import Order

SLOTS = 8
#: A spec's `os` -> VirtualBox's own name, for images of the user's own; or as it is.
OS_TYPES = {
    "windows-xp-32": "WindowsXP",
    "windows-7-32": "Windows7",
    "windows-7-64": "Windows7_64",
    "windows-10-32": "Windows10",
    "windows-10-64": "Windows10_64",
    "windows-11-64": "Windows11_64",
    "debian": "Debian_64",
    "debian-32": "Debian",
    "ubuntu": "Ubuntu_64",
    "linux": "Linux_64",
    "linux-32": "Linux",
}
RECIPE_OS = "Debian_64"  # what imlab's own images are made of
LOCK = "virtualbox.lock"  # in the lab's own folder: held by the agent that changes the lab
FOLDER = "virtualbox"  # in the lab's own folder: settings, disks, seeds, consoles
DISKS = frozenset({".vdi", ".vmdk", ".vhd", ".qcow2"})
APPLIANCES = frozenset({".ova", ".ovf"})
MANAGEMENT = "imlab-ssh"  # the name of the port forward that leads to a machine's sshd


@dataclass(frozen=True, slots=True)
class Facts:
    """What has to be known of the world to decide.

    lab_id, folder -- the lab's.
    free_port      -- gives a TCP port of ours that nobody has, each time another.
    adapters       -- what this machine can bridge to.
    """

    lab_id: str
    folder: Path
    free_port: Callable[[], int]
    adapters: Sequence[HostAdapter] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """One machine to be made: its order for the agent, and what the ledger keeps of it."""

    host: str
    uuid: str
    name: str
    port: int
    mac: str
    bridges: tuple[str, ...]
    base: str | None
    order: dict[str, Any] = field(repr=False)  # it may hold the credentials of an installation


def this_machine(plan: Plan, hosts: Sequence[PlannedHost]) -> list[PlannedHost]:
    """Return the hosts that others live `on`: with real machines that is the one we run on."""
    parents = {host.on for host in plan.hosts if host.on}
    return [host for host in hosts if host.name in parents]


def faults(plan: Plan, hosts: Sequence[PlannedHost]) -> list[str]:
    """Say what of these hosts cannot be made, a sentence each, from the plan alone."""
    real = this_machine(plan, hosts)
    found = [
        f"host {host.name}: it has {len(host.adapters)} adapters; a machine takes {SLOTS - 1}"
        " and the one that SSH uses"
        for host in hosts
        if host not in real and len(host.adapters) > SLOTS - 1
    ]
    found += [
        f"host {host.name}: it lives `on` {host.on} and has guests itself; with real machines the"
        " host of a guest is this computer, which lives on none"
        for host in real
        if host.on
    ]
    if len(real) > 1:
        names = ", ".join(host.name for host in real)
        found.append(f"hosts {names}: guests live on each, and only one can be this computer")
    return found + [fault for host in hosts for fault in unlinked(host)]


def jobs(order: Order, facts: Facts) -> list[Job]:
    """Return what to make, in the plan's order. Raises LabError for what does not fit."""
    real = this_machine(order.plan, order.hosts)
    return [_job(order, real, host, facts) for host in order.hosts if host not in real]


def _job(order: Order, real: Sequence[PlannedHost], host: PlannedHost, facts: Facts) -> Job:
    machine, port = str(uuid.uuid4()), facts.free_port()
    nics: list[dict[str, Any]] = [
        {"slot": slot, "mac": adapter.mac, "attach": _attach(order, real, host, adapter, facts)}
        for slot, adapter in enumerate(host.adapters)
    ]
    forward = {"name": MANAGEMENT, "host_port": port, "guest_port": 22}
    mac = _management_mac(machine)
    nics.append(
        {
            "slot": len(nics),
            "mac": mac,
            "attach": {"nat": {"closed": True, "forwards": [forward]}},
        }
    )
    folder = facts.folder / host.name
    source, own = _source(order, host)
    name = f"imlab-{order.plan.lab}-{host.name}"
    return Job(
        host=host.name,
        uuid=machine,
        name=name,
        port=port,
        mac=mac,
        bridges=tuple(n["attach"]["bridged"] for n in nics if "bridged" in n["attach"]),
        base=source["path"] if source["kind"] == "disk" else None,
        order={
            "uuid": machine,
            "host": host.name,
            "name": name,
            # Not of the name alone: that of a lab that was killed and taken away a moment ago may
            # still be written, late, and VirtualBox refuses to make a machine over it.
            "settings": str(folder / f"{name}-{machine[:8]}.vbox"),
            "group": f"/imlab/{order.plan.lab}",
            "labels": {"lab_id": facts.lab_id, "lab": order.plan.lab, "host": host.name},
            "os": OS_TYPES.get(host.os, host.os) if own else RECIPE_OS,
            "memory": host.memory_mib,
            "cpus": host.cpus,
            "firmware": host.firmware,
            "source": source,
            "disk": str(folder / "disk.vdi"),
            "disk_mib": host.disk_mib,
            "seed": str(folder / "seed.iso"),
            "console": str(folder / "console.log"),
            "nics": nics,
        },
    )


def _management_mac(machine: str) -> str:
    """Return an address for the way in: locally administered, of the machine's own UUID."""
    digits = machine.replace("-", "")
    return "0e:" + ":".join(digits[n : n + 2] for n in range(0, 10, 2))


def _source(order: Order, host: PlannedHost) -> tuple[dict[str, Any], bool]:
    """Return where a host's disk comes from, and whether that is the user's own."""
    for image in order.plan.images:
        if image.name == host.image:
            return _own(image.file, image.unattended), True
    return {"kind": "disk", "path": str(order.images[host.image].path)}, False


def _own(file: str, unattended: Mapping[str, Any] | None) -> dict[str, Any]:
    suffix = Path(file).suffix.lower()
    if not Path(file).is_file():
        raise _bad_image(file, "there is no such file", "correct its path in the spec")
    if suffix in DISKS:
        return {"kind": "disk", "path": file}
    if suffix in APPLIANCES:
        return {"kind": "appliance", "path": file}
    if suffix == ".iso" and unattended:
        return {"kind": "unattended", "path": file, **unattended}
    if suffix == ".iso":
        raise _bad_image(
            file, "an ISO has to be installed from", "give it `unattended:` with user and password"
        )
    known = ", ".join(sorted(DISKS | APPLIANCES | {".iso"}))
    raise _bad_image(file, f"a file of kind {suffix or 'none'}", f"use one of: {known}")


def _bad_image(file: str, saw: str, todo: str) -> LabError:
    return LabError(f"using the image {file}", saw, fault=Fault.SPEC, todo=todo)


def _attach(
    order: Order,
    real: Sequence[PlannedHost],
    host: PlannedHost,
    adapter: PlannedAdapter,
    facts: Facts,
) -> dict[str, Any]:
    """Return how an adapter is attached: as the spec says, else by where its cable ends."""
    for patch in order.patches:
        if (patch.host, patch.adapter) == (host.name, adapter.name):
            return {"generic": tunnel(patch.far, patch.near)}
    if adapter.attach:
        return _as_said(adapter.attach, facts)
    wire = _wire_of_this_machine(real, host, adapter)
    if wire is not None:
        return {"bridged": choose(wire, facts.adapters).name}
    if adapter.network:
        return {"internal": f"imlab-{facts.lab_id}-{adapter.network}"}
    return {"none": True}


def _as_said(attach: dict[str, Any], facts: Facts) -> dict[str, Any]:
    """Return an attachment of the spec, with its adapter chosen and its ports free."""
    if "bridged" in attach:
        return {"bridged": choose(attach["bridged"], facts.adapters).name}
    if "nat" in attach:
        forwards = [
            {
                "name": name,
                "host_port": ports["host"] or facts.free_port(),
                "guest_port": ports["guest"],
            }
            for name, ports in attach["nat"].get("forwards", {}).items()
        ]
        return {"nat": {"forwards": forwards}}
    return dict(attach)


def tunnel(here: int, there: int) -> dict[str, Any]:
    """Return the generic driver that sends frames as UDP datagrams over the loopback."""
    properties = {"dest": "127.0.0.1", "sport": str(here), "dport": str(there)}
    return {"driver": "UDPTunnel", "properties": properties}


def _wire_of_this_machine(
    real: Sequence[PlannedHost], host: PlannedHost, adapter: PlannedAdapter
) -> str | None:
    """Return which adapter of the real machine a cable shares: its attach, else its kind.

    One that is bridged to an adapter of this machine, or on a network that this machine is on.
    """
    for parent in real:
        for theirs in parent.adapters:
            bridged = host.on == parent.name and adapter.bridged == theirs.name
            neighbour = adapter.network is not None and adapter.network == theirs.network
            if bridged or neighbour:
                return str((theirs.attach or {}).get("bridged", theirs.kind))
    return None
