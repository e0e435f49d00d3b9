"""The inside of one lab host: its root file system and its first process.

Runs in the host's own mount, pid, uts, ipc and network namespaces, as root of the lab's user
namespace. Two things a user namespace insists on (kernel: overlayfs.rst, "User xattr"): overlay
needs `userxattr`, and device nodes are bound from the machine's since mknod is refused.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from lab.providers.netns import syscalls as sys_

#: Where the lab mounts things in its private mount namespace, over the machine's own /tmp.
WORK = "/tmp"  # noqa: S108 - covered by the lab's own tmpfs before it is used
HOST = f"{WORK}/host"
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
#: sshd answers on the host's loopback alone: management never shows on the lab's wires.
INIT = ("/usr/bin/tini", "--", "/usr/sbin/sshd", "-D", "-e", "-o", "ListenAddress=127.0.0.1")
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}


class HostRequest(NamedTuple):
    """What a host is made of.

    sysctls  -- kernel settings of its network: "net.…" -> value.
    image    -- index into the lab's list of images.
    disk_mib -- size of the tmpfs that takes what the host writes.
    files    -- path -> (mode, text): host keys, authorised key, names.
    number   -- its place among the lab's hosts.
    processes -- most that it may have; 0 for no limit. With one, the host is in a user namespace of
                 its own: root of it is nobody in the lab's other hosts, and the kernel counts.
    """

    name: str
    image: int
    sysctls: dict[str, str]
    disk_mib: int
    files: dict[str, tuple[int, str]]
    processes: int = 0
    number: int = 0


def enter(host: HostRequest) -> None:
    """Build the root, move into it and set the host up to the point where INIT can be run."""
    _build_root(host)
    os.chdir(f"{HOST}/r")
    sys_.pivot_root_here()
    sys_.sethostname(host.name)
    for path, (mode, text) in host.files.items():
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        os.fchmod(descriptor, mode)
        os.write(descriptor, text.encode())
        os.close(descriptor)


def run_init() -> None:
    """Become the host's first process: tini, which reaps, with sshd as its child. Never returns."""
    log = os.open("/var/log/sshd.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor, source in ((0, null), (1, log), (2, log)):
        os.dup2(source, descriptor)
    os.execve(INIT[0], INIT, ENVIRONMENT)  # noqa: S606 - no shell is meant


def _build_root(host: HostRequest) -> None:
    plain = sys_.MS_NOSUID | sys_.MS_NODEV
    sys_.mount("tmpfs", HOST, "tmpfs", plain, f"mode=755,size={host.disk_mib}m")
    root = f"{HOST}/r"
    for folder in ("u", "w", "r"):
        os.mkdir(f"{HOST}/{folder}", 0o755)
    layers = f"lowerdir={WORK}/image{host.image},upperdir={HOST}/u,workdir={HOST}/w,userxattr"
    sys_.mount("overlay", root, "overlay", 0, layers)
    sys_.mount("proc", f"{root}/proc", "proc", plain | sys_.MS_NOEXEC)
    sys_.mount("sysfs", f"{root}/sys", "sysfs", plain | sys_.MS_NOEXEC | sys_.MS_RDONLY)
    sys_.mount("tmpfs", f"{root}/run", "tmpfs", plain, "mode=755,size=32m")
    sys_.mount("tmpfs", f"{root}/dev", "tmpfs", sys_.MS_NOSUID, "mode=755,size=1m")
    for device in DEVICES:
        os.close(os.open(f"{root}/dev/{device}", os.O_CREAT | os.O_WRONLY))
        sys_.mount(f"/dev/{device}", f"{root}/dev/{device}", None, sys_.MS_BIND)
    for folder in ("pts", "shm"):
        os.mkdir(f"{root}/dev/{folder}")
    options = "newinstance,ptmxmode=0666,mode=620,gid=5"
    sys_.mount("devpts", f"{root}/dev/pts", "devpts", sys_.MS_NOSUID | sys_.MS_NOEXEC, options)
    shared = f"{root}/dev/shm"  # noqa: S108 - the host's own
    sys_.mount("tmpfs", shared, "tmpfs", plain, "mode=1777,size=64m")
    for link, target in (
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ):
        os.symlink(target, f"{root}/dev/{link}")
    for folder in ("sshd", "lock"):
        os.mkdir(f"{root}/run/{folder}", 0o755)
