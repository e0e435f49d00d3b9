"""The whole lab as an ordinary user: image, lab, provisioning, experiment, verdicts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.lab, pytest.mark.slow]

PROJECT = Path(__file__).resolve().parent.parent
AS_USER = PROJECT / "tests" / "lab" / "as_ordinary_user.py"


@pytest.fixture
def home() -> Iterator[Path]:
    """Give a home folder that any user may reach; what is in it belongs to mapped ids at last."""
    folder = Path(tempfile.mkdtemp(prefix="imlab-home-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def interpreter() -> str:
    """Return a Python that other users may run."""
    real = Path(os.path.realpath(sys.executable))
    if all(parent.stat().st_mode & 0o005 == 0o005 for parent in real.parents):
        return str(real)
    return "/usr/bin/python3"


def test_an_ordinary_user_reproduces_the_paper(home: Path) -> None:
    """Everything that root can do with a lab, a user with subordinate ids can do as well."""
    packages = Path(sysconfig.get_paths()["purelib"])
    shutil.copytree(packages, home / "packages", symlinks=True)
    tasks = "import sys; from invoke.main import program; sys.exit(program.run())"
    command = [interpreter(), "-c", tasks, "--search-root", str(home / "project")]
    command += ["run", "paper", "--json", "--out", str(home / "runs")]
    (home / "project").symlink_to(PROJECT)
    if os.geteuid() == 0:
        (home / "project").unlink()
        command = [sys.executable, str(AS_USER), str(home), str(PROJECT), *command]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": f"{home / 'project'}:{home / 'packages'}",
             "IMLAB_STATE": str(home / ".local/state/imlab")},
        capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    verdicts = json.loads(done.stdout)["verdicts"]
    assert len(verdicts) >= 9
    assert {row["verdict"] for row in verdicts} == {"confirmed"}
    assert list((home / ".local/state/imlab/labs").iterdir()) == [
        home / ".local/state/imlab/labs/.lock"
    ]
