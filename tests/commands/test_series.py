"""Experiments with factors, as a user runs them: interrupted, gone on with, compared."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.lab
PROJECT = Path(__file__).resolve().parents[2]
PROGRAM = [
    sys.executable, str(PROJECT / "commands/program.py"), "--search-root", str(PROJECT),
]  # fmt: skip
EXPERIMENT = """
imlab_experiment: 1
name: sizes
spec: two-peers
seed: 5
repeat: 2
factors:
  bytes: [32, 1400]
  ttl: [64, 128]
lab:
  hosts: {alice: {ttl: $ttl}}
steps:
  - ping: {count: 5, bytes: $bytes, interval_s: 0.01}
claims:
  - {id: ping, claim: Both answer., check: ping}
"""


def call(state: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Call a task."""
    return subprocess.run(
        [*PROGRAM, *words],
        env={**os.environ, "IMLAB_STATE": str(state)},
        capture_output=True, text=True, check=False, timeout=240, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def sealed(folder: Path) -> dict[str, bytes]:
    """Return the manifest of each sealed run below a folder."""
    return {path.parent.name: path.read_bytes() for path in folder.rglob("manifest.json")}


def wait_for_runs(folder: Path, number: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until so many runs are sealed."""
    end = time.monotonic() + 120
    while len(sealed(folder)) < number:
        assert process.poll() is None, "it ended before it was to be killed"
        assert time.monotonic() < end, f"{len(sealed(folder))} runs after two minutes"
        time.sleep(0.01)


def test_a_killed_series_goes_on_without_losing_or_redoing_a_cell(tmp_path: Path) -> None:
    """kill -9 twice, at different moments of a cell: in the end every cell has one run."""
    (tmp_path / "sizes.yaml").write_text(EXPERIMENT)
    out, state = tmp_path / "runs", tmp_path / "state"
    given, before = str(tmp_path / "sizes.yaml"), dict[str, bytes]()
    for number, later in ((2, 0.0), (5, 0.25)):
        process = subprocess.Popen(
            [*PROGRAM, "run", given, "--out", str(out)],
            env={**os.environ, "IMLAB_STATE": str(state)},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_for_runs(out, number, process)
            time.sleep(later)  # into the next cell, wherever that is by then
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        before = sealed(out)
        (folder,) = out.iterdir()
        given = str(folder)
    done = call(state, "run", given, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["there"] == len(before)
    assert found["made"] == 8 - len(before)
    after = sealed(out)
    assert len(after) == 8
    assert before.items() <= after.items()
    cells = [json.loads(manifest)["experiment"]["cell"] for manifest in after.values()]
    assert len({json.dumps(cell, sort_keys=True) for cell in cells}) == 8
    assert {path.name for path in (folder / "cells").iterdir()} == set(after)
    assert {path.name for path in folder.iterdir()} == {
        "series.json", "cells", "compare.html", "compare.json",
    }  # fmt: skip
    assert json.loads(call(state, "lab-status", "--json").stdout) == []
    again = json.loads(call(state, "run", given, "--json").stdout)
    assert (again["made"], again["there"]) == (0, 8)
    assert sealed(out) == after
    _levels_were_applied(after)
    _page_and_compare(state, folder, tmp_path)


def _levels_were_applied(manifests: dict[str, bytes]) -> None:
    for content in manifests.values():
        manifest: dict[str, Any] = json.loads(content)
        levels = manifest["experiment"]["cell"]["levels"]
        assert manifest["plan"]["hosts"][0]["ttl"] == int(levels["ttl"])
        assert manifest["experiment"]["steps"][0]["ping"]["bytes"] == int(levels["bytes"])


def _page_and_compare(state: Path, folder: Path, space: Path) -> None:
    """See that `compare` makes the same page of the series, and a table of single runs."""
    page = space / "page.html"
    done = call(state, "compare", str(folder), "--html", str(page), "--json")
    assert done.returncode == 0, done.stderr
    assert page.read_bytes() == (folder / "compare.html").read_bytes()
    cells = sorted((folder / "cells").iterdir())
    table = call(state, "compare", str(cells[0]), str(cells[1]))
    assert table.returncode == 0, table.stderr
    assert "ping alice → bob" in table.stdout
    assert call(state, "compare").returncode == 2


def test_a_faulty_combination_is_told_before_anything_is_made(tmp_path: Path) -> None:
    """A level that no lab can have: exit code 2, and no folder of a series."""
    (tmp_path / "sizes.yaml").write_text(EXPERIMENT.replace("[64, 128]", "[64, 300]"))
    out = tmp_path / "runs"
    done = call(tmp_path / "state", "run", str(tmp_path / "sizes.yaml"), "--out", str(out))
    assert done.returncode == 2
    assert "at most 255" in done.stderr
    assert not list(out.iterdir())


def test_a_cell_that_fails_is_told_and_the_others_are_run(tmp_path: Path) -> None:
    """A setting that the kernel refuses fails its cells alone; going on tries them again."""
    text = EXPERIMENT.replace("{ttl: $ttl}", "{sysctls: {net.ipv4.ip_forward: $ttl}}")
    text = text.replace("ttl: [64, 128]", "ttl: [0, word]").replace("repeat: 2", "repeat: 1")
    (tmp_path / "sizes.yaml").write_text(text)
    out, state = tmp_path / "runs", tmp_path / "state"
    for there in (0, 2):
        (folder,) = out.iterdir() if there else (tmp_path / "sizes.yaml",)
        done = call(state, "run", str(folder), "--out", str(out), "--json")
        assert done.returncode == 1, done.stderr
        found = json.loads(done.stdout)
        assert (found["made"], found["there"], len(found["failed"])) == (2 - there, there, 2)
        assert all("ttl word" in cell for cell, _ in found["failed"])
