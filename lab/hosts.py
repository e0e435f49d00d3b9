"""A host that is up, and how it is reached: data only."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Host:
    """A lab host that somebody can log in to.

    name        -- its name in the plan.
    user        -- who logs in.
    host_key    -- its pinned public key, one OpenSSH line: "ssh-ed25519 AAAA…".
    private_key -- the key to log in with, in OpenSSH's format; repr hides it.
    patience    -- seconds that a login may take: a machine that is interpreted takes eight.
    pace        -- how many times as long as on a namespace anything on it may take.
    """

    name: str
    user: str
    host_key: str
    private_key: str = field(repr=False)
    patience: float = 10.0
    pace: float = 1.0


Dial = Callable[[int], socket.socket]
"""Return a connected TCP socket to 127.0.0.1:<port> inside a host; raises OSError."""
