"""What was heard in captures, on one screen: pure, data in and lines out.

Every line is made of captured text that was escaped, and cut at the screen's edge. The rows that
there is room for are shared among the sections; what is left out is counted in the label.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from experiments.eavesdrop import wording
from experiments.eavesdrop.plain import plain

if TYPE_CHECKING:
    from collections.abc import Iterable

    from experiments.eavesdrop import Heard
    from experiments.eavesdrop.overview import Sealed, Tally

_LABEL: Final = 13
_CANDIDATES: Final = 60
_INLINE: Final = 400


@dataclass
class Section:
    """A label and the lines beside it. total: how many things there are; None: not counted.

    least -- lines that it gets in any case; most: lines after which all others come first.
    """

    label: str
    lines: list[Text]
    total: int | None = None
    style: str = ""
    least: int = 1
    most: int = 99
    given: int = field(default=0)


def screen(heard: Heard, width: int, height: int) -> list[Text]:
    """Return at most `height` lines of at most `width` cells."""
    head = [_title(heard), _verdict(heard)]
    sections = [section for section in _sections(heard, width - _LABEL - 1) if section.lines]
    _share(sections, height - len(head))
    lines = head + [line for section in sections for line in _shown(section)]
    for line in lines:
        line.no_wrap = True
        line.truncate(width, overflow="ellipsis")
    return lines[:height]


def _share(sections: list[Section], room: int) -> None:
    """Give each section its least, then one line more to each that has one, while there is room."""
    for section in sections:
        section.given = min(section.least, len(section.lines))
    room -= sum(section.given for section in sections)
    for bound in (True, False):
        while room > 0:
            wanting = [
                section
                for section in sections
                if section.given < min(len(section.lines), section.most if bound else _CANDIDATES)
            ]
            if not wanting:
                break
            for section in wanting[:room]:
                section.given += 1
            room -= len(wanting[:room])


def _shown(section: Section) -> Iterable[Text]:
    for number, line in enumerate(section.lines[: section.given]):
        label = ""
        if number == 0:
            label = section.label if section.total is None else f"{section.label} {section.total}"
        elif number == section.given - 1 and section.total and section.total > section.given:
            label = f"{section.given} shown"
        yield Text.assemble((f"{label:<{_LABEL}} ", section.style or "bold"), line)


# --- the two lines on top ---------------------------------------------------------------------


def _title(heard: Heard) -> Text:
    files, figures = heard.reading.files, heard.figures
    name = plain(files[0].name) if len(files) == 1 else f"{len(files)} files"
    forms = ", ".join(dict.fromkeys(_form(file.format, file.packed) for file in files))
    parts = [
        forms,
        ", ".join(heard.links) or "no interface",
        wording.count(figures.packets, "packet"),
    ]
    if figures.packets:
        parts[-1] += f", {wording.size(figures.bytes)}"
    return Text.assemble((name, "bold"), "  ", " · ".join(parts))


def _form(form: str, packed: str) -> str:
    return f"{form} in {packed}" if packed else form


def _verdict(heard: Heard) -> Text:
    view = heard.overview
    read = view.contacts.rows or view.names.rows or view.credentials
    private = view.messages_total or view.passwords.rows
    style = "bold red" if private else "bold yellow" if read else "bold"
    return Text(wording.sentence(heard), style)


# --- the sections -----------------------------------------------------------------------------


def _sections(heard: Heard, width: int) -> list[Section]:
    view = heard.overview
    looked = [Section("looked for", _hits(heard), None, "bold magenta")] if heard.searched else []
    return [
        *([Section("stopped", [Text(plain(heard.stopped), "red")], None, "bold red")]
          if heard.stopped else []),
        Section("captured", [_captured(heard)]),
        Section("streams", [_streams(heard)], view.streams),
        Section("largest", _conversations(heard), None, most=4),
        *looked,
        Section("messages", _messages(heard, max(width // 5, 14)), view.messages_total, "bold red"),
        Section("credentials", _credentials(view.credentials), None, "bold red", least=2),
        Section("contacts", _inline(view.contacts, width), None, "bold yellow", most=3),
        Section("subjects", _inline(view.subjects, width), None, "bold yellow", most=3),
        Section("names", _inline(view.names, width), None, "bold yellow", most=4),
        Section("certificates", _inline(view.certificates, width), None, most=2),
        Section("also read", _also(view.other)),
        Section("sealed", _sealed(view.sealed), None, "bold green"),
        Section("not decoded", _sealed(view.unread)),
        Section("notes", _notes(view.notes)),
        Section("skipped", _skipped(heard)),
    ]  # fmt: skip


def _captured(heard: Heard) -> Text:
    figures, dropped = heard.figures, heard.dropped
    kinds = " · ".join(f"{plain(name)} {number}" for name, number in figures.kinds.items())
    lost = "drops not counted" if dropped is None else f"{dropped} dropped"
    if not figures.packets:
        return Text(lost)
    when = f"{wording.moment(figures.first)}, {wording.span((figures.last - figures.first) / 1e9)}"
    return Text.assemble(f"{when} · ", (lost, "red" if dropped else "dim"), f" · {kinds}")


def _streams(heard: Heard) -> Text:
    view = heard.overview
    ordered = sorted(view.protocols.items(), key=lambda item: -item[1][1])
    parts = [f"{name} {number} ({wording.size(total)})" for name, (number, total) in ordered]
    parts += [f"{view.empty} without a byte"] if view.empty else []
    parts += [f"{view.missing} with bytes missing"] if view.missing else []
    parts += [f"{view.late} begun before the capture"] if view.late else []
    return Text(" · ".join(parts) or "none")


def _conversations(heard: Heard) -> list[Text]:
    rows = heard.conversations(_CANDIDATES)
    protocols = max((len(row["protocol"]) for row in rows[:8]), default=0)
    told = []
    for row in rows:
        name = f"{row['transport']}:{row['number']}"
        figures = f"{wording.size(sum(row['wire'])):>8} in {sum(row['packets'])}"
        ends = f"{row['client']} → {row['server']}"
        told.append(
            Text.assemble(
                (f"{name:<7} ", "cyan"), f"{row['protocol']:<{protocols}} {figures:<16} {ends}"
            )
        )
    return told


def _messages(heard: Heard, longest: int) -> list[Text]:
    rows, figures = heard.overview.messages, heard.figures
    told = []
    # Seconds where they are few, else a time of day, else a date as well.
    seconds = (figures.last - figures.first) / 1e9
    cut = slice(11, 19) if seconds < wording.DAY_S else slice(0, 16)
    for row in rows:
        who = plain(row["who"] or row["source"], longest)
        whom = plain(row["whom"] or row["destination"], longest)
        when = row["time"][cut].replace("T", " ")
        if row["when"] is not None and seconds < 1000:  # noqa: PLR2004 - digits
            when = f"{row['when']:.3f} s"
        text = "(sealed end to end)" if row["kind"] == "sealed" else f"“{plain(row['text'], 300)}”"
        told.append(
            Text.assemble(
                (f"{when} ", "dim"), f"{who} → {whom} ", (text, "bold"), (f"  {_where(row)}", "dim")
            )
        )
    return told


def _credentials(rows: list[dict[str, Any]]) -> list[Text]:
    """Return passwords first, each beside its user; users who have one are not told again."""
    with_password = {row["about"].get("user", "") for row in rows if row["kind"] == "password"}
    told = []
    for row in rows:
        user = row["about"].get("user", "")
        if row["kind"] == "user" and row["text"] in with_password:
            continue
        whose = f"{plain(user, 60)} / " if user and row["kind"] != "user" else ""
        refused = " (refused)" if row["about"].get("accepted") == "no" else ""
        colour = "bold red" if row["kind"] == "password" else "bold"
        told.append(
            Text.assemble(
                f"{row['kind']} ", (f"{whose}{plain(row['text'], 100)}{refused}", colour),
                (f"  at {_server(row)}, {_where(row)}", "dim"),
            )
        )  # fmt: skip
    return told


def _server(row: dict[str, Any]) -> str:
    server: str = row["destination" if row["direction"] == "forward" else "source"]
    return server


def _where(row: dict[str, Any]) -> str:
    frames = row["frames"]
    return f"{row['protocol']}, frame {frames[0]}" if frames else row["protocol"]


def _inline(tally: Tally, width: int) -> list[Text]:
    """Return texts beside one another, as many to a line as fit, each once."""
    texts = dict.fromkeys(_short(row) for row in tally.most(_INLINE))
    lines: list[str] = []
    for text in texts:
        if lines and len(lines[-1]) + len(text) + 3 <= width:
            lines[-1] += f" · {text}"
        else:
            lines.append(text)
    return [Text(line) for line in lines]


def _short(row: dict[str, Any]) -> str:
    if row["kind"] == "certificate":
        common = re.search(r"CN=((?:[^,\\]|\\.)+)", row["text"])
        return plain(common[1] if common else row["text"], 60)
    return plain(row["text"], 80)


def _also(other: dict[str, int]) -> list[Text]:
    ordered = sorted(other.items(), key=lambda item: -item[1])
    text = " · ".join(f"{plain(kind)} {number}" for kind, number in ordered)
    return [Text(text)] if text else []


def _sealed(entries: dict[str, Sealed]) -> list[Text]:
    told = []
    for kind, entry in sorted(entries.items(), key=lambda item: -item[1].bytes):
        names = sorted(entry.names, key=lambda name: -entry.names[name])
        whom = ", ".join(plain(name, 60) for name in names[:20])
        figures = f"{wording.count(entry.streams, 'stream')}, {wording.size(entry.bytes)}"
        what = f"{plain(kind, 60)}: {figures}"
        told.append(Text.assemble(what, (f"  with {whom}", "dim")))
    return told


def _hits(heard: Heard) -> list[Text]:
    tally = heard.overview.hits
    if not tally.rows:
        return [Text("not found in any encoding that is undone", style="green")]
    told = []
    for row in tally.rows.values():
        forms = f" ({', '.join(row['forms'])})" if row["forms"] else ""
        place = f"{row['transport']}:{row['stream']}, {row['source']} → {row['destination']}"
        frame = f", frame {row['frames'][0]}" if row["frames"] else ""
        often = f", {row['times']} times" if row["times"] > 1 else ""
        told.append(
            Text.assemble((plain(row["id"], 60), "bold red"), f"{forms}  {place}{frame}{often}")
        )
    return told


def _notes(notes: dict[str, int]) -> list[Text]:
    ordered = sorted(notes.items(), key=lambda item: -item[1])
    return [
        Text(plain(said, 300) + (f" ({number} streams)" if number > 1 else ""))
        for said, number in ordered[:_CANDIDATES]
    ]


def _skipped(heard: Heard) -> list[Text]:
    text = " · ".join(f"{plain(why)} {number}" for why, number in heard.reading.skipped.items())
    return [Text(text)] if text else []
