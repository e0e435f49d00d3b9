"""A whole matrix judged from its folder: matrix.json, the rows for programs, and the page."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from experiments.evidence import RunFolder, canonical
from experiments.matrix.cell import judge_cell
from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FORMAT: Final = 1
CELLS, IMPOSSIBLE = "cells", "impossible.json"
MATRIX, PAGE = "matrix.json", "matrix.html"


def judge(
    folder: Path, claims: list[Path], note: Callable[..., None] = lambda *_: None
) -> dict[str, Any]:
    """Judge every cell, write matrix.json and matrix.html, and return what matrix.json holds.

    claims -- run folders whose verdicts stand on the page. Raises LabError.
    """
    paths = sorted(path.parent for path in (folder / CELLS).glob("*/manifest.json"))
    if not paths:
        raise LabError(
            f"judging the matrix {folder}",
            "there is no cell in it",
            fault=Fault.USER,
            todo="name a folder that `./inv matrix` made",
        )
    cells = []
    for path in paths:
        note(f"judging {path.name.partition('-')[2]}")
        cells.append(judge_cell(path))
    cannot = folder / IMPOSSIBLE
    content = {
        "format": FORMAT,
        "name": folder.name,
        "cells": cells,
        "impossible": json.loads(cannot.read_bytes()) if cannot.is_file() else [],
        "claims": [_verdicts(path) for path in claims],
    }
    (folder / MATRIX).write_bytes(canonical(content))
    return content


def _verdicts(path: Path) -> dict[str, Any]:
    """Return what a run says of its claims. Raises LabError when it was not judged."""
    folder = RunFolder.open(path)
    manifest = folder.manifest()
    return {
        "run": folder.name,
        "title": manifest["experiment"].get("title") or manifest["name"],
        "verdicts": folder.read_json("verdicts.json"),
    }
