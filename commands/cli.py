"""How a task talks to its user: progress, results as a table or JSON, errors, exit codes."""

from __future__ import annotations

import errno
import functools
import json
import signal
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console, RenderableType
    from rich.status import Status

P = ParamSpec("P")
R = TypeVar("R")

#: Exit code by whose fault it is; 0 is success and 1 an answer that is 'no' (a claim refuted, a
#: test failed, a lab degraded). 130 is Ctrl-C, as in a shell.
EXIT = {Fault.USER: 2, Fault.SPEC: 2, Fault.MACHINE: 3, Fault.GUEST: 4, Fault.US: 5}
INTERRUPTED = 130
#: A full disk, a folder of somebody else's, too many open files: nobody's bug.
MACHINES_OWN = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE,
}  # fmt: skip


def guarded(task: Callable[P, R]) -> Callable[P, R]:
    """Turn a LabError of the task into one screen and its exit code; a traceback is a bug."""

    @functools.wraps(task)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:  # nohup's choice stays
                signal.signal(number, _end)
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # ./inv while it loaded
            signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return task(*args, **kwargs)
        except LabError as error:
            print(error, file=sys.stderr)  # noqa: T201 - talking to the user is its job
            sys.exit(EXIT[error.fault])
        except KeyboardInterrupt:
            print("\ninterrupted", file=sys.stderr)  # noqa: T201 - as above
            sys.exit(INTERRUPTED)
        except BrokenPipeError:
            sys.stderr.close()  # the reader of a pipe has gone: nothing to say to nobody
            sys.exit(1)
        except OSError as error:
            if error.errno not in MACHINES_OWN:
                raise
            print(_of_the_machine(error), file=sys.stderr)  # noqa: T201 - as above
            sys.exit(EXIT[Fault.MACHINE])

    return wrapper


def _end(number: int, _: object) -> None:
    """Leave by way of every `finally`, as after Ctrl-C: what was begun is cleaned up."""
    sys.exit(128 + number)


def _of_the_machine(error: OSError) -> LabError:
    return LabError(
        f"using {error.filename}" if error.filename else "asking the system",
        error.strerror or str(error),
        fault=Fault.MACHINE,
        todo="see whether that is there, writable and has space; `ulimit -n` for open files",
    )


def console(*, stderr: bool = False) -> Console:
    """Return a rich console; a pipe gets plain text of a width that does not cut tables."""
    from rich.console import Console  # noqa: PLC0415 - 50 ms that --json need not wait for

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else 120, highlight=False)


def show(view: Callable[[], RenderableType], data: object, *, as_json: bool) -> None:
    """Print `data` as JSON, or the view of it."""
    if as_json:
        print(json.dumps(data, indent=2, ensure_ascii=False, default=str))  # noqa: T201 - as above
    else:
        # Not cropped: commands to copy and paths are whole, however wide the terminal is.
        console().print(view(), crop=False)


class Progress:
    """Tells the user on standard error what goes on, and keeps the time each step took.

    On a terminal a spinner with the current step, else a line a step. `durations` maps each
    step's text to seconds.
    """

    def __init__(self, status: Status | None) -> None:
        self._status = status
        self._step: str | None = None
        self._since = time.monotonic()
        self.durations: dict[str, float] = {}

    def note(self, text: str, fraction: float | None = None) -> None:
        """Begin a step, or go on with the current one (same text) at a fraction of 1."""
        if text != self._step:
            self._finish()
            self._step, self._since = text, time.monotonic()
        if self._status is not None:
            share = "" if fraction is None else f" {fraction:.0%}"
            self._status.update(f"{text}{share} …")

    def _finish(self) -> None:
        if self._step is None:
            return
        took = time.monotonic() - self._since
        self.durations[self._step] = self.durations.get(self._step, 0.0) + took
        print(f"  {self._step}  {took:.2f} s", file=sys.stderr)  # noqa: T201 - as above

    def close(self) -> None:
        """End the last step."""
        self._finish()
        self._step = None


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[Progress]:
    """Show progress while the block runs; quiet keeps the times only."""
    if quiet or not sys.stderr.isatty():
        shown = _Silent(None) if quiet else Progress(None)
        try:
            yield shown
        finally:
            shown.close()
        return
    with console(stderr=True).status("…") as status:
        shown = Progress(status)
        try:
            yield shown
        finally:
            shown.close()


class _Silent(Progress):
    """Progress that says nothing."""

    def _finish(self) -> None:
        if self._step is not None:
            took = time.monotonic() - self._since
            self.durations[self._step] = self.durations.get(self._step, 0.0) + took


def after_dashes(argv: list[str] | None = None) -> list[str]:
    """Return what stands behind `--` on the command line, word for word.

    invoke joins it with blanks, which loses the user's quotes.
    """
    words = sys.argv if argv is None else argv
    return words[words.index("--") + 1 :] if "--" in words else []


def jsonable(value: Any) -> Any:  # noqa: ANN401 - any dataclass or plain data
    """Return plain data of a dataclass with enums by value."""
    from dataclasses import asdict, is_dataclass  # noqa: PLC0415 - only for --json
    from enum import Enum  # noqa: PLC0415 - only for --json

    def plain(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return {key: item.value if isinstance(item, Enum) else item for key, item in pairs}

    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value, dict_factory=plain)
    return value
