"""Work on hostile input in processes of its own: one each, bounded, whose end is nobody else's.

A child is forked from a warm parent (milliseconds, nothing is loaded again), has its share of
processor time, memory and file size taken away by the kernel, and answers with JSON through a
pipe. What it does not answer in time is ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import selectors
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Task = TypeVar("Task")
MAX_ANSWER: Final = 8 << 20
_POLL_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one child may use: s of processor and wall clock, bytes more than the parent has."""

    processor_s: int = 20
    wall_s: float = 40.0
    memory: int = 1 << 30
    file: int = 256 << 20


@dataclass(slots=True)
class _Child:
    task: Any
    pid: int
    until: float
    said: bytearray


def each(
    tasks: Iterable[Task],
    work: Callable[[Task], dict[str, Any]],
    *,
    workers: int | None = None,
    bounds: Bounds | None = None,
) -> Iterator[tuple[Task, dict[str, Any] | None, str]]:
    """Yield (task, answer, "") or (task, None, why there is none), in the order of their ends."""
    bounds = bounds or Bounds()
    waiting = list(tasks)[::-1]
    selector = selectors.DefaultSelector()
    running: dict[int, _Child] = {}
    try:
        while waiting or running:
            while waiting and len(running) < (workers or os.cpu_count() or 1):
                end, child = _start(waiting.pop(), work, bounds)
                running[end] = child
                selector.register(end, selectors.EVENT_READ)
            for key, _ in selector.select(_POLL_S):
                end = key.fd
                child = running[end]
                piece = os.read(end, 1 << 16)
                child.said += piece
                if piece and len(child.said) <= MAX_ANSWER:
                    continue
                selector.unregister(end)
                os.close(end)
                del running[end]
                yield child.task, *_ended(child)
            for child in running.values():
                if time.monotonic() > child.until:
                    os.kill(child.pid, signal.SIGKILL)
    finally:
        for end, child in running.items():
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
            os.close(end)


def _start(
    task: Task, work: Callable[[Task], dict[str, Any]], bounds: Bounds
) -> tuple[int, _Child]:
    mine, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(mine)
            _bound(bounds)
            answer = json.dumps(work(task)).encode()
            with open(theirs, "wb") as stream:  # noqa: PTH123 - a descriptor has no path
                stream.write(answer)
            code = 0
        except MemoryError:
            code = 2
        except BaseException:  # noqa: BLE001 - a forked child must end here, whatever happened
            with contextlib.suppress(OSError):
                import traceback  # noqa: PLC0415 - loaded when there is something to tell

                os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(code)
    os.close(theirs)
    return mine, _Child(task, pid, time.monotonic() + bounds.wall_s, bytearray())


def _bound(bounds: Bounds) -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    memory = pages * resource.getpagesize() + bounds.memory
    resource.setrlimit(resource.RLIMIT_CPU, (bounds.processor_s, bounds.processor_s))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (bounds.file, bounds.file))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _ended(child: _Child) -> tuple[dict[str, Any] | None, str]:
    late = time.monotonic() > child.until
    with contextlib.suppress(ProcessLookupError):
        if len(child.said) > MAX_ANSWER:
            os.kill(child.pid, signal.SIGKILL)
    _, status = os.waitpid(child.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        answer: dict[str, Any] = json.loads(bytes(child.said))
        return answer, ""
    if late or code in {-signal.SIGXCPU, -signal.SIGKILL}:
        return None, "reading it takes longer than a submission may"
    if code == 2 or code == -signal.SIGXFSZ:  # noqa: PLR1714, PLR2004 - our own code for memory
        return None, "reading it takes more memory than a submission may"
    return None, f"reading it failed ({code}); tell your teacher"
