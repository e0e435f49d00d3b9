"""Walking the tables: the rows of one flow, and the bytes of many flows side by side. Compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from experiments.analysis.capture import assembly
from experiments.analysis.capture.layout import GAP, NONE, OFFSET_MASK, SOURCE_SHIFT, TCP
from experiments.analysis.capture.state import FLOWS, NEED_EXTENTS, NEXT, USED
from experiments.analysis.compiled.jit import i64, kernel, u64

if TYPE_CHECKING:
    from numpy.typing import NDArray


@kernel
def chain(rows: NDArray[Any], last: int, into: NDArray[Any], most: int) -> int:
    """Collect a chain of rows backwards from its last; return how many, the latest first."""
    count = 0
    while last != NONE and last < len(rows) and count < most:
        into[count] = last
        count += 1
        last = i64(rows[last]["prev"])
    return count


@kernel
def finish(
    frame: int, flows: NDArray[Any], pending: NDArray[Any], extents: NDArray[Any],
    state: NDArray[Any],
) -> int:  # fmt: skip
    """At the end of the capture, deliver what still waits; goes on at state[NEXT]."""
    for flow in range(state[NEXT], state[FLOWS]):
        state[NEXT] = flow
        sides = flows[flow]["side"]
        waiting = i64(sides[0]["waiting"]) + i64(sides[1]["waiting"])
        if waiting:
            if state[USED] + 2 * waiting + 2 > len(extents):
                return NEED_EXTENTS
            assembly.flush(flow, frame, flows, pending, extents, state)
    state[NEXT] = state[FLOWS]
    return 0


@kernel
def _copy(source: NDArray[Any], start: int, target: NDArray[Any], at: int, length: int) -> None:
    """Copy bytes. Slices would do as well, but numba allocates memory for them."""
    for i in range(length):
        target[u64(at + i)] = source[u64(start + i)]


@kernel
def gather(
    window: NDArray[Any], sources: NDArray[Any], lengths: NDArray[Any],
    into: NDArray[Any],
) -> int:  # fmt: skip
    """Copy pieces of the window one after the other; return how many bytes."""
    at = 0
    for index in range(len(sources)):
        source, length = sources[index], lengths[index]
        _copy(window, source, into, at, length)
        at += length
    return at


@kernel
def sides(
    extents: NDArray[Any], last: int, flipped: int, source: int, view: NDArray[Any],
    cut: int, into: NDArray[Any], total: int,
) -> int:  # fmt: skip
    """Copy all bytes of a flow, those that go forward before those that come back.

    source -- whose bytes `view` has; cut -- how many bytes go forward; total -- how many there are.
    Returns total, or -1 where it can't be done: bytes elsewhere, or not as many as was said.
    """
    first, second = cut, total
    while last != NONE and last < len(extents):
        row = extents[last]
        last = i64(row["prev"])
        if row["kind"] == GAP:
            continue
        address, length = i64(row["address"]), i64(row["length"])
        start = address & OFFSET_MASK
        if address >> SOURCE_SHIFT != source or start + length > len(view):
            return -1
        if row["direction"] == flipped:
            first -= length
            at, least = first, i64(0)
        else:
            second -= length
            at, least = second, cut
        if at < least:
            return -1
        _copy(view, start, into, at, length)
    return total if first == 0 and second == cut else -1


@kernel
def locate(
    extents: NDArray[Any], flows: NDArray[Any], places: NDArray[Any], begin: int,
    rows: NDArray[Any], frames: NDArray[Any], counts: NDArray[Any],
) -> int:  # fmt: skip
    """Find the frames that carry stretches of streams, from the stretch `begin` on.

    places has four numbers for each: flow, direction, start, end; those of one direction of a flow
    follow on one another. counts gets how many frames each has; they follow on one another in
    `frames`. rows is room for a direction's extents. Returns up to which stretch the room sufficed.
    """
    used = i64(0)
    flow = direction = i64(-1)
    many = i64(0)
    total = len(places) // 4
    for index in range(begin, total):
        if places[4 * index] != flow or places[4 * index + 1] != direction:
            flow, direction = i64(places[4 * index]), i64(places[4 * index + 1])
            many = i64(0)
            last = i64(flows[flow]["last_extent"])
            while last != NONE and last < len(extents):
                if extents[last]["kind"] != GAP and extents[last]["direction"] == direction:
                    if many >= len(rows):
                        return index
                    rows[many] = last
                    many += 1
                last = i64(extents[last]["prev"])
        start, end = i64(places[4 * index + 2]), i64(places[4 * index + 3])
        counts[index] = 0
        if not many:
            continue
        first = _holder(extents, rows, many, start)
        final = max(_holder(extents, rows, many, max(end - 1, start)), first)
        if used + final - first + 1 > len(frames):
            return index
        for which in range(first, final + 1):
            frames[used] = extents[rows[many - 1 - which]]["frame"]
            used += 1
        counts[index] = final - first + 1
    return total


@kernel
def _holder(extents: NDArray[Any], rows: NDArray[Any], many: int, offset: int) -> int:
    """Return which of a direction's extents holds an offset; rows has them, the last one first."""
    low, high = i64(0), i64(many)
    while low < high:
        middle = (low + high) // 2
        if i64(extents[rows[many - 1 - middle]]["offset"]) <= offset:
            low = middle + 1
        else:
            high = middle
    return max(low - 1, i64(0))


@kernel
def lay(
    window: NDArray[Any], far: NDArray[Any], extents: NDArray[Any],
    order: NDArray[Any], places: NDArray[Any], flows: NDArray[Any],
    slots: NDArray[Any], tails: NDArray[Any], filled: NDArray[Any], tail: int,
    into: NDArray[Any], runs: NDArray[Any], used: NDArray[Any],
) -> int:  # fmt: skip
    """Lay the bytes of extents side by side, each stream's behind the last that were seen of it.

    order sorts the extents by stream; places says where their bytes are: in the window, or (-1 and
    down) in `far`. A hole ends a run, and so does a datagram. Returns how many bytes were laid;
    used[1] is the number of runs.
    """
    at = 0
    run = -1
    last = i64(-1)
    for index in range(len(order)):
        row = extents[order[index]]
        flow = i64(row["flow"])
        key = flow * 2 + i64(row["direction"])
        stream = flows[flow]["protocol"] == TCP
        if key != last:
            if run >= 0:
                _keep(run, runs, at, slots, tails, filled, tail, into, flows, used)
            last = key
            run += 1
            at = _begin(run, runs, key, i64(row["offset"]), at, slots, tails, filled, tail,
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
        place, length = i64(places[order[index]]), i64(row["length"])
        if place >= 0:
            _copy(window, place, into, at, length)
        else:
            _copy(far, -1 - place, into, at, length)
        at += length
    if run >= 0:
        _keep(run, runs, at, slots, tails, filled, tail, into, flows, used)
    used[1] = run + 1
    return at


@kernel
def _begin(
    run: int, runs: NDArray[Any], key: int, offset: int, at: int, slots: NDArray[Any],
    tails: NDArray[Any], filled: NDArray[Any], tail: int, into: NDArray[Any],
) -> int:  # fmt: skip
    """Begin a run with the last bytes that were seen of its stream."""
    slot = i64(slots[key])
    known = i64(filled[slot]) if slot >= 0 else i64(0)
    _copy(tails, slot * tail, into, at, known)
    runs[run]["start"] = at
    runs[run]["body"] = at + known
    runs[run]["offset"] = offset - known
    runs[run]["key"] = key
    return at + known


@kernel
def _keep(
    run: int, runs: NDArray[Any], at: int, slots: NDArray[Any],
    tails: NDArray[Any], filled: NDArray[Any], tail: int, into: NDArray[Any],
    flows: NDArray[Any], used: NDArray[Any],
) -> None:  # fmt: skip
    """End a run, and keep its last bytes for the next; datagrams have none."""
    runs[run]["end"] = at
    key = i64(runs[run]["key"])
    if flows[key >> 1]["protocol"] != TCP:
        return
    slot = i64(slots[key])
    if slot < 0:
        slot = i64(used[0])
        used[0] = slot + 1
        slots[key] = slot
    size = min(at - i64(runs[run]["start"]), tail)
    _copy(into, at - size, tails, slot * tail, size)
    filled[slot] = size
