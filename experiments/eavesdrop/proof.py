"""A pcapng of only the frames that prove something, each with a comment that says what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from experiments.eavesdrop.heard import LISTS
from experiments.eavesdrop.plain import plain

if TYPE_CHECKING:
    from pathlib import Path

    from experiments.eavesdrop.heard import Heard

# Frames of a proof, comments on one frame, and characters of a text in a comment.
MOST_FRAMES: Final = 200_000
MOST_COMMENTS: Final = 8
_TEXT: Final = 200


def write(heard: Heard, path: Path) -> tuple[int, int]:
    """Write it; return how many frames it has, and how many had to be left out."""
    comments: dict[int, list[str]] = {}
    left_out: set[int] = set()
    for name in LISTS:
        for row in heard.lists[name].read():
            said = sentence(row)
            for frame in row["frames"]:
                if frame not in comments and len(comments) == MOST_FRAMES:
                    if len(left_out) < MOST_FRAMES:
                        left_out.add(frame)
                    continue
                lines = comments.setdefault(frame, [])
                if len(lines) <= MOST_COMMENTS and said not in lines:
                    lines.append(said if len(lines) < MOST_COMMENTS else "… and more")
    frames = sorted(comments)
    heard.reading.write(frames, path, {frame: "\n".join(comments[frame]) for frame in frames})
    return len(frames), len(left_out)


def sentence(row: dict[str, Any]) -> str:
    """Return what a row says, for a person: 'message from alice to bob: “hi” (irc)'."""
    if "id" in row:
        forms = f" ({', '.join(row['forms'])})" if row["forms"] else ""
        return plain(f"found {row['id']}{forms} in {row['where']}", _TEXT)
    who = f" from {row['who']}" if row["who"] else ""
    whom = f" to {row['whom']}" if row["whom"] else ""
    whose = row["about"].get("user", "")
    whose = f" of {whose}" if whose else ""
    words = f"{row['kind']}{who}{whom}{whose}: “{plain(row['text'], _TEXT)}” ({row['protocol']})"
    return plain(words)
