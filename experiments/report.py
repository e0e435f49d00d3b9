"""The report: one self-contained HTML page, and the same content as JSON.

`content` decides what is told, from the run's own data; `render` only says how it looks. The same
folder gives the same bytes.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from experiments import columns as packed
from experiments import drawing, page, timeline
from experiments.claims.facts import count
from lab.plan import Plan

FORMAT: Final = 1
CONVERSATIONS: Final = 12
HANDSHAKES: Final = 3
PROOFS_A_CLAIM: Final = 4
# Rows of a table of conversations, and marks in the timeline.
TALKS: Final = 40
MARKS: Final = 200
_PRIVATE_KINDS: Final = frozenset({"message", "user", "password"})


def content(
    manifest: dict[str, Any],
    results: dict[str, Any],
    analysis: dict[str, Any],
    verdicts: list[dict[str, Any]],
    faults: list[str],
) -> dict[str, Any]:
    """Return report.json. faults: what verifying the evidence against its hashes found."""
    observers = [
        {key: value for key, value in row.items() if key != "streams"}
        for row in analysis["observers"]
    ]
    told = {row["id"]: f"{row['kind']} “{row['text']}”" for row in analysis["planted"]}
    groups = _conversations(analysis["observers"], told)
    chosen = _chosen(groups)
    experiment = manifest["experiment"]
    return {
        "format": FORMAT,
        "title": experiment.get("title") or "What an eavesdropper reads",
        "run": manifest["run"],
        "name": manifest["name"],
        "started": manifest["started"],
        "finished": manifest["finished"],
        "seed": manifest["seed"],
        "plan": manifest["plan"],
        "summary": _summary(analysis, verdicts),
        "verdicts": verdicts,
        "ping": results.get("ping", []),
        "observers": observers,
        "matrix": analysis["planted"],
        "unplanted": analysis["unplanted"],
        "score": analysis["score"],
        "conversations": chosen,
        "more_conversations": len(groups) - len(chosen),
        "talks": _talks(analysis["observers"])[:TALKS],
        "more_talks": max(len(_talks(analysis["observers"])) - TALKS, 0),
        "exposed": _exposed(analysis["observers"]),
        "checks": _checks(verdicts),
        "durations_s": manifest["durations_s"],
        "environment": {
            "host_facts": manifest["host_facts"],
            "software": manifest["software"],
            "engine": analysis["engine"],
        },
        "integrity": {"files": len(manifest["files"]), "faults": faults},
    }


def _summary(analysis: dict[str, Any], verdicts: list[dict[str, Any]]) -> dict[str, Any]:
    score = analysis["score"]
    tally = Counter(row["verdict"] for row in verdicts)
    claims = f"{tally['confirmed']} of {count(len(verdicts), 'claim')} confirmed"
    rest = [f"{number} {word}" for word, number in sorted(tally.items()) if word != "confirmed"]
    sentence = claims + (f" ({', '.join(rest)})" if rest else "") + ". "
    if not score["expected"]:
        recall = "Nothing was sent in the clear past an observer."
    else:
        recall = (
            f"Planted texts passed an observer in the clear {score['expected']} times and were "
            f"read {score['found']} times"
        )
        open_ = [(score["missed"], "missed"), (score["inconclusive"], "inconclusive")]
        recall += "".join(f", {number} {word}" for number, word in open_ if number) + "."
    packets = sum(row["packets"] for row in analysis["observers"])
    tiles = [
        {"value": f"{tally['confirmed']} / {len(verdicts)}", "label": "claims confirmed"},
        {
            "value": f"{score['found']} / {score['expected']}",
            "label": "planted texts read in passing",
        },
        {"value": str(score["unplanted"]), "label": "false reports"},
        {
            "value": str(packets),
            "label": f"packets at {count(len(analysis['observers']), 'adapter')}",
        },
    ]
    return {"sentence": sentence + recall, "recall": recall, "tiles": tiles}


def _conversations(observers: list[dict[str, Any]], told: dict[str, str]) -> list[dict[str, Any]]:
    """Return the connections that carried a planted text, one that several saw alike only once."""
    groups: dict[tuple[str, str, str, str], dict[str, Any]] = {}
    for observer in observers:
        for stream in observer["streams"]:
            ids = _ids(stream)
            key = (stream["transport"], stream["client"], stream["server"], stream["sha256"])
            if ids:
                group = groups.setdefault(
                    key,
                    {
                        "source": stream["source"],
                        "destination": stream["destination"],
                        "line": _line(stream),
                        "ids": sorted(ids),
                        "literal": len(_ids({**stream, "unpacked": []})),
                        "time": stream["chunks"][0]["time"],
                        "chunks": page.cut(stream["chunks"]),
                        "unpacked": _unpacked(stream),
                        "at": [],
                    },
                )
                group["at"].append([observer["name"], stream["number"]])
    for group in groups.values():
        seen = ", ".join(f"{name} (stream {number})" for name, number in group["at"])
        alike = "the same bytes at " if len(group["at"]) > 1 else ""
        group["seen"] = f"{alike}{seen}"
        group["secrets"] = ", ".join(told[name] for name in group["ids"][:4])
        group["secrets"] += ", …" if len(group["ids"]) > 4 else ""  # noqa: PLR2004 (fits a line)
    return sorted(groups.values(), key=lambda group: (group["time"], group["line"]))


def _talks(observers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the first observer's conversations, the one with most bytes first."""
    rows = [
        {
            "name": f"{stream['transport']}:{stream['number']}",
            "protocol": stream["protocol"],
            "client": stream["client"],
            "server": stream["server"],
            "packets": len(stream["chunks"]),
            "forward": stream["bytes_forward"],
            "back": stream["bytes_back"],
            "when": _when(stream["chunks"]),
        }
        for stream in (observers[0]["streams"] if observers else ())
    ]
    return sorted(rows, key=lambda row: (-row["forward"] - row["back"], row["name"]))


def _when(chunks: list[dict[str, Any]]) -> str:
    if not chunks:
        return ""
    first, last = chunks[0]["time"], chunks[-1]["time"]
    return f"{first:.3f} s, {last - first:.3f} s"


def _ids(stream: dict[str, Any]) -> set[str]:
    marked = {name for chunk in stream["chunks"] for _, name in chunk["parts"] if name}
    return marked | {name for row in stream["unpacked"] for name in row["ids"]}


def _line(stream: dict[str, Any]) -> str:
    first = "".join(text for text, _ in stream["chunks"][0]["parts"])
    return first.split("\n", 1)[0][:100]


def _unpacked(stream: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "forward": row["forward"],
            "codings": row["codings"],
            "frames": row["frames"],
            "parts": [[row["text"][: page.STREAM_TEXT], None]],
        }
        for row in stream["unpacked"]
    ]


def _chosen(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Choose few connections that show every planted text; the fullest readable one is open."""
    left = {name for group in groups for name in group["ids"]}
    chosen: list[dict[str, Any]] = []
    pool = list(groups)
    while pool and left and len(chosen) < CONVERSATIONS:
        best = max(pool, key=lambda g: (len(left & set(g["ids"])), g["literal"], -g["time"]))
        if not left & set(best["ids"]):
            break
        left -= set(best["ids"])
        chosen.append(best)
        pool.remove(best)
    pool.sort(key=lambda group: (-group["literal"], group["time"]))
    chosen += pool[: CONVERSATIONS // 2 - len(chosen)] if len(chosen) < CONVERSATIONS // 2 else []
    fullest = max(chosen, key=lambda group: group["literal"], default=None)
    return [
        {**group, "open": group is fullest} for group in sorted(chosen, key=lambda g: g["time"])
    ]


def _exposed(observers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what else was read, once each, as the first observer that read it saw it."""
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for observer in observers:
        for finding in observer["findings"]:
            if finding["kind"] not in _PRIVATE_KINDS:
                key = tuple(finding[name] for name in ("kind", "text", "where", "direction"))
                rows.setdefault(key, {"observer": observer["name"], **finding})
    return sorted(rows.values(), key=lambda row: (row["kind"], row["text"], row["direction"]))


def _checks(verdicts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return, for each claim, a few proofs in captures: one a capture first, then others."""
    rows = []
    for verdict in verdicts:
        proofs = [proof for proof in verdict["evidence"] if proof.get("filter")]
        first = {proof["file"]: proof for proof in reversed(proofs)}
        picked = [proof for proof in proofs if any(proof is one for one in first.values())]
        picked += [proof for proof in proofs if not any(proof is one for one in picked)]
        rows += [{"claim": verdict["id"], **proof} for proof in picked[:PROOFS_A_CLAIM]]
    return rows


def render(report: dict[str, Any]) -> str:
    """Return the page for `content`'s answer."""
    observers = report["observers"]
    lists = [
        {"name": o["name"], "total": o["packets"], **packed.of_rows(o["packet_list"])}
        for o in observers
    ]
    return page.render(
        "report.html.j2",
        lists,
        filters={"ms": _ms, "along": lambda value, scale: round(200 * value / scale, 2)},
        r=report,
        places={o["name"]: index for index, o in enumerate(observers)},
        rows=observers[0]["packet_list"][: page.STATIC_ROWS] if observers else [],
        drawing=drawing.topology(Plan.from_json(report["plan"])),
        scale=drawing.ping_scale(report["ping"]),
        kinds={row["id"]: row["kind"] for row in report["matrix"]},
        line=_timeline(report),
        **_handshakes(observers),
        talks=report["talks"],
        talks_more=_more(report),
    )


def _more(report: dict[str, Any]) -> str:
    left = report["more_talks"]
    return f"{count(left, 'more conversation')} in analysis.json." if left else ""


def _timeline(report: dict[str, Any]) -> timeline.Timeline | None:
    """Return the first observer's packets over time, and where planted texts were read."""
    if not report["observers"]:
        return None
    first = report["observers"][0]
    marks = [
        (hit["frames"][-1], row["kind"], row["text"])
        for row in report["matrix"]
        for hit in row["observers"][first["name"]]["hits"]
        if hit["frames"]
    ]
    return timeline.of_rows(first["packet_list"], sorted(marks)[:MARKS])


def _handshakes(observers: list[dict[str, Any]]) -> dict[str, Any]:
    rows = [
        {**handshake, "observer": o["name"], "list": index}
        for index, o in enumerate(observers)
        for handshake in o["handshakes"][:HANDSHAKES]
    ]
    more = [
        f"{len(o['handshakes']) - HANDSHAKES} more at {o['name']} in report.json."
        for o in observers
        if len(o["handshakes"]) > HANDSHAKES
    ]
    return {"handshake_rows": rows, "handshakes_more": more}


def _ms(value: float) -> str:
    return f"{value:.3f}" if value < 1 else f"{value:.1f}"
