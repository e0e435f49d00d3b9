"""A lab host as others see it: who it is and how it is reached. Data only."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

#: Opens a connected TCP socket to the given port of a host, on the host's own loopback.
#: Raises OSError while nothing listens there, LabError when the host is gone.
Dial = Callable[[int], socket.socket]


@dataclass(frozen=True, slots=True)
class Host:
    """A host with sshd.

    user     -- whom to log in as.
    host_key -- its pinned public key, as in known_hosts: "ssh-ed25519 AAAA…".
    """

    name: str
    user: str
    host_key: str
