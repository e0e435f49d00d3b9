"""Walking the tables: the rows of one flow, and the bytes of many flows side by side. Compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from experiments.analysis.capture import tcp
from experiments.analysis.capture.jit import kernel
from experiments.analysis.capture.layout import NONE
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
