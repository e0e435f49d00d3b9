"""One cell judged from its run folder: what each observer could read of each kind, with proof."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from experiments.analysis import EXACT_KINDS, Observer
from experiments.analysis import capture as captures
from experiments.analysis.decoders import decode
from experiments.analysis.engines import engine
from experiments.analysis.search import same
from experiments.analysis.topology import visible
from experiments.judge import load_run
from experiments.matrix import metadata, secrets, sightings
from experiments.matrix.cost import cost
from experiments.matrix.needles import Needles
from experiments.matrix.sightings import Seen

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from experiments.analysis.model import Capture
    from experiments.judge import Run
    from experiments.matrix.secrets import Item, Truth

READ, PARTLY, NOT_READ = "read", "partly read", "not read"
NOTHING, OPEN, UNMEASURED = "nothing there", "inconclusive", "not measured"
METADATA: Final = "metadata"
DECOYS: Final = "decoys"
# Where an observer's copies show what messaging.Place calls so.
_PLACES: Final = {"store": "store", "memory": "server", "ends": "ends"}


@dataclass(frozen=True)
class View:
    """An observer of a cell: what was in play there, what was seen, and the facts told.

    expected, readable -- what the ground truth says must and can be read there, by id.
    """

    observer: str
    seen: Seen
    in_play: dict[str, list[Item]]
    expected: frozenset[str]
    readable: frozenset[str]
    told: tuple[metadata.Told, ...]
    unplanted: tuple[dict[str, Any], ...] = ()


def judge_cell(path: Path) -> dict[str, Any]:
    """Return what matrix.json holds of a cell. Raises LabError for a folder that is no run."""
    run = load_run(path)
    truth = secrets.truth(run)
    needles = Needles(truth.items)
    views = [*_wire(run, truth, needles), *_copies(run, truth, needles)]
    faults = [f"{fact.file} {fact.fault}" for fact in run.folder.verify()]
    return {
        "run": run.folder.name,
        "system": truth.system,
        "countermeasure": truth.countermeasure,
        "started": run.manifest["started"],
        "faults": faults,
        "planted": Counter(item.kind for item in truth.items if not item.decoy),
        "rows": [row for view in views for row in _rows(truth, view)],
        "observers": {view.observer: _observer(view) for view in views},
        "score": _score(truth, views),
        "cost": cost(run, truth),
        "keys": sorted(name for name in run.manifest["files"] if name.startswith("keys/")),
        "captures": [
            {key: row[key] for key in ("file", "host", "adapter", "packets", "dropped")}
            for row in run.results["captures"]
        ],
    }


def _wire(run: Run, truth: Truth, needles: Needles) -> Iterator[View]:
    chosen = engine("native")
    for row in run.results["captures"]:
        file = row["file"]
        capture = chosen.read(run.folder.path / file)
        with captures.read([run.folder.path / file]) as reading:
            start = reading.start / 1e9
        seen = Seen(doubts=Observer(row, capture).doubts())
        sightings.on_the_wire(seen, file, capture, needles)
        sight = visible(run.plan, row["host"], row["adapter"])
        in_play = {
            kind: [item for item in truth.of_kind(kind) if _crosses(item, sight)]
            for kind in secrets.KINDS
        }
        expected = frozenset(
            item.id
            for items in in_play.values()
            for item in items
            if "wire" in item.readable and _crosses(item, sight)
        )
        told = (
            *metadata.with_whom(truth, seen, stored=False),
            *metadata.on_the_wire(truth, file, capture, start, sight),
        )
        name = f"{row['host']}/{row['adapter']}"
        unplanted = tuple(_unplanted(truth, capture))
        yield View(name, seen, in_play, expected, expected, told, unplanted)


def _crosses(item: Item, sight: frozenset[str]) -> bool:
    """Whether a text, in whatever form, has to do with a connection that passes there.

    A password that proves who one is may never be sent; whoever listens would like to have it.
    """
    if any(sight & set(way.split("->")) for way in item.directions):
        return True
    return (
        item.kind == "password" and item.at != item.server and bool(sight & {item.at, item.server})
    )


def _unplanted(truth: Truth, capture: Capture) -> Iterator[dict[str, Any]]:
    """Yield what a decoder gave out as message, user or password and nobody sent as such."""
    known = {kind: [item.text for item in truth.of_kind(kind)] for kind in EXACT_KINDS}
    known["message"] += [item.text for item in truth.of_kind("sealed")]
    known["user"] += [item.text for item in truth.of_kind("contact")]
    known["user"] += [person.account for person in truth.people]
    for stream in capture.streams:
        decoded = decode(stream)
        for exposure in decoded.exposures if decoded else ():
            text = exposure.text.partition("/")[0] if "@" in exposure.text else exposure.text
            if exposure.kind in EXACT_KINDS and not any(
                same(text, one) for one in known[exposure.kind]
            ):
                yield {"kind": exposure.kind, "text": exposure.text, "stream": stream.number}


def _copies(run: Run, truth: Truth, needles: Needles) -> Iterator[View]:
    by_observer: dict[str, list[dict[str, Any]]] = {}
    for sight in run.results.get("sights", []):
        by_observer.setdefault(sight["observer"], []).append(sight)
    for name, sights in by_observer.items():
        seen = Seen()
        for sight in sights:
            sightings.in_a_copy(seen, run.folder.path, sight, needles)
        place = _PLACES.get(name, sights[0]["place"])
        in_play = {kind: truth.of_kind(kind) for kind in secrets.KINDS}
        readable = frozenset(
            item.id for items in in_play.values() for item in items if place in item.readable
        )
        # A process forgets: what its memory holds is measured, and nothing is expected of it.
        expected = frozenset() if place == "server" else readable
        told = (
            *metadata.with_whom(truth, seen, stored=True),
            *metadata.in_store(truth, seen),
        )
        yield View(name, seen, in_play, expected, readable, told)


def _rows(truth: Truth, view: View) -> Iterator[dict[str, Any]]:
    for kind, items in view.in_play.items():
        found = [(item, view.seen.found[item.id]) for item in items if item.id in view.seen.found]
        evidence = [
            {"secret": item.id, "text": item.text, "times": len(rows), **_first(rows)}
            for item, rows in found
        ]
        yield _row(truth, view, kind, len(items), evidence)
    evidence = [
        {"fact": told.fact, "about": told.about, **told.proof} for told in view.told if told.proof
    ]
    yield _row(truth, view, METADATA, len(view.told), evidence)
    false = [
        {"secret": item.id, "text": item.text, **_first(view.seen.found[item.id])}
        for item in truth.items
        if item.decoy and item.id in view.seen.found
    ]
    row = _row(truth, view, DECOYS, 0, [*false, *view.unplanted])
    yield {**row, "verdict": "false report" if row["recovered"] else "none reported"}


def _first(rows: list[sightings.Sighting]) -> dict[str, Any]:
    """Return the plainest proof: as it is, if it was seen so anywhere."""
    return min(rows, key=lambda row: (row.form != "as is", row.form.count(","))).proof


def _row(
    truth: Truth, view: View, kind: str, sent: int, evidence: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "system": truth.system,
        "countermeasure": truth.countermeasure,
        "observer": view.observer,
        "kind": kind,
        "sent": sent,
        "recovered": len(evidence),
        "verdict": verdict(sent, len(evidence), view.seen),
        "evidence": evidence,
    }


def verdict(sent: int, recovered: int, seen: Seen) -> str:
    """Return the word for a share; what is not all there proves nothing by what it lacks."""
    if seen.lacks:
        return UNMEASURED
    if not sent:
        return NOTHING
    if recovered >= sent:
        return READ
    if seen.doubts:
        return OPEN
    return PARTLY if recovered else NOT_READ


def _observer(view: View) -> dict[str, Any]:
    """Return the observer's doubts, and in one of a few words how much it could read."""
    found = {
        kind: sum(item.id in view.seen.found for item in items)
        for kind, items in view.in_play.items()
    }
    facts = Counter(told.fact for told in view.told if told.proof)
    return {
        "doubts": view.seen.doubts,
        "lacks": view.seen.lacks,
        "level": level(view, found, facts),
        "facts": {
            fact: {"told": facts[fact], "of": sum(told.fact == fact for told in view.told)}
            for fact in dict.fromkeys(told.fact for told in view.told)
        },
    }


def level(view: View, found: dict[str, int], facts: Counter[str]) -> str:
    """Return how much could be read, of LEVELS in judging.py."""
    sent = {kind: len(items) for kind, items in view.in_play.items()}
    if view.seen.lacks:
        return "unmeasured"
    if found["message"]:
        whole = all(found[kind] == sent[kind] for kind in sent)
        return "everything" if whole else "messages"
    if found["password"]:
        return "passwords"
    if view.seen.doubts:
        return "open"
    if found["user"] or found["contact"]:
        return "people"
    return "times" if facts else "nothing"


def _score(truth: Truth, views: list[View]) -> dict[str, Any]:
    """Hold what was seen against the ground truth: what was missed, what should not have been."""
    out: dict[str, Any] = {"observers": {}}
    for view in views:
        seen = {i.id for items in view.in_play.values() for i in items if i.id in view.seen.found}
        out["observers"][view.observer] = {
            "expected": len(view.expected),
            "found": len(view.expected & seen),
            "missed": sorted(view.expected - seen),
            "beyond": sorted(seen - view.readable),
            "decoys": sum(item.decoy for item in truth.items),
            "decoys_found": sorted(
                item.id for item in truth.items if item.decoy and item.id in view.seen.found
            ),
            "unplanted": len(view.unplanted),
        }
    return out
