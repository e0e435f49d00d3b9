"""Taking away all that is a lab's, and nothing else; safe to repeat. Runs in the agent.

Ours is a machine whose UUID is in the ledger, that carries the lab's id, or whose settings lie in
the lab's folder; and a medium that lies there. What was begun by somebody who was killed may still
be coming into being inside VBoxSVC, so it is looked for until nothing is found.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.providers.virtualbox import media
from lab.providers.virtualbox.api import GONE, Late, Refused, walk
from lab.providers.virtualbox.machines import LABEL, state_of

if TYPE_CHECKING:
    from lab.providers.virtualbox.api import Api, Thing

BUTTON = 1.0  # seconds for a guest to take notice of its power button
POWERING_OFF = 10.0  # seconds for a machine that does as it is told
SETTLING = 10.0  # seconds for a machine that is being started, as when lab-up was killed
STUBBORN = 5.0  # seconds until a process is killed that keeps a machine which does not run
PAUSE = 0.05
ONLINE = frozenset({"Running", "Paused", "Stuck"})


def remove(api: Api, lab: dict[str, Any]) -> dict[str, Any]:
    """Remove a lab: {lab_id, uuids, folder, bases, patience, within}; say what was found.

    patience -- seconds that guests get to shut down by themselves.
    bases    -- paths of base disks to be closed unless something is made on them.
    Raises Late when something cannot be removed within `within` seconds, with what it was.
    """
    end = time.monotonic() + float(lab["within"])
    removed = {"machines": 0, "media": 0}
    while machines := [machine for machine in api.box.get("machines") if _ours(machine, lab)]:
        _power_off(api, machines, float(lab["patience"]), end)
        for machine in machines:
            _patiently(partial(_unregister, api, machine, lab["folder"], end), end)
            removed["machines"] += 1
    _end_processes(lab["uuids"], min(end, time.monotonic() + POWERING_OFF))
    removed["media"] += _remove_media(api, lab["folder"], end)
    for base in lab["bases"]:
        _close_base(api, base)
    return removed


def _ours(machine: Thing, lab: dict[str, Any]) -> bool:
    if machine.get("id") in lab["uuids"] or media.within(
        machine.get("settingsFilePath"), lab["folder"]
    ):
        return True
    if not machine.get("accessible"):
        return False
    return bool(machine.do("getExtraData", f"{LABEL}lab_id") == lab["lab_id"])


def _power_off(api: Api, machines: list[Thing], patience: float, end: float) -> None:
    """Press every power button, wait, and cut the power of those that still run."""
    machines = [machine for machine in machines if machine.get("accessible")]
    running = [machine for machine in machines if _settled(api, machine, end) in ONLINE]
    if patience > 0:
        _press_buttons(api, running, min(end, time.monotonic() + patience))
    cut_power(api, machines, end)


def _settled(api: Api, machine: Thing, end: float) -> str:
    """Return a machine's state; of one that is coming or going, once it runs or nobody has it."""
    end = min(end, time.monotonic() + SETTLING)
    while True:
        state = state_of(api, machine)
        free = api.name_of("SessionState", machine.get("sessionState")) == "Unlocked"
        if free or state in ONLINE or time.monotonic() > end:
            return state
        time.sleep(PAUSE)


def _press_buttons(api: Api, machines: list[Thing], end: float) -> None:
    pressed: list[tuple[Thing, Thing]] = []
    for machine in machines:
        try:
            session = _share(api, machine)
            session.get("console").do("powerButton")
        except Refused:
            continue
        pressed.append((machine, session))
    noticed_by = min(end, time.monotonic() + BUTTON)
    for machine, session in pressed:
        handled = False
        while state_of(api, machine) in ONLINE and time.monotonic() < (
            end if handled else noticed_by
        ):
            try:
                handled = handled or bool(session.get("console").do("getPowerButtonHandled"))
            except Refused:
                break
            time.sleep(PAUSE)
        _let_go(session)


def cut_power(api: Api, machines: list[Thing], end: float) -> None:
    """Power machines off side by side, by force those that do not do it; return when all are."""
    going = []
    for machine in machines:
        if state_of(api, machine) in ONLINE:
            with suppress(Refused):
                session = _share(api, machine)
                going.append((session, session.get("console").do("powerDown")))
    patience = min(end, time.monotonic() + POWERING_OFF)
    for session, progress in going:
        with suppress(Refused, Late):
            api.finish(progress, "powering off", patience)
        _let_go(session)
    for machine in machines:
        if state_of(api, machine) in ONLINE:
            _force(api, machine)
        _unlocked(api, machine, end)


def _force(api: Api, machine: Thing) -> None:
    """End the machine's process: VirtualBox's own way for one that does not answer, or ours.

    One that hangs before the machine runs (bridged to nothing) has no such way.
    """
    try:
        machine.do("launchVMProcess", api.session(), "emergencystop", [])
    except Refused as error:
        if error.code in GONE:
            raise
        kill_process(int(machine.get("sessionPID")), str(machine.get("id")))


def kill_process(pid: int, uuid: str) -> None:
    """Kill a process if it is of that machine: its command line has the machine's UUID."""
    if pid <= 1 or not hasattr(os, "pidfd_open"):
        return
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if uuid.encode() in words:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except OSError:
        pass  # it has ended
    finally:
        os.close(descriptor)


def _end_processes(uuids: list[str], end: float) -> None:
    """Kill what still starts machines that have gone, where there is a /proc to find it by.

    A machine whose lab-up was killed as it began to start has no session yet by which VirtualBox
    would know its process, and that would make the lab's folders anew.
    """
    while processes := [(pid, uuid) for uuid in uuids for pid in _starting(uuid)]:
        if time.monotonic() > end:
            raise Late(f"process {processes[0][0]} of a machine does not end")
        for pid, uuid in processes:
            kill_process(pid, uuid)
        time.sleep(PAUSE)


def _starting(uuid: str) -> list[int]:
    """Return the processes that were told to start the machine."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            words = path.read_bytes().split(b"\0")
            if b"--startvm" in words and uuid.encode() in words:
                found.append(int(path.parent.name))
    return found


def _unlocked(api: Api, machine: Thing, end: float) -> None:
    """Wait until nobody has the machine; end its process when that is what keeps it."""
    forced_at = min(end - 1, time.monotonic() + STUBBORN)
    while api.name_of("SessionState", machine.get("sessionState")) != "Unlocked":
        now = time.monotonic()
        if now > end:
            raise Late(f"the machine {machine.get('name')!r} stays locked")
        if now > forced_at:
            _force(api, machine)
            forced_at = end
        time.sleep(PAUSE)


def _share(api: Api, machine: Thing) -> Thing:
    session = api.session()
    machine.do("lockMachine", session, api.constant("LockType", "Shared"))
    return session


def _let_go(session: Thing) -> None:
    try:
        session.do("unlockMachine")
    except Refused as error:  # it was powered off meanwhile, which unlocks it
        if error.code in GONE:
            raise


def _patiently(work: Any, end: float) -> None:  # noqa: ANN401 - any callable
    """Do it again while VirtualBox says that the object is busy."""
    while True:
        try:
            work()
        except Refused as error:
            busy = error.code in {"VBOX_E_INVALID_OBJECT_STATE", "VBOX_E_OBJECT_IN_USE"}
            if not busy or time.monotonic() > end:
                raise
            time.sleep(PAUSE)
        else:
            return


def _unregister(api: Api, machine: Thing, folder: str, end: float) -> None:
    """Unregister a machine; delete the disks that lie in the lab's folder, and those alone.

    VirtualBox hands out bases too once nothing uses them: they are not the machine's to delete.
    """
    if not machine.get("accessible"):
        machine.do("unregister", api.constant("CleanupMode", "UnregisterOnly"))
        return
    mode = api.constant("CleanupMode", "DetachAllReturnHardDisksOnly")
    for medium in machine.do("unregister", mode):
        if media.within(medium.get("location"), folder):
            _delete(api, medium, end)
    api.finish(machine.do("deleteConfig", []), "removing the machine's settings", end)


def _remove_media(api: Api, folder: str, end: float) -> int:
    count = 0
    for medium in walk(api.box.get("hardDisks")):
        if media.within(medium.get("location"), folder):
            _patiently(partial(_delete, api, medium, end), end)
            count += 1
    for medium in api.box.get("DVDImages"):
        if media.within(medium.get("location"), folder):
            _patiently(partial(medium.do, "close"), end)
            count += 1
    return count


def _delete(api: Api, medium: Thing, end: float) -> None:
    """Delete a disk with its file; one whose file is gone is closed."""
    while api.name_of("MediumState", medium.get("state")) in {"Creating", "Deleting"}:
        if time.monotonic() > end:
            raise Late(f"the disk {medium.get('location')} is busy")
        time.sleep(PAUSE)
    if not Path(medium.get("location")).exists():
        medium.do("close")
        return
    try:
        api.finish(medium.do("deleteStorage"), "deleting a disk", end)
    except Refused:
        medium.do("close")  # its file goes with the lab's folder


def _close_base(api: Api, path: str) -> None:
    for medium in api.box.get("hardDisks"):
        if Path(medium.get("location")) == Path(path):
            if not medium.get("children") and not medium.get("machineIds"):
                try:
                    medium.do("close")
                except Refused as error:  # somebody has just made a disk on it
                    if error.code in GONE:
                        raise
            return
