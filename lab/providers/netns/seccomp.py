"""The system calls that a lab may not make: those that lead out of its network.

Network namespaces do not confine AF_VSOCK: a socket of that family made in a lab host reaches the
machine's hypervisor (vsock(7)). io_uring can make sockets without the socket call, so setting one
up is refused too. Foreign architectures (32-bit programs, x32) would go round a filter by number,
so their calls are refused whole. Everything refused returns EPERM or EAFNOSUPPORT; nothing is
killed. See seccomp(2) and <linux/filter.h> for the encoding.
"""

from __future__ import annotations

import errno
import socket
import struct

LOAD, JUMP_EQUAL, JUMP_GE, RETURN = 0x20, 0x15, 0x35, 0x06
ALLOW = 0x7FFF0000
ERRNO = 0x00050000
X32_BIT = 0x40000000
NR, ARCH, ARG0 = 0, 4, 16  # offsets in struct seccomp_data (little endian: low half first)

#: machine -> (AUDIT_ARCH, socket, socketpair, io_uring_setup)
NUMBERS = {
    "x86_64": (0xC000003E, 41, 53, 425),
    "aarch64": (0xC00000B7, 198, 199, 425),
}


def _op(code: int, k: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, k)


def lab_filter(machine: str) -> bytes:
    """Return the BPF program for a machine ("x86_64"); KeyError for one that is not known."""
    arch, sys_socket, sys_socketpair, sys_uring = NUMBERS[machine]
    return b"".join(
        (
            _op(LOAD, ARCH),
            _op(JUMP_EQUAL, arch, 0, 9),  # a foreign architecture: refused
            _op(LOAD, NR),
            _op(JUMP_GE, X32_BIT, 7, 0),  # x32 numbers: refused
            _op(JUMP_EQUAL, sys_uring, 6, 0),
            _op(JUMP_EQUAL, sys_socket, 1, 0),
            _op(JUMP_EQUAL, sys_socketpair, 0, 3),
            _op(LOAD, ARG0),
            _op(JUMP_EQUAL, socket.AF_VSOCK, 0, 1),
            _op(RETURN, ERRNO | errno.EAFNOSUPPORT),
            _op(RETURN, ALLOW),
            _op(RETURN, ERRNO | errno.EPERM),
        )
    )
