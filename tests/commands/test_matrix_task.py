"""`./inv matrix` as a user calls it: what it prints, and what is left of one that is ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
PROGRAM = [
    sys.executable, str(PROJECT / "commands" / "program.py"), "--search-root", str(PROJECT),
]  # fmt: skip


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    """Start a task with a state folder of its own, as a group of its own, as a shell does."""
    return subprocess.Popen(
        [*PROGRAM, *words],
        env={**os.environ, "IMLAB_STATE": str(folder / "state")},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def ended(folder: Path, *words: str) -> tuple[int | None, str, str]:
    """Run a task to its end; return its exit code and what it printed."""
    process = start(folder, *words)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def wait_for(process: subprocess.Popen[str], word: str) -> None:
    """Return once the task has said a word of its progress."""
    assert process.stderr is not None
    said = ""
    end = time.monotonic() + 60
    while word not in said and time.monotonic() < end:
        said += process.stderr.read(1)
    assert word in said


@pytest.mark.lab
@pytest.mark.slow
def test_json_is_rows_and_nothing_else(tmp_path: Path) -> None:
    """A part of the matrix as data; the lab and its copies have gone, the evidence is there."""
    out = tmp_path / "out"
    code, printed, told = ended(
        tmp_path, "matrix", "--only", "irc,none", "--repeats", "4", "--json", "--out", str(out)
    )
    assert (code, told) == (0, "")
    rows = json.loads(printed)
    assert {(row["system"], row["countermeasure"]) for row in rows} == {("irc_server", "none")}
    (read,) = [r for r in rows if (r["observer"], r["kind"]) == ("peer/eth0", "message")]
    assert (read["sent"], read["recovered"], read["verdict"]) == (4, 4, "read")
    (folder,) = out.iterdir()
    assert {path.name for path in folder.iterdir()} >= {"matrix.json", "matrix.html", "cells"}
    assert ended(tmp_path, "lab-status", "--json")[1].strip() == "[]"
    code, again, _ = ended(tmp_path, "matrix", "--again", str(folder), "--json")
    assert (code, json.loads(again)) == (0, rows)


@pytest.mark.lab
@pytest.mark.slow
@pytest.mark.parametrize("word", ["making hosts", "keeping the state", "cell 1", "cell 2"])
def test_ctrl_c_leaves_nothing(tmp_path: Path, word: str) -> None:
    """Interrupted while the lab comes up, or in a cell: no lab, no folder, exit code 130."""
    out = tmp_path / "out"
    process = start(tmp_path, "matrix", "--only", "irc", "--repeats", "4", "--out", str(out))
    wait_for(process, word)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert ended(tmp_path, "lab-status", "--json")[1].strip() == "[]"
    assert list(out.iterdir()) == []


@pytest.mark.lab
@pytest.mark.slow
@pytest.mark.parametrize("word", ["making hosts", "keeping the state", "cell 1", "cell 2", "judg"])
def test_kill_9_leaves_nothing_that_lab_down_does_not_remove(tmp_path: Path, word: str) -> None:
    """Killed at any moment: lab-down takes the lab, and with it what was not finished."""
    out = tmp_path / "out"
    process = start(tmp_path, "matrix", "--only", "irc", "--repeats", "4", "--out", str(out))
    wait_for(process, word)
    process.kill()
    process.communicate(timeout=60)
    end = time.monotonic() + 30
    while '"creating"' in ended(tmp_path, "lab-status", "--json")[1] and time.monotonic() < end:
        pass
    ended(tmp_path, "lab-down", "--all")
    assert ended(tmp_path, "lab-status", "--json")[1].strip() == "[]"
    assert list(out.iterdir()) == []
