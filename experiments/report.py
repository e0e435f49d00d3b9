"""The report: one self-contained HTML page, and the same content as JSON.

`content` decides what is told, from the run's own data; `render` only says how it looks. The page
loads nothing and runs nothing but its own script (a content security policy with hashes), and all
that came out of a capture is escaped: captured text is hostile text. The same folder gives the
same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from experiments import drawing
from experiments.claims.facts import count
from lab.plan import Plan

FORMAT: Final = 1
TEMPLATES: Final = Path(__file__).resolve().parent / "templates"
COLUMNS: Final = ("No.", "Time", "Source", "Destination", "Protocol", "Length", "Info")
# Rows of the packet list: written into the page, shown at a time, and put into its data.
STATIC_ROWS: Final = 120
STEP: Final = 120
DATA_ROWS: Final = 5000
CONVERSATIONS: Final = 12
STREAM_TEXT: Final = 60_000
OPENING: Final = 2
HANDSHAKES: Final = 3
PROOFS_A_CLAIM: Final = 4
# Wireshark's own colours, by the beginning of the protocol's name.
TINTS: Final = {
    "HTTP": "http",
    "TCP": "tcp",
    "ARP": "arp",
    "ICMP": "icmp",
    "UDP": "udp",
    "DNS": "udp",
    "MDNS": "udp",
}
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
                        "chunks": _cut(stream["chunks"]),
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


def _ids(stream: dict[str, Any]) -> set[str]:
    marked = {name for chunk in stream["chunks"] for _, name in chunk["parts"] if name}
    return marked | {name for row in stream["unpacked"] for name in row["ids"]}


def _line(stream: dict[str, Any]) -> str:
    first = "".join(text for text, _ in stream["chunks"][0]["parts"])
    return first.split("\n", 1)[0][:100]


def _cut(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep how a stream begins and every chunk with a planted text; count what lies between.

    A row is a chunk, or {"skipped", "bytes", "first", "last"} for chunks that are left out.
    """
    rows: list[dict[str, Any]] = []
    room = STREAM_TEXT
    for index, chunk in enumerate(chunks):
        if room > 0 and (index < OPENING or any(name for _, name in chunk["parts"])):
            parts = [[text[:room], name] for text, name in chunk["parts"]]
            if parts:
                parts[-1][0] = parts[-1][0].rstrip("\n")  # the empty line after the header fields
            room -= sum(len(text) for text, _ in parts)
            rows.append({**chunk, "parts": [part for part in parts if part[0]]})
            continue
        if not rows or "skipped" not in rows[-1]:
            rows.append({"skipped": 0, "bytes": 0, "first": chunk["frame"], "last": 0})
        rows[-1]["skipped"] += 1
        rows[-1]["bytes"] += chunk["bytes"]
        rows[-1]["last"] = chunk["frame"]
    return rows


def _unpacked(stream: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "forward": row["forward"],
            "codings": row["codings"],
            "frames": row["frames"],
            "parts": [[row["text"][:STREAM_TEXT], None]],
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
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=False,
        lstrip_blocks=False,
    )
    environment.filters |= {
        "ms": _ms,
        "along": lambda value, scale: round(200 * value / scale, 2),
        "tint": _tint,
        "grouped": lambda number: f"{number:,}".replace(",", "\u202f"),
        "short": lambda number: f"{number:g}",
    }
    style, script = ((TEMPLATES / name).read_text("utf-8") for name in ("report.css", "report.js"))
    observers = report["observers"]
    data = {
        "step": STEP,
        "tints": TINTS,
        "observers": [
            {"name": o["name"], "total": o["packets"], "rows": o["packet_list"][:DATA_ROWS]}
            for o in observers
        ],
    }
    return environment.get_template("report.html.j2").render(
        r=report,
        style=_trusted(style),
        script=_trusted(script),
        style_hash=_csp_hash(style),
        script_hash=_csp_hash(script),
        packets_json=_trusted(_json_for_script(data)),
        rows=observers[0]["packet_list"][:STATIC_ROWS] if observers else [],
        columns=COLUMNS,
        drawing=drawing.topology(Plan.from_json(report["plan"])),
        scale=drawing.ping_scale(report["ping"]),
        kinds={row["id"]: row["kind"] for row in report["matrix"]},
        handshakes_shown=HANDSHAKES,
    )


def _trusted(text: str) -> Markup:
    """Mark our own text as not to be escaped; nothing from a capture comes here unescaped."""
    return Markup(text)  # noqa: S704 (the two files of this folder, and JSON without < > &)


def _json_for_script(data: Any) -> str:  # noqa: ANN401 (JSON data)
    """Return JSON that cannot end the script element that it stands in (HTML, 4.12.1.3)."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def _csp_hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _ms(value: float) -> str:
    return f"{value:.3f}" if value < 1 else f"{value:.1f}"


def _tint(protocol: str) -> str:
    return next((tint for name, tint in TINTS.items() if protocol.startswith(name)), "")
