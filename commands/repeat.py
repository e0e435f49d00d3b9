"""What makes a run somebody else's to check: verify it, pack it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands import runs
from experiments import series

if TYPE_CHECKING:
    from experiments.evidence import Fact


@dataclass(frozen=True, slots=True)
class Verified:
    """What `verify` found: the run, its seal (None if that is broken or older), what differs."""

    run: str
    seal: str | None
    files: int
    facts: list[Fact]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data."""
        from commands.cli import jsonable  # noqa: PLC0415 - only for --json

        data: dict[str, Any] = jsonable(self)
        return {**data, "whole": not self.facts}


def located(name: str) -> Path:
    """Return the folder of a run, or the archive of one, by path or name. Raises LabError."""
    return Path(name) if Path(name).is_file() else runs.find(name)


def verify(name: str) -> Verified:
    """Hold every byte of a run, a packed one, or all of a series against the hashes.

    Raises LabError.
    """
    from experiments import sums  # noqa: PLC0415 - only here
    from experiments.pack import opened  # noqa: PLC0415 - as above
    from experiments.verifying import differences  # noqa: PLC0415 - as above

    if series.is_series(Path(name)):
        return _of_series(Path(name))
    with opened(located(name)) as path:
        facts = differences(path)
        try:
            content = (path / sums.SUMS).read_bytes()
            seal, files = sums.seal_of(content), len(sums.parse(content)) + 1
        except (OSError, sums.BrokenError):
            seal, files = None, sum(1 for found in path.rglob("*") if found.is_file())
        return Verified(path.name, seal, files, facts)


def _of_series(path: Path) -> Verified:
    """Hold every run of a series against its hashes."""
    from experiments.evidence import Fact  # noqa: PLC0415 - only here
    from experiments.verifying import differences  # noqa: PLC0415 - as above

    facts, files = list[Fact](), 0
    for folder in series.load(path).done().values():
        place = folder.path.relative_to(path).as_posix()
        facts += [Fact(f"{place}/{one.file}", one.fault) for one in differences(folder.path)]
        files += sum(found.is_file() for found in folder.path.rglob("*"))
    return Verified(path.name, None, files, facts)


def pack(name: str, out: Path) -> dict[str, Any]:
    """Make one archive of a run; return its path, size and hash. Raises LabError."""
    from experiments.evidence import hash_file  # noqa: PLC0415 - only here
    from experiments.pack import pack as pack_folder  # noqa: PLC0415 - as above

    archive = pack_folder(runs.find(name), out)
    return {"archive": str(archive), **hash_file(archive)}
