"""Listening on adapters while something happens: ready before it starts, drops counted at the end.

tcpdump runs on the host and writes to its standard output; here its pcap becomes pcapng with the
adapter's name and the kernel's counts in it. It ends when its standard input does, so that a lost
connection leaves no capture running.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from experiments.pcapng import Converter, Origin
from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from provisioning.channels import Stream
    from provisioning.sessions import Sessions
    from provisioning.transport import Session

# $1 is the adapter. A background job of a shell ignores SIGINT (POSIX sh, 2.11), hence TERM.
_SCRIPT = (
    'tcpdump -i "$1" -s 262144 -B 4096 -U --immediate-mode -Z root -w - & '
    "p=$!; read -r _; kill -TERM $p; kill -CONT $p; wait $p"
)
READY_DEADLINE = 10.0  # seconds until tcpdump says that it listens
QUIET_S = 0.05  # no packet for this long after the workload: the last one has been written
QUIET_DEADLINE = 3.0
END_DEADLINE = 10.0
_COUNTS = {
    "written": re.compile(rb"(\d+) packets? captured"),
    "received": re.compile(rb"(\d+) packets? received by filter"),
    "dropped": re.compile(rb"(\d+) packets? dropped by kernel"),
}


@dataclass(frozen=True, slots=True)
class Counts:
    """What tcpdump says when it ends; None where it said nothing, which is not 0.

    dropped -- packets lost in the kernel, or received by it but never written.
    """

    written: int | None
    received: int | None
    dropped: int | None


def parse_counts(said: bytes) -> Counts:
    """Read tcpdump's closing lines (tcpdump(8))."""
    found = {name: pattern.search(said) for name, pattern in _COUNTS.items()}
    number = {name: int(match[1]) if match else None for name, match in found.items()}
    written, received, dropped = number["written"], number["received"], number["dropped"]
    if dropped is not None and written is not None and received is not None:
        dropped += max(0, received - written)
    return Counts(written, received, dropped)


class Tap:
    """One running capture of one adapter; `sink` gets pcapng bytes as they come."""

    def __init__(
        self, session: Session, host: str, adapter: str, sink: Callable[[bytes], object]
    ) -> None:
        """Start it; `wait_ready` says when it listens."""
        self.host, self.adapter = host, adapter
        self._within = session.within
        self._sink = sink
        origin = Origin(adapter, f"{host} {adapter}", os="Linux", application="imlab")
        self._converter = Converter(origin)
        self._stream: Stream = session.stream(["/bin/sh", "-c", _SCRIPT, "sh", adapter])
        self._said = bytearray()
        self._stopping = self._ended_early = False
        self._broken: Exception | None = None
        self._listening = threading.Event()
        self._last = time.monotonic()
        self._threads = [
            threading.Thread(target=target, daemon=True) for target in (self._read, self._listen)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def packets(self) -> int:
        """How many packets have been written so far."""
        return self._converter.packets

    @property
    def link_type(self) -> int:
        """The LINKTYPE_ number; -1 before it is known."""
        return self._converter.link_type

    def wait_ready(self) -> None:
        """Return when it listens. Raises LabError with what tcpdump said."""
        begun = self._listening.wait(self._within(READY_DEADLINE))
        if not begun or b"listening on" not in self._said:
            raise LabError(
                f"capturing on {self.host}/{self.adapter}",
                bytes(self._said).decode(errors="replace") or "it does not start to listen",
                fault=Fault.GUEST,
                todo="see whether the adapter is there: `./inv lab-run HOST -- ip link`",
            )

    def wait_quiet(self) -> None:
        """Return when no packet has come for a moment: what was sent has been written."""
        end = time.monotonic() + self._within(QUIET_DEADLINE)
        quiet = self._within(QUIET_S)
        while time.monotonic() - self._last < quiet and time.monotonic() < end:
            time.sleep(QUIET_S / 5)

    def stop(self) -> Counts:
        """End the capture and return its counts; of one that is not whole, dropped is None.

        Raises LabError when its packets could not be kept.
        """
        self._stopping = True
        with contextlib.suppress(LabError, OSError):  # counts that are missing speak for themselves
            self._stream.close_stdin()
            self._stream.wait(self._within(END_DEADLINE))
        for thread in self._threads:
            thread.join(self._within(END_DEADLINE))
        counts = parse_counts(bytes(self._said))
        if self._ended_early or self._broken or counts.written != self.packets:
            counts = Counts(counts.written, counts.received, None)
        try:
            self._sink(self._converter.finish(received=counts.received, dropped=counts.dropped))
        except (OSError, ValueError) as error:
            self._broken = self._broken or error
        if isinstance(self._broken, OSError):
            raise LabError(
                f"keeping the packets of {self.host}/{self.adapter}",
                str(self._broken),
                fault=Fault.MACHINE,
                todo="see whether the disk is full, then run again",
            ) from self._broken
        return counts

    @property
    def running(self) -> bool:
        """Whether packets can still come: the host and its tcpdump are there."""
        return self._threads[0].is_alive()

    def _read(self) -> None:
        """Take packets until the end, also when they cannot be kept: else the host would wait."""
        while chunk := self._stream.stdout.read1(65536):
            self._last = time.monotonic()
            try:
                block = b"" if self._broken else self._converter.feed(chunk)
                if block:
                    self._sink(block)
            except (OSError, ValueError) as error:
                self._broken = error

    def _listen(self) -> None:
        while chunk := self._stream.stderr.read1(4096):
            self._said += chunk
            self._ended_early |= not self._stopping and b" captured" in self._said
            if b"listening on" in self._said:
                self._listening.set()
        self._listening.set()


class Captures:
    """Captures on several adapters around a workload; a context manager.

    On leaving, `rows` holds one row a capture for results.json: host, adapter, file, packets,
    dropped (None if unknown), started and ended (seconds since the epoch), link_type.
    """

    def __init__(
        self, sessions: Sessions, points: list[tuple[str, str]], place: Callable[[str], Path]
    ) -> None:
        """`points` are (host, adapter); `place` gives the path of a new file by relative name."""
        self._sessions, self._points, self._place = sessions, points, place
        self._running: list[tuple[Tap, str, float]] = []
        self._files = contextlib.ExitStack()
        self.rows: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        try:
            for host, adapter in self._points:
                name = f"captures/{host}-{adapter}.pcapng"
                file = self._files.enter_context(self._place(name).open("wb"))
                tap = Tap(self._sessions[host], host, adapter, file.write)
                self._running.append((tap, name, time.time()))
            for tap in [running[0] for running in self._running]:
                tap.wait_ready()
        except BaseException:
            with contextlib.suppress(LabError):  # the first error is what is told
                self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            for tap in [running[0] for running in self._running]:
                tap.wait_quiet()
        try:
            self._stop()
        except LabError:
            if kind is None:  # else what went wrong first is what is told
                raise

    def _stop(self) -> None:
        """End all, also those after one that cannot be ended, and then say which that was."""
        failed: LabError | None = None
        with self._files:
            for tap, name, started in self._running:
                try:
                    counts = tap.stop()
                except LabError as error:
                    failed = failed or error
                    continue
                self.rows.append(
                    {
                        "host": tap.host,
                        "adapter": tap.adapter,
                        "file": name,
                        "packets": tap.packets,
                        "dropped": counts.dropped,
                        "started": started,
                        "ended": time.time(),
                        "link_type": tap.link_type,
                    }
                )
        if failed:
            raise failed


@contextlib.contextmanager
def live(
    session: Session, host: str, adapter: str, sink: Callable[[bytes], object]
) -> Iterator[Tap]:
    """Capture one adapter into `sink` for as long as the block lasts."""
    tap = Tap(session, host, adapter, sink)
    try:
        tap.wait_ready()
        yield tap
    finally:
        tap.stop()
