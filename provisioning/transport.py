"""One SSH connection to a lab host: run, put, get, stream, forward."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Result:
    """What a command did; plain data that can be stored.

    started is seconds since the epoch, duration is in seconds.
    """

    host: str
    argv: tuple[str, ...]
    exit_code: int
    stdout: bytes
    stderr: bytes
    started: float
    duration: float
