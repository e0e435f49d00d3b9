"""Captures of made-up conversations: what a test says is what is in them."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass, field

SYN, ACK, PSH, FIN = 2, 16, 8, 1
CLIENT, SERVER = ("10.0.0.1", 40000), ("10.0.0.2", 80)
Said = tuple[bool, bytes]  # (from the client, bytes)


@dataclass
class Capture:
    """A capture that grows frame by frame; one millisecond passes between two."""

    frames: list[bytes] = field(default_factory=list)
    first: int = 1_700_000_000  # s since 1970

    def tcp(
        self,
        said: list[Said],
        client: tuple[str, int] = CLIENT,
        server: tuple[str, int] = SERVER,
        *,
        segment: int = 1000,
    ) -> None:
        """Add a connection: handshake, what was said, and its end."""
        next_ = {True: 1000, False: 2_000_000_000}

        def send(flags: int, data: bytes = b"", *, forward: bool) -> None:
            ack = next_[not forward] if flags & ACK else 0
            source, target = (client, server) if forward else (server, client)
            header = struct.pack(
                ">HHIIBBHHH", source[1], target[1], next_[forward], ack, 5 << 4, flags, 8192, 0, 0
            )
            self.ip(source[0], target[0], 6, header + data)
            next_[forward] += len(data) + bool(flags & (SYN | FIN))

        send(SYN, forward=True)
        send(SYN | ACK, forward=False)
        send(ACK, forward=True)
        for forward, data in said:
            for start in range(0, len(data), segment):
                send(PSH | ACK, data[start : start + segment], forward=forward)
                send(ACK, forward=not forward)
        send(FIN | ACK, forward=True)
        send(FIN | ACK, forward=False)

    def udp(self, data: bytes, source: tuple[str, int], target: tuple[str, int]) -> None:
        """Add a datagram."""
        header = struct.pack(">HHHH", source[1], target[1], 8 + len(data), 0)
        self.ip(source[0], target[0], 17, header + data)

    def ip(self, source: str, target: str, protocol: int, data: bytes) -> None:
        """Add a frame of Ethernet with IPv4."""
        ends = ipaddress.IPv4Address(source).packed + ipaddress.IPv4Address(target).packed
        size = 20 + len(data)
        header = struct.pack(">BBHHHBBH", 0x45, 0, size, len(self.frames), 0, 64, protocol, 0)
        ethernet = bytes.fromhex("0200000000020200000000010800")
        self.frames.append(ethernet + header + ends + data)

    def pcap(self) -> bytes:
        """Return it as a pcap file."""
        out = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 1)]
        for number, frame in enumerate(self.frames):
            when, micros = divmod(number * 1000, 1_000_000)
            head = struct.pack("<IIII", self.first + when, micros, len(frame), len(frame))
            out.append(head + frame)
        return b"".join(out)


def http(request: bytes, answer: bytes = b"", kind: bytes = b"text/plain") -> list[Said]:
    """Return a request and its answer."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
    return [(True, request), (False, head % (kind, len(answer)) + answer)]


def sign_in(user: bytes, password: bytes) -> bytes:
    """Return a request with a form that signs in."""
    body = b"username=%s&password=%s" % (user, password)
    head = b"POST /login HTTP/1.1\r\nHost: chat.example\r\n"
    head += b"Content-Type: application/x-www-form-urlencoded\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def chat() -> Capture:
    """Return a capture with a message, a password and a question to a name server."""
    capture = Capture()
    question = bytes.fromhex("1234 0100 0001 0000 0000 0000".replace(" ", ""))
    question += b"\x04chat\x07example\0" + bytes.fromhex("00010001")
    capture.udp(question, ("10.0.0.1", 5353 + 1), ("10.0.0.53", 53))
    capture.tcp(http(sign_in(b"alice", b"Kisumu-2016")))
    irc = [
        (True, b"NICK alice\r\nUSER alice 0 * :Alice\r\n"),
        (False, b":irc.example 001 alice :Welcome\r\n"),
        (True, b"PRIVMSG bob :meet me at noon\r\n"),
    ]
    capture.tcp(irc, ("10.0.0.1", 40001), ("10.0.0.2", 6667))
    return capture
