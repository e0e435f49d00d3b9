"""Can this machine have a lab? Every answer comes from trying the thing in a child that ends.

`PROBES` is the whole list: a name, and a function that returns what it saw or raises. A probe
fails (a lab cannot run), warns (something is missing that a lab can do without) or is ok.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import limits, memory, providers
from lab.errors import Fault, LabError
from lab.images import cache_root, find_image
from lab.providers.base import Finding as Check
from lab.userns import (
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    MS_PRIVATE,
    MS_REC,
    ids_for_current_user,
    mount,
    refusal,
    run_mapped,
)

if TYPE_CHECKING:
    from collections.abc import Callable

PROJECT = Path(__file__).parents[1]
SYSTEM_PACKAGES = Path(__file__).with_name("system_packages.txt")
OLDEST_PYTHON = (3, 11)
OLDEST_TSHARK = (3, 4)  # Debian 11; tcp.reassemble_out_of_order is from 3.0
FREE_DISK_MIB = 1200  # what building debian-lamp wants
FREE_MEMORY_MIB = 512  # three hosts with Apache and MariaDB take 3 x 75 MB, plus decoding


class Warned(Exception):  # noqa: N818 -- not an error: a lab can do without
    """Raised by a probe for what a lab can do without: (saw, todo)."""


@dataclass(frozen=True, slots=True)
class SystemPackage:
    """A line of system_packages.txt. `probe` is a command, or a file when it starts with /."""

    group: str
    package: str
    probe: str
    purpose: str

    def present(self) -> bool:
        """Tell whether this machine has it, in the way that ./inv does."""
        if self.probe.startswith("/"):
            return Path(self.probe).exists()
        search = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
        return shutil.which(self.probe, path=search) is not None


def system_packages(path: Path = SYSTEM_PACKAGES) -> list[SystemPackage]:
    """Return what imlab wants of the operating system."""
    lines = (line for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return [SystemPackage(*line.split(maxsplit=3)) for line in lines]


def examine(provider: str = providers.DEFAULT) -> list[Check]:
    """Run the probes that a provider's labs depend on, in order; leaves nothing behind.

    Raises LabError for a provider that there is not.
    """
    own = list(providers.get(provider).check())
    wanted = [row for row in PROBES if provider == providers.DEFAULT or row[0] in OF_ANY_LAB]
    return [*(run_probe(name, probe) for name, probe in wanted), *own]


def can_have_a_lab(checks: list[Check]) -> bool:
    """Tell whether nothing failed."""
    return all(check.state != "fail" for check in checks)


def run_probe(name: str, probe: Callable[[], str]) -> Check:
    """Run one probe and say what came of it."""
    try:
        return Check(name, "ok", probe())
    except Warned as warned:
        saw, todo = warned.args
        return Check(name, "warn", saw, todo)
    except LabError as error:
        return Check(name, "fail", error.saw.strip(), error.todo)


def _python() -> str:
    if sys.version_info[:2] < OLDEST_PYTHON:
        raise _failed(platform.python_version(), "sudo apt-get install python3 (3.11 or newer)")
    return f"{platform.python_version()}, {platform.system()} {platform.release()}"


def _python_packages() -> str:
    lock = (PROJECT / "requirements.lock").read_text()
    # Lines with a marker (after ";") are for other systems.
    locked = re.findall(r"^([A-Za-z0-9_.-]+)==(\S+) \\$", lock, re.MULTILINE)
    wrong = []
    for name, version in locked:
        try:
            there = metadata.version(name)
        except metadata.PackageNotFoundError:
            there = "missing"
        if there != version:
            wrong.append(f"{name} {version} ({there})")
    if wrong:
        raise Warned("not as requirements.lock has them: " + ", ".join(wrong), "rm -r .venv; ./inv")
    return f"{len(locked)} as requirements.lock has them"


def _packages(group: str) -> str:
    wanted = [package for package in system_packages() if package.group == group]
    absent = [package for package in wanted if not package.present()]
    if absent:
        raise _failed(
            "missing: " + "; ".join(f"{p.package} ({p.purpose})" for p in absent),
            "sudo apt-get install --no-install-recommends " + " ".join(p.package for p in absent),
        )
    return ", ".join(package.package for package in wanted)


def _optional_packages(group: str) -> str:
    try:
        return _packages(group)
    except LabError as error:
        raise Warned(error.saw, error.todo) from error


def _tshark() -> str:
    try:
        done = subprocess.run(
            ["tshark", "--version"], capture_output=True, text=True, timeout=10, check=False
        )
    except FileNotFoundError as error:
        raise _failed("no command 'tshark'", "sudo apt-get install tshark") from error
    match = re.search(r"(\d+)\.(\d+)\.\d+", done.stdout)
    if match is None or (int(match[1]), int(match[2])) < OLDEST_TSHARK:
        seen = done.stdout.splitlines()[:1] or [done.stderr]
        raise _failed(seen[0], "install tshark 3.4 or newer")
    return match[0]


def _subordinate_ids() -> str:
    ids = ids_for_current_user()
    how = "written directly" if ids.privileged else "through newuidmap"
    return f"{ids.uids.size} uids from {ids.uids.first}, gids from {ids.gids.first}, {how}"


def _user_namespace() -> str:
    uid, gid = run_mapped(lambda: [os.getuid(), os.getgid()])
    return f"root of one of our own (uid {uid}, gid {gid}, 65536 ids)"


def _process_namespace() -> str:
    def work() -> int:
        mount("none", "/", flags=MS_REC | MS_PRIVATE)
        mount("proc", "/proc", "proc")
        return len([entry for entry in Path("/proc").iterdir() if entry.name.isdigit()])

    seen = _refusable(work, CLONE_NEWNS | CLONE_NEWPID)
    return f"/proc of our own shows {seen} process"


def _overlay() -> str:
    def work() -> bool:
        mount("none", "/", flags=MS_REC | MS_PRIVATE)
        mount("tmpfs", "/mnt", "tmpfs", data="mode=755,size=1m")
        for name in ("lower", "upper", "work", "root"):
            (Path("/mnt") / name).mkdir()
        Path("/mnt/lower/folder/below").mkdir(parents=True)
        options = "lowerdir=/mnt/lower,upperdir=/mnt/upper,workdir=/mnt/work,userxattr"
        mount("overlay", "/mnt/root", "overlay", data=options)
        # Without userxattr the mount succeeds and exactly this gives EIO.
        Path("/mnt/root/folder/below").rmdir()
        Path("/mnt/root/folder/below").mkdir()
        return Path("/mnt/lower/folder/below").is_dir()

    _refusable(work, CLONE_NEWNS)
    return "mounted with userxattr, a lower folder replaced"


def _wiring() -> str:
    commands = (
        ["ip", "link", "add", "imlab0", "type", "bridge"],
        ["ip", "link", "add", "imlab1", "type", "veth", "peer", "name", "imlab2"],
        ["ip", "link", "set", "imlab1", "master", "imlab0", "up"],
    )

    def work() -> str:
        for command in commands:
            done = subprocess.run(command, capture_output=True, check=False)
            if done.returncode != 0:
                return f"{' '.join(command)}: {done.stderr.decode(errors='replace').strip()}"
        return ""

    if shutil.which("ip", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is None:
        raise _failed("no command 'ip'", "sudo apt-get install iproute2")
    refused = _refusable(work, CLONE_NEWNET)
    if refused:
        raise _failed(refused, "sudo modprobe --all bridge veth")
    return "a veth pair on a bridge, in a network namespace of our own"


class _FilterProgram(ctypes.Structure):
    """Struct sock_fprog of linux/filter.h."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def _seccomp() -> str:
    no_new_privileges, set_seccomp, mode_filter = 38, 22, 2  # prctl(2)
    # One instruction: BPF_RET|BPF_K, SECCOMP_RET_ALLOW (linux/seccomp.h).
    allow = (0x06).to_bytes(2, sys.byteorder) + bytes(2) + (0x7FFF0000).to_bytes(4, sys.byteorder)
    program = _FilterProgram(1, allow)
    libc = ctypes.CDLL(None, use_errno=True)

    def work() -> int:
        libc.prctl(no_new_privileges, 1, 0, 0, 0)
        done = libc.prctl(set_seccomp, mode_filter, ctypes.byref(program), 0, 0)
        return 0 if done == 0 else ctypes.get_errno()

    code = run_mapped(work)
    if code:
        raise _failed(f"a filter was refused: {os.strerror(code)}", "use a kernel with seccomp")
    return "a filter was accepted"


def _disk() -> str:
    folder = cache_root()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free >> 20
    if free < FREE_DISK_MIB:
        raise Warned(
            f"{free} MiB free for images in {cache_root()}, {FREE_DISK_MIB} wanted",
            "free some, or point IMLAB_CACHE at a folder on a larger disk",
        )
    return f"{free} MiB free for images in {cache_root()}"


def _memory() -> str:
    available = memory.available() >> 20
    if available < FREE_MEMORY_MIB:
        raise Warned(f"{available} MiB available, {FREE_MEMORY_MIB} wanted", "end other programs")
    return f"{available} MiB available"


def _image(name: str) -> str:
    image = find_image(name)
    if image is None:
        raise Warned("not built yet; the first lab builds it", f"./inv image-build {name}")
    return f"{image.key}, {image.meta['bytes'] >> 20} MiB, built {image.meta['built']}"


def _shares() -> str:
    """Look for the control groups that bound a lab's memory and processor (lab/limits.py)."""
    folders = limits.groups_for("imlab-doctor")
    words = {Path(path).parts[4] for path in folders if len(Path(path).parts) > 4}  # noqa: PLR2004 - /sys/fs/cgroup/…
    if not folders:
        raise Warned(
            "no control group can be made: only processes and disks of a lab can be bounded",
            "run a class as root, or have control groups delegated to you",
        )
    return f"control groups: {', '.join(sorted(words))}"


PROBES: tuple[tuple[str, Callable[[], str]], ...] = (
    ("python", _python),
    ("python packages", _python_packages),
    ("packages for labs", lambda: _packages("run")),
    ("packages for disks", lambda: _optional_packages("machine")),
    ("packages for --browser", lambda: _optional_packages("browser")),
    ("packages for bench", lambda: _optional_packages("bench")),
    ("packages for bench analysis", lambda: _optional_packages("bench-analysis")),
    ("tshark", _tshark),
    ("subordinate ids", _subordinate_ids),
    ("user namespace", _user_namespace),
    ("process namespace", _process_namespace),
    ("overlay", _overlay),
    ("veth and bridge", _wiring),
    ("seccomp", _seccomp),
    ("disk", _disk),
    ("memory", _memory),
    ("shares for classes", _shares),
    ("image debian-lamp", lambda: _image("debian-lamp")),
)


#: What labs need whatever their hosts are made of; the other probes are of namespaces.
OF_ANY_LAB = ("python", "python packages", "tshark", "disk", "memory")


def _refusable(work: Callable[[], Any], namespaces: int) -> Any:  # noqa: ANN401 -- work's result
    """Run `work` mapped; a system call that is refused is the machine's fault, not ours."""

    def guarded() -> list[Any]:
        try:
            return [True, work()]
        except OSError as error:
            return [False, str(error)]

    done, result = run_mapped(guarded, namespaces=namespaces)
    if not done:
        cause, todo = refusal()
        raise _failed(f"{result}; {cause}", todo)
    return result


def _failed(saw: str, todo: str) -> LabError:
    return LabError("examining this machine", saw, fault=Fault.MACHINE, todo=todo)
