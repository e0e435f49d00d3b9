"""The labs of a class: one a student, put up while memory lasts, put to sleep, taken down.

A student's lab is a lab as any other, with a share of the machine (lab/limits.py). What a student
has in /root of a host is kept in the course's folder while the lab is down.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from commands import labs
from lab import lifecycle, limits, memory, providers
from lab.errors import Fault, LabError
from lab.ledger import Ledger, state_root
from lab.lifecycle import State
from lab.making import uninterrupted
from teaching import exercise as exercises
from teaching import handout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from commands.classes import Class
    from lab.lifecycle import Lab
    from provisioning.sessions import Sessions
    from provisioning.transport import Session
    from teaching.exercise import Assignment
    from teaching.roster import Student

#: A lab of a class is known by what its record says of where its spec came from.
MARK: Final = "class:"
PROCESSES: Final = 160  # a host; MariaDB and Apache need 40
CPUS: Final = 0.5  # processors a lab
RESERVE: Final = 0.08  # of the machine's memory that is left alone
FIRST_GUESS: Final = 0.6  # of a lab's limit, until one of the kind is up and measured
MAX_HOME: Final = 48 << 20  # bytes of a host's /root that are kept, packed
KEEP_DEADLINE: Final = 15.0  # seconds a host
KEYS: Final = "/root/.ssh/authorized_keys"
UP: Final = {State.CREATED, State.READY, State.DEGRADED}


@dataclass(frozen=True, slots=True)
class Seat:
    """One student's lab as it is. memory, disk: bytes; up_s: how long it took to put up."""

    student: str
    lab: str
    state: str
    memory: int | None = None
    processes: int | None = None
    disk: int | None = None
    up_s: float | None = None
    note: str = ""


def share_of(work: Assignment) -> limits.Share:
    """Return what a student's lab may take: the memory that its spec gives to its hosts."""
    memory = sum(host.memory_mib for host in work.plan.hosts)
    return limits.Share(memory, PROCESSES, CPUS)


def bring_up(taught: Class, student: Student, note: Callable[..., None] = lambda *_: None) -> Lab:
    """Put a student's lab up, as far as it is not; wired, provisioned, with the student's files.

    Raises LabError; then nothing is left of a lab that was being made.
    """
    from provisioning.provision import prepare  # noqa: PLC0415 - loads what roles need
    from provisioning.sessions import Sessions  # noqa: PLC0415 - loads paramiko

    work = exercises.assign(taught.exercise, student, taught.course)
    name = work.plan.lab
    if lifecycle.status(name).state is State.READY:
        return lifecycle.attach(name)
    if lifecycle.status(name).state in UP:  # half of one: it was cut short, or some of it has died
        lifecycle.down(name)
    prepare(work.plan)
    mark = f"{MARK}{taught.exercise.name}:{student.id}"
    lab, _ = lifecycle.up(
        work.plan, labs.images(note), spec=(mark, work.spec_text), share=share_of(work), note=note
    )
    try:
        labs.provision(lab)
        with Sessions(lab) as sessions:
            _furnish(taught, work, sessions)
    except BaseException:  # Ctrl-C too
        with uninterrupted():
            lifecycle.down(name)
        raise
    return lab


def _furnish(taught: Class, work: Assignment, sessions: Sessions) -> None:
    """Let the student in, give back the student's files, and prepare the exercise."""
    student = work.student
    key = student.key or handout.key_of(taught.course, student)[1]
    add = f"cat >> {KEYS}"
    for host, session in sessions.items():
        session.run(["/bin/sh", "-c", add], stdin=f"{key}\n".encode())
        kept = _kept(taught, work.plan.lab, host)
        if kept.is_file():
            session.run(["tar", "-xzf", "-", "-C", "/root"], stdin=kept.read_bytes(), check=False)
    for step in work.exercise.prepare:
        sessions[step["host"]].run([str(word) for word in step["run"]])


def _kept(taught: Class, lab: str, host: str) -> Path:
    return taught.folder / "kept" / lab / f"{host}.tar.gz"


def put_down(taught: Class, name: str, *, keep: bool = True) -> bool:
    """Take a student's lab down; with `keep`, what is in /root of its hosts is kept before."""
    if keep and lifecycle.status(name).state is State.READY:
        with contextlib.suppress(LabError):  # who has broken the own host has nothing to keep
            _keep(taught, lifecycle.attach(name))
    return lifecycle.down(name)


def _keep(taught: Class, lab: Lab) -> None:
    from provisioning.sessions import Sessions  # noqa: PLC0415 - loads paramiko

    with Sessions(lab) as sessions:
        for host, session in sessions.items():
            packed = _packed(session)
            target = _kept(taught, lab.name, host)
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if packed is not None:
                target.write_bytes(packed)


def _packed(session: Session) -> bytes | None:
    """Return /root of a host, packed; None where it is too much, or does not come in time.

    The student is root there: what answers as tar may be anything, and may never end.
    """
    packed = bytearray()
    with session.stream(["tar", "-C", "/root", "--exclude=./.ssh", "-czf", "-", "."]) as stream:
        late = threading.Event()

        def give_up() -> None:
            late.set()
            stream.close()

        timer = threading.Timer(KEEP_DEADLINE, give_up)
        timer.start()
        try:
            while piece := stream.stdout.read1(1 << 16):
                packed += piece
                if len(packed) > MAX_HOME:
                    return None
        except (OSError, ValueError):  # closed by the timer
            return None
        finally:
            timer.cancel()
    return None if late.is_set() else bytes(packed)


# -- memory ----------------------------------------------------------------------------------


def available() -> int:
    """Return the bytes that labs may still take: what is available, less the reserve."""
    seen = memory.figures()
    return seen["MemAvailable"] - round(RESERVE * seen["MemTotal"])


def need(taught: Class) -> int:
    """Return what one more lab of the kind will take: as the largest that is up, else a guess."""
    measured = [seat.memory for seat in seats(taught) if seat.memory]
    work = exercises.assign(taught.exercise, taught.students[0], taught.course)
    return max(measured, default=round(share_of(work).memory_mib * FIRST_GUESS) << 20)


def make_room(taught: Class, wanted: Student, note: Callable[..., None]) -> None:
    """Put labs to sleep that nobody is in, longest unused first, until one more fits.

    Raises LabError when all that are up are in use.
    """
    for seat in sorted(seats(taught), key=lambda seat: _last_used(taught, seat.lab)):
        if available() >= need(taught):
            return
        if seat.student != wanted.id:
            with _alone(taught, seat.lab) as ours:
                if ours:
                    note(f"putting the lab of {seat.student} to sleep")
                    put_down(taught, seat.lab)
    if available() < need(taught):
        raise LabError(
            f"putting up a lab for {wanted.id}",
            f"{len(seats(taught))} labs are up and in use, and the machine has no more memory",
            fault=Fault.MACHINE,
            todo="try again when somebody has left",
        )


def _used(taught: Class, lab: str) -> Path:
    folder = taught.folder / "run" / "used"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder / lab


def _last_used(taught: Class, lab: str) -> float:
    path = _used(taught, lab)
    return path.stat().st_mtime if path.exists() else 0.0


@contextlib.contextmanager
def using(taught: Class, lab: str) -> Iterator[None]:
    """Be in a lab: as long as anybody is, it is not put to sleep."""
    with _used(taught, lab).open("w") as mark:
        fcntl.flock(mark, fcntl.LOCK_SH)
        yield
        os.utime(mark.fileno())


@contextlib.contextmanager
def _alone(taught: Class, lab: str) -> Iterator[bool]:
    """Tell whether nobody is in a lab, and let nobody in meanwhile."""
    with _used(taught, lab).open("a") as mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield True
        except BlockingIOError:
            yield False


@contextlib.contextmanager
def making(taught: Class) -> Iterator[None]:
    """Have one lab made at a time: else two would count on the same memory."""
    folder = taught.folder / "run"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "making").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def entered(taught: Class, student: Student, note: Callable[[str], None]) -> Iterator[Lab]:
    """Be in a student's own lab, which is put up if it is not. Raises LabError."""
    name = exercises.lab_name(taught.exercise, student)
    with using(taught, name):
        if lifecycle.status(name).state is not State.READY:
            with making(taught):
                if lifecycle.status(name).state is not State.READY:
                    make_room(taught, student, note)
                    note("putting your lab up")
                    bring_up(taught, student)
        yield lifecycle.attach(name)


def forget(taught: Class, name: str) -> None:
    """Take a lab down, and forget what was kept of it."""
    put_down(taught, name, keep=False)
    shutil.rmtree(taught.folder / "kept" / name, ignore_errors=True)


# -- the whole class -------------------------------------------------------------------------


def seats(taught: Class | None = None) -> list[Seat]:
    """Return the labs of classes that are up, with what each costs; of one exercise or of all."""
    begin = f"{MARK}{taught.exercise.name}:" if taught else MARK
    found = []
    for status in lifecycle.all_status():
        if not (status.spec or "").startswith(begin):
            continue
        ledger = Ledger.find(state_root(), status.name)
        found.append(_seat(status, ledger))
    return found


def _seat(status: lifecycle.LabStatus, ledger: Ledger) -> Seat:
    from lab.providers.netns.provider import NamespaceProvider  # noqa: PLC0415 - its own measure

    record = ledger.read()
    netns = providers.get("netns")
    hosts = netns.usage(ledger) if isinstance(netns, NamespaceProvider) else {}
    counted = limits.used(record.get("groups", []))
    disk = sum(row["disk"] for row in hosts.values())
    memory = sum(row["memory"] for row in hosts.values()) + disk
    processes = sum(row["processes"] for row in hosts.values())
    return Seat(
        (status.spec or "").rpartition(":")[2], status.name, status.state.value,
        counted.get("memory", memory), counted.get("processes", processes), disk,
    )  # fmt: skip


def up_all(taught: Class, students: Sequence[Student], note: Callable[..., None]) -> list[Seat]:
    """Put up a lab for each of these students, while memory lasts; return what became of each.

    One that fails stops nobody else's. Labs of others are not put to sleep for it.
    """
    made: dict[str, Seat] = {}
    for number, student in enumerate(students, 1):
        name = exercises.lab_name(taught.exercise, student)
        note(f"{student.id}: lab {number} of {len(students)}", number / len(students))
        since = time.monotonic()
        with making(taught):
            there = lifecycle.status(name).state is State.READY
            if not there and available() < need(taught):
                made[name] = Seat(student.id, name, "asleep", note="no memory left; on demand")
                continue
            try:
                bring_up(taught, student)
                made[name] = Seat(student.id, name, "ready", up_s=time.monotonic() - since)
            except LabError as error:
                made[name] = Seat(student.id, name, "failed", note=error.saw.splitlines()[0])
    costs = {seat.lab: seat for seat in seats(taught)}
    return [_merged(seat, costs.get(seat.lab)) for seat in made.values()]


def _merged(seat: Seat, cost: Seat | None) -> Seat:
    if cost is None:
        return seat
    return Seat(
        seat.student, seat.lab, seat.state, cost.memory, cost.processes, cost.disk, seat.up_s,
        seat.note,
    )  # fmt: skip


def down_all(taught: Class, only: Sequence[str], *, keep: bool) -> list[str]:
    """Take down the class's labs, or those of some students; return their names."""
    gone = []
    for seat in seats(taught):
        if only and seat.student not in only:
            continue
        with making(taught):
            if put_down(taught, seat.lab, keep=keep):
                gone.append(seat.lab)
    return gone


def chosen(taught: Class, only: str) -> list[Student]:
    """Return the students of a comma-separated list of ids; all for "". Raises LabError."""
    wanted = [word.strip() for word in only.split(",") if word.strip()]
    known = {student.id: student for student in taught.students}
    if lost := [word for word in wanted if word not in known]:
        raise LabError(
            "choosing students",
            f"not in the roster: {', '.join(lost)}",
            fault=Fault.USER,
            todo="use the ids of the roster",
        )
    return [known[word] for word in wanted] or list(taught.students)


def summary(seats_: Sequence[Seat]) -> dict[str, Any]:
    """Return the sums below the table."""
    return {
        "up": sum(seat.memory is not None for seat in seats_),
        "memory": sum(seat.memory or 0 for seat in seats_),
        "processes": sum(seat.processes or 0 for seat in seats_),
        "disk": sum(seat.disk or 0 for seat in seats_),
    }
