"""Waiting until a service of a host answers, by asking it from inside the host."""

from __future__ import annotations

import http.client
import time
from typing import TYPE_CHECKING

from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from collections.abc import Callable

    from provisioning.messaging import Connect
    from provisioning.transport import Session

INTERVAL = 0.005  # seconds between two probes


def wait_until(
    session: Session, what: str, why_not: Callable[[], str], deadline: float, todo: str
) -> None:
    """Ask until `why_not` has nothing to say any more, for `deadline` seconds at most.

    Raises LabError with the last reason; what -- the service, as an error calls it.
    """
    until = time.monotonic() + deadline
    while reason := why_not():
        if time.monotonic() > until:
            raise LabError(
                f"waiting for {what} of {session.host.name}",
                f"{reason}, after {deadline:g} s",
                fault=Fault.GUEST,
                todo=todo,
            )
        time.sleep(INTERVAL)


def http_get(
    session: Session,
    path: str,
    port: int = 80,
    *,
    address: str = "127.0.0.1",
    connect: Connect | None = None,
) -> tuple[int, str] | str:
    """Ask a host's own web server for a page: (status, text), or why there is no answer.

    connect -- how, if not by the session; with TLS around it, for example.
    """
    connection = http.client.HTTPConnection(address, port)
    try:
        connection.sock = (connect or session.connect)(address, port)
        connection.request("GET", path, headers={"Connection": "close"})
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    except LabError as error:
        return error.saw
    except (OSError, EOFError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()
