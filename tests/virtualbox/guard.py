"""What ends a VirtualBox, and labs, when the tests that began them are killed.

Run as a process of its own, it reads a line of JSON for each, {"python", "folder"} of an instance
or {"root"} of labs. When the input ends, and only its writer's end does that, it takes down the
labs and ends the instances: nothing else, since these are told by their folders.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.providers.virtualbox.testbed import Instance

PROJECT = Path(__file__).resolve().parents[2]


class Guard:
    """The outer end: one process for all that a test session begins."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def watch(self, instance: Instance) -> None:
        """End that VirtualBox when this process is no more."""
        self._say({"python": str(instance.python), "folder": str(instance.folder)})

    def watch_labs(self, root: Path) -> None:
        """Take down the labs under `root` when this process is no more."""
        self._say({"root": str(root)})

    def _say(self, what: dict[str, str]) -> None:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, __file__],
                stdin=subprocess.PIPE,
                text=True,
                start_new_session=True,  # whoever ends our group leaves it alone
            )
        assert self._process.stdin
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()


GUARD = Guard()


def main() -> None:
    """Read until the writer has gone; then end what it named."""
    named = [json.loads(line) for line in sys.stdin]
    sys.path.insert(0, str(PROJECT))
    from lab.errors import LabError
    from lab.ledger import Ledger
    from lab.making import unmake
    from lab.providers.virtualbox.testbed import Instance

    instances = [Instance(Path(n["python"]), Path(n["folder"])) for n in named if "folder" in n]
    for instance in instances:
        with contextlib.suppress(LabError):
            instance.stop()
    # Their machines have gone by now, with their VirtualBox; what is left is of other providers.
    for root in (Path(name["root"]) for name in named if "root" in name):
        for ledger in Ledger.all_labs(root):
            with contextlib.suppress(LabError):
                unmake(ledger)


if __name__ == "__main__":
    main()
