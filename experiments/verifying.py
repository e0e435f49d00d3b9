"""Whether a run folder is, byte for byte, what was sealed and what was derived from it."""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING

from experiments import sums
from experiments.evidence import DERIVED_LIST, MANIFEST, Fact, RunFolder, hash_file
from experiments.sums import SUMS

if TYPE_CHECKING:
    from pathlib import Path


def differences(path: Path) -> list[Fact]:
    """Return every file that is missing, changed or added, [] when all is well.

    Links and special files are facts, whatever they lead to: a run has none. Runs from before
    there were SHA256SUMS are held against manifest.json and derived.json. Raises LabError when
    there is no run at all.
    """
    if not (path / MANIFEST).exists() and not (path / SUMS).exists():
        RunFolder.open(path)  # raises, saying so
    expected, facts = _expected(path)
    there = _walk(path)
    for name, digest in sorted(expected.items()):
        mode = there.get(name)
        if mode is None:
            facts.append(Fact(name, "is missing"))
        elif not stat.S_ISREG(mode):
            continue  # said below
        elif hash_file(path / name)["sha256"] != digest:
            facts.append(Fact(name, "is not what was sealed"))
    for name, mode in there.items():
        if not stat.S_ISREG(mode):
            facts.append(Fact(name, "is no plain file"))
        elif name not in expected and name not in {SUMS, MANIFEST, DERIVED_LIST}:
            facts.append(Fact(name, "was added"))
    return sorted(facts, key=lambda fact: fact.file)


def _expected(path: Path) -> tuple[dict[str, str], list[Fact]]:
    """Return name -> SHA-256 of what shall be there, and what is wrong with the lists of it."""
    facts: list[Fact] = []
    try:
        return sums.parse((path / SUMS).read_bytes()), facts
    except sums.BrokenError:
        facts.append(Fact(SUMS, "is not what was sealed"))
    except OSError:
        pass
    listed: dict[str, str] = {}  # the other two lists then say what there is
    for name in (MANIFEST, DERIVED_LIST):
        if name == DERIVED_LIST and not (path / name).exists():
            continue  # a run that nobody has judged
        try:
            data = json.loads((path / name).read_bytes())
            listed |= {file: str(row["sha256"]) for file, row in data["files"].items()}
            if data.get("sums") and not facts:
                facts.append(Fact(SUMS, "is missing"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            facts.append(Fact(name, "cannot be read"))
    return listed, facts


def _walk(path: Path) -> dict[str, int]:
    """Return the mode of everything below a folder that is no folder; links are not followed."""
    found = {}
    for root, folders, files in os.walk(path, followlinks=False):
        for name in (*folders, *files):
            entry = os.path.join(root, name)  # noqa: PTH118 - os.walk gives texts
            mode = os.lstat(entry).st_mode
            if not stat.S_ISDIR(mode):
                found[os.path.relpath(entry, path)] = mode
    return found
