"""How slow, late and lossy a link really is: probes sent along it when a lab is made.

The probes are Ethernet frames of an experimental type (0x88B5, IEEE 802) to the address of LLDP
(01-80-C2-00-00-0E), which no bridge forwards (IEEE 802.1Q, 8.6.3): they go along one cable, from
the adapter to what it is plugged into and back, and nobody else sees them. Needs no program in a
host.

    delay   the median of single small frames, less what they take at the link's rate
    loss    small frames at half of the link's rate: how many did not arrive
    rate    full frames at more than the link's rate: what arrived, over the time it took
"""

from __future__ import annotations

import socket
import statistics
import struct
import time
from typing import TYPE_CHECKING, Any

from lab.providers.netns.shaper import OVERHEAD

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.providers.netns.wires import Link

ETHERTYPE = 0x88B5
NEAREST = bytes.fromhex("0180c200000e")
SMALL, FULL = 60, 1514  # bytes of a frame
SINGLE, SINGLE_GAP_S = 25, 0.003
LOSS_FRAMES, LOSS_S = 2000, 1.0
FASTEST = 8000  # frames a second: what this process sends beside the relay
RATE_S, RATE_FRAMES = 0.4, 16
OFFERED = 1.3  # of the rate
QUIET_S = 0.25  # after the last frame, beyond the delay
_STAMP = struct.Struct(">QId")


def probe(interface: str) -> socket.socket:
    """Return a socket for probes on an interface of the network namespace that one is in."""
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    made.bind((interface, ETHERTYPE))
    return made


def measure(link: Link, adapter: socket.socket, port: socket.socket) -> dict[str, Any]:
    """Return what a link does in both directions, seen from its adapter; None: not measured."""
    return {
        "host": link.host,
        "adapter": link.adapter,
        "declared": link.declared(),
        "sending": _one_way(link, adapter, port),
        "receiving": _one_way(link, port, adapter),
    }


def _one_way(link: Link, source: socket.socket, sink: socket.socket) -> dict[str, float | None]:
    rate = link.rate_mbit * 1e6 / 8 if link.rate_mbit else None  # bytes a second
    patience = link.delay_ms / 1000 + QUIET_S
    wire = (SMALL + OVERHEAD) / rate if rate else 0.0
    single = _send(source, sink, SMALL, SINGLE, max(SINGLE_GAP_S, 2 * wire), patience)
    late = [arrived - left - wire for left, arrived, _ in single]
    speed = min(FASTEST, rate / 2 / (SMALL + OVERHEAD)) if rate else FASTEST
    count = max(50, min(LOSS_FRAMES, int(LOSS_S * speed)))
    arrived = _send(source, sink, SMALL, count, 1 / speed, patience)
    found: dict[str, float | None] = {
        "delay_ms": round(1000 * statistics.median(late), 3) if late else None,
        "loss_percent": round(100 * (count - len(arrived)) / count, 3),
        "loss_frames": count,
        "rate_mbit": None,
    }
    if rate:
        frames = max(RATE_FRAMES, int(RATE_S * rate / (FULL + OVERHEAD)))
        gap = (FULL + OVERHEAD) / rate / OFFERED
        full = [at for _, at, _ in _send(source, sink, FULL, frames, gap, patience)]
        if len(full) > 2 and full[-1] > full[0]:  # noqa: PLR2004 - a rate has two ends
            took = (len(full) - 1) * (FULL + OVERHEAD) * 8 / (full[-1] - full[0])
            found["rate_mbit"] = round(took / 1e6, 4)
    return found


def _send(  # noqa: PLR0913, PLR0917 - one burst, told by what it is
    source: socket.socket,
    sink: socket.socket,
    size: int,
    count: int,
    gap: float,
    patience: float,
) -> list[tuple[float, float, int]]:
    """Send frames at equal gaps (seconds); return (sent, arrived, number) of those that arrived."""
    _drain(sink)
    burst = time.monotonic_ns()
    head = NEAREST + source.getsockname()[4] + struct.pack(">H", ETHERTYPE)
    start, sent, found = time.monotonic(), 0, list[tuple[float, float, int]]()
    quiet = start + count * gap + patience
    while time.monotonic() < quiet and len(found) < count:
        while sent < count and time.monotonic() >= start + sent * gap:
            stamp = _STAMP.pack(burst, sent, time.monotonic())
            source.send((head + stamp).ljust(size, b"\0"))
            sent += 1
            quiet = time.monotonic() + max(gap * (count - sent), 0) + patience
        ahead = start + sent * gap if sent < count else quiet
        _receive(sink, max(0.0, ahead - time.monotonic()), burst, found.append)
    return found


def _receive(
    sink: socket.socket,
    wait: float,
    burst: int,
    took: Callable[[tuple[float, float, int]], None],
) -> None:
    """Take what has arrived, or arrives within `wait` seconds."""
    sink.settimeout(max(wait, 1e-6))
    try:
        frame = sink.recv(FULL + 64)
    except (TimeoutError, BlockingIOError):
        return
    now = time.monotonic()
    if len(frame) >= 14 + _STAMP.size:
        of, number, left = _STAMP.unpack_from(frame, 14)
        if of == burst:
            took((left, now, number))


def _drain(sink: socket.socket) -> None:
    sink.setblocking(False)  # noqa: FBT003 - the socket module's own way
    try:
        while sink.recv(FULL + 64):
            pass
    except BlockingIOError:
        return
