"""Take datagrams and connections at one port, and tell from whom each seems to come."""

from __future__ import annotations

import select
import socket
import sys

from . import guard

LONGEST_S = 60.0


def main() -> None:
    """Listen until told to end."""
    told = guard.take_order()
    place = (guard.address_of(told["here"]), told["port"])
    clock = guard.Clock(LONGEST_S)
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(place)
    listener = socket.create_server(place, backlog=64)
    guard.say(event="ready")
    talks: dict[socket.socket, str] = {}
    while clock.left:
        ready, _, _ = select.select([sys.stdin, datagrams, listener, *talks], [], [], clock.left)
        if sys.stdin in ready and guard.told_to_end():
            return
        if datagrams in ready:
            data, (address, _) = datagrams.recvfrom(2048)
            guard.say(event="datagram", source=address, text=data.decode(errors="replace"))
        if listener in ready:
            talk, (address, _) = listener.accept()
            talks[talk] = address
            guard.say(event="connection", source=address)
        for talk in [each for each in ready if each in talks]:
            try:
                data = talk.recv(2048)
            except ConnectionError:
                data = b""
            if data:
                guard.say(event="data", source=talks[talk], text=data.decode(errors="replace"))
            else:
                del talks[talk]
                talk.close()


if __name__ == "__main__":
    main()
