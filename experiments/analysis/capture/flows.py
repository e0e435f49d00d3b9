"""Which conversation a packet belongs to: a table of flows with an index of open addressing.

A conversation is two addresses and two ports whatever came between (VLAN, tunnel, interface), as
Wireshark has it. The index holds the latest flow of each such pair, so that ports may be used
again. Compiled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from experiments.analysis.capture.layout import NONE, TCP, UNKNOWN_SCALE
from experiments.analysis.capture.state import FLOWS, SEED, TCP_STREAMS, UDP_STREAMS
from experiments.analysis.compiled.jit import i64, kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WORD = 0xFFFFFFFF


@kernel
def _mixed(value: int, word: int) -> int:
    """Mix 32 bits into 32 bits; no product exceeds 63."""
    value = (value ^ word) & _WORD
    value = (value * 0x5BD1E995) & _WORD
    return value ^ (value >> 15)


@kernel
def _end_hash(window: NDArray[Any], at: int, size: int, port: int, seed: int) -> int:
    value = _mixed(seed & _WORD, port)
    for i in range(0, size, 4):
        word = (
            (i64(window[at + i]) << 24)
            | (i64(window[at + i + 1]) << 16)
            | (i64(window[at + i + 2]) << 8)
            | i64(window[at + i + 3])
        )
        value = _mixed(value, word)
    return value


@kernel
def _same_end(
    flows: NDArray[Any], flow: int, end: int, window: NDArray[Any], at: int, size: int
) -> bool:
    address = flows[flow]["address"]
    for i in range(size):
        if address[end, i] != window[at + i]:
            return False
    return True


@kernel
def find(
    window: NDArray[Any],
    source: int,
    target: int,
    version: int,
    protocol: int,
    source_port: int,
    target_port: int,
    flows: NDArray[Any],
    slots: NDArray[Any],
    state: NDArray[Any],
) -> tuple[int, int, int]:
    """Return (flow, direction, slot). flow is -1 when there is none yet, slot where it belongs."""
    size = 4 if version == 4 else 16
    seed = i64(state[SEED])
    mask = len(slots) - 1
    slot = _end_hash(window, source, size, source_port, seed)
    slot += _end_hash(window, target, size, target_port, seed) + protocol
    slot &= mask
    while True:
        flow = i64(slots[slot])
        if flow == NONE:
            return -1, 0, slot
        row = flows[flow]
        if row["protocol"] == protocol and row["version"] == version:
            ports = row["port"]
            first, second = i64(ports[0]), i64(ports[1])
            if (
                first == source_port
                and second == target_port
                and _same_end(flows, flow, 0, window, source, size)
                and _same_end(flows, flow, 1, window, target, size)
            ):
                return flow, 0, slot
            if (
                first == target_port
                and second == source_port
                and _same_end(flows, flow, 0, window, target, size)
                and _same_end(flows, flow, 1, window, source, size)
            ):
                return flow, 1, slot
        slot = (slot + 1) & mask


@kernel
def add(
    window: NDArray[Any],
    source: int,
    target: int,
    version: int,
    protocol: int,
    source_port: int,
    target_port: int,
    slot: int,
    frame: int,
    time: int,
    flows: NDArray[Any],
    slots: NDArray[Any],
    state: NDArray[Any],
) -> int:
    """Add a flow whose first packet this is; return its row. There must be room."""
    flow = i64(state[FLOWS])
    state[FLOWS] = flow + 1
    slots[slot] = flow
    size = 4 if version == 4 else 16
    row = flows[flow]
    address = row["address"]
    for i in range(16):
        address[0, i] = window[source + i] if i < size else 0
        address[1, i] = window[target + i] if i < size else 0
    ports = row["port"]
    ports[0] = source_port
    ports[1] = target_port
    row["version"] = version
    row["protocol"] = protocol
    row["flipped"] = 0
    row["spare"] = 0
    if protocol == TCP:
        row["number"] = state[TCP_STREAMS]
        state[TCP_STREAMS] += 1
    else:
        row["number"] = state[UDP_STREAMS]
        state[UDP_STREAMS] += 1
    row["last_packet"] = NONE
    row["last_extent"] = NONE
    row["first_frame"] = frame
    row["last_frame"] = frame
    row["first_time"] = time
    row["last_time"] = time
    row["syn_time"] = 0
    row["round_trip"] = 0
    row["syn_frame"] = 0
    row["answer_frame"] = 0
    row["ack_frame"] = 0
    row["gaps"] = 0
    sides = row["side"]
    for end in range(2):
        side = sides[end]
        side["packets"] = 0
        side["bytes"] = 0
        side["frames"] = 0
        side["stream"] = 0
        side["missing"] = 0
        side["isn"] = 0
        side["expected"] = 0
        side["next_seq"] = 0
        side["next_frame"] = 0
        side["next_time"] = 0
        side["to_ack"] = 0
        side["last_ack"] = 0
        side["ack_time"] = 0
        side["duplicates"] = 0
        side["window"] = _WORD  # none was told; that is not a closed one
        side["mss"] = -1
        side["shift"] = -1
        side["scale"] = UNKNOWN_SCALE
        side["flags"] = 0
        side["spare"] = 0
        side["status"] = 0
        side["pending"] = -1
        side["last_pending"] = -1
        side["waiting"] = 0
        side["again"] = 0
    return flow


@kernel
def rehash(flows: NDArray[Any], slots: NDArray[Any], state: NDArray[Any]) -> int:
    """Fill a larger, empty index. Later flows of the same ends replace earlier ones."""
    seed = i64(state[SEED])
    mask = len(slots) - 1
    for flow in range(state[FLOWS]):
        row = flows[flow]
        address = row["address"]
        ports = row["port"]
        size = 4 if row["version"] == 4 else 16
        slot = i64(row["protocol"])
        for end in range(2):
            slot += _end_hash(address[end], 0, size, i64(ports[end]), seed)
        slot &= mask
        while slots[slot] != NONE:
            other = i64(slots[slot])
            if _same_flow(flows, flow, other):
                break
            slot = (slot + 1) & mask
        slots[slot] = flow
    return 0


@kernel
def _same_flow(flows: NDArray[Any], one: int, other: int) -> bool:
    a, b = flows[one], flows[other]
    if a["protocol"] != b["protocol"] or a["version"] != b["version"]:
        return False
    ports, others = a["port"], b["port"]
    here, there = a["address"], b["address"]
    straight = ports[0] == others[0] and ports[1] == others[1]
    crossed = ports[0] == others[1] and ports[1] == others[0]
    for i in range(16):
        if here[0, i] != there[0, i] or here[1, i] != there[1, i]:
            straight = False
        if here[0, i] != there[1, i] or here[1, i] != there[0, i]:
            crossed = False
    return bool(straight or crossed)
