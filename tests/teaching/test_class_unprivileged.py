"""A class run by an ordinary user: the same labs and the same bounds for processes, no root."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.lab, pytest.mark.slow]
PROJECT = Path(__file__).resolve().parents[2]
SCRIPT = """
import json, os, sys
from pathlib import Path
from commands import classes, classroom
from lab import lifecycle
from lab.errors import LabError
from lab.ledger import Ledger, state_root
from lab.providers.netns.provider import PROVIDER
from provisioning.sessions import Sessions

Path("roster.csv").write_text("id,name\\namina,Amina\\nben,Ben\\n")
taught = classes.of("roster.csv", "1", "course", typed=False, new=True)
seats = classroom.up_all(taught, taught.students, lambda *_: None)
result = {"states": [seat.state for seat in seats], "notes": [seat.note for seat in seats]}
try:
    lab, ledger = lifecycle.attach("1-amina"), Ledger.find(state_root(), "1-amina")
    bomb = "for i in $(seq 400); do (sleep 8) & done 2>/dev/null; wait"
    with Sessions(lab, ["guest"]) as at, at["guest"].stream(["/bin/sh", "-c", bomb]):
        most = 0
        for _ in range(200):
            most = max(most, PROVIDER.usage(ledger)["guest"]["processes"])
            if most >= classroom.PROCESSES - 5:
                break
        with Sessions(lab, ["peer"]) as other:
            result["peer"] = other["peer"].run(["id", "-u"]).stdout.decode()
    result["most"] = most
finally:
    result["down"] = classroom.down_all(taught, [], keep=False)
print(json.dumps(result))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="makes an ordinary user's view of the machine")
def test_an_ordinary_user_has_a_class() -> None:
    """Labs come and go; a fork bomb stops at its host's limit without control groups."""
    home = Path(tempfile.mkdtemp(prefix="imlab-home-"))
    home.chmod(0o755)
    real = Path(os.path.realpath(sys.executable))
    fit = all(parent.stat().st_mode & 0o005 == 0o005 for parent in real.parents)
    python = str(real) if fit else "/usr/bin/python3"
    try:
        shutil.copytree(sysconfig.get_paths()["purelib"], home / "packages", symlinks=True)
        (home / "script.py").write_text(SCRIPT)
        helper = str(PROJECT / "tests" / "lab" / "as_ordinary_user.py")
        done = subprocess.run(
            [sys.executable, helper, str(home), str(PROJECT), python, "script.py"],
            env={**os.environ, "PYTHONPATH": f"{home / 'project'}:{home / 'packages'}"},
            capture_output=True, text=True, check=False, timeout=600,
        )  # fmt: skip
    finally:
        shutil.rmtree(home, ignore_errors=True)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout)
    assert result["states"] == ["ready", "ready"], result["notes"]
    assert 155 <= result["most"] <= 160
    assert result["peer"] == "0\n"
    assert result["down"] == ["1-amina", "1-ben"]
