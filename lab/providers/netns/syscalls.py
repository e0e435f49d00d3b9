"""The Linux system calls that Python 3.11 does not offer, as thin functions that raise OSError.

Only the standard library: the keeper of a lab imports this and stays small. Constants are those
of <linux/sched.h>, <linux/mount.h> and <linux/prctl.h>.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MNT_DETACH = 0x2

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2

SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
SYS_KEYCTL = {"x86_64": 250, "aarch64": 219}
KEYCTL_JOIN_SESSION = 1

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> int:
    result: int = getattr(_libc, name)(*arguments)
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def unshare(flags: int) -> None:
    """Leave the namespaces named by the CLONE_NEW… flags (unshare(2))."""
    _call("unshare", flags)


def setns(descriptor: int, kind: int) -> None:
    """Enter a namespace (setns(2)); it holds for the calling thread only."""
    _call("setns", descriptor, kind)


def mount(
    source: str | None, target: str, fstype: str | None, flags: int = 0, data: str | None = None
) -> None:
    """Mount a filesystem (mount(2)); raises OSError naming the target."""
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, fstype)]
    try:
        _call("mount", *encoded, ctypes.c_ulong(flags), None if data is None else data.encode())
    except OSError as error:
        raise OSError(error.errno, f"mount {fstype or source} on {target}: {error.strerror}") from (
            error
        )


def detach(target: str) -> None:
    """Unmount lazily (umount2(2) with MNT_DETACH)."""
    _call("umount2", os.fsencode(target), MNT_DETACH)


def pivot_root_here() -> None:
    """Make the working directory the root and drop the old one (pivot_root(2), NOTES)."""
    _call("syscall", ctypes.c_long(SYS_PIVOT_ROOT[os.uname().machine]), b".", b".")
    detach(".")
    os.chdir("/")


def sethostname(name: str) -> None:
    """Set the host name of the calling process's UTS namespace."""
    encoded = name.encode()
    _call("sethostname", encoded, ctypes.c_size_t(len(encoded)))


def die_with_parent(parent: int | None = None) -> None:
    """Have the kernel kill this process when its parent dies (PR_SET_PDEATHSIG).

    The setting is lost when the process changes its ids, so it is made again after that.
    parent is the pid the caller had before forking: if it has gone meanwhile, we go at once.
    """
    _call("prctl", PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        os._exit(1)


def leave_keyrings() -> None:
    """Give this process a session keyring of its own, so that it has none of its user's keys.

    A session keyring is inherited by every child, and to possess it is to read it (keyrings(7)).
    """
    try:
        _call("syscall", ctypes.c_long(SYS_KEYCTL[os.uname().machine]), KEYCTL_JOIN_SESSION, None)
    except OSError as error:
        if error.errno not in {errno.ENOSYS, errno.EPERM}:  # no keyrings here, or none allowed
            raise


def set_name(name: str) -> None:
    """Set what ps shows for this process (15 bytes)."""
    _call("prctl", PR_SET_NAME, ctypes.c_char_p(name.encode()[:15]), 0, 0, 0)


def belong_to_own_user() -> None:
    """Have this process's files in /proc belong to its user again, after its ids have changed.

    Else nobody in a user namespace can write its id maps (proc(5), /proc/pid; PR_SET_DUMPABLE).
    """
    _call("prctl", PR_SET_DUMPABLE, ctypes.c_ulong(1), 0, 0, 0)


def set_seccomp(program: bytes) -> None:
    """Install a BPF program (an array of struct sock_filter) as this process's seccomp filter."""

    class SockFprog(ctypes.Structure):
        _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))

    fprog = SockFprog(len(program) // 8, program)
    _call("prctl", PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(fprog), 0, 0)


def close_descriptors(keep: set[int]) -> None:
    """Close every descriptor above 2 that is not in keep."""
    low = 3
    for descriptor in sorted(d for d in keep if d > 2):  # noqa: PLR2004 - stdin, stdout, stderr
        os.closerange(low, descriptor)
        low = descriptor + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX") if low < 4096 else low + 4096)  # noqa: PLR2004
