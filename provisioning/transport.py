"""One SSH connection to a lab host: run, put, get, stream, connect, forward, shell."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import logging
import os
import secrets
import shlex
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, cast

import paramiko

from lab.errors import Fault, LabError
from provisioning.channels import (
    ChannelSocket,
    Stream,
    collect,
    listener,
    terminal,
    terminal_size,
)
from provisioning.files import File, bundle

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lab.hosts import Dial, Host

SFTP_DEADLINE = 10.0  # seconds for the subsystem to start, or to say that there is none
REFUSED_DEADLINE = 2.0  # seconds in which a session that was refused is asked for again
SSH_PORT = 22
COMMAND_SHOWN = 300  # characters of a command in an error
# curve25519 (RFC 8731) costs a third of group14; the second name is for older servers.
KEX = ("curve25519-sha256@libssh.org", "ecdh-sha2-nistp256")
# AES-GCM (RFC 5647) authenticates in the same pass and needs no separate MAC.
CIPHERS = ("aes128-gcm@openssh.com", "aes128-ctr")
KEY_CLASSES: tuple[type[paramiko.PKey], ...] = (
    paramiko.Ed25519Key,
    paramiko.ECDSAKey,
    paramiko.RSAKey,
)


# What paramiko logs it also raises, and errors are told from there; nothing is printed beside.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True)
class Result:
    """What a command did; plain data that can be stored.

    started is seconds since the epoch, duration is in seconds.
    """

    host: str
    argv: tuple[str, ...]
    exit_code: int
    stdout: bytes
    stderr: bytes
    started: float
    duration: float

    def to_json(self) -> dict[str, Any]:
        """Return JSON data; bytes that are not UTF-8 appear as backslash escapes."""
        return {
            "host": self.host,
            "argv": list(self.argv),
            "exit_code": self.exit_code,
            "stdout": self.stdout.decode(errors="backslashreplace"),
            "stderr": self.stderr.decode(errors="backslashreplace"),
            "started": self.started,
            "duration": self.duration,
        }


class _PromptSocket:
    """A socket that acknowledges what it has read at once (tcp(7), TCP_QUICKACK).

    An SSH server sends its host keys unasked after the login; until they are acknowledged its
    Nagle holds back the answer to our first request, 40 ms by the kernel's delayed
    acknowledgement. The kernel forgets the option whenever we send: it is set at each read.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def recv(self, size: int) -> bytes:
        data = self._sock.recv(size)
        with contextlib.suppress(OSError):  # no TCP socket, or closed meanwhile
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return data

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- whatever a socket has
        return getattr(self._sock, name)


class Session:
    """An SSH connection to one host, kept open; usable from several threads.

    The host's key is compared with the pinned one, and nothing is added on trust. Deadlines are
    those of a host that is fast, and are kept by the host's pace: see `within`.
    """

    def __init__(self, host: Host, transport: paramiko.Transport) -> None:
        self.host = host
        self._transport = transport
        self._sftp: paramiko.SFTPClient | None = None
        self._sftp_lock, self._has_sftp = threading.Lock(), True

    @classmethod
    def open(cls, host: Host, dial: Dial) -> Session:
        """Log in, within the host's patience.

        Raises LabError: nobody answers, the host key is another one, the login is refused.
        """
        until = time.monotonic() + host.patience
        key = _private_key(host.private_key)
        doing = f"logging in to {host.name} as {host.user}"
        try:
            sock = dial(SSH_PORT)
        except OSError as error:
            raise LabError(
                doing,
                f"no connection to its SSH port: {error}",
                fault=Fault.GUEST,
                todo="see whether the lab is up and sshd runs in it",
            ) from error
        try:
            # Small packets must not wait for acknowledgements (Nagle, RFC 896).
            with contextlib.suppress(OSError):  # a socket pair has no such option, nor the need
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            transport = paramiko.Transport(cast("socket.socket", _PromptSocket(sock)))
        except (OSError, paramiko.SSHException) as error:
            sock.close()
            raise _unanswered(doing, error) from error
        try:
            _log_in(transport, host, key, until)
        except BaseException as error:
            transport.close()
            if isinstance(error, OSError | EOFError | paramiko.SSHException):
                raise _unanswered(doing, error) from error
            raise
        return cls(host, transport)

    @property
    def alive(self) -> bool:
        """Say whether the connection still stands, as far as this side knows."""
        return self._transport.is_active()

    def within(self, seconds: float) -> float:
        """Return how many seconds are given to what has `seconds` on a namespace."""
        return seconds * self.host.pace

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        deadline: float = 30.0,
        check: bool = True,
    ) -> Result:
        """Run a command to its end; every argument arrives as it is given here.

        Secrets belong in `stdin`, which appears nowhere. Raises LabError after `deadline`
        seconds, when the connection is lost and, if `check`, for an exit code other than 0.
        """
        started, before, deadline = time.time(), time.monotonic(), self.within(deadline)
        until = before + deadline
        doing = f"running on {self.host.name}: {_shown(argv)}"
        channel = self._channel(doing, until)
        try:
            channel.settimeout(_left(until))
            channel.exec_command(shlex.join(argv).encode())
            _feed(channel, stdin)
            out, err = collect(channel, until)
        except TimeoutError as error:
            raise self._late(doing, deadline, channel, error) from error
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise self._lost(doing, error) from error
        finally:
            channel.close()
        if channel.exit_status == -1 and not self.alive:
            raise self._lost(doing, "the connection ended")
        result = Result(
            self.host.name,
            tuple(argv),
            channel.exit_status,
            out,
            err,
            started,
            time.monotonic() - before,
        )
        if check and result.exit_code != 0:
            raise failure(result)
        return result

    def stream(self, argv: Sequence[str], *, deadline: float = 10.0) -> Stream:
        """Start a command and return while it runs; deadline (seconds) is for starting it."""
        doing, deadline = f"starting on {self.host.name}: {_shown(argv)}", self.within(deadline)
        channel = self._channel(doing, time.monotonic() + deadline)
        try:
            channel.settimeout(deadline)
            channel.exec_command(shlex.join(argv).encode())
            channel.settimeout(None)
        except (OSError, EOFError, paramiko.SSHException) as error:
            channel.close()
            raise self._lost(doing, error) from error
        return Stream(channel, self.host.name, _shown(argv))

    def put(self, content: bytes, path: str, mode: int = 0o644) -> None:
        """Write one file in place of what was there; readers see the old one or the new.

        SFTP, once open, takes a ninth of the time that a command takes. Where it does not work
        (a folder is missing, or the server has no SFTP) put_many does, or says why not.
        """
        try:
            self._put(content, path, mode)
        except (OSError, EOFError, paramiko.SSHException, paramiko.SFTPError):
            self.put_many([File(path, content, mode)])

    def _put(self, content: bytes, path: str, mode: int) -> None:
        if not path.startswith("/"):
            raise FileNotFoundError(path)
        staged = f"{path.rpartition('/')[0]}/.new-{secrets.token_hex(6)}"
        with self._sftp_lock:
            if self._sftp is None and self._has_sftp:
                self._has_sftp = False  # until it answers: who has none is asked once
                self._sftp = self._open_sftp()
                self._has_sftp = True
            if self._sftp is None:
                raise FileNotFoundError("sftp")
            sftp = self._sftp
            try:
                with sftp.open(staged, "wx") as file:
                    file.chmod(mode)  # before the content: it may be a secret
                    file.write(content)
                sftp.posix_rename(staged, path)
            except OSError:
                with contextlib.suppress(OSError):
                    sftp.remove(staged)
                raise

    def _open_sftp(self) -> paramiko.SFTPClient:
        patience = self.within(SFTP_DEADLINE)
        channel = self._transport.open_session(timeout=patience)
        try:
            channel.invoke_subsystem("sftp")
            return paramiko.SFTPClient(channel)
        except (OSError, EOFError, paramiko.SSHException):
            # dropbear without SFTP says yes first, and closes the channel when the program that it
            # wanted to start has ended. A channel opened meanwhile is closed with it now and then.
            until = time.monotonic() + patience
            while not channel.closed and self._transport.is_active() and time.monotonic() < until:
                time.sleep(0.01)  # the interval of a probe; paramiko has no event for it
            channel.close()
            raise

    def put_many(self, files: Iterable[File], *, deadline: float = 30.0) -> None:
        """Write files in one command, each atomically; folders are made as needed."""
        batch = tuple(files)
        if batch:
            archive, script = bundle(batch)
            self.run(["/bin/sh", "-c", script], stdin=archive, deadline=deadline)

    def get(self, path: str, *, deadline: float = 30.0) -> bytes:
        """Return the content of a file."""
        return self.run(["cat", "--", path], deadline=deadline).stdout

    def connect(self, address: str, port: int, *, deadline: float = 10.0) -> ChannelSocket:
        """Open a TCP connection that starts in the host; deadline is in seconds.

        The deadline also bounds each later send and receive until settimeout changes it.
        """
        channel = self._tunnel(address, port, deadline)
        channel.settimeout(self.within(deadline))
        return ChannelSocket(channel)

    @contextlib.contextmanager
    def forward(self, remote_port: int, local_port: int = 0) -> Iterator[int]:
        """Lead 127.0.0.1:<local_port> here to that port inside the host; yield the local port."""
        with listener(local_port, lambda: self._tunnel("127.0.0.1", remote_port, 10.0)) as port:
            yield port

    def shell(self) -> int:
        """Give the caller's terminal a login shell on the host; return its exit code."""
        doing = f"opening a shell on {self.host.name}"
        channel = self._channel(doing, time.monotonic() + self.within(10.0))
        try:
            size = terminal_size()
            channel.get_pty(os.environ.get("TERM", "vt100"), size.columns, size.lines)
            channel.invoke_shell()
            return terminal(channel)
        except paramiko.SSHException as error:
            raise self._lost(doing, error) from error
        finally:
            channel.close()

    def close(self) -> None:
        """Log out. What still runs through this session loses its channel."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _channel(self, doing: str, until: float) -> paramiko.Channel:
        # sshd refuses an eleventh session (MaxSessions) while it has not yet buried the others.
        refused = min(until, time.monotonic() + self.within(REFUSED_DEADLINE))
        while True:
            try:
                return self._transport.open_session(timeout=_left(until))
            except (OSError, EOFError, paramiko.SSHException) as error:
                if not self._transport.is_active() or time.monotonic() > refused:
                    raise self._lost(doing, error) from error
                time.sleep(0.02)  # the interval of a probe

    def _tunnel(self, address: str, port: int, deadline: float) -> paramiko.Channel:
        doing = f"connecting from {self.host.name} to {address}:{port}"
        try:
            return self._transport.open_channel(
                "direct-tcpip", (address, port), ("127.0.0.1", 0), timeout=self.within(deadline)
            )
        except paramiko.ChannelException as error:
            raise LabError(
                doing,
                error.text or str(error),
                fault=Fault.GUEST,
                todo=f"see whether a service listens at {address}:{port}",
            ) from error
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise self._lost(doing, error) from error

    def _lost(self, doing: str, why: object) -> LabError:
        saw = str(why) or type(why).__name__
        return LabError(
            doing,
            saw if self.alive else f"the SSH connection is lost: {saw}",
            fault=Fault.GUEST,
            todo=f"see whether {self.host.name} is still up, then log in again",
        )

    def _late(
        self, doing: str, deadline: float, channel: paramiko.Channel, error: TimeoutError
    ) -> LabError:
        said = b"".join(part for part in error.args if isinstance(part, bytes))
        saw = f"not done after {deadline:g} s"
        if channel.exit_status_ready():
            saw += (
                f"; it ended with exit code {channel.exit_status}, but something it started"
                " keeps its output open"
            )
        return LabError(
            doing,
            saw + "\n" + said.decode(errors="replace"),
            fault=Fault.GUEST,
            todo="it may still be running there; give it more time if it needs it",
        )


def failure(result: Result) -> LabError:
    """Return the error for a command that ended with an exit code other than 0."""
    said = result.stderr or result.stdout
    ending = "ended by a signal" if result.exit_code == -1 else f"exit code {result.exit_code}"
    return LabError(
        f"running on {result.host}: {_shown(result.argv)}",
        said.decode(errors="replace").rstrip() + f"\n({ending} after {result.duration:.3f} s)",
        fault=Fault.GUEST,
        todo=f"read what it said; try it by hand on {result.host}",
    )


def _feed(channel: paramiko.Channel, stdin: bytes) -> None:
    """Send the input and its end; what exceeds the window goes from a thread of its own.

    A command that answers while it reads would otherwise wait for us and we for it.
    """
    if len(stdin) <= channel.out_window_size:
        _send(channel, stdin)
    else:
        threading.Thread(target=_send, args=(channel, stdin), daemon=True).start()


def _send(channel: paramiko.Channel, stdin: bytes) -> None:
    with contextlib.suppress(OSError):  # it ended without reading all: its exit code tells
        channel.sendall(stdin)
        channel.shutdown_write()


def _log_in(transport: paramiko.Transport, host: Host, key: paramiko.PKey, until: float) -> None:
    doing = f"logging in to {host.name} as {host.user}"
    kind, pinned = _public_key(host)
    options = transport.get_security_options()
    options.kex = KEX
    options.ciphers = CIPHERS
    # Ask for the pinned kind of key: a server with several would else offer another one.
    options.key_types = ("rsa-sha2-512", "rsa-sha2-256") if kind == "ssh-rsa" else (kind,)
    left = _left(until)
    transport.banner_timeout = transport.handshake_timeout = left
    transport.start_client(timeout=left)
    offered = transport.get_remote_server_key().asbytes()
    if offered != pinned:
        raise LabError(
            doing,
            f"its host key is {_fingerprint(offered)}, pinned is {_fingerprint(pinned)}",
            fault=Fault.GUEST,
            todo="this is not the host that the lab made: take the lab down and up",
        )
    transport.auth_timeout = _left(until)
    try:
        transport.auth_publickey(host.user, key)
    except paramiko.AuthenticationException as error:
        raise LabError(
            doing,
            f"the key was refused: {error}",
            fault=Fault.GUEST,
            todo=f"authorise this lab's public key for {host.user} on {host.name}",
        ) from error


def _left(until: float) -> float:
    """Return the seconds that are left, never so few that zero would mean 'for ever'."""
    return max(0.001, until - time.monotonic())


def _shown(argv: Sequence[str]) -> str:
    line = shlex.join(argv)
    return line if len(line) <= COMMAND_SHOWN else line[:COMMAND_SHOWN] + " …"


def _private_key(text: str) -> paramiko.PKey:
    for kind in KEY_CLASSES:
        with contextlib.suppress(paramiko.SSHException, ValueError):
            return kind.from_private_key(io.StringIO(text))
    raise LabError(
        "reading the lab's private key",
        "it is no Ed25519, ECDSA or RSA key in PEM or OpenSSH form",
        fault=Fault.US,
        todo="take the lab down and up: that makes a new key",
    )


def _public_key(host: Host) -> tuple[str, bytes]:
    """Return the type and the blob of a pinned key line."""
    try:
        name, blob, *_ = host.host_key.split()
        return name, base64.b64decode(blob, validate=True)
    except ValueError as error:
        raise LabError(
            f"reading the pinned host key of {host.name}",
            f"{host.host_key!r} is no line of the form 'ssh-ed25519 AAAA…'",
            fault=Fault.US,
            todo="take the lab down and up: that pins its keys again",
        ) from error


def _fingerprint(blob: bytes) -> str:
    """Return a key's SHA-256 fingerprint as ssh-keygen -l prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def _unanswered(doing: str, error: BaseException) -> LabError:
    return LabError(
        doing,
        f"no SSH conversation: {error or type(error).__name__}",
        fault=Fault.GUEST,
        todo="see whether sshd runs in it and what its log says",
    )
