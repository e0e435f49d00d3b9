"""Refuse to do anything anywhere but in the lab that the order is for."""

from __future__ import annotations

import fcntl
import ipaddress
import json
import select
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any

SIOCGIFADDR, SIOCGIFNETMASK, SIOCGIFHWADDR = 0x8915, 0x891B, 0x8927  # netdevice(7)
GATEWAY = 0x2  # RTF_GATEWAY, route(8)


def say(**event: object) -> None:
    """Say what happened."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def take_order() -> dict[str, Any]:
    """Return the order, after it was found to be for this place; else end."""
    told: dict[str, Any] = json.loads(sys.stdin.readline())
    if why := faults(told):
        say(event="refused", why=why)
        sys.exit(3)
    return told


def faults(told: dict[str, Any]) -> str:
    """Say why nothing is done here, "" if it may be.

    This host is the one of the order by its adapter's name, MAC and address; no route leads
    through a gateway; every target is in the adapter's own network.
    """
    here = told["here"]
    name = here["adapter"].encode()
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            mac = _ask(asking, SIOCGIFHWADDR, name)[18:24].hex(":")
            address = socket.inet_ntoa(_ask(asking, SIOCGIFADDR, name)[20:24])
            mask = socket.inet_ntoa(_ask(asking, SIOCGIFNETMASK, name)[20:24])
    except OSError as error:
        return f"there is no adapter {here['adapter']}: {error.strerror}"
    if mac != here["mac"] or address != here["address"].split("/")[0]:
        return f"this is not {here['name']}: {here['adapter']} is {mac} with {address}"
    for line in Path("/proc/net/route").read_text(encoding="ascii").splitlines()[1:]:
        fields = line.split()
        if fields[1] == "00000000" or int(fields[3], 16) & GATEWAY:
            return "a route leads out of this network: this is no host of a lab"
    network = ipaddress.IPv4Network(f"{address}/{mask}", strict=False)
    for target in told["targets"].values():
        where = ipaddress.IPv4Address(target["address"].split("/")[0])
        if where not in network:
            return f"{target['name']} ({where}) is not in {network}"
    return ""


def _ask(asking: socket.socket, what: int, name: bytes) -> bytes:
    return fcntl.ioctl(asking.fileno(), what, struct.pack("256s", name[:15]))


def address_of(target: dict[str, str]) -> str:
    """Return an address without the length of its prefix."""
    return target["address"].split("/")[0]


class Clock:
    """How long a program may run."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds that are left, 0 when there are none."""
        return max(0.0, self._end - time.monotonic())


def told_to_end(wait: float = 0.0) -> bool:
    """Whether standard input has ended, or ends within `wait` seconds; lines there are skipped."""
    while select.select([sys.stdin], [], [], wait)[0]:
        if not sys.stdin.readline():
            return True
        wait = 0.0
    return False
