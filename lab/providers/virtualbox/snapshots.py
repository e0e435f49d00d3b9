"""Snapshots of machines that run, memory and disk: back in seconds. Runs in the agent."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lab.providers.virtualbox.api import Refused
from lab.providers.virtualbox.machines import start, state_of
from lab.providers.virtualbox.removal import ONLINE, cut_power

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.providers.virtualbox.api import Api, Thing

SAVING = 300.0  # seconds for one machine's memory
QUIET = 1.0  # seconds since a machine's settings were last written; a window's come 0.3 s late
QUIET_BY = 20.0  # seconds until it is tried all the same
PAUSE = 0.05


def save(api: Api, uuids: list[str], name: str) -> None:
    """Take a snapshot of every machine, one after another; each stands still meanwhile."""
    for uuid in uuids:
        machine = api.box.do("findMachine", uuid)
        session = _locked(api, machine)
        try:
            with _still(api, machine, session):
                progress, _ = session.get("machine").do("takeSnapshot", name, "", True)  # noqa: FBT003 - it pauses
                api.finish(progress, "taking a snapshot", time.monotonic() + SAVING)
        finally:
            session.do("unlockMachine")


@contextmanager
def _still(api: Api, machine: Thing, session: Thing) -> Iterator[None]:
    """Have a machine paused, if it runs, and its settings written by nobody.

    VBoxSVC 7.2 dies, and every machine with it, when settings of a machine are written while a
    snapshot of it is taken. Windows write their size after the guest has changed it, which a
    guest that stands still does not.
    """
    paused = state_of(api, machine) == "Running"
    if paused:
        session.get("console").do("pause")
    try:
        settings = Path(machine.get("settingsFilePath"))
        end = time.monotonic() + QUIET_BY
        while time.time() - settings.stat().st_mtime < QUIET and time.monotonic() < end:
            time.sleep(PAUSE)
        yield
    finally:
        if paused:
            session.get("console").do("resume")


def _locked(api: Api, machine: Thing) -> Thing:
    """Return a session that shares the machine with its process, if it has one."""
    session, running = api.session(), state_of(api, machine) in ONLINE
    machine.do("lockMachine", session, api.constant("LockType", "Shared" if running else "Write"))
    return session


def restore(api: Api, uuids: list[str], name: str, frontend: str, environment: list[str]) -> None:
    """Put every machine back as it was when the snapshot was taken, and let it run on."""
    end = time.monotonic() + SAVING
    machines = [api.box.do("findMachine", uuid) for uuid in uuids]
    snapshots = [machine.do("findSnapshot", name) for machine in machines]
    cut_power(api, machines, end)
    for machine, snapshot in zip(machines, snapshots):  # noqa: B905 - Python 3.9 has no strict
        session = _locked(api, machine)
        try:
            progress = session.get("machine").do("restoreSnapshot", snapshot)
            api.finish(progress, "restoring a snapshot", end)
        finally:
            session.do("unlockMachine")
    start(api, uuids, frontend, environment)


def saved(api: Api, uuids: list[str]) -> list[str]:
    """Return the names of the snapshots that all these machines have, oldest first."""
    lists = [_names(api.box.do("findMachine", uuid)) for uuid in uuids]
    return [name for name in (lists[0] if lists else []) if all(name in there for there in lists)]


def _names(machine: Thing) -> list[str]:
    names: list[str] = []
    try:
        pending = [machine.do("findSnapshot", "")]  # the first
    except Refused:
        return names
    while pending:
        snapshot = pending.pop(0)
        names.append(str(snapshot.get("name")))
        pending += snapshot.get("children")
    return names


def forget(api: Api, uuids: list[str], name: str) -> None:
    """Delete a snapshot of every machine that has it."""
    for uuid in uuids:
        try:
            machine = api.box.do("findMachine", uuid)
            snapshot = machine.do("findSnapshot", name)
        except Refused:
            continue
        session = _locked(api, machine)
        try:
            progress = session.get("machine").do("deleteSnapshot", snapshot.get("id"))
            api.finish(progress, "deleting a snapshot", time.monotonic() + SAVING)
        finally:
            session.do("unlockMachine")
