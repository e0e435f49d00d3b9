"""What an SSH channel can be used as: binary files, a socket, a forwarded port, a terminal."""

from __future__ import annotations

import contextlib
import io
import os
import select
import signal
import socket
import sys
import termios
import threading
import time
import tty
from typing import TYPE_CHECKING, Any, Protocol, Self

from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import paramiko

CHUNK = 32_768  # bytes; the payload that fits one channel packet (RFC 4253, 6.1)


class SocketLike(Protocol):
    """As much of a TCP socket as http.client and its like use."""

    def sendall(self, data: bytes, /) -> None:
        """Send all of it or raise OSError."""

    def recv(self, size: int, /) -> bytes:
        """Return 1 to `size` bytes, or b"" at the end; raises TimeoutError."""

    def settimeout(self, seconds: float | None, /) -> None:
        """Bound each following send and receive, in seconds."""

    def makefile(self, mode: str = "rb", buffering: int = -1) -> io.BufferedIOBase:
        """Return a binary file over the same connection."""

    def close(self) -> None:
        """Close the connection."""


class RawReader(io.RawIOBase):
    """A raw binary file over a function that receives at most n bytes; tells of its end, once."""

    def __init__(
        self, receive: Callable[[int], bytes], ended: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__()
        self._receive, self._ended = receive, ended

    def close(self) -> None:
        """Tell that nobody reads any more."""
        if not self.closed:
            super().close()
            self._ended()

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 -- io's own signature: any writable buffer
        """Read once into the buffer and return the number of bytes; 0 is the end."""
        data = self._receive(min(len(buffer), CHUNK))
        buffer[: len(data)] = data
        return len(data)


class RawWriter(io.RawIOBase):
    """A raw binary file over a function that sends some of the bytes and says how many."""

    def __init__(self, send: Callable[[bytes], int]) -> None:
        super().__init__()
        self._send = send

    def writable(self) -> bool:
        """Say that it can be written to."""
        return True

    def write(self, data: Any, /) -> int:  # noqa: ANN401 -- io's own signature: any readable buffer
        """Write some of the bytes and return how many."""
        return self._send(bytes(data[:CHUNK]))


class ChannelSocket:
    """A TCP connection made by the SSH server ("direct-tcpip", RFC 4254, 7.2), as a socket.

    The connection starts in the host that the session is logged in to. As of a socket of Python's,
    what was opened to read from it reads on when it is closed: http.client does so with an answer
    that ends with its connection.
    """

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel
        self._readers, self._closed = 0, False

    def sendall(self, data: bytes, /) -> None:
        """Send all of it or raise OSError."""
        self._channel.sendall(data)

    def recv(self, size: int, /) -> bytes:
        """Return 1 to `size` bytes, or b"" at the end; raises TimeoutError."""
        return self._channel.recv(size)

    def settimeout(self, seconds: float | None, /) -> None:
        """Bound each following send and receive, in seconds."""
        self._channel.settimeout(seconds)

    def makefile(self, mode: str = "rb", buffering: int = -1) -> io.BufferedIOBase:
        """Return a binary file over the same connection; mode is "rb" or "wb"."""
        size = buffering if buffering > 0 else io.DEFAULT_BUFFER_SIZE
        if mode == "rb":
            self._readers += 1
            return io.BufferedReader(RawReader(self._channel.recv, self._read), size)
        if mode == "wb":
            return io.BufferedWriter(RawWriter(self._channel.send), size)
        raise ValueError(f"mode {mode!r} is neither 'rb' nor 'wb'")

    def shutdown_write(self) -> None:
        """Say that nothing more will be sent."""
        self._channel.shutdown_write()

    def close(self) -> None:
        """Close the connection, once nobody reads from it."""
        self._closed = True
        if not self._readers:
            self._channel.close()

    def _read(self) -> None:
        self._readers -= 1
        if self._closed:
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Stream:
    """A command that is running on a host; for what runs long, as a capture does.

    stdin, stdout, stderr -- binary files; reading waits for data without a deadline, and
    read1(n) returns what has arrived. stderr shares the flow-control window with stdout
    (2 MiB), so a command that says much there must be read on both.
    """

    def __init__(self, channel: paramiko.Channel, host: str, command: str) -> None:
        self._channel, self._host, self._command = channel, host, command
        self.stdin = io.BufferedWriter(RawWriter(channel.send))
        self.stdout = io.BufferedReader(RawReader(channel.recv), CHUNK)
        self.stderr = io.BufferedReader(RawReader(channel.recv_stderr), CHUNK)

    def close_stdin(self) -> None:
        """Send what is buffered, then end-of-file."""
        with contextlib.suppress(OSError):  # it has ended already: nothing to tell it
            self.stdin.flush()
            self._channel.shutdown_write()

    def wait(self, deadline: float) -> int:
        """Return the exit code; -1 when a signal ended it or the connection was lost.

        Raises LabError when it is still running after `deadline` seconds.
        """
        if not self._channel.status_event.wait(deadline):
            raise LabError(
                f"waiting on {self._host} for the end of: {self._command}",
                f"still running after {deadline:g} s",
                fault=Fault.GUEST,
                todo="end its input, or give it more time",
            )
        return self._channel.recv_exit_status()

    def close(self) -> None:
        """Drop the channel; the command sees its input end and its output refused."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def listener(local_port: int, open_channel: Callable[[], paramiko.Channel]) -> Iterator[int]:
    """Listen on 127.0.0.1 and join each connection to a channel; yield the local port."""
    try:
        server = socket.create_server(("127.0.0.1", local_port))
    except OSError as error:
        raise LabError(
            f"listening on 127.0.0.1:{local_port}",
            str(error),
            fault=Fault.USER,
            todo="choose another local port, or 0 for a free one",
        ) from error
    threading.Thread(target=_accept, args=(server, open_channel), daemon=True).start()
    try:
        yield server.getsockname()[1]
    finally:
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in accept
        server.close()


def _accept(server: socket.socket, open_channel: Callable[[], paramiko.Channel]) -> None:
    while True:
        try:
            client, _ = server.accept()
        except OSError:
            return  # closed: the context has ended
        threading.Thread(target=_join, args=(client, open_channel), daemon=True).start()


def _join(client: socket.socket, open_channel: Callable[[], paramiko.Channel]) -> None:
    """Copy both ways until both sides have ended."""
    with client:
        try:
            channel = open_channel()
        except LabError:
            return  # refused in the host: the client sees its connection closed
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        upward = threading.Thread(target=_upward, args=(client, channel), daemon=True)
        upward.start()
        with contextlib.suppress(OSError):
            while data := channel.recv(CHUNK):
                client.sendall(data)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_WR)
        upward.join()
        channel.close()


def _upward(client: socket.socket, channel: paramiko.Channel) -> None:
    with contextlib.suppress(OSError):
        while data := client.recv(CHUNK):
            channel.sendall(data)
    with contextlib.suppress(OSError):
        channel.shutdown_write()


def terminal_size() -> os.terminal_size:
    """Return the size of the terminal on standard input, whatever COLUMNS and LINES say."""
    try:
        return os.get_terminal_size(sys.stdin.fileno())
    except (OSError, ValueError):  # no terminal there
        return os.terminal_size((80, 24))


def terminal(channel: paramiko.Channel) -> int:
    """Join the caller's terminal to a channel that runs a shell; return its exit code.

    The terminal is raw meanwhile (termios(3), cfmakeraw) and its size is passed on when it
    changes (RFC 4254, 6.7). Without a terminal, standard input is copied as it is.
    """
    stdin = sys.stdin.fileno()
    saved = termios.tcgetattr(stdin) if os.isatty(stdin) else None
    output = threading.Thread(target=_copy_out, args=(channel,), daemon=True)
    # The handler of a changed size only writes to this pipe, which wakes select.
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    previous = None
    try:
        if saved is not None:
            tty.setraw(stdin, termios.TCSADRAIN)  # what was typed ahead is kept
            previous = signal.signal(signal.SIGWINCH, lambda *_: os.write(wake_write, b"w"))
        output.start()
        _copy_in(channel, stdin, wake_read)
        output.join()
    finally:
        if saved is not None:
            termios.tcsetattr(stdin, termios.TCSADRAIN, saved)
            signal.signal(signal.SIGWINCH, previous or signal.SIG_DFL)
        os.close(wake_read)
        os.close(wake_write)
    return channel.recv_exit_status()


def _copy_in(channel: paramiko.Channel, stdin: int, wake: int) -> None:
    sources = [stdin, wake]
    while not (channel.closed or channel.exit_status_ready()):
        # The shell may end by itself: look ten times a second whether it has.
        ready, _, _ = select.select(sources, [], [], 0.1)
        if wake in ready:
            os.read(wake, 64)
            size = terminal_size()
            channel.resize_pty(size.columns, size.lines)
        if stdin in ready:
            data = os.read(stdin, CHUNK)
            try:
                if data:
                    channel.sendall(data)
                else:
                    sources.remove(stdin)
                    channel.shutdown_write()
            except OSError:
                return


def _copy_out(channel: paramiko.Channel) -> None:
    with contextlib.suppress(OSError):
        while data := channel.recv(CHUNK):
            os.write(sys.stdout.fileno(), data)


def collect(channel: paramiko.Channel, until: float) -> tuple[bytes, bytes]:
    """Wait for a command's end and return both outputs; neither blocks the other.

    until -- a time.monotonic() value. Raises TimeoutError with what was read so far.
    """
    out, err = bytearray(), bytearray()
    arrived = threading.Event()
    # Both buffers set the one event when something arrives. Reading one of them empty clears
    # it, therefore both are looked at again before waiting.
    channel.in_buffer.set_event(arrived)
    channel.in_stderr_buffer.set_event(arrived)
    while True:
        idle = True
        if channel.recv_ready():
            out += channel.recv(1 << 20)
            idle = False
        if channel.recv_stderr_ready():
            err += channel.recv_stderr(1 << 20)
            idle = False
        if not idle:
            continue
        if channel.eof_received or channel.closed:
            # Data that came before the end of file is in the buffers by now.
            if channel.recv_ready() or channel.recv_stderr_ready():
                continue
            break
        if not arrived.wait(max(0.0, until - time.monotonic())):
            raise TimeoutError(bytes(out), bytes(err))
    # The exit status may come after the end of the output.
    if not channel.status_event.wait(max(0.0, until - time.monotonic())):
        raise TimeoutError(bytes(out), bytes(err))
    return bytes(out), bytes(err)
