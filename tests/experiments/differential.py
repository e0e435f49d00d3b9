"""The engine beside tshark, packet by packet and stream by stream."""

from __future__ import annotations

import base64
import itertools
import os
import re
import subprocess
from typing import TYPE_CHECKING

from experiments.analysis import capture
from experiments.analysis.capture import layout, words
from lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOLLOWED_AT_ONCE = 400
MISSING = re.compile(rb"\[-?\d+ bytes missing in capture file\]\0?")
FIELDS = (
    "frame.number",
    "frame.time_epoch",
    "frame.len",
    "frame.cap_len",
    "tcp.stream",
    "udp.stream",
    "tcp.seq",
    "tcp.seq_raw",
    "tcp.ack",
    "tcp.len",
    "tcp.flags",
    "tcp.window_size_value",
)
ANALYSIS = {
    "tcp.analysis.retransmission": layout.RETRANSMISSION
    | layout.FAST_RETRANSMISSION
    | layout.SPURIOUS_RETRANSMISSION,
    "tcp.analysis.fast_retransmission": layout.FAST_RETRANSMISSION,
    "tcp.analysis.spurious_retransmission": layout.SPURIOUS_RETRANSMISSION,
    "tcp.analysis.out_of_order": layout.OUT_OF_ORDER,
    "tcp.analysis.lost_segment": layout.LOST_BEFORE,
    "tcp.analysis.ack_lost_segment": layout.ACKED_UNSEEN,
    "tcp.analysis.keep_alive": layout.KEEP_ALIVE,
    "tcp.analysis.keep_alive_ack": layout.KEEP_ALIVE_ACK,
    "tcp.analysis.duplicate_ack": layout.DUPLICATE_ACK,
    "tcp.analysis.zero_window": layout.ZERO_WINDOW,
    "tcp.analysis.zero_window_probe": layout.ZERO_WINDOW_PROBE,
    "tcp.analysis.zero_window_probe_ack": layout.ZERO_WINDOW_PROBE_ACK,
    "tcp.analysis.window_full": layout.WINDOW_FULL,
    "tcp.analysis.window_update": layout.WINDOW_UPDATE,
    "tcp.analysis.reused_ports": layout.PORTS_REUSED,
}
OPTIONS = (
    *("-o", "tcp.reassemble_out_of_order:TRUE"),
    *("-o", "tcp.relative_sequence_numbers:TRUE"),
)


def tshark(path: Path, *more: str) -> bytes:
    """Run tshark without anybody's settings; what it complains of is ignored."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "WIRESHARK_CONFIG_DIR": "/nonexistent",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
    }
    return subprocess.run(
        ["tshark", "-r", str(path), "-n", *OPTIONS, *more],
        capture_output=True,
        check=False,
        env=environment,
        timeout=600,
    ).stdout


def packets_of_tshark(path: Path) -> list[dict[str, str]]:
    """Return one row of fields a packet; several values are joined by commas."""
    names = (*FIELDS, *ANALYSIS)
    argv = ["-T", "fields", "-E", "separator=/t", "-E", "occurrence=a"]
    argv += [word for name in names for word in ("-e", name)]
    lines = tshark(path, *argv).decode(errors="replace").split("\n")
    rows = [line.split("\t") for line in lines if line]
    return [dict(zip(names, row, strict=True)) for row in rows]


Sides = dict[tuple[str, int], bytes]


def streams_of_tshark(path: Path, transport: str, numbers: list[int]) -> dict[int, Sides]:
    """Return what `follow` says of streams: the bytes that each end sent."""
    found: dict[int, Sides] = {}
    for start in range(0, len(numbers), FOLLOWED_AT_ONCE):
        part = numbers[start : start + FOLLOWED_AT_ONCE]
        wanted = [w for n in part for w in ("-z", f"follow,{transport},yaml,{n}")]
        # tshark prints the documents in the reverse of the order in which they were asked for.
        documents = tshark(path, "-q", *wanted).split(b"peers:\n")[:0:-1]
        assert len(documents) == len(part), (len(documents), len(part))
        for number, document in zip(part, documents, strict=True):
            found[number] = _sides(document)
    return found


def _sides(document: bytes) -> Sides:
    """Read tshark's YAML; holes are left out."""
    ends: list[tuple[str, int]] = []
    sides: dict[int, bytearray] = {0: bytearray(), 1: bytearray()}
    host, peer = "", 0
    encoded: list[bytes] = []
    for line in [*document.split(b"\n"), b"end"]:
        if line.startswith(b"      "):
            encoded.append(line)
            continue
        if encoded:
            data = base64.b64decode(b"".join(encoded))
            sides[peer] += b"" if MISSING.fullmatch(data) else data
            encoded.clear()
        key, _, value = line.strip().partition(b": ")
        if key == b"host":
            host = value.decode()
        elif key == b"port":
            ends.append((host, int(value)))
        elif key == b"peer":
            peer = int(value)
    return {end: bytes(sides[index]) for index, end in enumerate(ends)}


def differences(path: Path, *, analysis: bool = True, streams: bool = True) -> list[str]:
    """Return in words where the engine and tshark differ on a capture."""
    told = packets_of_tshark(path)
    found: list[str] = []
    with capture.read([path]) as reading:
        quoted = {int(r["flow"]) for r in reading.packets if r["status"] & layout.QUOTED}
        if len(told) != len(reading):
            found.append(f"packets: {len(reading)} here, {len(told)} there ({reading.stopped})")
        for row, theirs in zip(reading.packets, told, strict=False):
            found += _packet(reading, row, theirs, quoted, analysis=analysis)
        if streams:
            for transport in ("tcp", "udp"):
                found += _streams(path, reading, transport, told)
    return found


def _packet(reading, row, theirs, quoted: set[int], *, analysis: bool) -> Iterator[str]:  # noqa: ANN001 - see differences
    """Compare one packet: what the file says of it, its flows, its segment."""
    seconds, _, fraction = theirs["frame.time_epoch"].partition(".")
    time = int(seconds) * 10**9 + (-1 if seconds.startswith("-") else 1) * int(fraction or 0)
    pairs = [
        ("length", int(row["length"]), int(theirs["frame.len"])),
        ("captured", int(row["captured"]), int(theirs["frame.cap_len"])),
        ("time", int(row["time"]), time),
    ]
    ours: dict[int, set[int]] = {6: set(), 17: set()}
    for flow in (row["flow"], row["outer"]):
        if flow != layout.NONE:
            ours[int(reading.flows[flow]["protocol"])].add(int(reading.flows[flow]["number"]))
    for protocol, name in ((6, "tcp.stream"), (17, "udp.stream")):
        others = {int(n) for n in theirs[name].split(",") if n}
        # A row has the innermost and the outermost flow; tunnels in tunnels have more.
        if len(others) > 2 and ours[protocol] < others:
            continue
        pairs.append((name, ours[protocol], others))
    pairs += _segment(reading, row, theirs, quoted, analysis=analysis)
    for name, mine, other in pairs:
        if mine != other:
            yield f"frame {theirs['frame.number']}: {name} {mine} here, {other} there"


def _segment(  # noqa: ANN202 - see differences
    reading,  # noqa: ANN001
    row,  # noqa: ANN001
    theirs,  # noqa: ANN001
    quoted: set[int],
    *,
    analysis: bool,
):
    """Compare what is said of a TCP segment. Yields names with both values."""
    flow, status = row["flow"], int(row["status"])
    if flow == layout.NONE or reading.flows[flow]["protocol"] != layout.TCP:
        return
    if status & layout.QUOTED:
        return
    last = {name: value.split(",")[-1] for name, value in theirs.items()}
    if last["tcp.flags"]:
        yield "flags", int(row["tcp_flags"]), int(last["tcp.flags"], 16)
    if last["tcp.window_size_value"]:
        yield "window", int(row["window"]), int(last["tcp.window_size_value"])
    if last["tcp.len"]:
        yield "len", int(row["payload_length"]), int(last["tcp.len"])
        yield "seq", int(row["seq"]), int(last["tcp.seq"])
        if row["tcp_flags"] & layout.ACK and last["tcp.ack"]:
            yield "ack", int(row["ack"]), int(last["tcp.ack"])
    if not analysis:
        return
    names = dict(ANALYSIS)
    if int(flow) in quoted:
        # A quoted SYN moves Wireshark's round trip, which tells these two apart.
        late = names.pop("tcp.analysis.out_of_order") | names.pop("tcp.analysis.retransmission")
        told = theirs["tcp.analysis.out_of_order"] + theirs["tcp.analysis.retransmission"]
        yield "late or again", status & late != 0, told != ""
    for name, bits in names.items():
        yield name, status & bits != 0, theirs[name] != ""


def _streams(path, reading, transport: str, told) -> Iterator[str]:  # noqa: ANN001 - see differences
    name = f"{transport}.stream"
    rows = reading.packets
    renewals, unmeant = _misled(reading, told) if transport == "tcp" else ({}, {})
    # Of UDP in UDP `follow` mixes the layers.
    tunnelled = rows["outer"] != layout.NONE
    tunnels = set(rows["outer"][tunnelled].tolist())
    if transport == "udp":
        tunnels |= set(rows["flow"][tunnelled].tolist())
    numbers = sorted({int(n) for row in told for n in row[name].split(",") if n})
    theirs = streams_of_tshark(path, transport, numbers)
    for number in numbers:
        try:
            ours = reading.find(transport, number)
        except LabError:
            yield f"{name} {number}: not here"
            continue
        if ours.flow in tunnels:
            continue
        for end, other in theirs[number].items():
            forward = end == _end(ours.client)
            mine = ours.side(forward=forward)
            missing = ours.missing(forward=forward)
            same = _alike(mine, other, missing)
            odd = renewals.get(ours.flow, []), unmeant.get(ours.flow, [])
            if not same and any(odd):
                last = int(reading.flows[ours.flow]["last_frame"])
                others = _otherwise(path, *odd, number, last, end)
                # Bytes that came before the SYN, ACK from which their numbers count: `follow` has
                # them behind a hole, the engine where they belong.
                early = len(mine) == _distinct(reading, told, ours.flow, end)
                same = any(_holds(mine, parts, missing or early) for parts in others)
            if not same:
                pairs = enumerate(zip(mine, other, strict=False))
                upto = next((n for n, (a, b) in pairs if a != b), min(len(mine), len(other)))
                yield (
                    f"{name} {number} from {end}: {len(mine)} bytes here, {len(other)} there, "
                    f"the same up to {upto}; missing {missing}"
                )


def _alike(mine: bytes, other: bytes, missing: int) -> bool:
    """Compare one direction.

    Behind a hole that nobody acknowledged before the end, `follow` shows nothing and the engine
    what there is: see docs/analysis.md.
    """
    return mine == other or (missing > 0 and mine.startswith(other))


def _distinct(reading, told, flow: int, end: tuple[str, int]) -> int:  # noqa: ANN001 - see differences
    """Return how many bytes of different sequence numbers one end of a flow sent."""
    numbers: set[int] = set()
    for row, theirs in zip(reading.packets, told, strict=False):
        if row["flow"] != flow or row["status"] & layout.QUOTED or not row["payload_captured"]:
            continue
        address, port = reading.flows[flow]["address"], reading.flows[flow]["port"]
        sender = words.end(
            address[row["direction"]][: 4 if reading.flows[flow]["version"] == 4 else 16].tobytes(),
            int(port[row["direction"]]),
        )
        if _end(sender) == end:
            start = int(theirs["tcp.seq_raw"].split(",")[-1])
            numbers |= {(start + n) % 2**32 for n in range(int(row["payload_captured"]))}
    return len(numbers)


def _holds(mine: bytes, parts: list[bytes], holes: int) -> bool:
    """Compare one direction with its parts, of which each may end in such a hole."""
    if not holes:
        return mine == b"".join(parts)
    at = 0
    for part in parts:
        found = mine.find(part, at)
        if found < 0 or (at == 0 and found):
            return False
        at = found + len(part)
    return True


def _misled(reading, told) -> tuple[dict[int, list[int]], dict[int, list[int]]]:  # noqa: ANN001 - see differences
    """Return per flow the frames that mislead `follow`; see docs/analysis.md.

    Of two kinds: a SYN, ACK from which Wireshark counts anew, a second one with another number or
    the first one when data of its side was captured before it; and a segment without the ACK flag,
    the acknowledgement of which means nothing.
    """
    bases: dict[tuple[int, int], int] = {}
    renewals: dict[int, list[int]] = {}
    unmeant: dict[int, list[int]] = {}
    both = layout.SYN | layout.ACK
    for row, theirs in zip(reading.packets, told, strict=False):
        raw, seq = (theirs[name].split(",")[-1] for name in ("tcp.seq_raw", "tcp.seq"))
        if not raw or not seq or row["flow"] == layout.NONE or row["status"] & layout.QUOTED:
            continue
        frame, flow, flags = int(theirs["frame.number"]), int(row["flow"]), int(row["tcp_flags"])
        key = flow, int(row["direction"])
        base = (int(raw) - int(seq)) & 0xFFFFFFFF
        anew = bases.get(key, base) != base or theirs["tcp.analysis.reused_ports"]
        if flags & both == both and anew:
            renewals.setdefault(flow, []).append(frame)
        if not flags & both and row["ack"]:
            unmeant.setdefault(flow, []).append(frame)
        bases[key] = base
    return renewals, unmeant


def _otherwise(  # noqa: PLR0913, PLR0917 - one capture, seen in two ways
    path: Path,
    renewals: list[int],
    unmeant: list[int],
    number: int,
    last: int,
    end: tuple[str, int],
) -> Iterator[list[bytes]]:
    """Return what `follow` says of one end, in parts, when nothing misleads it.

    First as if the frames were not there: so if SYN, ACKs are stray, or were captured late. Then
    as if the capture began anew with each SYN, ACK: so if they open another connection.
    """
    less = path.with_name(f"{path.name}.less.pcapng")
    part = path.with_name(f"{path.name}.part.pcapng")
    try:
        for dropped in ([], unmeant) if unmeant else ([],):
            _editcap(path, less, *renewals, *dropped)
            yield [streams_of_tshark(less, "tcp", [number])[number].get(end, b"")]
            parts = []
            starts = [1, *renewals, last + 1]
            for index, (start, stop) in enumerate(itertools.pairwise(starts)):
                _editcap("-r", path, less, f"{start}-{stop - 1}")
                _editcap(less, part, *(n - start + 1 for n in dropped if start <= n < stop))
                wanted = 0 if index else number
                parts.append(streams_of_tshark(part, "tcp", [wanted])[wanted].get(end, b""))
            yield parts
    finally:
        less.unlink(missing_ok=True)
        part.unlink(missing_ok=True)


def _editcap(*words: object) -> None:
    argv = ["editcap", *map(str, words)]
    subprocess.run(argv, capture_output=True, check=False, timeout=600)


def _end(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)
