"""Sockets made of channels, and TLS that is there or refused, over loopback."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from lab.errors import LabError
from provisioning import bridging
from provisioning.authority import Authority, Certificate, trust

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BIG = bytes(range(256)) * 8192  # 2 MiB, more than any buffer between


class Channel:
    """A socket with as much of an interface as an SSH channel has."""

    def __init__(self, sock: socket.socket) -> None:
        self.sendall, self.recv = sock.sendall, sock.recv
        self.settimeout, self.makefile = sock.settimeout, sock.makefile
        self._sock = sock

    def close(self) -> None:
        """Close both ways, as SSH does."""
        self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()


def dial(address: str, port: int) -> Channel:
    """Connect; for `bridging` it is no socket of the operating system."""
    return Channel(socket.create_connection((address, port)))


def echo(connection: socket.socket) -> None:
    """Send back what comes, until the end."""
    with connection:
        while data := connection.recv(65536):
            connection.sendall(data)


@contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """Answer every connection to a port of loopback in a thread of its own."""
    server = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(5)


def tls_echo(certificate: Certificate, folder: Path) -> Callable[[socket.socket], None]:
    """Return an answer that speaks TLS with a certificate."""
    file = folder / "server.pem"
    file.write_bytes(certificate.key + certificate.certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)

    def answer(connection: socket.socket) -> None:
        try:
            echo(context.wrap_socket(connection, server_side=True))
        except OSError:
            connection.close()

    return answer


def exchange(sock: socket.socket) -> bytes:
    """Send a lot and read it back at the same time."""
    got = bytearray()

    def read() -> None:
        while len(got) < len(BIG) and (data := sock.recv(65536)):
            got.extend(data)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    sock.sendall(BIG)
    reader.join(30)
    return bytes(got)


def test_a_channel_becomes_a_socket() -> None:
    """What goes in comes out at the other end, and the end is an end."""
    with serving(echo) as port:
        sock = bridging.real_socket(dial("127.0.0.1", port))
        assert sock.fileno() >= 0
        assert exchange(sock) == BIG
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""
        sock.close()


def test_tls_carries_both_ways_at_once(tmp_path: Path) -> None:
    """A thread may read while another writes; the keys of the session can be kept."""
    authority = Authority("test")
    answer = tls_echo(authority.issue(["localhost", "127.0.0.1"]), tmp_path)
    key_log = tmp_path / "keys.log"
    with serving(answer) as port:
        connect = bridging.tls(dial, trust(authority.certificate, key_log))
        sock = bridging.real_socket(connect("127.0.0.1", port))
        assert exchange(sock) == BIG
        sock.close()
    assert b"CLIENT_TRAFFIC_SECRET_0" in key_log.read_bytes()


def test_a_server_that_waits_for_the_client_gets_the_first_word(tmp_path: Path) -> None:
    """What TLS itself sends after the handshake is not mistaken for text."""
    authority = Authority("test")
    with serving(tls_echo(authority.issue(["127.0.0.1"]), tmp_path)) as port:
        sock = bridging.tls(dial, trust(authority.certificate))("127.0.0.1", port)
        for _ in range(3):
            sock.sendall(b"ping")
            assert sock.recv(4) == b"ping"
        sock.close()


@pytest.mark.parametrize(
    ("names", "own", "wanted", "saw"),
    [
        (["guest"], True, "peer", "Hostname mismatch"),
        (["127.0.0.2"], True, None, "IP address mismatch"),
        (["guest"], False, "guest", "unable to get local issuer|self-signed|signature"),
    ],
)
def test_who_is_not_who_he_should_be_gets_nothing(
    names: list[str], *, own: bool, wanted: str | None, saw: str, tmp_path: Path
) -> None:
    """Another name, another address, another authority of the same name: all are refused."""
    authority = Authority("test")
    maker = authority if own else Authority("test")
    with serving(tls_echo(maker.issue(names), tmp_path)) as port:
        connect = bridging.tls(dial, trust(authority.certificate), wanted)
        with pytest.raises(LabError, match=saw):
            connect("127.0.0.1", port)


def test_a_server_without_tls_is_refused() -> None:
    """There is no falling back to plain text."""
    with serving(echo) as port:
        connect = bridging.tls(dial, trust(Authority("test").certificate))
        with pytest.raises(LabError, match="nothing was sent"):
            connect("127.0.0.1", port)


def test_keys_are_not_shown() -> None:
    """A certificate can be printed without its private key."""
    issued = Authority("test").issue(["guest"])
    assert b"PRIVATE KEY" in issued.key
    assert "PRIVATE" not in repr(issued)
