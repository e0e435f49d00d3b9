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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import limits
from lab.errors import Fault, LabError
from lab.ledger import LOCK, Ledger, start_time
from lab.providers.base import SSH_DEADLINE, lab_login, unreachable
from lab.providers.netns.wiring import wire
from lab.userns import ids_for_current_user, refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lab.hosts import Dial, Host
    from lab.plan import Plan, PlannedHost
    from lab.providers.base import Beginning, Finding, Order

CONTROL = "control.sock"
PROJECT = Path(__file__).resolve().parents[3]
START = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from lab.providers.netns.keeper import main; main()"
)
TTL = "net.ipv4.ip_default_ttl"
#: Anybody in a host may ping: the image's ping has lost its file capability in the tar.
SYSCTLS = {"net.ipv4.ping_group_range": "0 65535"}
#: Seconds until a lab is made, and for each host more: a thousand took 18 s on a busy machine.
CREATE_DEADLINE, CREATE_DEADLINE_A_HOST = 60.0, 0.2
ANSWER_DEADLINE = 5.0
MEASURING_A_LINK = 30.0  # seconds; the slowest that a spec can have takes half of it
MAX_LINKS = 250  # what one process can wait for at once (FD_SETSIZE)
MAX_ANSWER = 200_000  # bytes; Linux lets a sequenced packet have 208 KiB


class NamespaceProvider:
    """Every host in its own namespaces, the whole lab in a user namespace of its own."""

    name = "netns"
    image_form = "rootfs"
    patched = False
    ssh_deadline = SSH_DEADLINE

    def __init__(self) -> None:
        self._waiting: tuple[subprocess.Popen[bytes], socket.socket] | None = None
        #: Keepers that are children of ours, by lab_id: reaped when their labs have gone.
        self._keepers: dict[str, subprocess.Popen[bytes]] = {}

    def prepare(self) -> None:
        """Start a keeper that waits for its order; it goes when we go without giving one."""
        if self._waiting is None:
            self._waiting = _start_keeper()

    def check(self) -> Iterable[Finding]:
        """Say whether this machine can have labs of namespaces: see lab/doctor.py."""
        return ()

    def faults(self, plan: Plan, hosts: Iterable[PlannedHost]) -> list[str]:
        """Complain of what only machines have, and of hosts that live on one."""
        own, faults = {image.name for image in plan.images}, []
        for host in hosts:
            if host.reach:
                faults.append(f"host {host.name}: `ssh` is for computers that are there already")
            if host.image in own:
                faults.append(f"host {host.name}: a namespace cannot boot the image {host.image}")
            if host.on and plan.host(host.on).provider != self.name:
                faults.append(f"host {host.name}: it cannot live on {host.on}, a machine")
            faults.extend(
                f"host {host.name}: {adapter.name}: `attach` is for virtual machines"
                for adapter in host.adapters
                if adapter.attach
            )
        links = sum(adapter.link is not None for host in plan.hosts for adapter in host.adapters)
        if links > MAX_LINKS:
            faults.append(f"{links} cables with a `link`; {MAX_LINKS} are the most")
        return faults

    def host(self, record: Mapping[str, Any], planned: PlannedHost) -> Host:
        """Root logs in, with the lab's own key."""
        return lab_login(record, planned)

    def begin(self, order: Order) -> Beginning:
        """Hand a keeper the order, and wait until the hosts are made or refused."""
        for lab_id, kept in list(self._keepers.items()):
            if kept.poll() is not None:  # its lab ended by itself
                del self._keepers[lab_id]
        request = _request(order)
        keeper, channel = self._waiting or _start_keeper()
        self._waiting = None
        try:
            patience = CREATE_DEADLINE + CREATE_DEADLINE_A_HOST * len(order.hosts)
            answer = _ask_keeper(channel, request, keeper, patience)
            made = self._heard(answer, "made", keeper, order)
        except BaseException:  # Ctrl-C: the keeper sees us gone, and ends
            channel.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                keeper.wait(ANSWER_DEADLINE)
            raise
        self._keepers[made.lab_id] = keeper
        return _Making(made, self, keeper, channel, order)

    def _heard(
        self, answer: dict[str, Any], word: str, keeper: subprocess.Popen[bytes], order: Order
    ) -> Ledger:
        """Return the lab that a keeper's answer speaks of. Raises what the answer says else."""
        if word in answer:
            return Ledger(order.root / "labs" / order.plan.lab, answer[word])
        with contextlib.suppress(subprocess.TimeoutExpired):
            keeper.wait(ANSWER_DEADLINE)  # it has nothing left to do but to end
        if answer.get("exists"):
            raise FileExistsError(order.plan.lab)
        raise _not_made(order.plan.lab, answer)

    def commit(self, keeper: subprocess.Popen[bytes], channel: socket.socket, order: Order) -> None:
        """Have a keeper make the lab exist that it has made."""
        with channel:
            answer = _ask_keeper(channel, b"commit", keeper, CREATE_DEADLINE)
        self._heard(answer, "ready", keeper, order)

    def observe(self, ledger: Ledger) -> dict[str, str | None]:
        """Ask the supervisor; without one, every host is gone."""
        plan = ledger.read().get("plan", {})
        names = [
            host["name"]
            for host in plan.get("hosts", ())
            if host.get("provider", self.name) == self.name
        ]
        if not ledger.alive():
            return dict.fromkeys(names, "the lab's keeper has gone")
        try:
            with _control(ledger) as control:
                control.send(b'{"op": "status"}')
                dead: dict[str, str] = json.loads(control.recv(MAX_ANSWER))["dead"]
        except (OSError, ValueError) as error:
            return dict.fromkeys(names, f"the supervisor does not answer ({error})")
        return {name: dead.get(name) for name in names}

    def destroy(self, ledger: Ledger, deadline: float = 10.0) -> None:
        """Ask the supervisor to end; if that does not help, kill the keeper; then check."""
        groups = ledger.read().get("groups", [])
        _destroy(ledger, deadline)
        limits.remove(groups)  # a keeper that was killed could not
        if keeper := self._keepers.pop(ledger.lab_id, None):
            with contextlib.suppress(subprocess.TimeoutExpired):
                keeper.wait(ANSWER_DEADLINE)  # it has let go of the lock, its last act

    def measure(self, ledger: Ledger) -> list[dict[str, Any]]:
        """Have the supervisor send probes along every link. Raises LabError."""
        hosts = ledger.read()["plan"]["hosts"]
        links = sum(bool(adapter.get("link")) for host in hosts for adapter in host["adapters"])
        try:
            with _control(ledger) as control:
                control.settimeout(ANSWER_DEADLINE + MEASURING_A_LINK * links)
                control.send(b'{"op": "links"}')
                answer: dict[str, Any] = json.loads(control.recv(MAX_ANSWER))
        except (OSError, ValueError) as error:
            answer = {"error": str(error)}
        if "links" not in answer:
            raise LabError(
                f"measuring the links of the lab {ledger.name!r}",
                str(answer.get("error")),
                fault=Fault.MACHINE,
                todo="put the lab up again; if it fails again, see `./inv doctor`",
            )
        rows: list[dict[str, Any]] = answer["links"]
        return rows

    def usage(self, ledger: Ledger) -> dict[str, dict[str, int]]:
        """Return processes, memory and disk (bytes) of each host; {} for a lab that has gone."""
        try:
            with _control(ledger) as control:
                control.send(b'{"op": "usage"}')
                hosts: dict[str, dict[str, int]] = json.loads(control.recv(MAX_ANSWER))["hosts"]
        except (OSError, ValueError):
            return {}
        return hosts

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
            saw = f"the lab does not answer ({error}): it was taken down, or its supervisor died"
            raise unreachable(ledger, host, saw) from error
        if not descriptors:
            raise unreachable(ledger, host, json.loads(answer or b"{}").get("error", "no answer"))
        return socket.socket(fileno=descriptors[0])


@dataclass(frozen=True, slots=True)
class _Making:
    """A lab whose keeper waits for the word to commit it; without, it ends with the channel."""

    ledger: Ledger
    provider: NamespaceProvider
    keeper: subprocess.Popen[bytes]
    channel: socket.socket
    order: Order

    def commit(self) -> None:
        """Make it exist."""
        self.provider.commit(self.keeper, self.channel, self.order)


def _not_made(lab: str, answer: dict[str, Any]) -> LabError:
    """Return the error for a lab that the keeper could not make, from what it said."""
    kind, todo = answer.get("kind"), f"run `./inv doctor`; {' '.join(refusal())} may help"
    if kind == "spec":
        todo = "correct that setting in the spec"
    elif kind == "state":
        todo = "set IMLAB_STATE to a folder that you can write to and that has space"
    elif kind == "image":
        todo = "put the lab up again: what is missing is then built"
    elif kind == "gone":
        todo = "put it up again, once nobody takes it down"
    return LabError(
        f"making the lab {lab!r} of namespaces",
        str(answer["failed"]),
        fault=Fault.SPEC if kind == "spec" else Fault.MACHINE,
        todo=todo,
    )


def _destroy(ledger: Ledger, deadline: float) -> None:
    try:
        lock = os.open(ledger.folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # it has gone
    try:
        # Looked at after the lock was opened: else both could be of a later lab of that name.
        if ledger.current():
            _end(ledger, lock, deadline)
    finally:
        os.close(lock)


def _end(ledger: Ledger, lock: int, deadline: float) -> None:
    """End a lab; return when its lock is free. Raises LabError after the deadline (seconds).

    Asked again and again, since a lab that is just being made does not listen yet.
    """
    request = json.dumps({"op": "down", "id": ledger.lab_id}).encode()
    asked, end = 0.0, time.monotonic() + deadline
    killed = False
    while not _free(lock):
        now = time.monotonic()
        if now > end:
            raise LabError(
                f"taking down the lab {ledger.name!r}",
                "somebody still holds its lock, and it is not the process on record",
                fault=Fault.MACHINE,
                todo=f"find who it is: `fuser {ledger.folder / LOCK}`",
            )
        if now > asked + 0.05:
            asked = now
            with contextlib.suppress(OSError), _control(ledger, 0.05) as control:
                control.send(request)
        if not killed and now > end - deadline / 2:
            killed = _kill_keeper(ledger)
        time.sleep(0.001)


def _kill_keeper(ledger: Ledger) -> bool:
    """Kill the keeper on record if it still is that process; pids are used again (pidfd_open(2)).

    The descriptor pins the process, the time at which it started tells whether it is the one.
    """
    keeper = ledger.keeper()
    if keeper is None:
        return True
    pid, started = keeper
    with contextlib.suppress(OSError):
        descriptor = os.pidfd_open(pid)
        try:
            if start_time(pid) == started:
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)
    return True


def _request(order: Order) -> bytes:
    plan: Plan = order.plan
    used = sorted({host.image for host in order.hosts})
    images = [order.images[name] for name in used]
    body = json.dumps(
        {
            "root": str(order.root),
            "name": plan.lab,
            "record": order.record,
            "wiring": wire(plan, order.hosts, order.patches),
            "patches": [(patch.near, patch.far) for patch in order.patches],
            "hosts": [
                {
                    "name": host.name,
                    "image": used.index(host.image),
                    "sysctls": {**SYSCTLS, TTL: str(host.ttl), **host.sysctls},
                    "disk_mib": host.disk_mib,
                    "files": order.files[host.name],
                    "processes": order.share.processes if order.share else 0,
                    "number": number,
                }
                for number, host in enumerate(order.hosts)
            ],
            "images": [str(image.path) for image in images],
            "holds": [str(image.lock) for image in images],
            "ids": ids_for_current_user(),
            "share": order.share,
            "groups": order.record.get("groups", []),
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
    channel: socket.socket, request: bytes, keeper: subprocess.Popen[bytes], deadline: float
) -> dict[str, Any]:
    channel.settimeout(deadline)
    try:
        channel.sendall(request)
        answer = channel.recv(1 << 16)
    except TimeoutError:
        return {"failed": f"not ready after {deadline:.0f} s"}
    except ConnectionError:
        answer = b""
    if not answer:
        words = keeper.stderr.read().decode(errors="replace") if keeper.stderr else ""
        return {"failed": f"the keeper ended without an answer\n{words}"}
    result: dict[str, Any] = json.loads(answer)
    if keeper.stderr and "made" not in result:
        keeper.stderr.close()
    return result


def _control(ledger: Ledger, deadline: float = ANSWER_DEADLINE) -> socket.socket:
    folder = os.open(ledger.folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        control.settimeout(deadline)
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
