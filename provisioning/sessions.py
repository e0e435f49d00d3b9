"""The SSH sessions of a lab: one a host, opened together, kept open, closed together."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from provisioning.transport import Session

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lab.lifecycle import Lab

WORKERS = 8  # logins at a time; more gain nothing on a small machine


class Sessions:
    """A lab's sessions by host name; a context manager that logs out of all."""

    def __init__(self, lab: Lab, hosts: Iterable[str] | None = None) -> None:
        """Log in to the hosts (all of the lab by default). Raises LabError."""
        self.lab = lab
        wanted = list(lab.hosts if hosts is None else hosts)
        # A host that is as fast as ever may still wait for one of the lab that is not.
        self._pace = max((host.pace for host in lab.hosts.values()), default=1.0)
        self._open: dict[str, Session] = {}
        pool = ThreadPoolExecutor(max_workers=WORKERS)
        attempts = {name: pool.submit(self._log_in, name) for name in wanted}
        try:
            for name, attempt in attempts.items():
                self._open[name] = attempt.result()
        except BaseException:  # Ctrl-C too, which does not wait for who does not answer
            pool.shutdown(wait=False, cancel_futures=True)
            for attempt in attempts.values():
                attempt.add_done_callback(_log_out)
            raise
        pool.shutdown()

    def _log_in(self, name: str) -> Session:
        host = replace(self.lab.host(name), pace=self._pace)
        return Session.open(host, self.lab.dial(name))

    def __getitem__(self, host: str) -> Session:
        """Return the session of a host. Raises KeyError when it was not asked for."""
        return self._open[host]

    def items(self) -> Iterable[tuple[str, Session]]:
        """Return (host, session) pairs in the plan's order."""
        return self._open.items()

    def close(self) -> None:
        """Log out everywhere."""
        for session in self._open.values():
            session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _log_out(attempt: Future[Session]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()
