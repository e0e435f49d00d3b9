"""The table of a class's grades: CSV and XLSX. The same grades give the same bytes.

Cells that a spreadsheet would take for a formula are written as text: names come from strangers.
"""

from __future__ import annotations

import csv
import io
import zipfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from openpyxl import Workbook
from openpyxl.styles import Alignment, Font
from openpyxl.utils import get_column_letter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from teaching.grading import Grade

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_WIDEST: Final = 60


def rows(grades: Sequence[Grade]) -> list[list[Any]]:
    """Return the header and a row a student."""
    items = {
        (item.kind, item.id): f"{item.id}{' (capture)' if item.kind == 'capture' else ''}"
        for grade in grades
        for item in grade.items
    }
    header = ["id", "name", "status", "points", "of", "flags", *items.values(), "note"]
    table: list[list[Any]] = [header]
    for grade in grades:
        got = {(item.kind, item.id): item.points for item in grade.items}
        table.append(
            [grade.student, grade.name, grade.status, grade.points, grade.of,
             " ".join(grade.flags), *(got.get(key, 0) for key in items), grade.note]
        )  # fmt: skip
    return table


def write_csv(grades: Sequence[Grade], path: Path) -> None:
    """Write the table as CSV (UTF-8 with a mark, which spreadsheets ask for)."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(
        [_harmless(cell) for cell in row] for row in rows(grades)
    )
    path.write_text(out.getvalue(), encoding="utf-8-sig")


def write_xlsx(grades: Sequence[Grade], path: Path) -> None:
    """Write the table as a workbook with a frozen, bold header."""
    book = Workbook()
    when = datetime(2000, 1, 1, tzinfo=UTC).replace(tzinfo=None)  # not the time of writing
    book.properties.created = book.properties.modified = when
    sheet = book.active
    assert sheet is not None  # noqa: S101 - a new workbook has one
    sheet.title = "grades"
    table = rows(grades)
    for row in table:
        sheet.append([_harmless(cell) for cell in row])
    for cell in sheet[1]:
        cell.font = Font(bold=True)
        cell.alignment = Alignment(wrap_text=True, vertical="top")
    for number, column in enumerate(zip(*table, strict=True), 1):
        width = max(len(str(cell)) for cell in column) + 2
        sheet.column_dimensions[get_column_letter(number)].width = min(width, _WIDEST)
    sheet.freeze_panes = "C2"
    sheet.auto_filter.ref = sheet.dimensions
    draft = io.BytesIO()
    book.save(draft)
    _plain_zip(draft, path)


def _harmless(cell: Any) -> Any:  # noqa: ANN401 - a cell
    if isinstance(cell, str):
        cell = "".join(char for char in cell if char.isprintable())
        return f"'{cell}" if cell.startswith(_FORMULA) else cell
    return cell


def _plain_zip(draft: io.BytesIO, path: Path) -> None:
    """Write a zip again without the times at which its parts were written."""
    with zipfile.ZipFile(draft) as made, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for entry in made.infolist():
            data = made.read(entry)
            if entry.filename == "docProps/core.xml":  # openpyxl puts in when it was saved
                data = _without_time(data)
            out.writestr(zipfile.ZipInfo(entry.filename, _EPOCH), data, zipfile.ZIP_DEFLATED)


def _without_time(core: bytes) -> bytes:
    head, tag, rest = core.partition(b'<dcterms:modified xsi:type="dcterms:W3CDTF">')
    if not tag:
        return core
    _, end, tail = rest.partition(b"</dcterms:modified>")
    return head + tag + b"2000-01-01T00:00:00Z" + end + tail
