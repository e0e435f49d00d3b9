"""The rows of the JSON document: a stream, something that was read. docs/analyze.md has all."""

from __future__ import annotations

import functools
import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from experiments.analysis.capture import Followed
    from experiments.analysis.model import Decoded, Stream
    from experiments.analysis.told import Told

# Of one row: characters of its text, frames that are listed.
LONGEST_TEXT: Final = 1 << 16
MOST_FRAMES: Final = 1000
MESSAGES: Final = frozenset({"message", "sealed"})
CREDENTIALS: Final = frozenset({"user", "password", "hash", "token", "cookie"})
_WAYS: Final = {True: "forward", False: "back"}


def clock(nanoseconds: int) -> str:
    """Return RFC 3339 in UTC with nanoseconds; "" for a time that no calendar has."""
    seconds, rest = divmod(nanoseconds, 10**9)
    second = _second(seconds)
    return f"{second}.{rest:09d}Z" if second else ""


@functools.lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return ""


def list_of(kind: str) -> str:
    """Return the list that a kind of exposure belongs to."""
    if kind in MESSAGES:
        return "messages"
    return "credentials" if kind in CREDENTIALS else "findings"


def as_stream(followed: Followed) -> Stream:
    """Return a followed stream as the decoders know it: it has all that they ask of one."""
    return cast("Stream", followed)


def both(forward: Any, back: Any) -> dict[str, Any]:  # noqa: ANN401 - numbers or texts
    """Return what is said of each direction."""
    return {"forward": forward, "back": back}


def protocol(decoded: Decoded | None) -> str:
    """Return the protocols of a stream, the outermost first; "" for none."""
    return "/".join((decoded.protocol, *decoded.inside)) if decoded else ""


def stream(
    followed: Followed,
    decoded: Decoded | None,
    start: int,
    *,
    hashes: bool,
) -> dict[str, Any]:
    """Return the row of a stream. start: when the first packet was captured, in ns."""
    row: dict[str, Any] = {
        "transport": followed.protocol,
        "number": followed.number,
        "client": followed.client,
        "server": followed.server,
        "packets": both(*followed.packets),
        "wire_bytes": both(*followed.frame_bytes),
        "bytes": both(followed.length(forward=True), followed.length(forward=False)),
    }
    if hashes:
        row["sha256"] = both(_hash(followed, forward=True), _hash(followed, forward=False))
    row |= {
        "missing": both(followed.missing(forward=True), followed.missing(forward=False)),
        "started": followed.started,
        "first": round(followed.first_time, 9),
        "last": round(followed.last_time, 9),
        "first_time": clock(start + round(followed.first_time * 1e9)),
        "protocol": protocol(decoded),
        "sealed": decoded.facts.get("sealed", "no") if decoded else "no",
        "facts": decoded.facts if decoded else {},
        "notes": list(decoded.notes) if decoded else [],
    }
    return row


def _hash(followed: Followed, *, forward: bool) -> str:
    if followed.clipped:
        return followed.sha256(forward=forward)
    return hashlib.sha256(followed.side(forward=forward)).hexdigest()


def told(row: Told, followed: Followed, start: int) -> dict[str, Any]:
    """Return the row of something that was read."""
    exposure = row.exposure
    out: dict[str, Any] = {
        "kind": row.kind,
        "text": row.text[:LONGEST_TEXT],
        "who": row.who,
        "whom": row.whom,
        "source": row.source,
        "destination": row.destination,
        "when": None if row.when is None else round(row.when, 9),
        "time": "" if row.when is None else clock(start + round(row.when * 1e9)),
        "frames": list(row.frames[:MOST_FRAMES]),
        "transport": followed.protocol,
        "stream": followed.number,
        "direction": _WAYS[exposure.forward],
        "start": exposure.start,
        "end": exposure.end,
        "protocol": row.protocol,
        "where": exposure.where,
        "encodings": list(exposure.encodings),
        "about": exposure.about,
    }
    if len(row.text) > LONGEST_TEXT:
        out["more_text"] = len(row.text) - LONGEST_TEXT
    if len(row.frames) > MOST_FRAMES:
        out["more_frames"] = len(row.frames) - MOST_FRAMES
    return out
