"""The namespace provider's outer half: starts a lab's keeper and talks to its supervisor."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.errors import Fault, LabError
from lab.ledger import LOCK, Ledger
from lab.providers.netns.wiring import wire
from lab.userns import ids_for_current_user, refusal

if TYPE_CHECKING:
    from lab.hosts import Dial
    from lab.plan import Plan
    from lab.providers.base import Order

CONTROL = "control.sock"
PROJECT = Path(__file__).resolve().parents[3]
START = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from lab.providers.netns.keeper import main; main()"
)
TTL = "net.ipv4.ip_default_ttl"
#: Anybody in a host may ping: the image's ping has lost its file capability in the tar.
SYSCTLS = {"net.ipv4.ping_group_range": "0 65535"}
CREATE_DEADLINE = 60.0  # seconds, for all hosts of a lab; a thousand take a few
ANSWER_DEADLINE = 5.0


class NamespaceProvider:
    """Every host in its own namespaces, the whole lab in a user namespace of its own."""

    name = "netns"

    def __init__(self) -> None:
        self._waiting: tuple[subprocess.Popen[bytes], socket.socket] | None = None

    def prepare(self) -> None:
        """Start a keeper that waits for its order; it goes when we go without giving one."""
        if self._waiting is None:
            self._waiting = _start_keeper()

    def create(self, order: Order) -> Ledger:
        """Hand a keeper the order, and wait until the lab is committed or refused."""
        keeper, channel = self._waiting or _start_keeper()
        self._waiting = None
        try:
            with channel:
                answer = _ask_keeper(channel, _request(order), keeper)
        except BaseException:  # Ctrl-C: it may have committed the lab before we heard of it
            self._take_back(keeper, order)
            raise
        if answer.get("exists"):
            raise FileExistsError(order.plan.lab)
        if "failed" in answer:
            cause, todo = refusal()
            raise LabError(
                f"making the lab {order.plan.lab!r} of namespaces",
                str(answer["failed"]),
                fault=Fault.MACHINE,
                todo=f"run `./inv doctor`; if user namespaces were refused: {cause}: {todo}",
            )
        keeper.returncode = 0  # it lives on; Popen need not warn about it
        return Ledger.find(order.root, order.plan.lab)

    def _take_back(self, keeper: subprocess.Popen[bytes], order: Order) -> None:
        """Wait until the keeper, which sees us gone, has ended; or take down what it committed."""
        end = time.monotonic() + ANSWER_DEADLINE
        while keeper.poll() is None and time.monotonic() < end:
            with contextlib.suppress(KeyError):
                ledger = Ledger.find(order.root, order.plan.lab)
                if ledger.read().get("keeper") == keeper.pid:
                    self.destroy(ledger)
                    return
            time.sleep(0.002)

    def observe(self, ledger: Ledger) -> dict[str, str | None]:
        """Ask the supervisor; without one, every host is gone."""
        names = [host["name"] for host in ledger.read().get("plan", {}).get("hosts", ())]
        if not ledger.alive():
            return dict.fromkeys(names, "the lab's keeper has gone")
        try:
            with _control(ledger) as control:
                control.send(b'{"op": "status"}')
                hosts: dict[str, str | None] = json.loads(control.recv(200_000))["hosts"]
        except (OSError, ValueError) as error:
            return dict.fromkeys(names, f"the supervisor does not answer ({error})")
        return hosts

    def destroy(self, ledger: Ledger, deadline: float = 10.0) -> None:
        """Ask the supervisor to end; if that does not help, kill the keeper; then check."""
        try:
            lock = os.open(ledger.folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            ledger.remove()
            return
        keeper = ledger.read().get("keeper")
        with contextlib.suppress(OSError), _control(ledger) as control:
            control.send(b'{"op": "down"}')
        patience = time.monotonic() + deadline / 2
        while not _free(lock):
            if time.monotonic() > patience:
                if keeper is None:
                    raise LabError(
                        f"taking down the lab {ledger.name!r}",
                        "it is still being made and holds its lock",
                        fault=Fault.MACHINE,
                        todo="wait for the lab-up that makes it, or end that, then try again",
                    )
                with contextlib.suppress(ProcessLookupError):
                    os.kill(keeper, signal.SIGKILL)  # it holds the lock: the pid is still its own
                keeper, patience = None, time.monotonic() + deadline / 2
            time.sleep(0.001)
        os.close(lock)
        ledger.remove()

    def dial(self, ledger: Ledger, host: str) -> Dial:
        """Have the supervisor make a socket inside the host and connect it from here."""

        def connect(port: int) -> socket.socket:
            made = self._socket_in(ledger, host)
            try:
                made.settimeout(ANSWER_DEADLINE)
                made.connect(("127.0.0.1", port))
            except OSError:
                made.close()
                raise
            return made

        return connect

    def _socket_in(self, ledger: Ledger, host: str) -> socket.socket:
        try:
            with _control(ledger) as control:
                control.send(json.dumps({"op": "dial", "host": host}).encode())
                answer, descriptors, _, _ = socket.recv_fds(control, 4096, 1)
        except OSError as error:
            raise _gone(ledger, host, f"the lab does not answer: {error}") from error
        if not descriptors:
            raise _gone(ledger, host, json.loads(answer or b"{}").get("error", "no answer"))
        return socket.socket(fileno=descriptors[0])


def _gone(ledger: Ledger, host: str, saw: str) -> LabError:
    return LabError(
        f"reaching host {host!r} of the lab {ledger.name!r}",
        saw,
        fault=Fault.GUEST,
        todo=f"see `./inv lab-status`; `./inv lab-down --name {ledger.name}` cleans up",
    )


def _request(order: Order) -> bytes:
    plan: Plan = order.plan
    used = sorted({host.image for host in plan.hosts})
    images = [order.images[name] for name in used]
    body = json.dumps(
        {
            "root": str(order.root),
            "name": plan.lab,
            "record": order.record,
            "wiring": wire(plan),
            "hosts": [
                {
                    "name": host.name,
                    "image": used.index(host.image),
                    "sysctls": {**SYSCTLS, TTL: str(host.ttl), **host.sysctls},
                    "disk_mib": host.disk_mib,
                    "files": order.files[host.name],
                }
                for host in plan.hosts
            ],
            "images": [str(image.rootfs) for image in images],
            "holds": [str(image.lock) for image in images],
            "ids": asdict(ids_for_current_user()),
        }
    ).encode()
    return b"%d\n" % len(body) + body


def _start_keeper() -> tuple[subprocess.Popen[bytes], socket.socket]:
    ours, theirs = socket.socketpair()
    with theirs:
        keeper = subprocess.Popen(  # outlives us: it is never waited for
            [sys.executable, "-I", "-S", "-c", START, str(PROJECT)],
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    return keeper, ours


def _ask_keeper(
    channel: socket.socket, request: bytes, keeper: subprocess.Popen[bytes]
) -> dict[str, Any]:
    channel.settimeout(CREATE_DEADLINE)
    try:
        channel.sendall(request)
        answer = channel.recv(1 << 16)
    except TimeoutError:
        return {"failed": f"not ready after {CREATE_DEADLINE:.0f} s"}
    except BrokenPipeError:
        answer = b""
    if not answer:
        words = keeper.stderr.read().decode(errors="replace") if keeper.stderr else ""
        return {"failed": f"the keeper ended without an answer\n{words}"}
    result: dict[str, Any] = json.loads(answer)
    if keeper.stderr:
        keeper.stderr.close()
    return result


def _control(ledger: Ledger) -> socket.socket:
    folder = os.open(ledger.folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        control.settimeout(ANSWER_DEADLINE)
        control.connect(f"/proc/self/fd/{folder}/{CONTROL}")
    except OSError:
        control.close()
        raise
    finally:
        os.close(folder)
    return control


def _free(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


PROVIDER = NamespaceProvider()
