"""Folders in the cache that are made once: whole or not there, whoever is killed when.

    <folder>          appears and disappears by one rename, under its lock
    <folder>.lock     held exclusively by who makes or removes it, shared by who uses it
    .half-<folder>/   in the making, or left by a process that was killed while it made it

A half-made folder whose lock is free belongs to nobody: the next use removes it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lab.image_build import Progress

HALF = ".half-"


def ensure(folder: Path, make: Callable[[Path], None], report: Progress) -> None:
    """See that `folder` is there: make(half) fills a folder that is then renamed to it.

    While somebody else makes the same folder this waits, and then theirs is used. For folders
    whose files belong to the caller; those of images do not. Raises what `make` raises.
    """
    if folder.is_dir():
        return
    make_private(folder.parent)
    sweep(folder.parent, _remove)
    with locked(folder, report):
        if folder.is_dir():
            return
        making = half(folder)
        making.mkdir()
        try:
            make(making)
            making.rename(folder)
        except BaseException:
            _remove(making)
            raise


def sweep(parent: Path, discard: Callable[[Path], None]) -> None:
    """Remove what was left in `parent` by processes that were killed: its lock is free."""
    halves = {path.name.removeprefix(HALF) for path in parent.glob(f"{HALF}*")}
    locks = {lock.name.removesuffix(".lock") for lock in parent.glob("*.lock")}
    for name in sorted(halves | {name for name in locks if not (parent / name).exists()}):
        folder = parent / name
        fd = try_lock(folder, fcntl.LOCK_EX)
        if fd is None:
            continue
        try:
            discard(half(folder))
            if not folder.exists():
                lock_path(folder).unlink(missing_ok=True)
        finally:
            os.close(fd)


def half(folder: Path) -> Path:
    """Return where `folder` is made."""
    return folder.with_name(HALF + folder.name)


def lock_path(folder: Path) -> Path:
    """Return the file that is locked by who makes, removes or uses `folder`."""
    return folder.with_name(folder.name + ".lock")


def try_lock(folder: Path, kind: int) -> int | None:
    """Return a descriptor with the folder's lock, or None when others hold it (or no cache)."""
    path = lock_path(folder)
    while True:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        # Whoever held the lock may have removed the file: then this is a lock on nothing.
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(fd).st_ino:
                return fd
        os.close(fd)


@contextmanager
def locked(folder: Path, report: Progress) -> Iterator[None]:
    """Hold the folder's lock exclusively, waiting for whoever has it."""
    fd = try_lock(folder, fcntl.LOCK_EX)
    if fd is None:
        report("waiting for another process that builds the same", None)
    while fd is None:
        time.sleep(0.1)  # the interval of a probe that ends when the other process does
        fd = try_lock(folder, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if not folder.exists():
            lock_path(folder).unlink(missing_ok=True)
        os.close(fd)


def make_private(folder: Path) -> None:
    """Make a folder of the cache, for the caller alone. Raises LabError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise LabError(
            "making the image cache",
            f"{folder}: {error.strerror}",
            fault=Fault.MACHINE,
            todo="set IMLAB_CACHE to a folder of your own",
        ) from error


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
