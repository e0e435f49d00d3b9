"""A series: an experiment with factors or repeats, as a folder of runs, one a cell.

    <YYYYMMDDTHHMMSSZ>-<name>/
      series.json        the experiment and the spec as they were given, and how it is done
      cells/<run>/       a sealed run a cell; its experiment says which cell it is (`cell:`)
      compare.html …     derived, and made again at any time

What is done is read off the sealed runs and remembered nowhere else: after an interruption at any
moment, exactly the cells without a sealed run are left. Runs of a series may therefore be made on
several machines and put into one folder: who hands out cells needs `left`, and nothing more.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from experiments import definition, factors
from experiments.evidence import RunFolder, canonical, runs
from lab.errors import Fault, LabError
from lab.spec.yaml_positions import read_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from experiments.definition import Experiment
    from experiments.factors import Cell

FORMAT: Final = 1
FILE: Final = "series.json"
CELLS: Final = "cells"


@dataclass(frozen=True, slots=True)
class Series:
    """A series on disk.

    experiment -- with its factors; spec_text -- the lab that it varies.
    how        -- provider and browser, as `run` was told.
    """

    path: Path
    experiment: Experiment
    spec_text: str
    how: dict[str, Any]

    @property
    def runs(self) -> Path:
        """The folder of its runs."""
        return self.path / CELLS

    @property
    def lab(self) -> str:
        """The name of its labs, which no other series has: one that is up was left by this one."""
        stem = str(self._spec()["name"])[:25].rstrip("-")
        return f"{stem}-{hashlib.sha256(self.path.name.encode()).hexdigest()[:6]}"

    def cells(self) -> list[Cell]:
        """Return all cells in their order."""
        return factors.cells(self.experiment.data)

    def done(self) -> dict[str, RunFolder]:
        """Return the sealed run of each cell that has one, by the cell's key."""
        found: dict[str, RunFolder] = {}
        for folder in runs(self.runs):
            if cell := folder.manifest()["experiment"].get("cell"):
                found.setdefault(factors.cell_key(cell), folder)
        return found

    def left(self) -> list[Cell]:
        """Return the cells that have no sealed run."""
        done = self.done()
        return [cell for cell in self.cells() if cell.key not in done]

    def spec_of(self, cell: Cell) -> str:
        """Return the spec of a cell's lab: the text as it was given where nothing differs."""
        if not cell.overlay:
            return self.spec_text
        spec = factors.laid_over(self._spec(), cell.overlay)
        return json.dumps(spec, indent=1, ensure_ascii=False) + "\n"  # JSON is YAML

    def _spec(self) -> Any:  # noqa: ANN401 (YAML, as specs read it: `on` is a key like any other)
        return read_yaml(self.spec_text, "spec").data

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep others from working on the series; remove what an interrupted run left of itself.

        Raises LabError while somebody else works on it.
        """
        self.runs.mkdir(exist_ok=True)
        claim = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for folder in self.runs.iterdir():
                if not RunFolder(folder).sealed:
                    shutil.rmtree(folder)
            yield
        except BlockingIOError:
            raise LabError(
                f"going on with the series {self.path.name}",
                "another process works on it",
                fault=Fault.USER,
                todo="wait for that one, or end it",
            ) from None
        finally:
            os.close(claim)


def is_series(path: Path) -> bool:
    """Tell whether a folder is a series."""
    return (path / FILE).is_file()


def create(
    experiment: Experiment, spec: Path, root: Path, how: dict[str, Any], now: datetime | None = None
) -> Series:
    """Make the folder of a new series under `root`. Raises LabError."""
    path = RunFolder.create(experiment.name, root, now=now or datetime.now(UTC)).path
    data = {
        "format": FORMAT,
        "experiment": experiment.text,
        "spec": spec.read_text("utf-8"),
        "how": how,
    }
    draft = path / f".{FILE}"
    draft.write_bytes(canonical(data))
    draft.rename(path / FILE)
    return load(path)


def load(path: Path) -> Series:
    """Read a series. Raises LabError when there is none."""
    try:
        data = json.loads((path / FILE).read_bytes())
        text, spec, how = (data[key] for key in ("experiment", "spec", "how"))
        known = data["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LabError(
            f"opening the series {path}",
            str(error),
            fault=Fault.USER,
            todo=f"name a folder that holds a {FILE}",
        ) from error
    if not known:
        raise LabError(
            f"opening the series {path}",
            f"it is of format {data['format']}, this program reads format {FORMAT}",
            fault=Fault.USER,
            todo="go on with the version of imlab that made it",
        )
    return Series(path, definition.parse(text), spec, how)
