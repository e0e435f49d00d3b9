"""The JSON document, written row by row: memory does not grow with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from experiments.eavesdrop import rows
from experiments.eavesdrop.heard import LINKS, LISTS
from experiments.eavesdrop.plain import dumps
from lab.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

    from experiments.eavesdrop.heard import Heard

FORMAT: Final = 1


def head(heard: Heard) -> dict[str, Any]:
    """Return what is said of the captures as a whole."""
    figures, reading = heard.figures, heard.reading
    return {
        "format": FORMAT,
        "imlab": VERSION,
        "files": [
            {"name": file.name, "format": file.format, "packed": file.packed, "bytes": file.size}
            for file in reading.files
        ],
        "interfaces": [
            {
                "file": interface.file,
                "name": interface.name,
                "description": interface.description,
                "link_type": interface.link,
                "link": LINKS.get(interface.link, f"link type {interface.link}"),
                "snap_length": interface.snap,
            }
            for interface in reading.interfaces
        ],
        "comments": [
            {"frame": comment.frame, "text": comment.text} for comment in reading.comments
        ],
        "packets": figures.packets,
        "bytes": figures.bytes,
        "captured_bytes": figures.captured,
        "dropped": heard.dropped,
        "first_time": rows.clock(figures.first) if figures.packets else "",
        "last_time": rows.clock(figures.last) if figures.packets else "",
        "duration_s": round((figures.last - figures.first) / 1e9, 9) if figures.packets else None,
        "start_time": rows.clock(reading.start) if figures.packets else "",
        "frames_by_kind": figures.kinds,
    }


def tail(heard: Heard) -> dict[str, Any]:
    """Return what was not read and why."""
    left_out = {name: heard.lists[name].left_out for name in LISTS}
    return {
        "skipped": heard.reading.skipped,
        "not_decoded": heard.overview.waiting,
        "left_out": {**left_out, "streams": heard.streams.left_out},
        "stopped": heard.stopped,
        "interrupted": heard.interrupted,
    }


def write(heard: Heard, file: TextIO) -> None:
    """Write all of it; schema.json beside this file says how."""
    file.writelines(pieces(heard))


def pieces(heard: Heard) -> Iterator[str]:
    """Yield the document."""
    yield dumps(head(heard))[:-1]
    yield ',\n"streams":'
    yield from _list(_streams(heard))
    for name in LISTS:
        yield f',\n"{name}":'
        yield from _list(heard.lists[name].lines())
    yield ",\n"
    yield dumps(tail(heard))[1:] + "\n"


def _list(lines: Iterator[str]) -> Iterator[str]:
    separator = "[\n"
    for line in lines:
        yield separator + line
        separator = ",\n"
    yield "[]" if separator == "[\n" else "\n]"


def _streams(heard: Heard) -> Iterator[str]:
    """Yield the rows of all streams in the order in which they appeared.

    Those with bytes were put aside while they were read; the others, of which only headers were
    seen, and those that an interruption left unread are made here.
    """
    known = heard.streams.read()
    row = next(known, None)
    for flow in range(heard.reading.streams):
        if row is not None and row["flow"] == flow:
            del row["flow"]
            yield dumps(row)
            row = next(known, None)
        else:
            followed = heard.reading.stream(flow)
            yield dumps(rows.stream(followed, None, heard.reading.start, hashes=True))
