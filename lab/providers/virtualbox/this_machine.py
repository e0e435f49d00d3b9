"""A host of the plan that is the very machine we run on: checked, reached, never changed.

In the paper the hypervisor's host has an address and is pinged. With real machines it is this one:
its address has to be there before guests are bridged beside it.
"""

from __future__ import annotations

import getpass
import os
import platform
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.hosts import Dial
    from lab.plan import PlannedHost
    from lab.providers.virtualbox.adapters import HostAdapter

HOST_KEY = Path("/etc/ssh/ssh_host_ed25519_key.pub")
MASKS = {8: "255.0.0.0", 16: "255.255.0.0", 24: "255.255.255.0"}


def has_address(address: str) -> bool:
    """Tell whether an IPv4 address is one of this machine's: only then can one bind to it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def how_to_set(adapter: str, address: str, system: str) -> str:
    """Return the command that gives an adapter the address "192.168.1.30/24"."""
    ip, _, length = address.partition("/")
    mask = MASKS.get(int(length or 24), "255.255.255.0")
    if system == "Windows":
        return f'netsh interface ipv4 add address name="{adapter}" address={ip} mask={mask}'
    if system == "Darwin":
        return f"sudo ifconfig {adapter.partition(':')[0]} alias {ip} netmask {mask}"
    return f"sudo ip address add {address} dev {adapter}"


def check_addresses(host: PlannedHost, adapters: Sequence[HostAdapter]) -> None:
    """See that this machine has the plan's addresses. Raises LabError with the command to set one.

    adapters -- those that guests are bridged to; the command is for the first.
    """
    for planned in host.adapters:
        if planned.address is None or has_address(planned.address.partition("/")[0]):
            continue
        name = adapters[0].name if adapters else planned.name
        raise LabError(
            f"finding {planned.address} of host {host.name!r} on this machine",
            f"no adapter has it, and {host.name!r} is this machine: guests live on it",
            fault=Fault.MACHINE,
            todo=how_to_set(name, planned.address, platform.system()),
        )


def user() -> str:
    """Return who logs in to this machine: whoever runs imlab."""
    return getpass.getuser()


def host_key(host: str) -> str:
    """Return this machine's own SSH host key, "ssh-ed25519 AAAA…". Raises LabError."""
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


def dial(host: str) -> Dial:
    """Return how to open TCP connections to this machine's own loopback."""

    def connect(port: int) -> socket.socket:
        return socket.create_connection(("127.0.0.1", port), timeout=5)

    _ = host
    return connect


def authorized(public_key: str) -> bool:
    """Tell whether a key may log in here as the user who runs imlab."""
    path = Path(os.path.expanduser("~/.ssh/authorized_keys"))  # noqa: PTH111 - Path.home raises
    try:
        return public_key.split()[1] in path.read_text()
    except (OSError, IndexError):
        return False
