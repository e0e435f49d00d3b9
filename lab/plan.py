"""A plan: everything about a lab decided, before anything exists.

Plain frozen dataclasses and no third-party import: the process that keeps a lab alive reads
plans too and stays small. The same spec gives the same plan, byte for byte (`to_json`).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

DEFAULT_PROVIDER = "netns"


@dataclass(frozen=True, slots=True)
class PlannedAdapter:
    """One network adapter of a host. Exactly one of network, bridged or neither is set.

    name    -- interface name in the host, e.g. "eth0" (15 bytes at most, IFNAMSIZ).
    mac     -- a locally administered unicast address (IEEE 802-2014, 8.2).
    address -- "192.168.1.10/24" or None for an adapter without a cable.
    network -- the switch it is plugged into, or None.
    bridged -- the adapter of the parent host whose wire it shares, or None.
    attach  -- how a virtual machine's adapter is attached, by one key (docs/spec.md), or None:
               {"bridged": name or rule}, {"internal": name},
               {"nat": {"forwards": {name: {"host": port, "guest": port}}}} or
               {"generic": {"driver": name, "properties": {name: value}}}.
    link    -- conditions of its cable, or None: any of rate_mbit, loss_percent, delay_ms.
    """

    name: str
    mac: str
    kind: str
    model: str
    address: str | None = None
    network: str | None = None
    bridged: str | None = None
    attach: dict[str, Any] | None = None
    link: dict[str, float] | None = None


@dataclass(frozen=True, slots=True)
class PlannedReach:
    """How to log in to a computer that is there already: sshd, account, files with the keys.

    key      -- file with the private key.
    host_key -- its public host key, one OpenSSH line: "ssh-ed25519 AAAA…".
    """

    address: str
    port: int
    user: str
    key: str
    host_key: str


@dataclass(frozen=True, slots=True)
class PlannedRole:
    """A role to provision on a host: its name (a folder of provisioning/roles) and parameters."""

    name: str
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlannedHost:
    """One host. `on` names the host that it lives on as a virtual machine, or is None.

    sysctls  -- kernel settings of its network, "net.…" -> value (sysctl(8)).
    provider -- what makes it (lab/providers).
    firmware -- "bios" or "efi".
    reach    -- how to log in, for one that is there already.
    """

    name: str
    image: str
    os: str
    ttl: int
    memory_mib: int
    cpus: int
    disk_mib: int
    on: str | None
    adapters: tuple[PlannedAdapter, ...]
    roles: tuple[PlannedRole, ...]
    description: str = ""
    sysctls: dict[str, str] = field(default_factory=dict)
    provider: str = DEFAULT_PROVIDER
    firmware: str = "bios"
    reach: PlannedReach | None = None


@dataclass(frozen=True, slots=True)
class PlannedNetwork:
    """A switch: its name and its IPv4 subnet ("192.168.1.0/24")."""

    name: str
    subnet: str


@dataclass(frozen=True, slots=True)
class PlannedAccount:
    """Somebody who signs in to a messaging system. The password is typed: repr hides it."""

    name: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """A disk image of the user's own: an absolute path, and how a medium installs itself.

    unattended -- None, or user, full_name, locale, time_zone and the two secrets, which repr
                  hides: password and product_key (None without).
    """

    name: str
    file: str
    unattended: dict[str, str | None] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class PlannedCapture:
    """An observation point: an adapter of a host."""

    host: str
    adapter: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole lab. `hosts` is in order of creation: a parent comes before its guests.

    Raises KeyError from `host` for a name that the plan does not have.
    """

    lab: str
    description: str
    networks: tuple[PlannedNetwork, ...]
    hosts: tuple[PlannedHost, ...]
    accounts: tuple[PlannedAccount, ...]
    captures: tuple[PlannedCapture, ...]
    images: tuple[PlannedImage, ...] = ()

    def host(self, name: str) -> PlannedHost:
        """Return the host of that name."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise KeyError(name)

    def address(self, name: str) -> str:
        """Return the first IPv4 address of a host, without its prefix length."""
        for adapter in self.host(name).adapters:
            if adapter.address:
                return adapter.address.split("/")[0]
        raise KeyError(name)

    def to_json(self, *, secrets: bool = False) -> dict[str, Any]:
        """Return the plan as JSON data; passwords are "***" unless `secrets`."""
        data = asdict(self)
        if not secrets:
            unattended = [image["unattended"] for image in data["images"] if image["unattended"]]
            for holder in [*data["accounts"], *unattended]:
                for secret in ("password", "product_key"):
                    if holder.get(secret) is not None:
                        holder[secret] = "***"
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Plan:
        """Rebuild a plan from `to_json(secrets=True)`."""
        return cls(
            lab=data["lab"],
            description=data["description"],
            networks=tuple(PlannedNetwork(**n) for n in data["networks"]),
            hosts=tuple(
                PlannedHost(
                    **{
                        **h,
                        "adapters": tuple(PlannedAdapter(**a) for a in h["adapters"]),
                        "roles": tuple(PlannedRole(**r) for r in h["roles"]),
                        "reach": PlannedReach(**h["reach"]) if h.get("reach") else None,
                    }
                )
                for h in data["hosts"]
            ),
            accounts=tuple(PlannedAccount(**a) for a in data["accounts"]),
            captures=tuple(PlannedCapture(**c) for c in data["captures"]),
            images=tuple(PlannedImage(**i) for i in data.get("images", ())),
        )

    def dumps(self, *, secrets: bool = False) -> str:
        """Return canonical JSON text: the same plan is the same text."""
        return json.dumps(self.to_json(secrets=secrets), sort_keys=True, separators=(",", ":"))
