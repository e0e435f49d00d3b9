"""What carries frames between a lab's switches and hosts that other providers make.

One end is a veth interface among the switches, read and written by a packet socket (packet(7)):
unlike a tap device it takes neither /dev/net/tun nor rights on it. The other end is a UDP socket
of the machine's loopback, one frame a datagram (lab/patches.py), handed in by the keeper. Nothing
else of the machine's network can be reached through either.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
from typing import NoReturn

ETH_P_ALL = 0x0003
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23  # <linux/if_packet.h>, Linux 4.20
LONGEST_FRAME = 65535
BUFFER = 1 << 20  # bytes: a burst of a few hundred full frames
AT_ONCE = 64  # frames from one side before the others get their turn


def plug(interface: str) -> socket.socket:
    """Return a socket that has every frame that arrives at an interface of this namespace."""
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    made.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    made.bind((interface, 0))
    return made


def carry(patches: list[tuple[socket.socket, socket.socket]]) -> NoReturn:
    """Carry frames both ways, for ever. What the other end does not take is lost, as on a wire."""
    selector = selectors.DefaultSelector()
    for pair in patches:
        for source, sink in (pair, pair[::-1]):
            source.setblocking(False)  # noqa: FBT003 - the socket module's own way
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                source.setsockopt(socket.SOL_SOCKET, option, BUFFER)
            selector.register(source, selectors.EVENT_READ, (source, sink))
    frame = bytearray(LONGEST_FRAME)
    view = memoryview(frame)
    while True:
        for key, _ in selector.select():
            source, sink = key.data
            # Nobody listens at the other end yet (ECONNREFUSED), or its buffer is full.
            with contextlib.suppress(OSError):
                for _ in range(AT_ONCE):
                    length = source.recv_into(frame)
                    with contextlib.suppress(OSError):
                        sink.send(view[:length])
