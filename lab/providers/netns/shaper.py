"""What makes a cable slow, late or lossy: a relay between an adapter and what it is plugged into.

The kernel has queueing disciplines for it (netem, tbf), but netem is a module that not every
kernel has, and one that is missing cannot be loaded from within a user namespace. So the frames
of such a cable pass through this process, each direction for itself, by packet sockets (packet(7)):
first each is lost or not, then it waits for those before it, as long as they take at the cable's
rate, then it is on its way for the delay. What would wait longer than QUEUE_S is lost, as at a full
queue of a switch. The adapter itself, and with it a capture, sees nothing of that.
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import time
from collections import deque
from typing import TYPE_CHECKING, NoReturn

from lab.providers.netns.relay import AT_ONCE, BUFFER, LONGEST_FRAME, plug

if TYPE_CHECKING:
    from lab.providers.netns.wires import Link

QUEUE_S = 0.2  # seconds of traffic that wait at the most
OVERHEAD = 24  # bytes on the wire beside a frame: preamble, checksum, gap (IEEE 802.3, 3.1.1)


class Direction:
    """The frames of one direction of a link."""

    def __init__(
        self, link: Link, source: socket.socket, sink: socket.socket, chance: random.Random
    ) -> None:
        self.source, self.sink = source, sink
        self._loss = link.loss_percent / 100
        self._delay = link.delay_ms / 1000
        self._byte = 8 / (link.rate_mbit * 1e6) if link.rate_mbit else 0.0  # seconds
        self._chance = chance
        self._free = 0.0  # when the wire has sent all that waits
        self._under_way: deque[tuple[float, bytes]] = deque()

    def take(self, buffer: bytearray, view: memoryview) -> None:
        """Take the frames that have arrived."""
        with contextlib.suppress(OSError):  # no more of them
            for _ in range(AT_ONCE):
                length = self.source.recv_into(buffer)
                now = time.monotonic()
                if self._loss and self._chance.random() < self._loss:
                    continue
                self._free = max(self._free, now)
                if self._free - now > QUEUE_S:
                    continue
                self._free += (length + OVERHEAD) * self._byte
                self._under_way.append((self._free + self._delay, bytes(view[:length])))

    def due(self) -> float | None:
        """Return when the next frame arrives, None without one."""
        return self._under_way[0][0] if self._under_way else None

    def deliver(self) -> None:
        """Hand over the frames that have arrived by now."""
        now = time.monotonic()
        while self._under_way and self._under_way[0][0] <= now:
            frame = self._under_way.popleft()[1]
            with contextlib.suppress(OSError):  # the other end does not take it: lost, as on a wire
                self.sink.send(frame)


def open_ends(link: Link) -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a link, in the network namespace of the switches."""
    return plug(link.near), plug(link.far)


def carry(links: list[tuple[Link, tuple[socket.socket, socket.socket]]]) -> NoReturn:
    """Carry the frames of all links, for ever."""
    directions = []
    for link, (near, far) in links:
        for end in (near, far):
            end.setblocking(False)  # noqa: FBT003 - the socket module's own way
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        # Seeded by the system: with the same losses in every lab, repeats would be no repeats.
        directions += [
            Direction(link, near, far, random.Random()),  # noqa: S311 - losses are no secret
            Direction(link, far, near, random.Random()),  # noqa: S311 - as above
        ]
    by_source = {each.source: each for each in directions}
    buffer = bytearray(LONGEST_FRAME)
    view = memoryview(buffer)
    while True:
        waiting = [due for each in directions if (due := each.due()) is not None]
        patience = max(0.0, min(waiting) - time.monotonic()) if waiting else None
        # select(2) waits to the microsecond, epoll in whole milliseconds.
        for source in select.select(list(by_source), (), (), patience)[0]:
            by_source[source].take(buffer, view)
        for each in directions:
            each.deliver()
