"""The scrambler of one end device: a process that nftables leads the named ports through.

    user ── plain ──▶ 127.0.0.1:AWAY ──▶ sealed ──▶ other end:WIRE ──▶ plain ──▶ 127.0.0.1:port

It starts as root to take its places and then is an account of its own without any rights. The key
is entered over CONTROL, kept in memory alone, and gone with the process: without it, and without
the process, the named ports are shut, since nftables lets nothing plain out or in.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import logging
import os
import signal
import socket
import struct
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import pump
from .handshake import Initiator, Responder
from .keys import Keyring, entered
from .refusal import BUSY, NO_KEY, REASONS, TRUNCATED, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

WIRE, AWAY = 61080, 61081  # TCP ports: no others are assigned there (RFC 6335), nor ephemeral
ACCOUNT = 61080  # user and group id that own nothing
FOLDER = Path("/run/imlab-scrambler")
CONTROL, STATUS, MARK = FOLDER / "control", FOLDER / "status.json", FOLDER / "mark"
SETTINGS, PID = Path("/etc/imlab-scrambler.json"), Path("/run/imlab-scrambler.pid")
MOST = 500  # connections at a time
GOODBYE = 2.0  # seconds for connections to end when the scrambler is ended
LINES = 20  # lines of the log in a second at most: an attacker shall not fill the disk
LONGEST = 8192  # bytes of what is entered
_ORIGINAL = 80  # SO_ORIGINAL_DST of linux/netfilter_ipv4.h
_ADDRESS = struct.Struct(">HH4s8x")

log = logging.getLogger("scrambler")


@dataclass(slots=True)
class Tally:
    """What happened so far, as the status file tells it."""

    state: str = "locked"
    carried: int = 0
    open: int = 0
    refused: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    last: dict[str, Any] | None = None


class Shim:
    """The scrambler's state and its threads."""

    def __init__(self, ports: frozenset[int], folder: Path = FOLDER) -> None:
        self.ports = ports
        self._folder = folder
        self._keyring: Keyring | None = None
        self._tally = Tally()
        self._mark = ""
        self._carriers: set[pump.Carrier] = set()
        self._lock = threading.RLock()
        self._changed = threading.Event()
        self._second, self._lines = 0, 0

    def enter(self, passphrase: bytes, mark: str = "") -> None:
        """Take a key in place of the one before; what that one carried is reset."""
        keyring = Keyring(passphrase)
        keyring.master(keyring.salt)  # now, and not when the first connection waits for it
        with self._lock:
            self._keyring, self._mark = keyring, mark
            self._tally.state = "ready"
            stopped = list(self._carriers)
        for carrier in stopped:
            carrier.stop()
        log.info("a key was entered")
        self.write()

    def forget(self) -> None:
        """Drop the key and what it carries."""
        with self._lock:
            self._keyring, self._mark = None, ""
            self._tally.state = "locked"
            stopped = list(self._carriers)
        for carrier in stopped:
            carrier.stop()
        log.info("the key was dropped")
        self.write()

    def depart(self, plain: socket.socket) -> None:
        """Carry a connection that a user here has opened to a named port elsewhere."""
        pump.no_quiet_end(plain)
        where = plain.getsockopt(socket.SOL_IP, _ORIGINAL, _ADDRESS.size)
        _, port, packed = _ADDRESS.unpack(where)
        address = str(ipaddress.IPv4Address(packed))
        if port not in self.ports:  # somebody came here by hand, and not by nftables
            pump.reset(plain)
            return
        self._carry(plain, f"to {address}:{port}", lambda: self._depart(plain, address, port))

    def _depart(self, plain: socket.socket, address: str, port: int) -> pump.Carrier:
        keyring = self._key()
        wire = pump.connect(address, WIRE)
        try:
            keys = pump.initiate(wire, Initiator(keyring, address, port))
        except RefusedError:
            pump.reset(wire)
            raise
        return pump.Carrier(plain, wire, keys)

    def arrive(self, wire: socket.socket) -> None:
        """Carry a connection that arrived from elsewhere to the service here."""
        peer = wire.getpeername()[0]
        self._carry(wire, f"from {peer}", lambda: self._arrive(wire))

    def _arrive(self, wire: socket.socket) -> pump.Carrier:
        responder = Responder(self._key(), wire.getsockname()[0], self.ports)
        keys = pump.respond(wire, responder)
        plain = pump.connect("127.0.0.1", responder.port)
        return pump.Carrier(plain, wire, keys)

    def _key(self) -> Keyring:
        keyring = self._keyring
        if keyring is None:
            raise RefusedError(NO_KEY, "nobody has entered a key at this end: scrambler-key")
        return keyring

    def _carry(self, sock: socket.socket, what: str, begin: Callable[[], pump.Carrier]) -> None:
        """Carry one connection to its end; a refusal is counted, logged and a reset."""
        with self._lock:
            self._tally.open += 1
            too_many = self._tally.open > MOST
        failure: RefusedError | None
        carrier: pump.Carrier | None = None
        try:
            if too_many:
                raise RefusedError(BUSY, f"more than {MOST} connections at a time")  # noqa: TRY301 - one way out
            keyring = self._keyring
            carrier = begin()
            with self._lock:
                self._carriers.add(carrier)
                self._tally.carried += 1
                changed = self._keyring is not keyring
            self._changed.set()
            if changed:
                carrier.stop()
            failure = carrier.run()
        except RefusedError as error:
            failure = error
        except OSError as error:
            failure = RefusedError(TRUNCATED, f"the connection broke: {error}")
        finally:
            with self._lock:
                self._carriers.discard(carrier)
                self._tally.open -= 1
        if failure is not None:
            self._refused(what, failure)
            pump.reset(sock)
        sock.close()
        self._changed.set()

    def _refused(self, what: str, error: RefusedError) -> None:
        now = time.time()
        with self._lock:
            self._tally.refused[error.reason] += 1
            self._tally.last = {"when": now, "connection": what, "refused": str(error)}
            if int(now) != self._second:
                self._second, self._lines = int(now), 0
            self._lines += 1
            quiet = self._lines > LINES
        if not quiet:
            log.error("connection %s refused, %s", what, error)

    @property
    def busy(self) -> bool:
        """Say whether a connection is still being carried."""
        return bool(self._carriers)

    def write(self) -> None:
        """Write the status and the mark, each in place of the one before."""
        with self._lock:
            tally = self._tally
            status = {
                "state": tally.state,
                "pid": os.getpid(),
                "ports": sorted(self.ports),
                "open": tally.open,
                "carried": tally.carried,
                "refused": {reason: n for reason, n in tally.refused.items() if n},
                "last": tally.last,
            }
            for name, text in (("status.json", json.dumps(status)), ("mark", self._mark)):
                new = self._folder / f".{name}"
                new.write_text(text + "\n")
                new.rename(self._folder / name)

    def keep_writing(self) -> None:
        """Write the status whenever something has happened; does not return."""
        while True:
            self._changed.wait()
            self._changed.clear()
            try:
                self.write()
            except OSError as error:
                log.error("the status cannot be written: %s", error)  # noqa: TRY400 - no traceback in the log

    def accept(self, listener: socket.socket, work: Callable[[socket.socket], None]) -> None:
        """Give each connection a thread; does not return."""
        while True:
            try:
                sock, _ = listener.accept()
            except OSError as error:  # too many open files, or the caller has gone already
                log.error("accept: %s", error)  # noqa: TRY400 - no traceback in the log
                time.sleep(0.01)
                continue
            threading.Thread(target=self._safely, args=(work, sock), daemon=True).start()

    @staticmethod
    def _safely(work: Callable[[socket.socket], None], sock: socket.socket) -> None:
        try:
            work(sock)
        except OSError as error:
            log.error("a connection ended before it began: %s", error)  # noqa: TRY400 - as above
            sock.close()

    def control(self, sock: socket.socket) -> None:
        """Do what the command scrambler-key asks for: one line of JSON, one answer."""
        with sock, contextlib.suppress(OSError), sock.makefile("rwb") as stream:
            line = stream.readline(LONGEST)
            if not line:  # somebody only wanted to know whether anybody listens
                return
            stream.write(json.dumps({"error": self._asked(line)}).encode() + b"\n")

    def _asked(self, line: bytes) -> str:
        """Do what a line of JSON asks for; return what was wrong with it, "" if nothing."""
        try:
            asked = json.loads(line)
            if asked["do"] == "enter":
                self.enter(entered(asked["passphrase"]), str(asked.get("mark", "")))
            elif asked["do"] == "forget":
                self.forget()
            else:
                return "it can enter and forget"
        except (ValueError, KeyError, TypeError, AttributeError):
            return "a passphrase has 1 to 1024 bytes and no control characters"
        return ""


def listen(address: str, port: int) -> socket.socket:
    """Return a socket that listens, whether or not old connections linger there."""
    return socket.create_server((address, port), backlog=512)


def main() -> None:
    """Run the scrambler of the ports in SETTINGS until it is ended."""
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # before any thread is there to get them
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    ports = json.loads(SETTINGS.read_text())["ports"]
    shim = Shim(frozenset(ports))
    PID.write_text(f"{os.getpid()}\n")
    FOLDER.mkdir(mode=0o700, exist_ok=True)
    CONTROL.unlink(missing_ok=True)
    wire, away = listen("0.0.0.0", WIRE), listen("127.0.0.1", AWAY)  # noqa: S104 - the network is what it serves
    os.chown(FOLDER, ACCOUNT, ACCOUNT)
    for old in (STATUS, MARK):
        old.unlink(missing_ok=True)
    os.setgroups([])
    os.setresgid(ACCOUNT, ACCOUNT, ACCOUNT)
    os.setresuid(ACCOUNT, ACCOUNT, ACCOUNT)
    os.umask(0o077)
    shim.write()
    control = socket.socket(socket.AF_UNIX)
    control.bind(str(CONTROL))
    control.listen(8)
    for listener, work in ((wire, shim.arrive), (away, shim.depart), (control, shim.control)):
        threading.Thread(target=shim.accept, args=(listener, work), daemon=True).start()
    threading.Thread(target=shim.keep_writing, daemon=True).start()
    log.info("scrambling the ports %s", ", ".join(map(str, ports)))
    signal.sigwait(signals)
    shim.forget()
    until = time.monotonic() + GOODBYE
    while shim.busy and time.monotonic() < until:  # each user is to see a reset
        time.sleep(0.005)
