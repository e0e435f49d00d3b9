"""The scrambler's carrying of connections over real sockets, with an attacker between the ends."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from provisioning.roles.scrambler.ends import pump, refusal
from provisioning.roles.scrambler.ends.handshake import ANSWERS, ASKS, PROOF, Initiator, Responder
from provisioning.roles.scrambler.ends.keys import Keyring
from provisioning.roles.scrambler.ends.pump import Carrier
from provisioning.roles.scrambler.ends.refusal import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Meddle = Callable[[bytes], bytes]

DEADLINE = 10.0
HERE = "127.0.0.1"
TEXT = b"HI SIR, BLACKOUT!"
RESET = struct.pack("ii", 1, 0)


def pair() -> tuple[socket.socket, socket.socket]:
    """Return both ends of a TCP connection on loopback."""
    with socket.create_server((HERE, 0)) as listener:
        near = socket.create_connection(listener.getsockname(), DEADLINE)
        far, _ = listener.accept()
    far.settimeout(DEADLINE)
    return near, far


@dataclass
class Line:
    """A user's connection through both ends, with an attacker on the wire between them."""

    user: socket.socket
    service: socket.socket
    results: dict[str, RefusedError | None] = field(default_factory=dict)
    threads: list[threading.Thread] = field(default_factory=list)
    seen: bytearray = field(default_factory=bytearray)

    def ended(self, end: str) -> RefusedError | None:
        """Return how an end's carrying ended, once both have."""
        for thread in self.threads:
            thread.join(DEADLINE)
            assert not thread.is_alive()
        return self.results[end]


def relay(line: Line, source: socket.socket, target: socket.socket, meddle: Meddle | None) -> None:
    """Carry a wire's bytes on, as the attacker likes; after fewer bytes it ends, in order."""
    try:
        while data := source.recv(1 << 16):
            line.seen += data
            changed = meddle(data) if meddle else data
            target.sendall(changed)
            if len(changed) < len(data):
                break
        target.shutdown(socket.SHUT_WR)
    except OSError:  # one of the ends has reset it: the attacker lets go
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)


@contextmanager
def line(meddle: Meddle | None = None) -> Iterator[Line]:
    """Give a connection whose wire an attacker holds; `meddle` gets what goes to the service.

    It sees records only: the handshake passes as it is.
    """
    ring = Keyring(b"Bondo-2016", cost=2)
    user, plain_near = pair()
    plain_far, service = pair()
    wire_near, middle_near = pair()
    middle_far, wire_far = pair()
    made = Line(user, service)

    def near() -> None:
        keys = pump.initiate(wire_near, Initiator(ring, HERE, 80))
        made.results["near"] = Carrier(plain_near, wire_near, keys).run()

    def far() -> None:
        keys = pump.respond(wire_far, Responder(ring, HERE, (80,)))
        made.results["far"] = Carrier(plain_far, wire_far, keys).run()

    def forth() -> None:
        for size in (ASKS, PROOF):
            middle_far.sendall(take(middle_near, size))
        relay(made, middle_near, middle_far, meddle)

    def back() -> None:
        middle_near.sendall(take(middle_far, ANSWERS))
        relay(made, middle_far, middle_near, None)

    made.threads = [threading.Thread(target=work, daemon=True) for work in (near, far, forth, back)]
    for thread in made.threads:
        thread.start()
    try:
        yield made
    finally:
        for sock in (user, service, middle_near, middle_far):
            sock.close()
        for thread in made.threads:
            thread.join(DEADLINE)


def take(sock: socket.socket, size: int) -> bytes:
    """Return exactly that many bytes, or fewer at the end."""
    data = b""
    while len(data) < size and (piece := sock.recv(size - len(data))):
        data += piece
    return data


def test_a_conversation_and_its_end() -> None:
    """Both ways arrive, a half-closed connection still answers, and nothing shows on the wire."""
    with line() as held:
        held.user.sendall(TEXT)
        assert take(held.service, len(TEXT)) == TEXT
        held.user.shutdown(socket.SHUT_WR)
        assert held.service.recv(1) == b""
        held.service.sendall(TEXT * 2)
        held.service.close()
        assert take(held.user, 1000) == TEXT * 2
        assert (held.ended("near"), held.ended("far")) == (None, None)
        assert TEXT not in held.seen
        assert len(held.seen) == 3 * len(TEXT) + 4 * 20


def test_megabytes_both_ways_at_once() -> None:
    """Two million bytes each way at the same time arrive as they were sent."""
    data = bytes(range(256)) * 8192
    with line() as held:

        def send(sock: socket.socket) -> None:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)

        senders = [
            threading.Thread(target=send, args=(sock,)) for sock in (held.user, held.service)
        ]
        for sender in senders:
            sender.start()
        got: dict[str, bytes] = {}
        other = threading.Thread(target=lambda: got.update(user=take(held.user, len(data) + 1)))
        other.start()
        assert take(held.service, len(data) + 1) == data
        other.join(DEADLINE)
        assert got["user"] == data
        assert (held.ended("near"), held.ended("far")) == (None, None)


def flip(data: bytes) -> bytes:
    """Turn one bit of what is not a header."""
    return data[:5] + bytes([data[5] ^ 1]) + data[6:]


@pytest.mark.parametrize(
    ("meddle", "reason", "through"),
    [
        (flip, refusal.TAMPERED, b""),
        (lambda data: data + data, refusal.TAMPERED, TEXT),  # replay
        (lambda data: data + b"GET / HTTP/1.1\r\n", refusal.MALFORMED, TEXT),  # injection
        (lambda _: b"HTTP/1.1 400 Bad Request", refusal.MALFORMED, b""),  # its own
        (lambda data: data[:-1], refusal.TRUNCATED, b""),  # held back, then cut
        (lambda _: b"", refusal.TRUNCATED, b""),  # cut
    ],
    ids=["tampering", "replay", "injection", "substitution", "cut in a record", "cut"],
)
def test_attacks_on_the_wire(meddle: Meddle, reason: str, through: bytes) -> None:
    """The service gets the untouched beginning and a reset, the user a reset, the log why."""
    with line(meddle) as held:
        held.user.sendall(TEXT)
        got = b""
        if through:
            got = take(held.service, len(through))
        with pytest.raises(ConnectionResetError):
            got += take(held.service, 1000)
        with pytest.raises(ConnectionResetError):
            take(held.user, 1)
        assert got == through
        failure = held.ended("far")
        assert failure is not None
        assert failure.reason == reason


def test_a_reset_is_passed_on() -> None:
    """When the user's program resets its connection, the service sees a reset and no attack."""
    with line() as held:
        held.user.sendall(TEXT)
        assert take(held.service, len(TEXT)) == TEXT
        held.user.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        held.user.close()
        with pytest.raises(ConnectionResetError):
            take(held.service, 1)
        assert (held.ended("near"), held.ended("far")) == (None, None)


def test_another_end_without_the_scrambler() -> None:
    """A web server at the other end is told from a scrambler; the user's bytes stay here."""
    wire, web = pair()
    web.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n".ljust(ANSWERS, b"."))
    with pytest.raises(RefusedError, match=refusal.NO_SCRAMBLER):
        pump.initiate(wire, Initiator(Keyring(b"x", cost=2), HERE, 80))
    wire.close()
    assert len(take(web, 1000)) == ASKS
    web.close()


def test_silence_is_told() -> None:
    """An end that closes in the handshake is 'no scrambler' at once, at either end."""
    ring = Keyring(b"x", cost=2)
    for begin in (
        lambda wire: pump.initiate(wire, Initiator(ring, HERE, 80)),
        lambda wire: pump.respond(wire, Responder(ring, HERE, (80,))),
    ):
        wire, other = pair()
        other.close()
        with pytest.raises(RefusedError, match=refusal.NO_SCRAMBLER):
            begin(wire)
        wire.close()
