"""A whole matrix judged from its folder: matrix.json, the rows for programs, and the page."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from experiments.evidence import RunFolder, canonical
from experiments.matrix import page
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
        try:
            cells.append(judge_cell(path))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise LabError(
                f"judging the cell {path.name}",
                f"{type(error).__name__}: {error}",
                fault=Fault.USER,
                todo="it was made by another version of imlab, or is no cell: make it again",
            ) from error
    cannot = folder / IMPOSSIBLE
    content = {
        "format": FORMAT,
        "name": folder.name,
        "cells": cells,
        "environment": _environment(paths[0]),
        "impossible": json.loads(cannot.read_bytes()) if cannot.is_file() else [],
        "claims": [_verdicts(path) for path in claims],
    }
    (folder / MATRIX).write_bytes(canonical(content))
    (folder / PAGE).write_text(page.render(content), encoding="utf-8")
    return content


def _environment(path: Path) -> dict[str, Any]:
    """Return on what the matrix was made, as its first cell tells."""
    manifest = RunFolder.open(path).manifest()
    return {
        "host_facts": manifest["host_facts"],
        "software": manifest["software"],
        "lab": manifest["plan"]["lab"],
        "description": manifest["plan"]["description"],
    }


def _verdicts(path: Path) -> dict[str, Any]:
    """Return what a run says of its claims. Raises LabError when it was not judged."""
    folder = RunFolder.open(path)
    manifest = folder.manifest()
    return {
        "run": folder.name,
        "title": manifest["experiment"].get("title") or manifest["name"],
        "verdicts": folder.read_json("verdicts.json"),
    }
