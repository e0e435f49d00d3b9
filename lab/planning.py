"""LabSpec to Plan: every order, MAC, address and size decided, before anything exists.

Pure: the same spec gives the same plan, byte for byte, and nothing outside the spec is asked.
"""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from lab.plan import (
    DEFAULT_PROVIDER,
    Plan,
    PlannedAccount,
    PlannedAdapter,
    PlannedCapture,
    PlannedHost,
    PlannedImage,
    PlannedNetwork,
    PlannedReach,
    PlannedRole,
)
from lab.spec.checks import check, network_of
from lab.spec.errors import SpecError, SpecFault

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lab.spec.machines import OwnImageSpec
    from lab.spec.models import AdapterSpec, HostSpec, LabSpec

# Locally administered, unicast (IEEE 802-2014, 8.2). Not 02, of which Wireshark shows the first
# addresses under the name of a load balancer.
MAC_PREFIX = 0x0A
MAC_HASHED_BYTES = 5


def make_plan(
    spec: LabSpec,
    *,
    name: str | None = None,
    provider: str = DEFAULT_PROVIDER,
    providers: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Plan:
    """Decide everything about a lab.

    name      -- what it is called instead of the spec's name.
    provider  -- what makes the hosts that do not say it themselves.
    providers -- by host: what makes it, whatever it says itself.
    folder    -- what files that the spec names are relative to; the current one by default.

    Raises SpecError for a name that no lab can have, and for a spec built in Python whose values
    do not fit together; one that load_spec returned has passed that.
    """
    spec = spec if name is None else renamed(spec, name)
    faults = [
        SpecFault(f"lab {spec.name!r}", 0, 0, f"{'.'.join(map(str, r.path))}: {r.message}", r.fix)
        for r in check(spec)
    ]
    if faults:
        raise SpecError(f"lab {spec.name!r}", faults)

    def made_by(host: str) -> str:
        return (providers or {}).get(host) or spec.hosts[host].provider or provider

    macs = _macs(spec.name, ((h, a) for h, host in spec.hosts.items() for a in host.adapters))
    return Plan(
        lab=spec.name,
        description=spec.description,
        networks=tuple(PlannedNetwork(n, str(w.subnet)) for n, w in spec.networks.items()),
        hosts=tuple(
            _host(spec, name, macs, made_by(name), folder or Path.cwd())
            for name in creation_order(spec)
        ),
        accounts=tuple(
            PlannedAccount(name, account.password.get_secret_value())
            for name, account in spec.accounts.items()
        ),
        captures=tuple(PlannedCapture(*place.split("/", 1)) for place in spec.captures),
        images=tuple(
            PlannedImage(name, str((folder or Path.cwd()) / image.file), _unattended(image))
            for name, image in spec.images.items()
        ),
    )


def renamed(spec: LabSpec, name: str) -> LabSpec:
    """Return the same spec with another lab name.

    Raises SpecError for a name that no lab can have.
    """
    from pydantic import ValidationError  # noqa: PLC0415 - only who renames a lab needs it

    try:
        return type(spec).model_validate({**dict(spec), "name": name})
    except ValidationError as error:
        reasons = [detail.get("ctx", {}) for detail in error.errors(include_url=False)]
    raise SpecError(
        "the lab's name",
        [SpecFault("--name", 0, 0, r.get("message", "no name"), r.get("fix", "")) for r in reasons],
    )


def creation_order(spec: LabSpec) -> list[str]:
    """Return the hosts in the spec's order, save that a parent comes before its guests."""
    order: dict[str, None] = {}
    for name in spec.hosts:
        chain = [name]
        while (parent := spec.hosts[chain[-1]].on) is not None and parent not in order:
            chain.append(parent)
        order.update(dict.fromkeys(reversed(chain)))
    return list(order)


def _unattended(image: OwnImageSpec) -> dict[str, str | None] | None:
    if image.unattended is None:
        return None
    plain = dict(image.unattended)
    return {
        key: value.get_secret_value() if isinstance(value, SecretStr) else value
        for key, value in plain.items()
    }


def _reach(host: HostSpec, folder: Path) -> PlannedReach | None:
    if host.ssh is None:
        return None
    key = str(folder / Path(host.ssh.key).expanduser())
    return PlannedReach(**{**dict(host.ssh), "key": key})


def _host(
    spec: LabSpec, name: str, macs: dict[tuple[str, str], str], provider: str, folder: Path
) -> PlannedHost:
    host: HostSpec = spec.hosts[name]
    return PlannedHost(
        name=name,
        image=host.image,
        os=host.os,
        ttl=host.ttl,
        sysctls=dict(host.sysctls),
        memory_mib=host.memory,
        cpus=host.cpus,
        disk_mib=host.disk,
        on=host.on,
        provider=provider,
        firmware=host.firmware,
        reach=_reach(host, folder),
        adapters=tuple(
            PlannedAdapter(
                name=adapter,
                mac=macs[name, adapter],
                kind=wire.kind,
                model=wire.model,
                address=_address(spec, name, adapter, wire),
                network=wire.network,
                bridged=wire.bridged,
                attach=wire.attach.model_dump(exclude_none=True) if wire.attach else None,
                link=_link(spec, wire),
            )
            for adapter, wire in host.adapters.items()
        ),
        roles=tuple(PlannedRole(r, copy.deepcopy(p)) for r, p in host.roles.items()),
        description=host.description,
    )


def _link(spec: LabSpec, wire: AdapterSpec) -> dict[str, float] | None:
    """Return the conditions of a cable: its own, else those of the network it is plugged into."""
    link = wire.link or (spec.networks[wire.network].link if wire.network else None)
    return link.model_dump(exclude_none=True) if link else None


def _address(spec: LabSpec, host: str, adapter: str, wire: AdapterSpec) -> str | None:
    """Return the address with the prefix length of the network that the wire ends in."""
    network = network_of(spec, host, adapter)
    if wire.address is None or network is None:
        return None
    return f"{wire.address}/{spec.networks[network].subnet.prefixlen}"


def _macs(lab: str, adapters: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Return a MAC for every (host, adapter), derived from the names alone.

    In the order of the names, so that the order of the spec has no say in who evades whom.
    """
    found: dict[tuple[str, str], str] = {}
    taken: set[str] = set()
    for host, adapter in sorted(adapters):
        attempt = 0
        while (mac := _mac(f"{lab}/{host}/{adapter}", attempt)) in taken:
            attempt += 1
        taken.add(mac)
        found[host, adapter] = mac
    return found


def _mac(label: str, attempt: int) -> str:
    digest = hashlib.sha256(f"{label}#{attempt}".encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (MAC_PREFIX, *digest[:MAC_HASHED_BYTES]))
