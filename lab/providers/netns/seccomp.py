"""The system calls that a lab may not make: those that lead out of its network.

Network namespaces do not confine every address family: an AF_VSOCK socket made in a lab host
reaches the machine's hypervisor (vsock(7)), AF_QIPCRTR its modem. So only those families can be
had that are known to be confined and that a lab needs. io_uring can make sockets without the
socket call, so setting one up is refused too.

Keyrings, BPF, performance counters and the kernel's log are the machine's, with no namespace of
their own, and whether an ordinary process may use them depends on the machine's settings: refused
here, they are out of reach everywhere. Hosts of a lab share a user namespace, and with it a
user's keyring, which would be a way round the wire.

Foreign architectures (32-bit programs, x32) would go round a filter by number, so their calls are
refused whole. Everything refused returns EPERM or EAFNOSUPPORT; nothing is killed. See seccomp(2)
and <linux/filter.h> for the encoding.
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

#: Address families that a lab host may have.
FAMILIES = (
    socket.AF_UNIX,
    socket.AF_INET,
    socket.AF_INET6,
    socket.AF_NETLINK,
    socket.AF_PACKET,
)

#: machine -> (AUDIT_ARCH, socket, socketpair, what is refused: add_key, request_key, keyctl,
#: bpf, perf_event_open, syslog, io_uring_setup)
NUMBERS = {
    "x86_64": (0xC000003E, 41, 53, (248, 249, 250, 321, 298, 103, 425)),
    "aarch64": (0xC00000B7, 198, 199, (217, 218, 219, 280, 241, 116, 425)),
}


def lab_filter(machine: str) -> bytes:
    """Return the BPF program for a machine ("x86_64"). Raises OSError for one not known."""
    if machine not in NUMBERS:
        raise OSError(errno.ENOSYS, f"no filter of system calls is known for {machine}")
    arch, sys_socket, sys_socketpair, refused = NUMBERS[machine]
    return _assemble(
        (LOAD, ARCH, "", ""),
        (JUMP_EQUAL, arch, "", "refuse"),  # a foreign architecture
        (LOAD, NR, "", ""),
        (JUMP_GE, X32_BIT, "refuse", ""),  # x32 numbers
        *((JUMP_EQUAL, number, "refuse", "") for number in refused),
        (JUMP_EQUAL, sys_socket, "family", ""),
        (JUMP_EQUAL, sys_socketpair, "family", "allow"),
        "family",
        (LOAD, ARG0, "", ""),
        *((JUMP_EQUAL, family, "allow", "") for family in FAMILIES),
        (RETURN, ERRNO | errno.EAFNOSUPPORT, "", ""),
        "allow",
        (RETURN, ALLOW, "", ""),
        "refuse",
        (RETURN, ERRNO | errno.EPERM, "", ""),
    )


def _assemble(*lines: str | tuple[int, int, str, str]) -> bytes:
    """Encode (code, k, label if true, label if false) as struct sock_filter; "" is the next."""
    labels: dict[str, int] = {}
    program: list[tuple[int, int, str, str]] = []
    for line in lines:
        if isinstance(line, str):
            labels[line] = len(program)
        else:
            program.append(line)

    def skip(label: str, place: int) -> int:
        return labels[label] - place - 1 if label else 0

    return b"".join(
        struct.pack("=HBBI", code, skip(if_true, place), skip(if_false, place), k)
        for place, (code, k, if_true, if_false) in enumerate(program)
    )
