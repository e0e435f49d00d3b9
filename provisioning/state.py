"""Desired state of a host: facts gathered in one command, changes decided, applied in one more.

`facts` asks, `changes` is a pure function from what is wanted and what is there to what has to
be done, and `apply` does it. What is as wanted causes no change, so applying twice changes
nothing. Works with systemd and, as in a host whose PID 1 is a bare init, without it.
"""

from __future__ import annotations

import hashlib
import secrets
import shlex
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lab.errors import Fault, LabError
from provisioning.files import File, Folder, bundle

if TYPE_CHECKING:
    from collections.abc import Mapping

    from provisioning.transport import Session

MARK = "--imlab-fact--"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; export PATH LC_ALL=C"


@dataclass(frozen=True, slots=True)
class Service:
    """A daemon that has to run with its current files.

    name     -- its systemd unit.
    start    -- how to start it where there is no systemd; must return when it is started.
    restart  -- how to take up changed files there.
    pid_file -- where the daemon writes its process id.
    socket   -- the path of a socket, or ":80", that exists when it answers.
    files    -- paths of files and folders; one newer than pid_file demands a restart.
    deadline -- seconds from start to answering.
    """

    name: str
    start: tuple[str, ...]
    restart: tuple[str, ...]
    pid_file: str
    socket: str
    files: tuple[str, ...] = ()
    deadline: float = 20.0


@dataclass(frozen=True, slots=True)
class Data:
    """State that sits behind a command, such as a database.

    name    -- how it is told to the user when it is changed.
    fact    -- a command that prints `wanted` when all is as it should be.
    wanted  -- what `fact` then prints, without surrounding white space.
    load    -- a command that brings it about, reading `content`; secrets belong there.
    """

    name: str
    fact: tuple[str, ...]
    wanted: str
    load: tuple[str, ...]
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Desired:
    """All that a role wants of a host; applied in this order.

    programs -- what the host's image must have; a role installs nothing.
    """

    programs: tuple[str, ...] = ()
    folders: tuple[Folder, ...] = ()
    files: tuple[File, ...] = ()
    services: tuple[Service, ...] = ()
    data: tuple[Data, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """What there is. Paths that do not exist are missing from the mappings.

    folders  -- path -> (mode, owner); files -- path -> (mode, owner, SHA-256 in hex).
    services -- name -> "running", "stale" (its files are newer than itself) or "stopped".
    data     -- name -> what its command printed; missing -- programs that are not there.
    """

    folders: Mapping[str, tuple[int, str]]
    files: Mapping[str, tuple[int, str, str]]
    services: Mapping[str, str]
    data: Mapping[str, str]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Changes:
    """What has to be done; empty when there is nothing to do.

    new -- the paths of those files that replace nothing.
    """

    folders: tuple[Folder, ...] = ()
    files: tuple[File, ...] = ()
    start: tuple[Service, ...] = ()
    restart: tuple[Service, ...] = ()
    data: tuple[Data, ...] = ()
    new: frozenset[str] = frozenset()

    def words(self) -> tuple[str, ...]:
        """Say what will be changed, one phrase each."""
        return (
            *(f"folder {folder.path}" for folder in self.folders),
            *(f"file {file.path}" for file in self.files),
            *(f"started {service.name}" for service in self.start),
            *(f"restarted {service.name}" for service in self.restart),
            *(data.name for data in self.data),
        )


def changes(desired: Desired, facts: Facts) -> Changes:
    """Decide what has to be done: pure, and empty if what is wanted is there."""
    files = tuple(
        file
        for file in desired.files
        if facts.files.get(file.path)
        != (file.mode, file.owner, hashlib.sha256(file.content).hexdigest())
    )
    changed = {file.path for file in files}
    start, restart = [], []
    for service in desired.services:
        state = facts.services.get(service.name, "stopped")
        if state == "stopped":
            start.append(service)
        elif state == "stale" or any(_under(path, service.files) for path in changed):
            restart.append(service)
    return Changes(
        tuple(f for f in desired.folders if facts.folders.get(f.path) != (f.mode, f.owner)),
        files,
        tuple(start),
        tuple(restart),
        tuple(d for d in desired.data if facts.data.get(d.name, "") != d.wanted),
        frozenset(changed - facts.files.keys()),
    )


def _under(path: str, places: tuple[str, ...]) -> bool:
    return any(path == place or path.startswith(place.rstrip("/") + "/") for place in places)


def facts_script(desired: Desired) -> str:
    """Return the shell script that prints all facts; `parse_facts` reads what it prints."""
    folders = [folder.path for folder in desired.folders]
    files = [file.path for file in desired.files]
    lines = [PATH]
    if folders or files:
        lines.append(shlex.join(["stat", "-c", r"%a %U:%G %n", "--", *folders, *files]))
    lines.append(f"echo {MARK}")
    if files:
        lines.append(shlex.join(["sha256sum", "--", *files]))
    for service in desired.services:
        lines.append(f"echo {MARK}")
        lines.append(_service_fact(service))
    for data in desired.data:
        lines.append(f"echo {MARK}")
        lines.append(shlex.join(data.fact))
    lines.append(f"echo {MARK}")
    lines += [f"command -v {shlex.quote(p)} >&2 || echo {shlex.quote(p)}" for p in desired.programs]
    return "{\n" + "\n".join(lines) + "\n} 2>/dev/null\nexit 0\n"


def _service_fact(service: Service) -> str:
    pid_file = shlex.quote(service.pid_file)
    newer = " || ".join(f"[ {shlex.quote(f)} -nt {pid_file} ]" for f in service.files) or "false"
    # A last line without its end is read all the same, and read says no.
    return (
        f'pid=; read -r pid < {pid_file}; if [ -n "$pid" ] && kill -0 $pid; then\n'
        f"  if {newer}; then echo stale; else echo running; fi\n"
        "else echo stopped; fi"
    )


def parse_facts(desired: Desired, printed: str) -> Facts:
    """Read what `facts_script` printed for the same desired state."""
    sections = [part.strip("\n") for part in printed.split(MARK + "\n")]
    sections += [""] * (3 + len(desired.services) + len(desired.data) - len(sections))
    stats = {}
    for line in sections[0].splitlines():
        mode, owner, path = line.split(" ", 2)
        stats[path] = (int(mode, 8), owner)
    digests = {}
    for line in sections[1].splitlines():
        digest, _, path = line.partition("  ")
        digests[path] = digest
    rest = iter(sections[2:])
    return Facts(
        {f.path: stats[f.path] for f in desired.folders if f.path in stats},
        {
            f.path: (*stats[f.path], digests[f.path])
            for f in desired.files
            if f.path in stats and f.path in digests
        },
        {service.name: next(rest).strip() for service in desired.services},
        {data.name: next(rest).strip() for data in desired.data},
        tuple(next(rest).split()),
    )


def apply_script(todo: Changes, staged: Mapping[str, str]) -> str:
    """Return the shell script that makes the changes once files and folders are in place.

    staged -- name of each Data -> the path on the host that holds its content.
    """
    lines = ["set -e", PATH]
    # systemctl restart also starts what is stopped, and what failed at boot.
    lines += [_either(service, service.start) for service in todo.start]
    lines += [_either(service, service.restart) for service in todo.restart]
    lines += [_wait(service) for service in (*todo.start, *todo.restart)]
    lines += [f"{shlex.join(d.load)} < {shlex.quote(staged[d.name])}" for d in todo.data]
    return "\n".join(lines) + "\n"


def _either(service: Service, command: tuple[str, ...]) -> str:
    # Nothing that is started may keep the SSH channel's pipes: see sshd(8), and Session.run.
    systemctl = shlex.join(["systemctl", "restart", service.name])
    return (
        f"if [ -d /run/systemd/system ]; then {systemctl}\n"
        f"else {shlex.join(command)} </dev/null; fi"
    )


def _wait(service: Service) -> str:
    """Return shell that waits until a service answers, or says what it saw and fails."""
    if service.socket.startswith(":"):
        # /proc/net/tcp6 and tcp: local address in hex, state 0A is LISTEN (proc(5)).
        port = f"{int(service.socket[1:]):04X}"
        there = f"grep -qE '^ *[0-9]+: [0-9A-F]+:{port} [0-9A-F:]+ 0A' /proc/net/tcp /proc/net/tcp6"
    else:
        there = f"[ -S {shlex.quote(service.socket)} ]"
    said = f"{service.name} does not answer at {service.socket} after {service.deadline:g} s"
    # Time is read off the kernel (proc(5)) by the shell itself: how long a look takes is unknown.
    clock = "read -r up _ < /proc/uptime; now=${up%.*}${up#*.}"  # hundredths of a second
    return (
        f"{clock}; end=$((now+{max(1, int(service.deadline * 100))})); until {there}; do"
        f" {clock}; if [ $now -gt $end ]; then echo {shlex.quote(said)} >&2; exit 1; fi;"
        " sleep 0.005; done"
    )


def gather(session: Session, desired: Desired) -> Facts:
    """Gather the facts in one command."""
    script = facts_script(desired).encode()
    result = session.run(["/bin/sh", "-s"], stdin=script)
    return parse_facts(desired, result.stdout.decode(errors="surrogateescape"))


def perform(session: Session, todo: Changes) -> None:
    """Make the changes in one command. Contents travel through its standard input."""
    work = f"/run/imlab-{secrets.token_hex(6)}"
    staged = {data.name: f"{work}/{number}" for number, data in enumerate(todo.data)}
    script = apply_script(todo, staged).encode()
    own = (
        *(File(staged[data.name], data.content, 0o600) for data in todo.data),
        File(f"{work}/apply", script, 0o600),
    )
    new = todo.new | {file.path for file in own}
    archive, unpack = bundle((*todo.files, *own), (Folder(work, 0o700), *todo.folders), new)
    command = f"trap 'rm -rf {work}' EXIT\n{unpack}\n/bin/sh {work}/apply"
    session.run(["/bin/sh", "-c", command], stdin=archive, deadline=120.0)


def apply(session: Session, desired: Desired, facts: Facts | None = None) -> tuple[str, ...]:
    """Bring a host to the desired state; return what was changed, in words.

    facts -- what `gather` returned for a desired state that asks the same; else it is asked.
    Raises LabError when a command fails, or when the image lacks what is needed.
    """
    facts = facts or gather(session, desired)
    if facts.missing:
        raise LabError(
            f"provisioning {session.host.name}",
            "its image lacks: " + ", ".join(facts.missing),
            fault=Fault.SPEC,
            todo="give the host an image that has them",
        )
    paced = [replace(each, deadline=session.within(each.deadline)) for each in desired.services]
    todo = changes(replace(desired, services=tuple(paced)), facts)
    words = todo.words()
    if words:
        perform(session, todo)
    return words
