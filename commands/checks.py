"""What `./inv test` runs: style, types, rooms, then the tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lab import providers

PROJECT = Path(__file__).resolve().parent.parent
REAL = "pytest, real"
FAILED = 1  # of pytest: tests were run, and some failed


def run_all(only: str = "") -> int:
    """Run everything, or the tests that `only` names; return the first exit code that is not 0."""
    for title, command in steps(only):
        print(f"== {title}", file=sys.stderr, flush=True)  # noqa: T201 - the task's output
        code = subprocess.run(command, cwd=PROJECT, check=False).returncode
        if code == FAILED and title == REAL:
            # Hundreds of tests of real machines, floods and kills at random moments: what fails
            # because the machine was busy passes on its own, what is broken fails again.
            print(f"== {title}: what failed, once more", file=sys.stderr, flush=True)  # noqa: T201 - as above
            again = [*command, "--last-failed", "--last-failed-no-failures", "none"]
            code = subprocess.run(again, cwd=PROJECT, check=False).returncode
        if code:
            print(f"== {title}: failed ({code})", file=sys.stderr, flush=True)  # noqa: T201 - as above
            return code
    return 0


def steps(only: str) -> list[tuple[str, list[str]]]:
    """Return what is run, as (title, command); `only`: a provider, a room, a file or a marker."""
    python = sys.executable
    tools = Path(python).parent
    pytest = [python, "-m", "pytest"]
    if only in providers.names():
        return [("pytest", [*pytest, "-m", only])]
    if only:
        room = PROJECT / "tests" / only
        if room.exists() or (PROJECT / only.partition("::")[0]).exists():
            return [("pytest", [*pytest, str(room) if room.exists() else only])]
        return [("pytest", [*pytest, "-m", only])]
    return [
        ("ruff check", [str(tools / "ruff"), "check"]),
        ("ruff format", [str(tools / "ruff"), "format", "--check"]),
        ("mypy", [python, "-m", "mypy"]),
        ("lint-imports", [str(tools / "lint-imports")]),
        # What only computes runs side by side; what puts labs up has the machine to itself.
        ("pytest, pure", [*pytest, "-n", "2", "-m", "not lab and not slow"]),
        (REAL, [*pytest, "-m", "lab or slow"]),
    ]
