"""Walking the tables: the rows of one flow, and the bytes of many flows side by side. Compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from experiments.analysis.capture import tcp
from experiments.analysis.capture.jit import kernel
from experiments.analysis.capture.layout import GAP, NONE, TCP
from experiments.analysis.capture.state import FLOWS, NEED_EXTENTS, NEXT, USED

if TYPE_CHECKING:
    from numpy.typing import NDArray


@kernel
def chain(rows: NDArray[np.void], last: int, into: NDArray[np.uint32], most: int) -> int:
    """Collect a chain of rows backwards from its last; return how many, the latest first."""
    count = 0
    while last != NONE and last < len(rows) and count < most:
        into[count] = last
        count += 1
        last = np.int64(rows[last]["prev"])
    return count


@kernel
def finish(
    frame: int, flows: NDArray[np.void], pending: NDArray[np.void], extents: NDArray[np.void],
    state: NDArray[np.int64],
) -> int:  # fmt: skip
    """At the end of the capture, deliver what still waits. Goes on at state[NEXT] when called so."""
    for flow in range(state[NEXT], state[FLOWS]):
        state[NEXT] = flow
        sides = flows[flow]["side"]
        waiting = np.int64(sides[0]["waiting"]) + np.int64(sides[1]["waiting"])
        if waiting:
            if state[USED] + 2 * waiting + 2 > len(extents):
                return NEED_EXTENTS
            tcp.flush(flow, frame, flows, pending, extents, state)
    state[NEXT] = state[FLOWS]
    return 0


@kernel
def gather(
    window: NDArray[np.uint8], sources: NDArray[np.int64], lengths: NDArray[np.int64],
    into: NDArray[np.uint8],
) -> int:  # fmt: skip
    """Copy pieces of the window one after the other; return how many bytes."""
    at = 0
    for index in range(len(sources)):
        source, length = sources[index], lengths[index]
        for i in range(length):  # becomes one memcpy; numba's slices would be allocated
            into[at + i] = window[source + i]
        at += length
    return at


@kernel
def lay(
    window: NDArray[np.uint8], far: NDArray[np.uint8], extents: NDArray[np.void],
    order: NDArray[np.int64], places: NDArray[np.int64], flows: NDArray[np.void],
    slots: NDArray[np.int32], tails: NDArray[np.uint8], filled: NDArray[np.int32], tail: int,
    into: NDArray[np.uint8], runs: NDArray[np.void], used: NDArray[np.int64],
) -> int:  # fmt: skip
    """Lay the bytes of extents side by side, each stream's behind the last that were seen of it.

    order sorts the extents by stream; places says where their bytes are: in the window, or (-1 and
    down) in `far`. A hole ends a run, and so does a datagram. Returns how many bytes were laid;
    used[1] is the number of runs.
    """
    at = 0
    run = -1
    last = np.int64(-1)
    for index in range(len(order)):
        row = extents[order[index]]
        flow = np.int64(row["flow"])
        key = flow * 2 + np.int64(row["direction"])
        stream = flows[flow]["protocol"] == TCP
        if key != last:
            if run >= 0:
                _keep(run, runs, at, slots, tails, filled, tail, into, flows, used)
            last = key
            run += 1
            at = _begin(run, runs, key, np.int64(row["offset"]), at, slots, tails, filled, tail,
                        into)  # fmt: skip
        elif not stream or row["kind"] == GAP:
            runs[run]["end"] = at
            run += 1
            runs[run]["start"] = at
            runs[run]["body"] = at
            runs[run]["offset"] = row["offset"]
            runs[run]["key"] = key
        if row["kind"] == GAP:
            # What comes next does not follow on what came before.
            runs[run]["start"] = at
            runs[run]["body"] = at
            runs[run]["offset"] = row["offset"]
            continue
        place, length = np.int64(places[order[index]]), np.int64(row["length"])
        if place >= 0:
            for i in range(length):
                into[at + i] = window[place + i]
        else:
            place = -1 - place
            for i in range(length):
                into[at + i] = far[place + i]
        at += length
    if run >= 0:
        _keep(run, runs, at, slots, tails, filled, tail, into, flows, used)
    used[1] = run + 1
    return at


@kernel
def _begin(
    run: int, runs: NDArray[np.void], key: int, offset: int, at: int, slots: NDArray[np.int32],
    tails: NDArray[np.uint8], filled: NDArray[np.int32], tail: int, into: NDArray[np.uint8],
) -> int:  # fmt: skip
    """Begin a run with the last bytes that were seen of its stream."""
    slot = np.int64(slots[key])
    known = np.int64(filled[slot]) if slot >= 0 else np.int64(0)
    for i in range(known):
        into[at + i] = tails[slot * tail + i]
    runs[run]["start"] = at
    runs[run]["body"] = at + known
    runs[run]["offset"] = offset - known
    runs[run]["key"] = key
    return at + known


@kernel
def _keep(
    run: int, runs: NDArray[np.void], at: int, slots: NDArray[np.int32],
    tails: NDArray[np.uint8], filled: NDArray[np.int32], tail: int, into: NDArray[np.uint8],
    flows: NDArray[np.void], used: NDArray[np.int64],
) -> None:  # fmt: skip
    """End a run, and keep its last bytes for the next; datagrams have none."""
    runs[run]["end"] = at
    key = np.int64(runs[run]["key"])
    if flows[key >> 1]["protocol"] != TCP:
        return
    slot = np.int64(slots[key])
    if slot < 0:
        slot = np.int64(used[0])
        used[0] = slot + 1
        slots[key] = slot
    size = min(at - np.int64(runs[run]["start"]), tail)
    for i in range(size):
        tails[slot * tail + i] = into[at - size + i]
    filled[slot] = size
