"""What a lab owns on this machine, written before it is made and kept until it is gone.

One folder a lab, `<state>/labs/<name>/`, 0700, with `ledger.json` (0600: it holds the lab's
private key), `lock` and `work`. Whoever keeps a lab alive holds the lock, so 'the lock is free'
means 'nobody is left'; whoever works on its hosts holds `work`. The ledger needs no spec to be
read and outlives terminals and crashes. Only the standard library: keeper processes import this.

A folder appears and disappears by one rename, under the lock over all labs, so that nobody sees
half of one. Names are used again; a random id is what tells this lab from the next of its name,
and nothing is changed or removed unless it still is the one that was looked at. The id, and which
process keeps the lab, stand in the lock file, which is written once: so they outlive a record
that was cut short.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMAT = 1
LEDGER, LOCK, WORK = "ledger.json", "lock", "work"
_NEW, _GONE = ".new-", ".gone-"


def state_root() -> Path:
    """Return where labs are recorded: $IMLAB_STATE, /var/lib/imlab for root, else XDG's place."""
    if chosen := os.environ.get("IMLAB_STATE"):
        return Path(chosen).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/imlab")
    base = os.environ.get("XDG_STATE_HOME", "")
    if base.startswith("/"):  # the XDG specification: a relative path is to be ignored
        return Path(base) / "imlab"
    try:
        return Path.home() / ".local" / "state" / "imlab"
    except RuntimeError:
        raise LabError(
            "finding where labs are recorded",
            "this user has no home folder",
            fault=Fault.MACHINE,
            todo="set IMLAB_STATE to a folder of your own",
        ) from None


class Ledger(NamedTuple):
    """One lab's record. `create` to begin a lab, `find` and `all_labs` to look at what there is.

    lab_id -- tells it from other labs of its name, before and after.
    """

    folder: Path
    lab_id: str = ""

    @classmethod
    def create(cls, root: Path, name: str, record: dict[str, Any]) -> tuple[Ledger, int]:
        """Begin a lab: make its folder with the record, state "creating"; return its lock too.

        The lock lasts as long as some process has the returned descriptor. What a crash left of
        an *uncommitted* lab of that name is swept first.
        Raises FileExistsError when the lab is there already (alive or not), or when what a crash
        left owns something that has to be destroyed; OSError, and then nothing is left.
        """
        labs = root / "labs"
        labs.mkdir(mode=0o700, parents=True, exist_ok=True)
        ledger = cls(labs / name, os.urandom(8).hex())
        draft = labs / f"{_NEW}{name}"
        with _exclusive(labs):
            _sweep(labs)
            if os.path.lexists(ledger.folder):
                there = cls.look(ledger.folder)
                if there is None or there.alive() or there.read()["state"] != "creating":
                    raise FileExistsError(name)
                if there.others():
                    raise FileExistsError(name)
                _set_aside(there.folder)
            lock = -1
            try:
                draft.mkdir(mode=0o700)
                lock = os.open(draft / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                fcntl.flock(lock, fcntl.LOCK_EX)
                pid = os.getpid()
                words = [ledger.lab_id, pid, start_time(pid), *record.get("providers", ())]
                os.write(lock, f"{' '.join(map(str, words))}\n".encode())
                os.close(os.open(draft / WORK, os.O_RDWR | os.O_CREAT, 0o600))
                stamp = {"format": FORMAT, "name": name, "state": "creating"}
                _write(draft, {**record, **stamp, "created": time.time()})
                draft.rename(ledger.folder)
            except OSError:
                shutil.rmtree(draft, ignore_errors=True)
                if lock >= 0:
                    os.close(lock)
                raise
        return ledger, lock

    @classmethod
    def look(cls, folder: Path) -> Ledger | None:
        """Return the lab in a folder, None when what is there is no lab."""
        try:
            return cls(folder, (_lock_words(folder) or [""])[0])
        except (FileNotFoundError, NotADirectoryError):
            return None

    @classmethod
    def find(cls, root: Path, name: str) -> Ledger:
        """Return the lab of that name. Raises KeyError when there is none."""
        ledger = None if name.startswith(".") or "/" in name else cls.look(root / "labs" / name)
        if ledger is None:
            raise KeyError(name)
        return ledger

    @classmethod
    def all_labs(cls, root: Path) -> list[Ledger]:
        """Return every lab on record, by name. Raises LabError if they cannot be listed."""
        try:
            names = sorted(path.name for path in (root / "labs").iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise LabError(
                "looking for labs",
                str(error),
                fault=Fault.MACHINE,
                todo="set IMLAB_STATE to a folder of your own",
            ) from error
        found = [cls.look(root / "labs" / name) for name in names if not name.startswith(".")]
        return [ledger for ledger in found if ledger]

    @property
    def name(self) -> str:
        """The lab's name."""
        return self.folder.name

    def read(self) -> dict[str, Any]:
        """Return the record; of a lab whose record is missing or damaged, just its state."""
        return {"state": "creating", "name": self.name, **_read(self.folder)}

    def current(self) -> bool:
        """Tell whether the folder still is of this lab, and not gone or of a later one."""
        there = Ledger.look(self.folder)
        return there is not None and there.lab_id == self.lab_id

    def keeper(self) -> tuple[int, int] | None:
        """Return which process made this lab and keeps it: its pid and start_time(pid)."""
        with contextlib.suppress(OSError, ValueError):
            lab_id, pid, started, *_ = _lock_words(self.folder)
            if lab_id == self.lab_id:
                return int(pid), int(started)
        return None

    def providers(self) -> list[str]:
        """Return whose hosts the lab has, whatever became of its record; [] if nobody wrote it."""
        with contextlib.suppress(OSError):
            return _lock_words(self.folder)[3:]
        return []

    def others(self) -> bool:
        """Tell whether a provider has a part in the lab besides the first, which keeps it."""
        return len(self.providers()) > 1 or bool(self.owned())

    def own(self, provider: str, kind: str, name: str, **facts: object) -> None:
        """Note what is about to be made, so that it is found whatever happens. Raises LabError."""
        row = {"provider": provider, "kind": kind, "name": name, **facts}
        with self._changing():
            record = self.read()
            _write(self.folder, {**record, "owns": [*record.get("owns", []), row]})

    def disown(self, provider: str, kind: str, name: str) -> None:
        """Take back `own`: it is gone. Raises LabError."""
        with self._changing():
            record = self.read()
            rest = [
                row
                for row in record.get("owns", [])
                if (row["provider"], row["kind"], row["name"]) != (provider, kind, name)
            ]
            _write(self.folder, {**record, "owns": rest})

    def owned(self, provider: str = "", kind: str = "") -> list[dict[str, Any]]:
        """Return what is noted as made or about to be, of one provider and kind or of all."""
        return [
            row
            for row in self.read().get("owns", [])
            if provider in {"", row["provider"]} and kind in {"", row["kind"]}
        ]

    def update(self, **changes: object) -> None:
        """Change fields of the record, in one atomic step. Raises LabError if the lab has gone."""
        with self._changing():
            _write(self.folder, {**self.read(), **changes})

    def expect(self, path: Path) -> None:
        """Note a folder that goes with the lab if it is never finished.

        Whoever writes into it holds a flock on it meanwhile, and calls `finished` at the end.
        """
        with self._changing():
            noted = [*self.read().get("unfinished", []), str(path)]
            _write(self.folder, {**self.read(), "unfinished": noted})

    def finished(self, path: Path) -> None:
        """Take back `expect`: the path stays. A lab that has gone meanwhile expects nothing."""
        with contextlib.suppress(LabError), self._changing():
            rest = [there for there in self.read().get("unfinished", []) if there != str(path)]
            _write(self.folder, {**self.read(), "unfinished": rest})

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

    def begin_work(self) -> int | None:
        """Return a descriptor that keeps others from working on the lab's hosts until closed.

        None while somebody else has it. Raises LabError if the lab has gone.
        """
        try:
            descriptor = os.open(self.folder / WORK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            raise self.gone() from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        if not self.current():
            os.close(descriptor)
            raise self.gone()
        return descriptor

    def remove(self) -> None:
        """Forget the lab: remove its folder, and what was begun with it and never finished.

        What it owned must be gone by then. Safe to repeat; a later lab of that name stays.
        Raises LabError when the folder cannot be removed.
        """
        unfinished: list[str] = []
        try:
            with _exclusive(self.folder.parent):
                if self.current():
                    unfinished = self.read().get("unfinished", [])
                    _set_aside(self.folder)
                _sweep(self.folder.parent)
        except FileNotFoundError:
            return  # somebody removed all of the state
        except OSError as error:
            raise LabError(
                f"removing the record of the lab {self.name!r}",
                str(error),
                fault=Fault.MACHINE,
                todo=f"remove {self.folder} when it can be written to again",
            ) from error
        for path in unfinished:
            _remove_unless_in_use(Path(path))

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        try:
            with _exclusive(self.folder.parent):
                if not self.current():
                    raise self.gone()
                yield
        except FileNotFoundError:
            raise self.gone() from None
        except OSError as error:
            raise LabError(
                f"writing the record of the lab {self.name!r}",
                str(error),
                fault=Fault.MACHINE,
                todo=f"see whether {self.folder} can be written to and has space",
            ) from error

    def gone(self) -> LabError:
        """Return the error for a lab that is not there any more."""
        return LabError(
            f"working with the lab {self.name!r}",
            "it was taken down meanwhile",
            fault=Fault.USER,
            todo="put it up again with `./inv lab-up`",
        )


def start_time(pid: int) -> int:
    """Return when a process started, in clock ticks since boot (proc(5), stat field 22)."""
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])


def _lock_words(folder: Path) -> list[str]:
    return (folder / LOCK).read_text(encoding="ascii", errors="replace").split()


def _read(folder: Path) -> dict[str, Any]:
    """Return a record, {} for one that is missing or damaged."""
    try:
        record = json.loads((folder / LEDGER).read_bytes())
    except (OSError, ValueError):
        return {}
    sound = isinstance(record, dict) and isinstance(record.get("format"), int)
    return record if sound else {}


def _write(folder: Path, record: dict[str, Any]) -> None:
    draft = folder / f".{LEDGER}.{os.getpid()}"
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w") as stream:  # noqa: PTH123 - a descriptor has no path
            json.dump(record, stream)
        draft.replace(folder / LEDGER)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def _set_aside(folder: Path) -> None:
    folder.rename(folder.with_name(f"{_GONE}{folder.name}-{os.urandom(4).hex()}"))


def _sweep(labs: Path) -> None:
    """Remove what was set aside, and drafts of processes that were killed; the lock is ours."""
    for path in labs.iterdir():
        if path.name.startswith((_NEW, _GONE)):
            shutil.rmtree(path, ignore_errors=True)


def _remove_unless_in_use(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        pass  # its writer lives, and ends it as it likes
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _exclusive(labs: Path) -> Iterator[None]:
    """Hold the lock over all labs, for the moment in which one is begun, changed or removed."""
    descriptor = os.open(labs / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
