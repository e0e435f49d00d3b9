"""The HTML page of captures: what was read, when, in which streams and packets."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from experiments import page, timeline
from experiments.analysis import marked
from experiments.analysis.decoders import decode
from experiments.eavesdrop import packets, wording
from experiments.eavesdrop.plain import plain
from experiments.eavesdrop.rows import as_stream
from lab.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from experiments.analysis.capture import Followed
    from experiments.eavesdrop.heard import Chosen, Heard
    from experiments.eavesdrop.overview import Sealed, Tally

# Rows of each table.
MESSAGES: Final = 500
CREDENTIALS: Final = 500
FINDINGS: Final = 300
CONVERSATIONS: Final = 200
CHIPS: Final = 300
HANDSHAKES: Final = 5
_SCANNED: Final = 20_000  # rows of findings that are looked at for those tables
_TEXT: Final = 2000
_ROWS: Final = 1 << 18
# Bytes of one stream that are turned into text; the command shows the rest.
_FOLLOWED: Final = 4 << 20


def write(heard: Heard, path: Path) -> None:
    """Write the page."""
    figures, view = heard.figures, heard.overview
    files = heard.reading.files
    name = plain(files[0].name, 80) if len(files) == 1 else f"{len(files)} captures"
    chosen = [_stream(heard, one) for one in heard.chosen]
    chosen = [one for one in chosen if one["chunks"]]
    for number, one in enumerate(chosen):
        one["open"] = number == 0
    listed = packets.pack(heard)
    text = page.render(
        "analysis.html.j2",
        [listed],
        name=name,
        version=VERSION,
        sentence=wording.sentence(heard),
        tiles=_tiles(heard),
        when=_when(heard),
        stopped=plain(heard.stopped),
        files=[_file(heard, index) for index in range(len(files))],
        messages=[_message(row) for row in heard.lists["messages"].read_some(MESSAGES)],
        more_messages=max(view.messages_total - MESSAGES, 0),
        credentials=_credentials(view.credentials)[:CREDENTIALS],
        more_credentials=max(
            sum(one.different for one in (view.passwords, view.users, view.secrets)) - CREDENTIALS,
            0,
        ),
        searched=heard.searched,
        hits=[_hit(row) for row in view.hits.most(FINDINGS)],
        chips=[
            (label, _chips(tally), max(tally.different - CHIPS, 0))
            for label, tally in (
                ("Contacts and rooms", view.contacts),
                ("Subjects", view.subjects),
                ("Host names asked for and signed in to", view.names),
                ("Certificates", view.certificates),
            )
            if tally.rows
        ],
        findings=_findings(heard),
        line=_timeline(heard),
        talks=_talks(heard),
        talks_more=_more(heard.reading.streams - CONVERSATIONS, "conversation"),
        streams=chosen,
        shown={one["name"] for one in chosen},
        rows=_rows(heard),
        missing_rows=max(listed["total"] - listed["rows"], 0),
        handshake_rows=_handshakes(heard),
        handshakes_more=_handshakes_more(heard),
        sealed=_sealed(view.sealed),
        unread=_sealed(view.unread),
        skipped={plain(why): number for why, number in heard.reading.skipped.items()},
        notes=sorted(view.notes.items(), key=lambda item: -item[1])[:FINDINGS],
        kinds=figures.kinds,
        protocols=sorted(view.protocols.items(), key=lambda item: -item[1][1]),
        size=wording.size,
        count=wording.count,
    )
    path.write_text(text, "utf-8", errors="replace")


def _tiles(heard: Heard) -> list[dict[str, str]]:
    view = heard.overview
    sealed = sum(entry.streams for entry in view.sealed.values())
    return [
        {"value": wording.grouped(heard.figures.packets), "label": "packets"},
        {"value": wording.grouped(view.streams), "label": "conversations"},
        {"value": wording.grouped(view.messages_total), "label": "messages read"},
        {"value": wording.grouped(view.passwords.different), "label": "passwords read"},
        {"value": wording.grouped(view.names.different), "label": "host names"},
        {"value": wording.grouped(sealed), "label": "streams that stayed sealed"},
    ]


def _when(heard: Heard) -> str:
    figures = heard.figures
    if not figures.packets:
        return "no packet"
    seconds = (figures.last - figures.first) / 1e9
    dropped = heard.dropped
    lost = "nobody counted dropped packets" if dropped is None else f"{dropped} packets dropped"
    size = wording.size(figures.bytes)
    return f"{wording.moment(figures.first)}, {wording.span(seconds)}; {size} on the wire, {lost}"


def _file(heard: Heard, index: int) -> dict[str, Any]:
    file = heard.reading.files[index]
    return {
        "name": plain(file.name),
        "format": f"{file.format} in {file.packed}" if file.packed else file.format,
        "bytes": file.size,
        "links": ", ".join(heard.links),
    }


# --- what was read ----------------------------------------------------------------------------


def _message(row: dict[str, Any]) -> dict[str, Any]:
    return {
        **_place(row),
        "kind": row["kind"],
        "text": plain(row["text"], _TEXT, "\n"),
        "who": plain(row["who"] or row["source"], 120),
        "whom": plain(row["whom"] or row["destination"], 120),
        "protocol": row["protocol"],
        "time": row["time"][:23].replace("T", " "),
    }


def _place(row: dict[str, Any]) -> dict[str, Any]:
    return {"frames": row["frames"], "stream": f"{row['transport']}:{row['stream']}"}


def _credentials(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            **_place(row),
            "kind": row["kind"],
            "text": plain(row["text"], _TEXT),
            "user": plain(row["about"].get("user", ""), 200),
            "refused": row["about"].get("accepted") == "no",
            "where": f"{row['where']}, {row['protocol']}",
            "ends": f"{row['source']} → {row['destination']}",
            "times": row["times"],
        }
        for row in rows
    ]


def _hit(row: dict[str, Any]) -> dict[str, Any]:
    return {
        **_place(row),
        "id": plain(row["id"], 200),
        "where": plain(", ".join([row["where"], *row["forms"]])),
        "ends": f"{row['source']} → {row['destination']}",
        "times": row["times"],
    }


def _chips(tally: Tally) -> list[dict[str, Any]]:
    chips: dict[str, dict[str, Any]] = {}
    for row in tally.most(CHIPS):
        text = plain(row["text"], 200)
        frame = row["frames"][0] if row["frames"] else 0
        chips.setdefault(text, {"text": text, "times": 0, "frame": frame})["times"] += row["times"]
    return list(chips.values())


def _findings(heard: Heard) -> dict[str, Any]:
    """Return the other findings, the same text of a kind once."""
    told = {"domain", "server_name", "certificate", "contact", "room", "subject"}
    seen: dict[tuple[str, ...], dict[str, Any]] = {}
    spool = heard.lists["findings"]
    for row in spool.read_some(_SCANNED):
        if row["kind"] in told:
            continue
        key = row["kind"], row["text"], row["who"]
        if key in seen:
            seen[key]["times"] += 1
        elif len(seen) < FINDINGS:
            where = f"{row['where']}, {row['protocol']}"
            text = plain(row["text"], _TEXT)
            seen[key] = {
                **_place(row),
                "kind": row["kind"],
                "text": text,
                "who": plain(row["who"], 200),
                "where": where,
                "times": 1,
            }
    rows = sorted(seen.values(), key=lambda row: row["kind"])
    return {
        "rows": rows,
        "all": len(spool),
        "whole": len(spool) <= _SCANNED and len(seen) < FINDINGS,
    }


def _sealed(entries: dict[str, Sealed]) -> list[dict[str, Any]]:
    rows = []
    for kind, entry in sorted(entries.items(), key=lambda item: -item[1].bytes):
        names = sorted(entry.names, key=lambda name: -entry.names[name])
        rest = len(names) - 12
        with_ = ", ".join(plain(name, 80) for name in names[:12])
        with_ += f" and {rest} more" if rest > 0 else ""
        row = {"kind": plain(kind), "streams": entry.streams, "bytes": entry.bytes, "with": with_}
        rows.append(row)
    return rows


# --- time, conversations, packets -------------------------------------------------------------


def _timeline(heard: Heard) -> timeline.Timeline | None:
    figures, reading = heard.figures, heard.reading
    if not figures.packets:
        return None
    histogram, each = timeline.counts((figures.last - figures.first) / 1e9)
    table = reading.packets
    for start in range(0, len(table), _ROWS):
        times = (table["time"][start : start + _ROWS] - figures.first) / 1e9
        timeline.add(histogram, each, times)
        reading.forget()
    marks = []
    for (_, kind), first in sorted(heard.moments.items()):
        more = (
            f" and {wording.count(first['times'] - 1, 'more', 'more')}"
            if first["times"] > 1
            else ""
        )
        marks.append((first["since"], kind, plain(first["text"]) + more, first["frame"]))
    return timeline.draw(histogram, each, marks)


def _talks(heard: Heard) -> list[dict[str, Any]]:
    return [
        {
            "name": f"{row['transport']}:{row['number']}",
            "protocol": row["protocol"],
            "client": row["client"],
            "server": row["server"],
            "packets": sum(row["packets"]),
            "forward": row["wire"][0],
            "back": row["wire"][1],
            "when": f"{row['first']:.3f} s, {wording.span(row['last'] - row['first'])}",
        }
        for row in heard.conversations(CONVERSATIONS)
    ]


def _rows(heard: Heard) -> list[tuple[Any, ...]]:
    """Return the rows of the list that stand in the page itself."""
    return [
        (row.number, row.time, plain(row.source), plain(row.destination), plain(row.protocol),
         row.length, plain(row.info))
        for row in heard.reading.rows(1, page.STATIC_ROWS)
    ]  # fmt: skip


def _handshakes(heard: Heard) -> list[dict[str, Any]]:
    return [
        {
            "observer": "",
            "list": 0,
            "stream": f"tcp:{shake.stream}",
            "source": shake.client,
            "destination": shake.server,
            "steps": shake.steps,
        }
        for shake in islice(heard.reading.handshakes(), HANDSHAKES)
    ]


def _handshakes_more(heard: Heard) -> list[str]:
    number = int(np.count_nonzero(heard.reading.flows["syn_frame"])) - HANDSHAKES
    return [f"{wording.count(number, 'more')} in the packet list."] if number > 0 else []


def _more(number: int, what: str) -> str:
    return f"{wording.count(number, f'more {what}')} in --json." if number > 0 else ""


# --- followed streams -------------------------------------------------------------------------


def _stream(heard: Heard, one: Chosen) -> dict[str, Any]:
    """Return a stream as the page shows it: how it begins, and all chunks with something read."""
    followed = heard.reading.stream(one.flow)
    rows = page.cut(list(_chunks(followed, one.marks)))
    row = one.row
    name = f"{row['transport']}:{row['number']}"
    texts = [part[0] for chunk in rows if "parts" in chunk for part in chunk["parts"]]
    line = "".join(texts).split("\n", 1)[0][:100]
    kinds: dict[str, int] = {}
    for _, _, _, kind in one.marks:
        kinds[kind] = kinds.get(kind, 0) + 1
    told = ", ".join(wording.count(number, kind) for kind, number in sorted(kinds.items()))
    size = row["bytes"]["forward"] + row["bytes"]["back"]
    return {
        "name": name,
        "source": row["client"],
        "destination": row["server"],
        "line": line,
        "secrets": told,
        "seen": f"{name}, {row['protocol']}, {wording.size(size)}",
        "chunks": rows,
        "unpacked": _unpacked(followed, one),
        "open": False,
    }


def _unpacked(followed: Followed, one: Chosen) -> list[dict[str, Any]]:
    """Return compressed bodies as what they say, as far as there is room."""
    if one.row["sealed"] != "no" or sum(one.row["bytes"].values()) > _FOLLOWED:
        return []
    stream = as_stream(followed)
    room, rows = page.STREAM_TEXT, []
    for row in marked.unpacked(stream, decode(stream), {}):
        if room <= 0:
            break
        text = plain(row["text"][:room], 0, "\n\t")
        room -= len(text)
        rows.append({**row, "parts": [[text, None]]})
    return rows


def _chunks(
    followed: Followed, marks: Iterable[tuple[bool, int, int, str]]
) -> Iterator[dict[str, Any]]:
    spans = {side: sorted(mark[1:] for mark in marks if mark[0] is side) for side in (True, False)}
    offsets = {True: 0, False: 0}
    for chunk in followed.walk():
        start = offsets[chunk.forward]
        offsets[chunk.forward] += len(chunk.data)
        if sum(offsets.values()) > _FOLLOWED:
            break
        here = [(max(first - start, 0), last - start, kind)
                for first, last, kind in spans[chunk.forward]
                if last > start and first < start + len(chunk.data)]  # fmt: skip
        yield {
            "frame": chunk.frame,
            "bytes": len(chunk.data),
            "forward": chunk.forward,
            "parts": list(_parts(chunk.data, here)),
        }


def _parts(data: bytes, spans: list[tuple[int, int, str]]) -> Iterator[list[str | None]]:
    """Cut bytes at the marks that touch them; of two that overlap the first wins."""
    position = 0
    for start, end, kind in spans:
        first, last = max(start, position), min(end, len(data))
        if first >= last:
            continue
        if first > position:
            yield [marked.printable(data[position:first]), None]
        yield [marked.printable(data[first:last]), kind]
        position = last
    if position < len(data):
        yield [marked.printable(data[position:]), None]
