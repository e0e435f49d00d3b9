"""Folders that are made once, with real processes that are killed and that wait."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lab import once

PROJECT = Path(__file__).parents[2]
#: Makes argv[1] out of what comes on standard input, and says when it has begun.
MAKE = f"""
import sys
sys.path.insert(0, {str(PROJECT)!r})
from pathlib import Path
from lab import once
def make(half):
    print("making", flush=True)
    (half / "content").write_text(sys.stdin.read())
once.ensure(Path(sys.argv[1]), make, lambda phase, _: print(phase, flush=True))
print("there", flush=True)
"""
WAITING = "waiting for another process that builds the same\n"


def start(folder: Path) -> subprocess.Popen[str]:
    """Start making `folder`."""
    command = [sys.executable, "-c", MAKE, str(folder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def silent(_phase: str, _fraction: float | None) -> None:
    """Take progress."""


def fail(half: Path) -> None:
    """Leave something half-made."""
    (half / "some").touch()
    raise RuntimeError("no")


def test_whoever_comes_second_waits_and_uses_what_there_is(tmp_path: Path) -> None:
    """One process makes it; nothing is seen of it before it is whole."""
    folder = tmp_path / "cache" / "it"
    first = start(folder)
    assert first.stdout
    assert first.stdout.readline() == "making\n"
    second = start(folder)
    assert second.stdout
    assert second.stdout.readline() == WAITING
    assert not folder.exists()
    assert first.communicate("one")[0] == "there\n"
    assert second.communicate("two")[0] == "there\n"
    assert (folder / "content").read_text() == "one"
    assert folder.parent.stat().st_mode & 0o777 == 0o700
    assert {path.name for path in folder.parent.iterdir()} == {"it", "it.lock"}


def test_what_a_killed_process_left_is_swept_away(tmp_path: Path) -> None:
    """Whatever is made next; and a folder in the making is not."""
    killed = start(tmp_path / "killed")
    assert killed.stdout
    assert killed.stdout.readline() == "making\n"
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    busy = start(tmp_path / "busy")
    assert busy.stdout
    assert busy.stdout.readline() == "making\n"
    once.ensure(tmp_path / "other", lambda _: None, silent)
    assert {path.name for path in tmp_path.iterdir()} == {
        "other", "other.lock", ".half-busy", "busy.lock",
    }  # fmt: skip
    busy.communicate("")
    assert (tmp_path / "busy").is_dir()


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    """Neither half of a folder nor a lock; the next try is a new one."""
    with pytest.raises(RuntimeError, match="no"):
        once.ensure(tmp_path / "it", fail, silent)
    assert list(tmp_path.iterdir()) == []
    once.ensure(tmp_path / "it", lambda half: (half / "x").touch(), silent)
    assert (tmp_path / "it" / "x").exists()
