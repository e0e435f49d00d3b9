"""A host of the plan that is the very machine we run on: checked, reached, changed only when told.

In the paper the hypervisor's host has an address and is pinged. With real machines it is this one:
its address has to be there before guests are bridged beside it, and its own sshd is the way in.
"""

from __future__ import annotations

import getpass
import ipaddress
import os
import platform
import shlex
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from lab.errors import Fault, LabError
from lab.hosts import Host

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.hosts import Dial
    from lab.plan import PlannedHost

HOST_KEY = Path("/etc/ssh/ssh_host_ed25519_key.pub")
KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")
PATIENCE = 5.0  # seconds


def has_address(address: str) -> bool:
    """Tell whether an IPv4 address is one of this machine's: only then can one bind to it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def how_to_set(adapter: str, address: str, system: str) -> list[str]:
    """Return the command that gives an adapter the address "192.168.1.30/24" besides its own."""
    ip, mask = address.partition("/")[0], str(ipaddress.IPv4Interface(address).netmask)
    if system == "Windows":
        words = ["netsh", "interface", "ipv4", "add", "address"]
        return [*words, f"name={adapter}", f"address={ip}", f"mask={mask}"]
    if system == "Darwin":
        return ["sudo", "ifconfig", adapter.partition(":")[0], "alias", ip, "netmask", mask]
    return ["sudo", "ip", "address", "add", address, "dev", adapter]


def _by_root(command: list[str]) -> list[str]:
    """Return the command without sudo where nobody needs it, and where it may not be installed."""
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    return command[1:] if root and command[0] == "sudo" else command


def written(command: list[str], system: str) -> str:
    """Return a command as one types it."""
    return subprocess.list2cmdline(command) if system == "Windows" else shlex.join(command)


def check_addresses(host: PlannedHost, bridges: Sequence[str], *, configure: bool) -> None:
    """See that this machine has the plan's addresses; set them when told to.

    bridges -- the adapters that guests share; the address belongs on the first.
    Raises LabError with the command that sets one.
    """
    for planned in host.adapters:
        if planned.address is None or has_address(planned.address.partition("/")[0]):
            continue
        command = how_to_set(
            bridges[0] if bridges else planned.name, planned.address, platform.system()
        )
        if configure:
            _set(host, command)
            continue
        raise LabError(
            f"finding {planned.address} of host {host.name!r} on this machine",
            f"no adapter has it, and {host.name!r} is this machine: guests live on it",
            fault=Fault.MACHINE,
            todo=f"give it the address: {written(command, platform.system())}",
        )


def _set(host: PlannedHost, command: list[str]) -> None:
    try:
        done = subprocess.run(
            _by_root(command), capture_output=True, text=True, check=False, timeout=60
        )
        saw = f"{done.stdout}{done.stderr}" if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        saw = str(error)
    if saw:
        raise LabError(
            f"giving this machine the address of host {host.name!r}",
            f"{written(command, platform.system())}\n{saw}",
            fault=Fault.MACHINE,
            todo="run that command as an administrator",
        )


def login(host: PlannedHost) -> Host:
    """Return how whoever runs imlab logs in to this machine. Raises LabError that says what to do.

    With a key of theirs that this account accepts already; none is put there.
    """
    return Host(host.name, getpass.getuser(), _host_key(host.name), _private_key(host.name))


def dial() -> Dial:
    """Return how to open TCP connections to this machine's own loopback."""
    return lambda port: socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def _host_key(host: str) -> str:
    try:
        kind, key, *_ = HOST_KEY.read_text().split()
    except (OSError, ValueError) as error:
        raise LabError(
            f"reaching host {host!r}, which is this machine",
            f"it has no SSH host key to pin: {error}",
            fault=Fault.MACHINE,
            todo="install and start an SSH server (Debian: sudo apt-get install openssh-server)",
        ) from error
    return f"{kind} {key}"


def _private_key(host: str, home: Path | None = None) -> str:
    folder = (home or Path.home()) / ".ssh"
    try:
        accepted = (folder / "authorized_keys").read_text().split()
    except OSError:
        accepted = []
    there = [name for name in KEYS if (folder / name).is_file()]
    for name in there:
        if _public(folder / f"{name}.pub") in accepted:
            return (folder / name).read_text()
    key = there[0] if there else KEYS[0]
    make = "" if there else f"ssh-keygen -t ed25519 -f ~/.ssh/{key} -N '' && "
    raise LabError(
        f"reaching host {host!r}, which is this machine",
        f"{getpass.getuser()} has no key that this account accepts",
        fault=Fault.MACHINE,
        todo=f"{make}cat ~/.ssh/{key}.pub >> ~/.ssh/authorized_keys",
    )


def _public(path: Path) -> str | None:
    """Return the key itself of "ssh-ed25519 AAAA… comment"."""
    try:
        return path.read_text().split()[1]
    except (OSError, IndexError):
        return None
