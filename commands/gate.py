"""The gate: what sshd runs for whoever has a student's key, and the only thing that it runs.

    python commands/gate.py COURSE STUDENT        the forced command of that student's key

What the student asks for is in SSH_ORIGINAL_COMMAND and is one of a few words; it reaches no shell
of this machine, and no lab but the student's own.
"""

from __future__ import annotations

import fcntl
import os
import resource
import selectors
import shlex
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from commands.classes import Class
    from lab.lifecycle import Lab
    from teaching.roster import Student

LONGEST: Final = 400  # characters of a request
DEADLINE: Final = 10.0  # seconds
HELP: Final = """\
  status            your lab, and what it costs
  shell HOST        a shell on a host (with ssh -t); `ssh HOST` does it, too
  capture HOST      a live pcapng: ssh lab capture guest | wireshark -k -i -
  get HOST PATH     a file of a host on standard output
  play ACT          have happen what the exercise is about
  reset             a new lab; what is in it is lost
"""
_MEMORY: Final = 3 << 29  # bytes that a gate's process may address
SLOTS: Final = 12  # of these processes a student has at a time: they are not the lab's but ours
_PIECE: Final = 1 << 16


def main(arguments: list[str]) -> int:
    """Serve one request of one student; return the exit code."""
    os.umask(0o077)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    if not _slot(Path(arguments[0]) / "run" / "slots", arguments[1]):
        _say(f"you have {SLOTS} connections already: close one")
        return 1
    try:
        from commands import classes  # noqa: PLC0415 - after the limits

        folder, who = arguments
        asked = os.environ.get("SSH_ORIGINAL_COMMAND", "")
        words = shlex.split(asked[:LONGEST]) if asked else []
        taught = classes.served(Path(folder))
        student = next(each for each in taught.students if each.id == who)
        verb = VERBS.get(words[0]) if words else _welcome
        if verb is None:
            _say(f"there is no {words[0][:40]!r}; there are:\n{HELP}")
            return 2
        return verb(taught, student, words[1:])
    except LabError as error:
        _say(f"{error.saw}\nnext: {error.todo}")
        return 1
    except (ValueError, StopIteration):
        _say("that cannot be read: ask for one of\n" + HELP)
        return 2
    except (KeyboardInterrupt, BrokenPipeError):
        return 130


# -- what can be asked -----------------------------------------------------------------------


def _welcome(taught: Class, student: Student, _: list[str]) -> int:
    _status(taught, student, [])
    _say(HELP)
    return 0


def _status(taught: Class, student: Student, _: list[str]) -> int:
    from commands import classroom  # noqa: PLC0415 - as above

    hosts = ", ".join(_hosts(taught, student))
    acts = ", ".join(taught.exercise.acts) or "none"
    _say(f"{student.name}: {taught.exercise.title}\nhosts: {hosts}; to play: {acts}")
    for seat in classroom.seats(taught):
        if seat.student == student.id:
            _say(
                f"your lab is {seat.state}: {(seat.memory or 0) >> 20} MiB of memory, "
                f"{seat.processes} processes, {(seat.disk or 0) >> 20} MiB written"
            )
            return 0
    _say("your lab is not up; it is put up when you enter it")
    return 0


def _dial(taught: Class, student: Student, words: list[str]) -> int:
    """Join our streams with a host's sshd: ssh's ProxyCommand."""
    (host,) = words
    with _entered(taught, student) as lab, lab.dial(host)(22) as link:
        link.settimeout(None)
        _join(link)
    return 0


def _shell(taught: Class, student: Student, words: list[str]) -> int:
    from commands import labs  # noqa: PLC0415 - as above

    (host,) = words or _hosts(taught, student)[:1]
    if not sys.stdin.isatty():
        _say("a shell wants a terminal: ssh -t lab shell HOST, or ssh HOST COMMAND")
        return 2
    with _entered(taught, student) as lab, labs.session(lab, host) as session:
        return session.shell()


def _capture(taught: Class, student: Student, words: list[str]) -> int:
    from commands import labs  # noqa: PLC0415 - as above

    (host,) = words
    with _entered(taught, student) as lab:
        labs.capture(lab, host, None)
    return 0


def _get(taught: Class, student: Student, words: list[str]) -> int:
    from commands import labs  # noqa: PLC0415 - as above
    from teaching.submissions import MAX_CAPTURE, shown  # noqa: PLC0415 - as above

    host, path = words
    argv = ["head", "-c", str(MAX_CAPTURE), "--", path]
    with (
        _entered(taught, student) as lab,
        labs.session(lab, host) as session,
        session.stream(argv) as stream,
    ):
        while piece := stream.stdout.read1(_PIECE):
            _write_all(1, piece)
        said = stream.stderr.read1(LONGEST).decode(errors="replace")
        code = stream.wait(DEADLINE)
    if code:
        _say(shown(said))
    return 1 if code else 0


def _play(taught: Class, student: Student, words: list[str]) -> int:
    from commands import playing  # noqa: PLC0415 - loads what talks

    (act,) = words
    with _entered(taught, student) as lab:
        playing.play(taught, student, lab, act, _say)
    return 0


def _reset(taught: Class, student: Student, _: list[str]) -> int:
    from commands import classroom  # noqa: PLC0415 - as above
    from teaching.exercise import lab_name  # noqa: PLC0415 - as above

    with classroom.making(taught):
        classroom.forget(taught, lab_name(taught.exercise, student))
    with _entered(taught, student):
        _say("your lab is new")
    return 0


VERBS: Final[dict[str, Callable[[Class, Student, list[str]], int]]] = {
    "status": _status,
    "help": _welcome,
    "dial": _dial,
    "shell": _shell,
    "capture": _capture,
    "get": _get,
    "play": _play,
    "reset": _reset,
}


# -- small things ----------------------------------------------------------------------------


def _slot(folder: Path, who: str) -> int | None:
    """Take one of a student's slots for as long as this process lives; None when all are taken."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for number in range(SLOTS):
        taken = os.open(folder / f"{who}.{number}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(taken, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(taken)
        else:
            return taken
    return None


def _hosts(taught: Class, student: Student) -> list[str]:
    from teaching.exercise import assign  # noqa: PLC0415 - as above

    return [host.name for host in assign(taught.exercise, student, taught.course).plan.hosts]


def _entered(taught: Class, student: Student) -> AbstractContextManager[Lab]:
    from commands import classroom  # noqa: PLC0415 - as above

    return classroom.entered(taught, student, _say)


def _join(link: socket.socket) -> None:
    """Copy both ways until the host's side ends, or ours does and the host has answered."""
    selector = selectors.DefaultSelector()
    selector.register(link, selectors.EVENT_READ)
    selector.register(0, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is link:
                try:
                    piece = link.recv(_PIECE)
                except ConnectionError:
                    piece = b""
                if not piece:
                    return
                _write_all(1, piece)
            elif piece := os.read(0, _PIECE):
                link.sendall(piece)
            else:
                selector.unregister(0)
                link.shutdown(socket.SHUT_WR)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - talking to the student is its job


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
