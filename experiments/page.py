"""What the pages have in common: templates, escaping, and a policy that lets nothing else run.

A page loads nothing and runs nothing but its own script (a content security policy with hashes).
All that came out of a capture is escaped: captured text is hostile text.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES: Final = Path(__file__).resolve().parent / "templates"
COLUMNS: Final = ("No.", "Time", "Source", "Destination", "Protocol", "Length", "Info")
# Rows that stand in a page for those who see it without its script.
STATIC_ROWS: Final = 120
STREAM_TEXT: Final = 60_000
OPENING: Final = 2
# Wireshark's own colours, by the beginning of the protocol's name.
TINTS: Final = {
    "HTTP": "http",
    "TCP": "tcp",
    "TLS": "tcp",
    "ARP": "arp",
    "ICMP": "icmp",
    "UDP": "udp",
    "DNS": "udp",
    "MDNS": "udp",
}


def render(template: str, lists: list[dict[str, Any]], **context: Any) -> str:  # noqa: ANN401 - what the template shows
    """Return a page. lists: packet lists, each {"name", "total", …columns.pack's answer}.

    filters in the context are more of jinja2's filters, folders more places for templates, styles
    the names of more style sheets in TEMPLATES.
    """
    environment = Environment(
        loader=FileSystemLoader([*context.pop("folders", ()), TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=False,
        lstrip_blocks=False,
    )
    environment.filters |= {
        "tint": tint,
        "grouped": lambda number: f"{number:,}".replace(",", "\u202f"),
        "short": lambda number: f"{number:g}",
    }
    environment.filters |= context.pop("filters", {})
    sheets = ("report.css", *context.pop("styles", ()))
    style = "".join((TEMPLATES / name).read_text("utf-8") for name in sheets)
    script = (TEMPLATES / "report.js").read_text("utf-8")
    return environment.get_template(template).render(
        style=_trusted(style),
        script=_trusted(script),
        style_hash=_csp_hash(style),
        script_hash=_csp_hash(script),
        packets_json=_trusted(_json_for_script({"tints": TINTS, "lists": lists})),
        columns=COLUMNS,
        lists=[{"name": one["name"], "total": one["total"]} for one in lists],
        **context,
    )


def cut(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep how a stream begins and every chunk with a mark; count what lies between.

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


def tint(protocol: str) -> str:
    """Return the colour class of a protocol."""
    return next((name for start, name in TINTS.items() if protocol.startswith(start)), "")


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
