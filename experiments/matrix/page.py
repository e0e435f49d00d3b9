"""The matrix as one page: who reads what, what it costs, and how a reader checks each cell.

Decides what is shown and where things lie in its pictures; templates/matrix.html.j2 says how it
looks. The same matrix.json gives the same bytes.
"""

from __future__ import annotations

from math import log10
from typing import TYPE_CHECKING, Any, Final

from experiments import page

if TYPE_CHECKING:
    from collections.abc import Iterable

# From everything to nothing; the words of a cell, and what they mean.
LEVELS: Final = {
    "everything": ("everything read", "every message, name, password and contact that there was"),
    "messages": ("messages read", "messages, but not every secret there was"),
    "passwords": ("passwords, no messages", "a password and names, and no message"),
    "people": ("names, no messages", "who talks with whom, and no message or password"),
    "times": ("size and time only", "that something was sent, when, how long, how much"),
    "nothing": ("nothing", "neither text nor time"),
    "open": ("inconclusive", "not found, in a copy that has not everything"),
    "unmeasured": ("not measured", "there was nothing to look into"),
}
LETTERS: Final = {
    "message": ("M", "messages"),
    "user": ("N", "names"),
    "password": ("P", "passwords"),
    "contact": ("C", "contacts"),
    "metadata": ("T", "who with whom, when, how long"),
}
# How many proofs of a kind the page shows; all are in matrix.json.
PROOFS: Final = 3
WIDTH: Final = 200  # of a scale, in the user units of its SVG
_FILL: Final = {
    "read": "full", "partly read": "part", "not read": "no", "nothing there": "off",
    "inconclusive": "part", "not measured": "off",
}  # fmt: skip


def render(content: dict[str, Any]) -> str:
    """Return the page of what matrix.json holds."""
    cells = [_cell(cell) for cell in _ordered(content["cells"])]
    observers = list(dict.fromkeys(name for cell in cells for name in cell["views"]))
    return page.render(
        "matrix.html.j2",
        [],
        styles=("matrix.css",),
        filters={"ms": _milliseconds, "us": _microseconds},
        name=content["name"],
        cells=cells,
        groups=_groups(cells),
        observers=[(name, _sort_of(name)) for name in observers],
        impossible=content["impossible"],
        claims=content["claims"],
        environment=content["environment"],
        levels=LEVELS,
        letters=LETTERS,
        costs=_costs(cells),
        **_summary(content),
    )


def _ordered(cells: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(
        cells, key=lambda c: (c["system"], c["countermeasure"] != "none", c["countermeasure"])
    )


def _sort_of(observer: str) -> str:
    """Return what an observer is, in a few words."""
    words = {
        "ends": "what people see",
        "memory": "of the service",
        "store": "files, logs, backup",
    }
    return words.get(observer, "on the wire")


def _cell(cell: dict[str, Any]) -> dict[str, Any]:
    views = {}
    order = sorted(cell["observers"], key=lambda name: ("/" not in name, _place(name), name))
    for name in order:
        rows = [row for row in cell["rows"] if row["observer"] == name]
        kinds = {row["kind"]: row for row in rows}
        views[name] = {
            "observer": name,
            "anchor": f"{_id(cell)}-{name.replace('/', '-')}",
            **cell["observers"][name],
            "rows": [_row(row, name) for row in rows],
            "dots": [
                {
                    "letter": letter,
                    "fill": _FILL[kinds[kind]["verdict"]],
                    "words": f"{words}: {kinds[kind]['recovered']} of {kinds[kind]['sent']}",
                }
                for kind, (letter, words) in LETTERS.items()
                if kind in kinds
            ],
        }
    return {
        **{key: value for key, value in cell.items() if key not in {"rows", "observers"}},
        "id": _id(cell),
        "views": views,
        "folder": f"cells/{cell['run']}",
    }


def _place(observer: str) -> int:
    return ("memory", "store", "ends").index(observer) if "/" not in observer else 0


def _id(cell: dict[str, Any]) -> str:
    return f"{cell['system']}-{cell['countermeasure']}"


def _row(row: dict[str, Any], observer: str) -> dict[str, Any]:
    shown = row["evidence"][:PROOFS]
    if row["kind"] == "metadata":  # a proof of each fact rather than of one of them three times
        shown = list({proof["fact"]: proof for proof in reversed(row["evidence"])}.values())[::-1]
    return {
        **{key: row[key] for key in ("kind", "sent", "recovered", "verdict")},
        "proofs": [{**proof, "check": check(proof, observer)} for proof in shown],
        "more": len(row["evidence"]) - len(shown),
    }


def check(proof: dict[str, Any], observer: str) -> str:
    """Return what a reader types to see it: a Wireshark filter, or a command."""
    if "/" in observer and proof.get("filter"):
        return str(proof["filter"])
    file, offset = proof["file"], proof.get("offset")
    if offset is None:
        return f"tar -tzf {file}" if ".tar" in file else ""
    if ".tar" in file:
        return (
            f"tar -xOzf {file} {proof['part'].lstrip('/')!r} | tail -c +{offset + 1} | head -c 80"
        )
    unpack = "zcat" if file.endswith(".gz") else "cat"
    return f"{unpack} {file} | tail -c +{offset + 1} | head -c 80"


def _groups(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = dict.fromkeys(cell["system"] for cell in cells)
    return [
        {"system": name, "cells": [cell for cell in cells if cell["system"] == name]}
        for name in names
    ]


def _summary(content: dict[str, Any]) -> dict[str, Any]:
    scores = [score for cell in content["cells"] for score in cell["score"]["observers"].values()]
    expected = sum(score["expected"] for score in scores)
    found = sum(score["found"] for score in scores)
    decoys = sum(score["decoys"] for score in scores)
    false = sum(
        len(score["decoys_found"]) + len(score["beyond"]) + score["unplanted"] for score in scores
    )
    cells = content["cells"]
    planted = sum(sum(cell["planted"].get(kind, 0) for kind in LETTERS) for cell in cells)
    tiles = [
        (str(len(cells)), "cells: a system under a countermeasure"),
        (f"{planted:,}".replace(",", "\u202f"), "secrets planted"),
        (f"{found} / {expected}", "found of what could be read on wires, disks and at ends"),
        (str(false), f"false reports; {len(scores)} looks for {decoys} decoys"),
    ]
    systems = len({cell["system"] for cell in cells})
    measures = len({cell["countermeasure"] for cell in cells})
    return {
        "tiles": tiles,
        "sentence": (
            f"{systems} messaging system{'s' if systems > 1 else ''} under {measures} "
            f"countermeasure{'s' if measures > 1 else ''}: what can be read on the wire, in the "
            f"server’s memory, on its disk, and at the ends. {_gist(cells)}"
        ),
        "faults": [f"{cell['run']}: {fault}" for cell in cells for fault in cell["faults"]],
        "started": min(cell["started"] for cell in cells),
    }


def _gist(cells: list[dict[str, Any]]) -> str:
    """Return in a sentence where messages can be read under which countermeasures."""
    where: dict[str, set[str]] = {}
    for cell in cells:
        places = where.setdefault(cell["countermeasure"], set())
        for row in cell["rows"]:
            if row["kind"] == "message" and row["recovered"] and row["observer"] != "ends":
                places.add("wire" if "/" in row["observer"] else "server")
    ordered = sorted(where, key=lambda name: (name != "none", name))
    groups = [
        ("on the wire under", [name for name in ordered if "wire" in where[name]]),
        ("at the server under", [name for name in ordered if "server" in where[name]]),
        ("nowhere but at the ends under", [name for name in ordered if not where[name]]),
    ]
    told = [f"{words} {_listed(names)}" for words, names in groups if names]
    return f"Messages can be read {'; '.join(told)}."


def _listed(names: list[str]) -> str:
    words = ["no countermeasure" if name == "none" else name for name in names]
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def _costs(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the rows of the costs, and where their marks lie on one scale a column."""
    latencies = [
        value
        for cell in cells
        for row in cell["cost"]["latency_s"].values()
        for value in (row["value"], row["low"], row["high"])
        if value
    ]
    sizes = [_upper(cell["cost"]["bytes"]) for cell in cells]
    times = [sum(_cpu(cell).values()) for cell in cells]
    low, high = _decades(latencies)
    top, most = max([1.0, *sizes]), max([1e-9, *times])
    rows = []
    for cell in cells:
        cost = cell["cost"]
        spent = _cpu(cell)
        left, bars = 0.0, []
        for place, seconds in spent.items():
            width = WIDTH * seconds / most
            bars.append({"place": place, "x": round(left, 2), "width": round(width, 2)})
            left += width
        rows.append(
            {
                "id": cell["id"],
                "system": cell["system"],
                "countermeasure": cell["countermeasure"],
                "latency": {
                    name: {**row, **_marks(row, lambda v: _log(v, low, high))}
                    for name, row in cost["latency_s"].items()
                },
                "bytes": {**cost["bytes"], **_marks(cost["bytes"], lambda v: WIDTH * v / top)},
                "setup": cost["setup"],
                "yardstick": cost["yardstick_s"],
                "cpu": spent,
                "cpu_bars": bars,
                "cpu_sum": sum(spent.values()),
                "programs": cost["cpu_s"]["programs"],
            }
        )
    ticks = [
        {"x": round(_log(10.0**power, low, high), 2), "words": f"{10.0**power * 1e3:g}"}
        for power in range(low, high + 1)
    ]
    places = list(dict.fromkeys(place for cell in cells for place in _cpu(cell)))
    return {"rows": rows, "ticks": ticks, "top": top, "most": most, "places": places}


def _cpu(cell: dict[str, Any]) -> dict[str, float]:
    return {
        place: row["value"]
        for place, row in cell["cost"]["cpu_s"]["places"].items()
        if row["value"] is not None
    }


def _upper(row: dict[str, Any]) -> float:
    return max((row[key] for key in ("value", "high") if row[key] is not None), default=0.0)


def _decades(values: list[float]) -> tuple[int, int]:
    """Return the powers of ten that all values lie between."""
    if not values:
        return -3, 0
    low, high = min(values), max(values)
    return int(log10(low) // 1), -int(-log10(high) // 1)


def _log(value: float, low: int, high: int) -> float:
    return WIDTH * (log10(value) - low) / max(high - low, 1)


def _marks(row: dict[str, Any], place: Any) -> dict[str, float | None]:  # noqa: ANN401 - a function
    """Return where a value and its interval lie, None where there is none."""
    return {
        f"x_{key}": None if not row[key] else round(place(row[key]), 2)
        for key in ("value", "low", "high")
    }


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    value = seconds * 1e3
    digits = 0 if value >= 100 else 1 if value >= 10 else 2  # noqa: PLR2004 - three figures
    return f"{value:.{digits}f}".rstrip("0").rstrip(".") if value < 1 else f"{value:.{digits}f}"


def _microseconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1e6:.0f}"
