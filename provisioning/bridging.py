"""Connections that start in a lab host as sockets of this process, with TLS around them or not.

Libraries want a real socket, to select on or to give to asyncio; SSH gives a channel. A pair of
sockets and a pump make one of the other. TLS ends in the pump, so that a library may read and
write from two threads, which one TLS connection does not bear.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from typing import TYPE_CHECKING, cast

from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from collections.abc import Callable

    from provisioning.channels import SocketLike
    from provisioning.messaging import Connect

CHUNK = 16_384  # bytes; what one TLS record carries (RFC 8446, 5.1)
HANDSHAKE_DEADLINE = 10.0  # seconds


def real_socket(link: SocketLike) -> socket.socket:
    """Return a socket of the operating system that leads to where `link` does."""
    if isinstance(link, socket.socket):
        return link
    ours, theirs = socket.socketpair()
    link.settimeout(None)

    def inward() -> None:
        with contextlib.suppress(OSError):
            while data := link.recv(CHUNK):
                ours.sendall(data)
        with contextlib.suppress(OSError):
            ours.shutdown(socket.SHUT_WR)

    def outward() -> None:
        with contextlib.suppress(OSError):
            while data := ours.recv(CHUNK):
                link.sendall(data)
        link.close()
        ours.close()

    for pump in (inward, outward):
        threading.Thread(target=pump, daemon=True).start()
    return theirs


def tls(connect: Connect, context: ssl.SSLContext, name: str | None = None) -> Connect:
    """Return a `connect` that speaks TLS: what it returns carries the text inside.

    name -- what the certificate has to be for; the address that is connected to by default.
    It raises LabError when the other end speaks no TLS, or is not who it should be.
    """

    def connected(address: str, port: int) -> SocketLike:
        raw = real_socket(connect(address, port))
        raw.settimeout(HANDSHAKE_DEADLINE)
        try:
            sealed = context.wrap_socket(raw, server_hostname=name or address)
        except OSError as error:  # ssl.SSLError is one
            raw.close()
            raise not_proved(f"{address}:{port}", error) from error
        ours, theirs = socket.socketpair()
        threading.Thread(target=_pump, args=(sealed, ours), daemon=True).start()
        return cast("SocketLike", theirs)  # opened as a file it is text unless told otherwise

    return connected


def not_proved(where: str, error: OSError) -> LabError:
    """Return the error for a server that does not prove over TLS who it is."""
    return LabError(
        f"speaking TLS with {where}",
        str(getattr(error, "verify_message", "") or error) or type(error).__name__,
        fault=Fault.GUEST,
        todo="nothing was sent: see whether the server has TLS, and the certificate of this lab",
    )


def _pump(sealed: ssl.SSLSocket, inner: socket.socket) -> None:
    """Copy both ways until either side has ended, from one thread."""
    with contextlib.suppress(OSError), sealed, inner:
        while True:
            ready, _, _ = select.select([sealed, inner], [], [])
            if inner in ready:
                sealed.settimeout(HANDSHAKE_DEADLINE)
                if not _copy(inner.recv, sealed.sendall):
                    return
            if sealed in ready:
                # A record may carry no text (RFC 8446, 4.6): never wait for some here.
                sealed.settimeout(0)
                if not _drain(sealed, inner):
                    return


def _drain(sealed: ssl.SSLSocket, inner: socket.socket) -> bool:
    """Copy what has arrived; say whether more may come."""
    try:
        while _copy(sealed.recv, inner.sendall):
            pass
    except ssl.SSLWantReadError:
        return True
    return False


def _copy(receive: Callable[[int], bytes], send: Callable[[bytes], object]) -> bool:
    if data := receive(CHUNK):
        send(data)
    return bool(data)
