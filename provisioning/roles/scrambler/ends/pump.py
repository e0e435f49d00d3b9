"""One connection of a user, carried between a plain socket on this host and a sealed one.

A thread for each direction: each waits in recv(2) alone, which has a third fewer system calls
for a message than polling both sockets has.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import TYPE_CHECKING

from .frames import ABORT, CLOSE, DATA, LARGEST, Opener, Sealer
from .handshake import ANSWERS, ASKS, PROOF, Initiator, Keys, Responder
from .refusal import NO_SCRAMBLER, TRUNCATED, UNREACHABLE, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 10.0  # seconds for the other end's next message of the handshake
HURRY = 0.2  # seconds for a direction to end by itself before it is made to
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s: close(2) sends a reset (socket(7))
_ORDERLY = struct.pack("ii", 0, 0)  # SO_LINGER: off


def initiate(wire: socket.socket, initiator: Initiator) -> Keys:
    """Do the handshake from the end at which a connection starts. Raises RefusedError."""
    wire.settimeout(PATIENCE)
    _send(wire, initiator.hello())
    proof, keys = initiator.answered(_receive(wire, ANSWERS))
    _send(wire, proof)
    return keys


def respond(wire: socket.socket, responder: Responder) -> Keys:
    """Do the handshake from the end that a connection arrives at. Raises RefusedError."""
    wire.settimeout(PATIENCE)
    _send(wire, responder.answer(_receive(wire, ASKS)))
    return responder.proved(_receive(wire, PROOF))


def _send(wire: socket.socket, message: bytes) -> None:
    try:
        wire.sendall(message)
    except OSError as error:
        raise RefusedError(NO_SCRAMBLER, f"the handshake ended early: {error}") from error


def _receive(wire: socket.socket, size: int) -> bytes:
    """Return exactly `size` bytes."""
    message = bytearray()
    try:
        while len(message) < size:
            piece = wire.recv(size - len(message))
            if not piece:
                break
            message += piece
    except OSError as error:  # a timeout too
        raise RefusedError(NO_SCRAMBLER, f"no answer in the handshake: {error}") from error
    if len(message) < size:
        why = "the other end closed during the handshake: it has another key, or none"
        raise RefusedError(NO_SCRAMBLER, why)
    return bytes(message)


class Carrier:
    """Carries one connection to its end. `run` returns when both directions are over."""

    def __init__(self, plain: socket.socket, wire: socket.socket, keys: Keys) -> None:
        self._plain, self._wire = plain, wire
        self._sealer, self._opener = Sealer(keys.seal), Opener(keys.open)
        self._lock = threading.Lock()  # over the sealer: ABORT may come from the other thread
        self._failure: RefusedError | None = None
        self._aborted = False

    def run(self) -> RefusedError | None:
        """Carry; return why the connection was refused, None if it ended as its users wished."""
        for sock in (self._plain, self._wire):
            sock.settimeout(None)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            no_quiet_end(sock)
        outgoing = threading.Thread(target=self._guarded, args=(self._outgoing,), daemon=True)
        outgoing.start()
        self._guarded(self._incoming)
        if self._aborted:
            outgoing.join(HURRY)
            if outgoing.is_alive():  # it waits for somebody to take in what it sends
                for sock in (self._plain, self._wire):
                    _quietly(sock.shutdown, socket.SHUT_RDWR)
        outgoing.join()
        for sock in (self._plain, self._wire):
            if not self._aborted:
                _quietly(sock.setsockopt, socket.SOL_SOCKET, socket.SO_LINGER, _ORDERLY)
            sock.close()
        return self._failure

    def stop(self) -> None:
        """End the connection from another thread: both users see a reset."""
        self._give_up(None)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except RefusedError as error:
            self._give_up(error)
        except (OSError, ValueError) as error:
            # A socket failed under a user, or was taken away by the other direction's end.
            gone = RefusedError(TRUNCATED, f"the connection broke: {error}")
            self._give_up(None if self._aborted else gone)

    def _give_up(self, error: RefusedError | None) -> None:
        """Let the other thread's recv(2) return, without a word to either user yet."""
        if self._failure is None and not self._aborted:
            self._failure = error
        self._aborted = True
        for sock in (self._plain, self._wire):
            _quietly(sock.shutdown, socket.SHUT_RD)

    def _outgoing(self) -> None:
        """Carry what the user here says, until it has said all or is gone."""
        buffer = bytearray(LARGEST)
        view = memoryview(buffer)
        take, give, seal = self._plain.recv_into, self._wire.sendall, self._sealer.seal
        lock = self._lock
        while True:
            try:
                size = take(buffer)
            except OSError:  # reset by the user here: the one there gets to know it as a reset
                if not self._aborted:
                    self._user_gone()
                return
            if self._aborted:
                return
            with lock:
                if size:
                    give(seal(view[:size]))
                else:
                    give(seal(b"", CLOSE))
            if not size:
                self._wire.shutdown(socket.SHUT_WR)
                return

    def _incoming(self) -> None:
        """Carry what arrives for the user here, until its sender says that this was all."""
        opener, take, give = self._opener, self._wire.recv_into, self._plain.sendall
        while True:
            size = take(opener.space())
            if self._aborted:
                return
            if not size:
                opener.finish()
                return
            for frame in opener.filled(size):
                if frame.kind == DATA:
                    try:
                        give(frame.data)
                    except OSError:  # the user here is gone: the one there gets to know
                        self._user_gone()
                        return
                elif frame.kind == CLOSE:
                    _quietly(self._plain.shutdown, socket.SHUT_WR)
                else:
                    self._give_up(None)
                    return

    def _user_gone(self) -> None:
        """Tell the other end, if it takes anything in, that the user of this one is gone."""
        if self._lock.acquire(timeout=HURRY):
            try:
                with contextlib.suppress(ValueError):  # this direction has ended already
                    self._wire.sendall(self._sealer.seal(b"", ABORT))
            finally:
                self._lock.release()
        self._give_up(None)


def no_quiet_end(sock: socket.socket) -> None:
    """Make it a reset, and no orderly end, when this process ends, killed or not."""
    _quietly(sock.setsockopt, socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


def reset(sock: socket.socket) -> None:
    """Close a connection so that its other end sees a reset, never an orderly end."""
    no_quiet_end(sock)
    sock.close()


def connect(address: str, port: int) -> socket.socket:
    """Connect within PATIENCE seconds. Raises RefusedError."""
    try:
        return socket.create_connection((address, port), PATIENCE)
    except OSError as error:
        detail = f"nothing takes connections at {address}:{port}: {error}"
        raise RefusedError(UNREACHABLE, detail) from error


def _quietly(call: Callable[..., object], *arguments: object) -> None:
    with contextlib.suppress(OSError):  # it is closed, or was never connected
        call(*arguments)
