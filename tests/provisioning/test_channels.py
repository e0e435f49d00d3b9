"""What else goes through a session: running commands, connections, ports, a terminal."""

from __future__ import annotations

import http.client
import os
import pty
import select
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from fcntl import ioctl
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from loopback_sshd import SSHD, Sshd, free_port

from lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from provisioning.transport import Session

pytestmark = pytest.mark.skipif(SSHD is None, reason="openssh-server is not installed")


@pytest.fixture(scope="module")
def session(sshd: Sshd) -> Iterator[Session]:
    """Open a session that the tests of this module share."""
    with sshd.open() as opened:
        yield opened


def test_stream_gives_data_as_it_comes(session: Session) -> None:
    """A running command is talked to both ways and ends when its input does."""
    with session.stream(["cat"]) as stream:
        for word in (b"one", b"two"):
            stream.stdin.write(word)
            stream.stdin.flush()
            assert stream.stdout.read1(10) == word
        stream.close_stdin()
        assert stream.stdout.read() == b""
        assert stream.wait(5) == 0


def test_stream_that_does_not_end(session: Session) -> None:
    """Waiting for a command that goes on raises at the deadline."""
    with session.stream(["cat"]) as stream:
        with pytest.raises(LabError, match="still running"):
            stream.wait(0.1)
        stream.close_stdin()
        assert stream.wait(5) == 0


class Hello(BaseHTTPRequestHandler):
    """A web page that says who asked."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer."""
        body = b"hello " * 5000
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture(scope="module")
def web() -> Iterator[int]:
    """Run a web server on loopback and give its port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hello)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def test_connect_carries_http(session: Session, web: int) -> None:
    """http.client speaks over a connection that starts in the host, several times on one."""
    connection = http.client.HTTPConnection("127.0.0.1", web)
    with session.connect("127.0.0.1", web) as sock:
        connection.sock = sock
        for _ in range(3):
            connection.request("GET", "/")
            assert connection.getresponse().read() == b"hello " * 5000


def test_an_answer_that_ends_with_its_connection_is_read_to_its_end(session: Session) -> None:
    """http.client closes the connection when it has seen the head; the body comes after that."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection = http.client.HTTPConnection(*server.getsockname())
        connection.sock = session.connect(*server.getsockname())
        connection.request("GET", "/", headers={"Connection": "close"})
        peer, _ = server.accept()
        with peer:
            peer.recv(1000)
            peer.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\n")
            response = connection.getresponse()
            peer.sendall(b"hello")
            assert response.read() == b"hello"
            assert peer.recv(1) == b""  # and is closed then


def test_connect_to_nobody(session: Session) -> None:
    """A refused connection is an error that names the address."""
    port = free_port()
    with pytest.raises(LabError, match=f"127.0.0.1:{port}"):
        session.connect("127.0.0.1", port)


def test_connect_times_out_on_silence(session: Session) -> None:
    """A peer that says nothing meets the deadline."""
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        session.connect("127.0.0.1", silent.getsockname()[1], deadline=2.0) as sock,
        pytest.raises(TimeoutError),
    ):
        sock.recv(1)


def test_forward_carries_many_connections(session: Session, web: int) -> None:
    """A forwarded port serves connections side by side, and is closed afterwards."""
    with session.forward(web) as port:
        connections = [http.client.HTTPConnection("127.0.0.1", port) for _ in range(5)]
        for connection in connections:
            connection.request("GET", "/")
        for connection in connections:
            assert connection.getresponse().read() == b"hello " * 5000
            connection.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_forward_on_a_taken_port(session: Session, web: int) -> None:
    """A local port that is in use is told, and another is proposed."""
    with pytest.raises(LabError, match="another local port"), session.forward(web, web):
        pass


SHELL = """
import sys
from lab.hosts import Host
from provisioning.transport import Session
import socket
port, user, host_key, key = int(sys.argv[1]), *sys.argv[2:4], open(sys.argv[4]).read()
dial = lambda _: socket.create_connection(("127.0.0.1", port))
with Session.open(Host("box", user, host_key, key), dial) as session:
    sys.exit(session.shell())
"""


def read_until(terminal: int, wanted: bytes) -> bytes:
    """Read from a terminal until it has shown something, for at most ten seconds."""
    seen = b""
    until = time.monotonic() + 30
    while wanted not in seen:
        assert select.select([terminal], [], [], max(0.0, until - time.monotonic()))[0], seen
        seen += os.read(terminal, 4096)
    return seen


def test_shell_is_a_terminal(sshd: Sshd, tmp_path: Path) -> None:
    """A shell has a terminal of the caller's size, follows its changes and ends with its code."""
    key = tmp_path / "key"
    key.write_text(sshd.host.private_key)
    near, far = pty.openpty()
    ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 101, 0, 0))
    argv = [sys.executable, "-c", SHELL, str(sshd.port), sshd.host.user, sshd.host.host_key]
    process = subprocess.Popen(
        [*argv, str(key)],
        stdin=far,
        stdout=far,
        env={**os.environ, "TERM": "xterm"},
        cwd=Path(__file__).parents[2],
        start_new_session=True,
        preexec_fn=lambda: ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 -- no threads in it
    )
    try:
        os.write(near, b"stty size; echo mark$((1+1))\r")
        assert b"33 101" in read_until(near, b"\nmark2")
        ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 77, 0, 0))
        until = time.monotonic() + 30
        seen = b""
        while b"44 77" not in seen:  # the change of size travels beside the input
            assert time.monotonic() < until, seen
            os.write(near, b"stty size; echo mark$((1+2))\r")
            seen = read_until(near, b"\nmark3")
        os.write(near, b"exit 5\r")
        assert process.wait(10) == 5
    finally:
        process.kill()
        process.wait(10)
        os.close(near)
        os.close(far)
