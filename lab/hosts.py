"""A host that is up, and how it is reached: data only."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Host:
    """A lab host that somebody can log in to.

    name     -- its name in the plan.
    user     -- who logs in.
    host_key -- its pinned public key, one OpenSSH line: "ssh-ed25519 AAAA…".
    """

    name: str
    user: str
    host_key: str


Dial = Callable[[int], socket.socket]
"""Return a connected TCP socket to 127.0.0.1:<port> inside a host; raises OSError."""
