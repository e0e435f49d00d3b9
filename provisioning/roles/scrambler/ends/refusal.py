"""Why a connection is refused: one word for counters, one sentence for the log."""

from __future__ import annotations

WRONG_KEY = "wrong key"
NO_KEY = "no key"
TAMPERED = "tampered"
TRUNCATED = "truncated"
NO_SCRAMBLER = "no scrambler"
VERSION = "version"
ELSEWHERE = "meant for elsewhere"
MALFORMED = "malformed"
EXHAUSTED = "exhausted"
UNREACHABLE = "unreachable"
BUSY = "busy"

REASONS = (
    WRONG_KEY,
    NO_KEY,
    TAMPERED,
    TRUNCATED,
    NO_SCRAMBLER,
    VERSION,
    ELSEWHERE,
    MALFORMED,
    EXHAUSTED,
    UNREACHABLE,
    BUSY,
)


class RefusedError(Exception):
    """A connection that must not go on. Nothing of what it carried since is handed on.

    reason -- one of REASONS; detail -- a sentence, free of secrets and of the peer's bytes.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
