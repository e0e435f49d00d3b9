"""The process that keeps a lab of namespaces alive, outside of it, after `up` has gone.

`up` starts it with a socket as standard input and sends one request. From then on:

1. The keeper alone makes the lab's folder, locks it and listens on its control socket.
2. It forks the lab's parent, which enters the user namespace; the keeper maps its ids.
3. The parent makes the mounts private, binds the images, forbids the calls that lead out
   (seccomp) and forks the supervisor, PID 1 of the lab.
4. When the supervisor says "ready", `up` is told "made", has the other providers make their hosts
   and answers "commit": then replacing the ledger's state is the one moment of commit. Until that
   moment end-of-file from `up` (Ctrl-C, kill -9) ends everything and removes the folder; it stays
   if another provider owns something, which somebody has to destroy.
5. After that the keeper only waits: when the lab's parent ends, the folder goes, then the keeper.

Whoever of keeper, parent and supervisor is killed, the others die by PR_SET_PDEATHSIG, and with
the supervisor the kernel ends all that is in the lab's pid namespace.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
import signal
import socket
import sys
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from lab import limits
from lab.errors import Fault, LabError
from lab.ledger import Ledger
from lab.limits import Share
from lab.patches import LOOPBACK
from lab.providers.netns import syscalls as sys_
from lab.providers.netns.rootfs import HOST, WORK, HostRequest
from lab.providers.netns.seccomp import lab_filter
from lab.providers.netns.supervisor import Supervisor
from lab.providers.netns.wires import Wiring
from lab.userns import IdRange, Ids, become_mapped_root, write_maps

CONTROL = "control.sock"
BACKLOG = 128


class Request(NamedTuple):
    """What `up` asks for.

    images  -- root file systems.
    holds   -- locks to share meanwhile.
    patches -- (near, far) UDP ports of loopback: cables to other providers' hosts.
    share   -- what it may take of the machine, None for all; groups: its control groups.
    """

    root: Path
    record: dict[str, Any]
    name: str
    wiring: Wiring
    hosts: list[HostRequest]
    images: list[str]
    holds: list[str]
    ids: Ids
    patches: list[tuple[int, int]]
    share: Share | None
    groups: list[str]

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Request:
        """Rebuild a request from its JSON form (made by the provider)."""
        uids, gids, privileged = data["ids"]
        return cls(
            root=Path(data["root"]),
            record=data["record"],
            name=data["name"],
            wiring=Wiring.from_json(data["wiring"]),
            hosts=[HostRequest(**host) for host in data["hosts"]],
            images=data["images"],
            holds=data["holds"],
            ids=Ids(IdRange(*uids), IdRange(*gids), privileged),
            patches=[(near, far) for near, far in data["patches"]],
            share=Share(*data["share"]) if data["share"] else None,
            groups=data["groups"],
        )


def main() -> None:
    """Serve one lab, from the request on standard input to its end."""
    up = socket.socket(fileno=os.dup(0))
    request = Request.from_json(json.loads(_read_all(up)))
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.chdir("/")
    os.umask(0o077)
    sys_.set_name("imlab-keeper")
    record = {**request.record, "keeper": os.getpid()}
    try:
        ledger, lock = Ledger.create(request.root, request.name, record)
    except FileExistsError:
        _tell(up, {"exists": True})
        return
    except OSError as error:
        _tell(up, {"failed": f"{request.root}: {error}", "kind": "state"})
        return
    _keep(up, request, ledger, lock)


def _keep(up: socket.socket, request: Request, ledger: Ledger, lock: int) -> None:
    parent = 0
    try:
        _quiet(ledger.folder / "keeper.log")
        holds = [_hold(path) for path in request.holds]
        tunnels = [_tunnel(near, far) for near, far in request.patches]
        listener = _listen(ledger.folder)
        if request.share:
            limits.make(request.groups, request.share)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.fork()
        if parent == 0:
            ours.close()
            up.close()
            os.close(lock)
            _become_parent(request, ledger.lab_id, theirs, listener, tunnels)
        for end in (theirs, listener, *tunnels):
            end.close()
        signal.signal(signal.SIGTERM, lambda *_: os.kill(parent, signal.SIGKILL))
        failure = _wait_for_ready(up, ours, request.ids, parent)
        if failure is None:
            _tell(up, {"made": ledger.lab_id})
            failure = _wait_for_commit(up, ours)
        if failure is None:
            ledger.update(state="created")
            _tell(up, {"ready": ledger.lab_id})
            up.close()
            os.waitpid(parent, 0)
        else:
            _end(parent, ours)
            limits.remove(request.groups)
            _forget(ledger)  # before `up` hears of it: it may look at once
            _tell(up, failure)
        for hold in holds:
            os.close(hold)
    except Exception as error:  # noqa: BLE001 - the last line of defence: never leave half a lab
        if parent:
            _end(parent, None)
        limits.remove(request.groups)
        _forget(ledger)
        _tell(up, _explained(error))
    limits.remove(request.groups)
    _forget(ledger)
    os.close(lock)


def _forget(ledger: Ledger) -> None:
    """Remove the lab's record, unless another provider's hosts are on it: then `down` does."""
    if not ledger.owned():
        ledger.remove()


def _wait_for_commit(up: socket.socket, lab: socket.socket) -> dict[str, Any] | None:
    """Wait until `up` has all that it wanted; return what failed, or None."""
    selector = selectors.DefaultSelector()
    selector.register(up, selectors.EVENT_READ)
    selector.register(lab, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is lab:  # it says nothing after "ready": it has ended
                return {"failed": "the lab was taken down meanwhile", "kind": "gone"}
            if not up.recv(16):
                return {"failed": "interrupted"}
            return None


def _explained(error: Exception) -> dict[str, Any]:
    """Say why a lab cannot be made; with a traceback only for what nobody has thought of."""
    if isinstance(error, LabError):
        return {"failed": error.saw, "kind": "gone" if error.fault is Fault.USER else "machine"}
    if isinstance(error, ImageGoneError):
        return {"failed": str(error), "kind": "image"}
    if isinstance(error, OSError):
        return {"failed": str(error), "kind": "state"}
    import traceback  # noqa: PLC0415 - loaded when there is something to tell

    return {"failed": "".join(traceback.format_exception(error, limit=-3))}


def _wait_for_ready(
    up: socket.socket, lab: socket.socket, ids: Ids, parent: int
) -> dict[str, Any] | None:
    """Map the lab's ids when it asks, wait until it is ready; return what failed, or None."""
    selector = selectors.DefaultSelector()
    selector.register(up, selectors.EVENT_READ)
    selector.register(lab, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is up:  # `up` says nothing after its request: it has gone
                return {"failed": "interrupted"}
            packet = lab.recv(65536)
            if not packet:
                why = "the lab's first process ended without a word: it was taken down meanwhile"
                return {"failed": f"{why}, or memory is short", "kind": "gone"}
            message: dict[str, Any] = json.loads(packet)
            if "map" in message:
                write_maps(parent, ids)
                lab.send(b"mapped")
            elif "failed" in message:
                return message
            else:
                return None


def _end(parent: int, lab: socket.socket | None) -> None:
    """Kill the lab's parent and wait until the supervisor, too, has let go of its socket."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(parent, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(parent, 0)
    if lab is not None:
        with contextlib.suppress(OSError):
            while lab.recv(65536):
                pass


# -- inside the lab --------------------------------------------------------------------------


def _become_parent(
    request: Request,
    lab_id: str,
    keeper: socket.socket,
    listener: socket.socket,
    tunnels: list[socket.socket],
) -> NoReturn:
    os.umask(0o022)  # ours is 077, for the state; a host wants the ordinary one
    try:
        if request.share:
            limits.enter(request.groups)
        _enter_user_namespace(request, keeper)
        supervisor = os.fork()
        if supervisor == 0:
            _become_supervisor(request, lab_id, keeper, listener, tunnels)
        for end in (keeper, listener, *tunnels):
            end.close()
        os.waitpid(supervisor, 0)
    except Exception as error:  # noqa: BLE001 - a forked child must end here, whatever happened
        _tell(keeper, {"failed": str(error) or repr(error)})
    os._exit(0)


def _enter_user_namespace(request: Request, keeper: socket.socket) -> None:
    sys_.die_with_parent()
    sys_.set_name("imlab-lab")
    sys_.leave_keyrings()
    sys_.unshare(sys_.CLONE_NEWUSER | sys_.CLONE_NEWNS)
    # Still as the user: mapped root has no way into a private home.
    images = [os.open(path, os.O_PATH | os.O_DIRECTORY) for path in request.images]
    keeper.send(json.dumps({"map": True}).encode())
    if not keeper.recv(16):
        os._exit(1)
    become_mapped_root()
    sys_.mount(None, "/", None, sys_.MS_REC | sys_.MS_PRIVATE)
    flags = sys_.MS_NOSUID | sys_.MS_NODEV
    sys_.mount("tmpfs", WORK, "tmpfs", flags, "mode=755,size=1m")
    for number, image in enumerate(images):
        target = f"{WORK}/image{number}"
        os.mkdir(target)
        sys_.mount(f"/proc/self/fd/{image}", target, None, sys_.MS_BIND)
        os.close(image)
    os.mkdir(HOST)
    sys_.set_seccomp(lab_filter(os.uname().machine))
    sys_.unshare(sys_.CLONE_NEWPID | sys_.CLONE_NEWNET | sys_.CLONE_NEWIPC | sys_.CLONE_NEWUTS)


def _become_supervisor(
    request: Request,
    lab_id: str,
    keeper: socket.socket,
    listener: socket.socket,
    tunnels: list[socket.socket],
) -> NoReturn:
    try:
        sys_.die_with_parent()
        os.setsid()
        sys_.close_descriptors({end.fileno() for end in (keeper, listener, *tunnels)})
        flags = sys_.MS_NOSUID | sys_.MS_NODEV | sys_.MS_NOEXEC
        sys_.mount("proc", "/proc", "proc", flags)
        Supervisor(request.wiring, request.hosts, listener, lab_id, tunnels).run(keeper)
    except Exception as error:  # noqa: BLE001 - as above
        _tell(keeper, {"failed": str(error) or repr(error)})
    os._exit(1)


# -- small things ----------------------------------------------------------------------------


def _listen(folder: Path) -> socket.socket:
    """Listen in the lab's folder, by way of /proc so that a long path does not matter."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(f"/proc/self/fd/{descriptor}/{CONTROL}")
    listener.listen(BACKLOG)
    os.close(descriptor)
    return listener


def _tunnel(near: int, far: int) -> socket.socket:
    """Return our end of a patch: a socket of the machine's own network, to `far` and back alone."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((LOOPBACK, near))
    made.connect((LOOPBACK, far))
    return made


class ImageGoneError(Exception):
    """An image was removed while the lab was being planned."""


def _hold(path: str) -> int:
    """Share an image's lock. Whoever removes the image removes that file too: then it is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
            return descriptor
    except FileNotFoundError:
        pass
    raise ImageGoneError(f"the image of {path} was removed a moment ago")


def _quiet(log: Path) -> None:
    """Send our own output to a file: the terminal may be closed."""
    null = os.open(os.devnull, os.O_RDONLY)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(null, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.close(null)
    os.close(out)


def _read_all(up: socket.socket) -> bytes:
    """Read the request: its length in decimal, a newline, then that many bytes."""
    with up.makefile("rb", buffering=0) as stream:
        first = stream.readline()
        if not first:
            sys.exit(0)  # no lab was wanted after all
        length = int(first)
        parts = []
        while length:
            part = stream.read(min(length, 1 << 16))
            if not part:
                sys.exit(1)  # `up` has gone before it had asked for anything
            parts.append(part)
            length -= len(part)
    return b"".join(parts)


def _tell(receiver: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # nobody there to be told
        receiver.send(json.dumps(message).encode())
