"""User namespaces over a whole range of subordinate ids.

A lab, and the building of its images, happen in a user namespace in which the ids 0 to 65535
are ids of a range that belongs to the caller and to nobody else on the machine. Root in there
is nobody outside, and the caller's own id is not mapped at all, so that nothing in there can
touch the caller's files. One range for everybody: 65536 ids, since `nogroup` is 65534.

Sources: user_namespaces(7), subuid(5), newuidmap(1), prctl(2). Only the standard library is
imported: the process that keeps a lab alive loads this module too.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import pwd
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar

from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Result = TypeVar("Result")

ID_COUNT = 65536
"""How many ids are mapped: 0 to 65535."""

ROOT_FIRST = 1_879_048_192
"""First id of root's range when /etc/subuid gives it none: 0x70000000, above what adduser,
systemd's DynamicUser (61184-65519) and containers (0x00080000-0x6fffffff) take, below 2**31."""

ETC = Path("/etc")

CLONE_NEWNS = 0x0002_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000
PR_SET_PDEATHSIG = 1
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x4_0000

_libc = ctypes.CDLL(None, use_errno=True)


class IdRange(NamedTuple):
    """`size` ids on this machine, from `first` on."""

    first: int
    size: int = ID_COUNT


class Ids(NamedTuple):
    """What is mapped to 0..65535 in a user namespace of the current user.

    uids, gids -- the ranges, `ID_COUNT` ids each.
    privileged -- the maps are written directly (root), else by newuidmap and newgidmap.
    """

    uids: IdRange
    gids: IdRange
    privileged: bool


def unshare(flags: int) -> None:
    """Enter new namespaces, named by CLONE_NEW* flags (unshare, section 2). Raises OSError."""
    if _libc.unshare(ctypes.c_int(flags)) != 0:
        _raise_errno("unshare")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """Mount, as the system call (section 2 of the manual) does. Raises OSError."""
    arguments = [text.encode() or None for text in (source, target, kind)]
    if _libc.mount(*arguments, ctypes.c_ulong(flags), data.encode() or None) != 0:
        _raise_errno(f"mount {kind or source} on {target}")


def sync_filesystem(folder: Path) -> None:
    """Write out the file system that `folder` lies on (syncfs, section 2). Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if _libc.syncfs(fd) != 0:
            _raise_errno("syncfs")
    finally:
        os.close(fd)


def die_with_parent(sig: int = signal.SIGKILL) -> None:
    """Have the kernel send `sig` to this process when the thread that forked it ends.

    Cleared by every change of the effective user or group id (prctl(2)): ask again after one.
    """
    if _libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(sig), 0, 0, 0) != 0:
        _raise_errno("prctl(PR_SET_PDEATHSIG)")


def become_mapped_root() -> None:
    """Become root of the user namespace just entered, and die with the parent again."""
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    die_with_parent()


def parse_ranges(text: str, names: Iterable[str]) -> list[IdRange]:
    """Return the ranges that /etc/subuid's `text` gives to any of `names` (a name or an id)."""
    wanted = set(names)
    ranges = []
    for line in text.splitlines():
        fields = line.strip().split(":")
        if len(fields) == 3 and fields[0] in wanted and fields[1].isdigit() and fields[2].isdigit():  # noqa: PLR2004 -- subuid(5): name, first, count
            ranges.append(IdRange(int(fields[1]), int(fields[2])))
    return ranges


def free_range(text: str) -> str:
    """Return the first `ID_COUNT` ids behind all that /etc/subuid's `text` gives, as FIRST-LAST.

    From 100000 on, as useradd has it (login.defs(5), SUB_UID_MIN).
    """
    names = {line.partition(":")[0].strip() for line in text.splitlines()}
    first = max([100_000, *(taken.first + taken.size for taken in parse_ranges(text, names))])
    return f"{first}-{first + ID_COUNT - 1}"


def ids_for_current_user() -> Ids:
    """Return the ids that the current user may map.

    Raises LabError (fault MACHINE) when /etc/subuid or /etc/subgid gives this user no range of
    at least 65536 ids, or when newuidmap and newgidmap are missing.
    """
    uid = os.geteuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    found, texts = {}, {}
    for kind in ("subuid", "subgid"):
        path = ETC / kind
        texts[kind] = text = path.read_text() if path.exists() else ""
        fitting = [r for r in parse_ranges(text, (name, str(uid))) if r.size >= ID_COUNT]
        found[kind] = IdRange(fitting[0].first) if fitting else None
    if uid == 0:
        return Ids(
            found["subuid"] or _root_range("uid_map"),
            found["subgid"] or _root_range("gid_map"),
            privileged=True,
        )
    for kind, entry in found.items():
        if entry is None:
            raise LabError(
                "finding subordinate ids",
                f"/etc/{kind} gives user {name!r} no range of {ID_COUNT} ids",
                fault=Fault.MACHINE,
                todo=f"sudo usermod --add-subuids {free_range(texts['subuid'])}"
                f" --add-subgids {free_range(texts['subgid'])} {name}",
            )
    for tool in ("newuidmap", "newgidmap"):
        if shutil.which(tool) is None:
            raise LabError(
                "finding subordinate ids",
                f"no command {tool!r}",
                fault=Fault.MACHINE,
                todo="sudo apt-get install uidmap",
            )
    assert found["subuid"] is not None  # noqa: S101 -- narrowed for mypy; the loop above raised
    assert found["subgid"] is not None  # noqa: S101 -- as above
    return Ids(found["subuid"], found["subgid"], privileged=False)


def write_maps(pid: int, ids: Ids) -> None:
    """Map 0..65535 of the user namespace of process `pid`, which has just made it.

    To be called from outside that namespace. Raises LabError (fault MACHINE).
    """
    for tool, file, ranged in (
        ("newgidmap", "gid_map", ids.gids),
        ("newuidmap", "uid_map", ids.uids),
    ):
        line = ["0", str(ranged.first), str(ranged.size)]
        if ids.privileged:
            try:
                Path(f"/proc/{pid}/{file}").write_text(" ".join(line))
            except OSError as error:
                raise _refused(f"/proc/{pid}/{file}: {error.strerror}") from error
            continue
        done = subprocess.run(
            [tool, str(pid), *line], capture_output=True, text=True, check=False, timeout=10
        )
        if done.returncode != 0:
            raise _refused(f"{tool}: {done.stderr.strip() or done.returncode}")


def run_mapped(
    work: Callable[[], Result],
    *,
    ids: Ids | None = None,
    namespaces: int = 0,
    as_caller: Callable[[], None] | None = None,
) -> Result:
    """Run `work` in a child that is root of a fresh user namespace; return what it returns.

    work       -- its result travels as JSON; a LabError arrives as it was raised.
    namespaces -- further CLONE_NEW* flags. With CLONE_NEWPID the work is process 1 of its own
                  process namespace, so that nothing it started can outlive it.
    as_caller  -- called in the child after the namespaces were entered but still with the
                  caller's rights: the place to open what mapped root may not reach by path.

    The child and its work end with the calling thread, however that ends; an exception here
    (Ctrl-C too: the child has a session of its own) ends them as well. Only system calls and
    Python happen between fork and work, never exec: an interpreter under somebody's private
    home could not be executed by a mapped id. For the same reason `work` must not import, nor
    do what imports behind its back (a host name needs encodings.idna). Raises LabError.
    """
    ids = ids or ids_for_current_user()
    ready_read, ready_write = os.pipe()
    go_read, go_write = os.pipe()
    result_read, result_write = os.pipe()
    caller = os.getpid()
    child = os.fork()
    if child == 0:
        for fd in (ready_read, go_write, result_read):
            os.close(fd)
        _in_child(caller, work, namespaces, as_caller, (ready_write, go_read, result_write))
    for fd in (ready_write, go_read, result_write):
        os.close(fd)
    try:
        if os.read(ready_read, 1) == b"u":
            write_maps(child, ids)
            os.write(go_write, b"g")
        with open(result_read, "rb", closefd=False) as stream:
            answer = stream.read()
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        for fd in (ready_read, go_write, result_read):
            os.close(fd)
        _, status = os.waitpid(child, 0)
    return _unpack(answer, os.waitstatus_to_exitcode(status))  # type: ignore[no-any-return] # JSON has no static type


def refusal() -> tuple[str, str]:
    """Say why this machine may refuse user namespaces, and the command that allows them."""
    for sysctl, blocked in (
        ("kernel/unprivileged_userns_clone", "0"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1"),
    ):
        path = Path("/proc/sys") / sysctl
        with suppress(OSError):
            if path.read_text().strip() == blocked and os.geteuid() != 0:
                name = sysctl.replace("/", ".")
                allowed = {"0": "1", "1": "0"}[blocked]
                return f"{name} is {blocked}", f"sudo sysctl -w {name}={allowed}"
    with suppress(OSError):
        if Path("/proc/sys/user/max_user_namespaces").read_text().strip() == "0":
            return "user.max_user_namespaces is 0", "sudo sysctl -w user.max_user_namespaces=65536"
    return (
        "the kernel refused; a container's seccomp profile or capability set may be the reason",
        "run on the machine itself, or allow user namespaces in the container",
    )


def _in_child(
    caller: int,
    work: Callable[[], Any],
    namespaces: int,
    as_caller: Callable[[], None] | None,
    pipes: tuple[int, int, int],
) -> NoReturn:
    """Enter the namespaces, wait to be mapped, do the work, report and end. Never returns."""
    ready, go, result = pipes
    answer: dict[str, Any]
    try:
        die_with_parent()
        if os.getppid() != caller:  # it ended before we asked
            os._exit(1)
        os.setsid()
        for sig in (signal.SIGINT, signal.SIGTERM):
            signal.signal(sig, signal.SIG_DFL)
        try:
            unshare(CLONE_NEWUSER | namespaces)
        except OSError as error:
            raise _refused(str(error)) from error
        if as_caller is not None:
            as_caller()
        os.write(ready, b"u")
        if os.read(go, 1) != b"g":
            os._exit(1)
        try:
            become_mapped_root()
        except OSError as error:
            raise _refused(f"becoming root of the user namespace: {error.strerror}") from error
        if namespaces & CLONE_NEWPID:
            _become_process_one()
        answer = {"value": work()}
    except LabError as error:
        answer = {"error": [error.doing, error.saw, error.fault.name, error.todo]}
    except BaseException:  # noqa: BLE001 -- a forked child must end here, whatever happened
        import traceback  # noqa: PLC0415 - loaded when there is something to tell

        answer = {"crash": traceback.format_exc()}
    try:
        with open(result, "wb") as stream:  # noqa: PTH123 -- a descriptor has no path
            stream.write(json.dumps(answer).encode())
    finally:
        os._exit(0)


def _become_process_one() -> None:
    """Go on as process 1 of the process namespace just made; the caller waits for it and ends."""
    alive_read, alive_write = os.pipe()
    inner = os.fork()
    if inner:
        os.close(alive_read)
        _, status = os.waitpid(inner, 0)
        os._exit(1 if status else 0)
    os.close(alive_write)
    die_with_parent()
    # Had the outer process ended before the request, its end of the pipe would be closed now.
    os.set_blocking(alive_read, False)
    with suppress(BlockingIOError):
        os.read(alive_read, 1)
        os._exit(1)
    os.close(alive_read)


def _unpack(answer: bytes, exit_code: int) -> Any:  # noqa: ANN401 -- what JSON decodes to
    """Turn the child's report into its result or its error."""
    if not answer:
        raise LabError(
            "working in a user namespace",
            f"the process ended early (exit code {exit_code})",
            fault=Fault.MACHINE,
            todo="look for the out-of-memory killer in `dmesg`, then try again",
        )
    data = json.loads(answer)
    if "value" in data:
        return data["value"]
    if "error" in data:
        doing, saw, fault, todo = data["error"]
        raise LabError(doing, saw, fault=Fault[fault], todo=todo)
    raise LabError(
        "working in a user namespace",
        data["crash"],
        fault=Fault.US,
        todo="report this with the lines above",
    )


def _root_range(map_file: str) -> IdRange:
    """Return root's own range: `ROOT_FIRST` on, or the end of what a container gives root."""
    extents = [
        tuple(map(int, line.split()))
        for line in Path("/proc/self", map_file).read_text().splitlines()
    ]
    if any(first <= ROOT_FIRST and first + n >= ROOT_FIRST + ID_COUNT for first, _, n in extents):
        return IdRange(ROOT_FIRST)
    spare = [(first, n) for first, _, n in extents if n >= 2 * ID_COUNT]
    if not spare:
        raise LabError(
            "finding subordinate ids",
            f"root has no {2 * ID_COUNT} ids here (/proc/self/{map_file}): a small container",
            fault=Fault.MACHINE,
            todo="run on the machine itself, or give the container more ids",
        )
    first, n = spare[-1]
    return IdRange(first + n - ID_COUNT)


def _refused(saw: str) -> LabError:
    cause, todo = refusal()
    return LabError(
        "making a user namespace", f"{saw}\n{cause}", fault=Fault.MACHINE, todo=f"{todo}"
    )


def _raise_errno(call: str) -> NoReturn:
    code = ctypes.get_errno()
    raise OSError(code, f"{call}: {os.strerror(code)} ({errno.errorcode.get(code, code)})")
