"""One VirtualBox of the testbed: a folder, the environment that leads to it, and its end."""

from __future__ import annotations

import hashlib
import os
import select
import shutil
import signal
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from lab.errors import Fault, LabError

GENTLE_S = 5.0
HARD_S = 10.0


@dataclass(frozen=True, slots=True)
class Instance:
    """A VirtualBox with settings, machines and processes of its own.

    python -- the testbed's launcher.
    folder -- its VBOX_USER_HOME, made by the first use. Removing it, after stop(), is the caller's.
    """

    python: Path
    folder: Path

    @property
    def home(self) -> Path:
        """The folder as its processes name it."""
        return self.folder.resolve()

    @property
    def environment(self) -> dict[str, str]:
        """What leads to this VirtualBox, to be added to a caller's environment."""
        return {"IMLAB_VBOX_PYTHON": str(self.python), "IMLAB_VBOX_HOME": str(self.home)}

    def processes(self) -> dict[int, str]:
        """Return {process id: name} of what runs for this VirtualBox: VBoxSVC, machines, displays.

        Clients too. They all have its folder in the environment that they were started with,
        and nothing else has.
        """
        mark = f"VBOX_USER_HOME={self.home}".encode()
        found = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                # It ended meanwhile, or is a zombie; or is not ours to look into.
                with suppress(OSError):
                    if mark in (folder / "environ").read_bytes().split(b"\0"):
                        found[int(folder.name)] = (folder / "comm").read_text().strip()
        return found

    def stop(self) -> None:
        """End all that runs for this VirtualBox, machines without a shutdown; raises LabError.

        Nothing of it is left outside of its folder. Call it when no client is about to start.
        """
        for number, patience in ((signal.SIGTERM, GENTLE_S), (signal.SIGKILL, HARD_S)):
            # What was started while the others ended is found by looking again.
            until = time.monotonic() + patience
            while (running := self.processes()) and time.monotonic() < until:
                _end(running, self, number, until)
        if running := self.processes():
            raise LabError(
                f"ending the VirtualBox in {self.folder}",
                ", ".join(f"{name} (process {pid})" for pid, name in sorted(running.items())),
                fault=Fault.MACHINE,
                todo="they did not end when killed: look at them with ps, and at the machine's log",
            )
        shutil.rmtree(self.socket_folder, ignore_errors=True)

    @property
    def socket_folder(self) -> Path:
        """Where VBoxSVC listens; the launcher names it in the same way."""
        digest = hashlib.sha256(str(self.home).encode()).hexdigest()[:16]
        return Path(f"/tmp/.vbox-imlab-{digest}-ipc")  # noqa: S108 - VirtualBox has it there


def _end(running: dict[int, str], instance: Instance, number: int, until: float) -> None:
    """Send a signal to processes that are the instance's, and wait for them to be gone."""
    with ExitStack() as stack:
        held = {}
        for pid in running:
            with suppress(ProcessLookupError):
                held[pid] = os.pidfd_open(pid)
                stack.callback(os.close, held[pid])
        # The ids may have been used again before they were held.
        ours = [fd for pid, fd in held.items() if pid in instance.processes()]
        poll = select.poll()
        for fd in ours:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, number)
            poll.register(fd, select.POLLIN)
        waiting = set(ours)
        while waiting and (left := until - time.monotonic()) > 0:
            for fd, _ in poll.poll(left * 1000):
                poll.unregister(fd)
                waiting.discard(fd)
