"""Capture bytes to packets, streams and findings. Pure judging: never touches a host.

`analyse` reads the captures of a run folder and returns the content of analysis.json: for every
observer the packet list, handshakes, streams and what was readable; for every planted text where
each observer could read it; and what was reported that nobody planted.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from experiments.analysis import marked
from experiments.analysis.decoders import decode
from experiments.analysis.engines import engine
from experiments.analysis.search import Haystack, same
from experiments.analysis.topology import Names, visible

if TYPE_CHECKING:
    from pathlib import Path

    from experiments.analysis.model import Capture, Decoded, Engine, Stream
    from experiments.analysis.search import Hit
    from lab.plan import Plan

FORMAT: Final = 1
# Of these kinds nothing may be reported that was not planted; the others are read off the system.
EXACT_KINDS: Final = ("message", "user", "password")


@dataclass(frozen=True)
class Observer:
    """One capture, read: who listened where, what the engine and the decoders made of it."""

    row: dict[str, Any]
    capture: Capture
    decoded: dict[int, Decoded | None] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The observation point, e.g. "guest/eth0"."""
        return f"{self.row['host']}/{self.row['adapter']}"

    def doubts(self) -> list[str]:
        """Return why not finding something here proves nothing; [] when it does."""
        capture, dropped = self.capture, self.row["dropped"]
        doubts = []
        if dropped is None:
            doubts.append("nobody counted dropped packets")
        elif dropped:
            doubts.append(f"{dropped} packets were dropped")
        if len(capture.packets) != self.row["packets"]:
            saw, told = len(capture.packets), self.row["packets"]
            doubts.append(f"the capture holds {saw} packets and {told} were counted")
        if capture.gaps:
            doubts.append(f"segments are missing at {len(capture.gaps)} frames")
        if capture.cut:
            doubts.append(f"{len(capture.cut)} frames were cut short")
        opened = {handshake.stream for handshake in capture.handshakes}
        late = [s for s in capture.streams if s.protocol == "tcp" and s.number not in opened]
        if late:
            doubts.append(f"the beginning of {len(late)} connections was not captured")
        if capture.unread:
            doubts.append("the file could not be read to its end")
        return doubts


def analyse(
    folder: Path, plan: Plan, results: dict[str, Any], *, engine_name: str = "native"
) -> dict[str, Any]:
    """Read the captures that results["captures"] lists; return the content of analysis.json.

    Raises LabError when the engine is not installed or a capture is unreadable.
    """
    chosen = engine(engine_name)
    rows = results.get("captures", [])
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - a hundredth of a second

    with ThreadPoolExecutor(max_workers=max(len(rows) + 1, 1)) as pool:
        version = pool.submit(chosen.version)
        observers = list(pool.map(lambda row: _observe(folder, row, chosen), rows))
    names = Names.of(plan)
    planted = results.get("chat", {}).get("planted", [])
    hits = _search(planted, observers, names)
    judged = _judge_planted(planted, observers, hits, plan, names)
    unplanted = _unplanted(planted, observers, names)
    return {
        "format": FORMAT,
        "engine": {"name": chosen.name, "version": version.result()},
        "observers": [_observer(observer, names, hits[observer.name]) for observer in observers],
        "planted": judged,
        "unplanted": unplanted,
        "score": _score(judged, unplanted),
    }


def _search(
    planted: list[dict[str, Any]], observers: list[Observer], names: Names
) -> dict[str, dict[str, list[Hit]]]:
    """Return where each planted text is readable: hits by observer and by planted id.

    A text that was planted on several servers counts for each of them only in connections to it:
    reading one must not stand for having read the other.
    """
    servers: dict[str, set[str | None]] = {}
    for item in planted:
        servers.setdefault(item["text"], set()).add(item.get("server"))
    found: dict[str, dict[str, list[Hit]]] = {}
    for observer in observers:
        haystacks = [
            Haystack(
                stream, decoded.passages if decoded else (), decoded.exposures if decoded else ()
            )
            for stream, decoded in zip(
                observer.capture.streams, observer.decoded.values(), strict=True
            )
        ]
        found[observer.name] = {
            item["id"]: [
                hit
                for haystack in haystacks
                for hit in haystack.find(
                    item["text"], _longer(item, planted), spaced=item["kind"] == "user"
                )
                if len(servers[item["text"]]) == 1 or names.end(hit.stream.server) == item["server"]
            ]
            for item in planted
        }
    return found


def in_the_clear(row: dict[str, Any]) -> bool:
    """Whether a planted text can be expected to be read on the wire, as far as that is told."""
    return not row.get("readable") or "wire" in row["readable"]


def _longer(item: dict[str, Any], planted: list[dict[str, Any]]) -> tuple[str, ...]:
    text = item["text"]
    return tuple(sorted({row["text"] for row in planted if text in row["text"]} - {text}))


def _score(judged: list[dict[str, Any]], unplanted: list[dict[str, Any]]) -> dict[str, Any]:
    """Return recall over every (text sent in the clear, direction, observer on its path).

    What a countermeasure hid is not expected, where the ground truth tells so.
    recall is None where nothing was expected, or where a doubtful capture leaves it open.
    """
    states = Counter(
        state
        for row in judged
        if row["wire"] and in_the_clear(row)
        for seen in row["observers"].values()
        for state in seen["directions"].values()
        if state != "not on its path"
    )
    total = sum(states.values())
    known = total and not states["inconclusive"]
    return {
        "expected": total,
        "found": states["found"],
        "missed": states["not found"],
        "inconclusive": states["inconclusive"],
        "recall": round(states["found"] / total, 6) if known else None,
        "unplanted": len(unplanted),
    }


def _observe(folder: Path, row: dict[str, Any], chosen: Engine) -> Observer:
    capture = chosen.read(folder / row["file"])
    decoded = {index: decode(stream) for index, stream in enumerate(capture.streams)}
    return Observer(row, capture, decoded)


def _observer(observer: Observer, names: Names, hits: dict[str, list[Hit]]) -> dict[str, Any]:
    capture = observer.capture
    return {
        **{key: observer.row[key] for key in ("host", "adapter", "file", "packets", "dropped")},
        "name": observer.name,
        "doubts": observer.doubts(),
        "bytes": sum(packet.length for packet in capture.packets),
        "duration_s": round(capture.packets[-1].time, 6) if capture.packets else None,
        "packet_list": [
            [p.number, round(p.time, 6), p.source, p.destination, p.protocol, p.length, p.info]
            for p in capture.packets
        ],
        "handshakes": [
            {
                **asdict(handshake),
                "complete": handshake.complete,
                "source": names.end(handshake.client),
                "destination": names.end(handshake.server),
            }
            for handshake in capture.handshakes
        ],
        "streams": [
            _stream(stream, observer.decoded[index], names, hits)
            for index, stream in enumerate(capture.streams)
        ],
        "findings": _findings(observer, names),
    }


def _stream(
    stream: Stream, decoded: Decoded | None, names: Names, marks: dict[str, list[Hit]]
) -> dict[str, Any]:
    forward, back = (stream.side(forward=side) for side in (True, False))
    return {
        "number": stream.number,
        "transport": stream.protocol,
        "protocol": decoded.protocol if decoded else None,
        "decoded": decoded.complete if decoded else False,
        "client": stream.client,
        "server": stream.server,
        "source": names.end(stream.client),
        "destination": names.end(stream.server),
        "bytes_forward": len(forward),
        "bytes_back": len(back),
        "sha256": hashlib.sha256(forward + b"\0" + back).hexdigest(),
        "chunks": marked.chunks(stream, marks),
        "unpacked": marked.unpacked(stream, decoded, marks),
    }


def _direction(stream: Stream, names: Names, *, forward: bool) -> str:
    ends = names.end(stream.client), names.end(stream.server)
    return "->".join(ends if forward else reversed(ends))


def _findings(observer: Observer, names: Names) -> list[dict[str, Any]]:
    """Return what the decoders read, the same thing in the same place and direction once."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for index, decoded in observer.decoded.items():
        stream = observer.capture.streams[index]
        for exposure in decoded.exposures if decoded else ():
            direction = _direction(stream, names, forward=exposure.forward)
            key: tuple[str, ...] = (exposure.kind, exposure.text, exposure.where, direction)
            if exposure.kind == "presence":  # its text is a state; whose it is stands beside it
                key += (exposure.about.get("sender", ""), exposure.about.get("recipient", ""))
            row = found.setdefault(
                key,
                {
                    "kind": exposure.kind,
                    "text": exposure.text,
                    "where": exposure.where,
                    "direction": direction,
                    "about": exposure.about,
                    "encodings": list(exposure.encodings),
                    "proofs": [],
                },
            )
            frames = stream.frames(exposure.start, exposure.end, forward=exposure.forward)
            proof = {"stream": stream.number, "frames": list(frames)}
            if proof not in row["proofs"]:
                row["proofs"].append(proof)
    return list(found.values())


def _judge_planted(
    planted: list[dict[str, Any]],
    observers: list[Observer],
    hits: dict[str, dict[str, list[Hit]]],
    plan: Plan,
    names: Names,
) -> list[dict[str, Any]]:
    rows = []
    for item in planted:
        seen = {}
        for observer in observers:
            sight = visible(plan, observer.row["host"], observer.row["adapter"])
            found = hits[observer.name][item["id"]]
            seen[observer.name] = _sighting(item, observer, found, sight, names)
        rows.append({**item, "observers": seen})
    return rows


def _sighting(
    item: dict[str, Any],
    observer: Observer,
    hits: list[Hit],
    sight: frozenset[str],
    names: Names,
) -> dict[str, Any]:
    """Return what one observer could read of one planted text.

    state -- found, not found, inconclusive (not found, and the capture has doubts) or
    not on its path (not found, and it was never to cross this adapter).
    """
    rows: list[dict[str, Any]] = []
    for hit in hits:
        row = {
            "stream": hit.stream.number,
            "transport": hit.stream.protocol,
            "direction": _direction(hit.stream, names, forward=hit.forward),
            "where": hit.where,
            "forms": list(hit.forms),
            "frames": list(hit.frames),
        }
        if row not in rows:  # the same frames hold it twice, a table with a name in each row
            rows.append(row)
    doubts = observer.doubts()

    def state(*, found: bool, crosses: bool) -> str:
        if found:
            return "found"
        if not crosses:
            return "not on its path"
        return "inconclusive" if doubts else "not found"

    ways = {}
    for way in item["directions"]:
        crosses = bool(sight & set(way.split("->")))
        ways[way] = state(found=any(row["direction"] == way for row in rows), crosses=crosses)
    crosses = any(word != "not on its path" for word in ways.values()) or not ways
    return {
        "state": state(found=bool(rows), crosses=crosses),
        "expected": bool(item["wire"]) and crosses and in_the_clear(item),
        "directions": ways,
        "hits": rows,
    }


def _unplanted(
    planted: list[dict[str, Any]], observers: list[Observer], names: Names
) -> list[dict[str, Any]]:
    """Return what was reported as message, user or password and was not planted as such."""
    known = {kind: [p["text"] for p in planted if p["kind"] == kind] for kind in EXACT_KINDS}
    senders = [item["sender"] for item in planted if item.get("sender")]
    addresses = [item["text"] for item in planted if item["kind"] == "contact"]
    known["user"] = [*known["user"], *senders, *addresses]
    known["message"] += [item["text"] for item in planted if item["kind"] == "sealed"]
    return [
        {"observer": observer.name, **finding}
        for observer in observers
        for finding in _findings(observer, names)
        if finding["kind"] in EXACT_KINDS
        and not any(same(_bare(finding), text) for text in known[finding["kind"]])
    ]


def _bare(finding: dict[str, Any]) -> str:
    """Return what was read; of an XMPP address no resource, which a server makes by chance."""
    text: str = finding["text"]
    is_address = finding["kind"] == "user" and "@" in text
    return text.partition("/")[0] if is_address else text
