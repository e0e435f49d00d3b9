"""What a lab owns on this machine, written before it is made and kept until it is gone.

One folder a lab, `<state>/labs/<name>/`, 0700, with `ledger.json` (0600: it holds the lab's
private key) and `lock`. Whoever keeps a lab alive holds the lock, so 'the lock is free' means
'nobody is left'. The ledger needs no spec to be read and outlives terminals and crashes. Only
the standard library: keeper processes import this.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMAT = 1
LEDGER, LOCK = "ledger.json", "lock"


def state_root() -> Path:
    """Return where labs are recorded: $IMLAB_STATE, /var/lib/imlab for root, else XDG's place."""
    if chosen := os.environ.get("IMLAB_STATE"):
        return Path(chosen).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/imlab")
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "imlab"


@dataclass(frozen=True, slots=True)
class Ledger:
    """One lab's record. `create` to begin a lab, `find` and `all_labs` to look at what there is."""

    folder: Path

    @classmethod
    def create(cls, root: Path, name: str, record: dict[str, Any]) -> tuple[Ledger, int]:
        """Begin a lab: make its folder with the record, state "creating"; return its lock too.

        The lock lasts as long as some process has the returned descriptor. What a crash left of
        an *uncommitted* lab of that name is swept first.
        Raises FileExistsError when the lab is there already (alive or not).
        """
        labs = root / "labs"
        labs.mkdir(mode=0o700, parents=True, exist_ok=True)
        ledger = cls(labs / name)
        with _exclusive(labs):
            if ledger.folder.exists():
                if ledger.alive() or ledger.read().get("state") != "creating":
                    raise FileExistsError(name)
                shutil.rmtree(ledger.folder)
            ledger.folder.mkdir(mode=0o700)
            lock = os.open(ledger.folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            stamp = {"format": FORMAT, "name": name, "state": "creating", "created": time.time()}
            ledger._write({**record, **stamp})
        return ledger, lock

    @classmethod
    def find(cls, root: Path, name: str) -> Ledger:
        """Return the lab of that name. Raises KeyError when there is none."""
        ledger = cls(root / "labs" / name)
        if not ledger.folder.is_dir():
            raise KeyError(name)
        return ledger

    @classmethod
    def all_labs(cls, root: Path) -> list[Ledger]:
        """Return every lab on record, by name."""
        try:
            folders = sorted(path for path in (root / "labs").iterdir() if path.is_dir())
        except FileNotFoundError:
            return []
        return [cls(folder) for folder in folders]

    @property
    def name(self) -> str:
        """The lab's name."""
        return self.folder.name

    def read(self) -> dict[str, Any]:
        """Return the record; of a lab that died before it had one, just its state."""
        try:
            record: dict[str, Any] = json.loads((self.folder / LEDGER).read_text())
        except (FileNotFoundError, ValueError):
            return {"state": "creating", "name": self.name}
        return record

    def update(self, **changes: object) -> None:
        """Change fields of the record, in one atomic step."""
        self._write({**self.read(), **changes})

    def expect(self, path: Path) -> None:
        """Note a file or folder that goes with the lab if it is never finished (`finished`)."""
        with _exclusive(self.folder.parent):
            self.update(unfinished=[*self.read().get("unfinished", []), str(path)])

    def finished(self, path: Path) -> None:
        """Take back `expect`: the path stays."""
        with _exclusive(self.folder.parent):
            rest = [there for there in self.read().get("unfinished", []) if there != str(path)]
            self.update(unfinished=rest)

    def alive(self) -> bool:
        """Tell whether somebody keeps this lab: its lock is held."""
        try:
            descriptor = os.open(self.folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def remove(self) -> None:
        """Forget the lab: remove its folder. What it owned must be gone by then."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, record: dict[str, Any]) -> None:
        draft = self.folder / f".{LEDGER}.{os.getpid()}"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w") as stream:  # noqa: PTH123 - a descriptor has no path
            json.dump(record, stream)
        draft.replace(self.folder / LEDGER)


@contextlib.contextmanager
def _exclusive(labs: Path) -> Iterator[None]:
    """Hold the lock over all labs, for the moment in which one is begun or swept."""
    descriptor = os.open(labs / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
