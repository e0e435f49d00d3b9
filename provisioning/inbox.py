"""What has come in from a server that sends messages by itself; one thread fills it, one reads."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from lab.errors import Fault, LabError
from provisioning.messaging import missed

if TYPE_CHECKING:
    from provisioning.messaging import Message


class Inbox:
    """Messages in order of arrival, each with its time, and what went wrong meanwhile."""

    def __init__(self, owner: str) -> None:
        """Make it for its owner, as an error calls him: "CLIENT at peer"."""
        self._owner = owner
        self._arrived: list[tuple[Message, float]] = []
        self._trouble = ""
        self._refused: list[str] = []
        self._changed = threading.Condition()

    def add(self, message: Message) -> None:
        """Take a message that has just come."""
        with self._changed:
            self._arrived.append((message, time.monotonic()))
            self._changed.notify_all()

    def trouble(self, reason: str) -> None:
        """Note why nothing more may come; the first reason counts."""
        with self._changed:
            self._trouble = self._trouble or reason
            self._changed.notify_all()

    def refuse(self, reason: str) -> None:
        """Note that something came which is not shown, and why; it is told to who waits."""
        with self._changed:
            self._refused.append(reason)

    def check(self) -> None:
        """Raise LabError if there was trouble."""
        with self._changed:
            self._raise()

    def messages(self) -> tuple[Message, ...]:
        """Return all that came, oldest first."""
        with self._changed:
            return tuple(message for message, _ in self._arrived)

    def wait(self, message: Message, times: int, deadline: float) -> float:
        """Do what `messaging.Client.receive` does."""
        until = time.monotonic() + deadline
        with self._changed:
            while True:
                found = [when for came, when in self._arrived if came == message]
                if len(found) >= times:
                    return found[times - 1] if times else time.monotonic()
                self._raise()
                if (left := until - time.monotonic()) <= 0:
                    raise missed(message, deadline, self._refused)
                self._changed.wait(left)

    def _raise(self) -> None:
        if self._trouble:
            raise LabError(
                f"using the connection of {self._owner}",
                self._trouble,
                fault=Fault.GUEST,
                todo="see the server's log",
            )
