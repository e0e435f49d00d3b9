"""The class's tasks as a teacher calls them, each in a process of its own."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

import simulated

PROJECT = Path(__file__).resolve().parents[2]


def inv(*words: str, code: int = 0) -> str:
    """Run a task; return its standard output."""
    done = subprocess.run(
        [PROJECT / "inv", *words], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def test_from_roster_to_grades(tmp_path: Path) -> None:
    """Hand-outs are written with the secret that is made; grading then needs that secret."""
    roster = tmp_path / "roster.csv"
    roster.write_text("id,name\namina,Amina W.\nben,Ben O.\n")
    course = str(tmp_path / "course")
    grading = ("class-grade", str(tmp_path / "in"), "--roster", str(roster), "--exercise", "2",
               "--course", course)  # fmt: skip
    assert "course secret" in inv(*grading, code=2)
    made = json.loads(
        inv("class-handout", str(roster), "--exercise", "2", "--course", course, "--json")
    )
    assert made["handouts"] == 2
    folder = Path(made["folder"])
    assert stat.S_IMODE((folder / "amina" / "key").stat().st_mode) == 0o600
    assert (folder / "amina" / "key").read_text() != (folder / "ben" / "key").read_text()
    assert "[127.0.0.1]:2222 ssh-ed25519" in (folder / "ben" / "known_hosts").read_text()
    (tmp_path / "in" / "amina").mkdir(parents=True)
    (tmp_path / "in" / "amina" / "answers.yaml").write_text("answers: {port: 80}\n")
    os.utime(tmp_path / "in" / "amina" / "answers.yaml", (simulated.DUE, simulated.DUE))
    grades = json.loads(inv(*grading, "--due", "2026-11-01 10:00", "--json"))
    assert [(g["student"], g["status"], g["points"]) for g in grades] == [
        ("amina", "late", 0.5),
        ("ben", "nothing", 0),
    ]
    assert (tmp_path / "course" / "grades" / "2-read-the-capture" / "grades.xlsx").is_file()
    assert "no date" in inv(*grading, "--due", "soon", code=2)
