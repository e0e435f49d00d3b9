"""First-boot configuration: what is in a host before its sshd starts. Pure but for making keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

if TYPE_CHECKING:
    from lab.plan import Plan

HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An Ed25519 key pair in OpenSSH's formats (PROTOCOL.key; sshd(8), AUTHORIZED_KEYS)."""

    private: str
    public: str

    def __repr__(self) -> str:
        """Hide the private half."""
        return f"KeyPair({self.public})"


@dataclass(frozen=True, slots=True)
class LabKeys:
    """The keys of one lab: one to log in with, and every host's own."""

    client: KeyPair
    hosts: dict[str, KeyPair]


def make_key_pair() -> KeyPair:
    """Return a fresh key pair."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return KeyPair(private.decode(), public.decode())


def make_keys(plan: Plan) -> LabKeys:
    """Return fresh keys for a lab."""
    return LabKeys(make_key_pair(), {host.name: make_key_pair() for host in plan.hosts})


def hosts_file(plan: Plan, name: str) -> str:
    """Return /etc/hosts of a host: itself, and every host of the lab that has an address."""
    lines = ["127.0.0.1 localhost", f"127.0.1.1 {name}"]
    for host in plan.hosts:
        addresses = [a.address.split("/")[0] for a in host.adapters if a.address]
        lines.extend(f"{address} {host.name}" for address in addresses[:1])
    return "\n".join(lines) + "\n"


def host_files(plan: Plan, name: str, keys: LabKeys) -> dict[str, tuple[int, str]]:
    """Return path -> (mode, text) of what a host needs before its sshd starts."""
    own = keys.hosts[name]
    return {
        "/etc/hostname": (0o644, f"{name}\n"),
        "/etc/hosts": (0o644, hosts_file(plan, name)),
        "/etc/resolv.conf": (0o644, "# a lab has no way out, so there is nobody to ask\n"),
        HOST_KEY: (0o600, own.private),
        f"{HOST_KEY}.pub": (0o644, f"{own.public}\n"),
        "/root/.ssh/authorized_keys": (0o600, f"{keys.client.public}\n"),
    }
