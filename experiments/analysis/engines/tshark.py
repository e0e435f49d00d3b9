"""Reading captures with tshark, in one pass for captures of up to 256 connections.

One process prints the packet list and the TCP fields and, by `-z follow,tcp,yaml`, every stream
with the frame that each piece came from. The number of streams is known only afterwards, so the
first pass asks for SPECULATIVE of them (an unused one costs microseconds) and more passes follow
when there are more. tshark runs with a configuration folder of its own: a user's preferences must
not change what is measured.
"""

from __future__ import annotations

import base64
import os
import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from experiments.analysis.model import (
    Capture,
    Chunk,
    Handshake,
    HandshakeStep,
    Packet,
    Stream,
)
from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

SPECULATIVE: Final = 256
DEADLINE_S: Final = 600.0
# No folder of that name exists, so nobody's preferences change a result and nothing is left behind.
NOWHERE: Final = "/nonexistent"
_COLUMNS: Final = {
    "No.": "%m",
    "Time": "%Rt",
    "Source": "%s",
    "Destination": "%d",
    "Protocol": "%p",
    "Length": "%L",
    "Info": "%i",
}
_FIELDS: Final = (
    "frame.number",
    "frame.time_relative",
    "frame.time_epoch",
    "frame.len",
    "frame.cap_len",
    "tcp.stream",
    "tcp.flags",
    "tcp.seq",
    "tcp.ack",
    "tcp.window_size",
    "tcp.options.mss_val",
    "tcp.options.wscale.shift",
    "tcp.options.sack_perm",
    "tcp.analysis.lost_segment",
    "tcp.analysis.ack_lost_segment",
    "ip.src",
    "ipv6.src",
    "ip.dst",
    "ipv6.dst",
    "tcp.srcport",
    "tcp.dstport",
    "udp.stream",
    "udp.srcport",
    "udp.dstport",
    "udp.payload",
    "_ws.col.Source",
    "_ws.col.Destination",
    "_ws.col.Protocol",
    "_ws.col.Info",
)
_SYN: Final = 0x02
_ACK: Final = 0x10
# What tshark puts into a followed stream in place of bytes that it never saw.
_MISSING: Final = re.compile(rb"\[\d+ bytes missing in capture file\]\0?")


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of the fields pass, by field name; "" where the packet has no such field."""

    values: dict[str, str]

    def text(self, *names: str) -> str:
        return next((self.values[name] for name in names if self.values[name]), "")

    def number(self, name: str) -> int | None:
        value = self.values[name]
        return int(value, 0) if value else None

    def need(self, name: str) -> int:
        value = self.number(name)
        return 0 if value is None else value

    def end(self, side: str, transport: str) -> str:
        address = self.text(f"ip.{side}", f"ipv6.{side}")
        port = self.values[f"{transport}.{side}port"]
        return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class Tshark:
    """The tshark program as an engine."""

    name = "tshark"

    def version(self) -> str:
        """Return the version, e.g. "4.0.17"."""
        done = _tshark(["--version"], "asking tshark for its version")
        match = re.search(rb"(\d+\.\d+\.\d+)", done.stdout)
        return match[1].decode() if match else "unknown"

    def read(self, path: Path) -> Capture:
        """Read a capture file. Raises LabError when tshark is missing or reads nothing."""
        doing = f"reading the capture {path.name}"
        columns = ",".join(f'"{title}","{code}"' for title, code in _COLUMNS.items())
        argv = ["-r", str(path), "-n", "-N", "m", "-o", f"gui.column.format:{columns}"]
        argv += [
            "-o",
            "tcp.reassemble_out_of_order:TRUE",
            "-o",
            "tcp.relative_sequence_numbers:TRUE",
        ]
        argv += ["-T", "fields", "-E", "separator=/t", "-E", "occurrence=f"]
        argv += [word for field in _FIELDS for word in ("-e", field)]
        done = _tshark(argv + _follow(range(SPECULATIVE)), doing)
        listing, _, followed = done.stdout.partition(b"\npeers:\n")
        if listing.startswith(b"peers:\n"):
            listing, followed = b"", listing
        rows = list(_rows(listing))
        complaint = ""
        if done.returncode:
            complaint = _complaint(done.stderr) or f"tshark ended with {done.returncode}"
        if complaint and not rows:
            raise LabError(
                doing,
                complaint,
                fault=Fault.USER,
                todo="Check that the file is a capture: `capinfos FILE`.",
            )
        stream_of = {
            row.need("frame.number"): row.need("tcp.stream")
            for row in rows
            if row.text("tcp.stream")
        }
        count = max(stream_of.values(), default=-1) + 1
        documents = [b"peers:\n" + followed]
        for first in range(SPECULATIVE, count, SPECULATIVE):
            more = _follow(range(first, min(first + SPECULATIVE, count)))
            documents.append(_tshark(["-r", str(path), "-n", "-q", *more], doing).stdout)
        chunks: dict[int, list[Chunk]] = {number: [] for number in range(count)}
        holes = set()
        epoch = {row.need("frame.number"): float(row.text("frame.time_relative")) for row in rows}
        for frame, peer, data in _pieces(b"\n".join(documents)):
            if _MISSING.fullmatch(data):
                holes.add(frame)
            elif frame in stream_of:
                chunk = Chunk(frame, epoch[frame], peer == 0, data)
                chunks[stream_of[frame]].append(chunk)
        return Capture(
            packets=tuple(_packet(row) for row in rows),
            handshakes=tuple(_handshakes(rows)),
            streams=(*_tcp_streams(rows, chunks), *_udp_streams(rows)),
            gaps=tuple(sorted(holes | set(_gaps(rows)))),
            cut=tuple(
                row.need("frame.number")
                for row in rows
                if row.need("frame.cap_len") < row.need("frame.len")
            ),
            unread=complaint,
        )


def _tshark(argv: list[str], doing: str) -> subprocess.CompletedProcess[bytes]:
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": NOWHERE,
        "WIRESHARK_CONFIG_DIR": NOWHERE,
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
    }
    try:
        return subprocess.run(
            ["tshark", *argv],
            capture_output=True,
            check=False,
            env=environment,
            timeout=DEADLINE_S,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError as error:
        raise LabError(
            doing,
            "tshark is not installed",
            fault=Fault.MACHINE,
            todo="Install it: apt install tshark",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise LabError(
            doing,
            f"tshark did not finish within {DEADLINE_S:.0f} s",
            fault=Fault.MACHINE,
            todo="Cut the capture with `editcap -c` and judge the parts.",
        ) from error


def _complaint(stderr: bytes) -> str:
    """Return what tshark complains of; not that its user is root, which it tells first."""
    lines = stderr.decode(errors="replace").splitlines()
    return "\n".join(line for line in lines if not line.startswith("Running as user")).strip()


def _follow(numbers: Iterable[int]) -> list[str]:
    return [word for number in numbers for word in ("-z", f"follow,tcp,yaml,{number}")]


def _rows(listing: bytes) -> Iterator[_Row]:
    for line in listing.decode(errors="replace").split("\n"):
        values = line.split("\t")
        if len(values) == len(_FIELDS):
            yield _Row(dict(zip(_FIELDS, values, strict=True)))


def _packet(row: _Row) -> Packet:
    return Packet(
        number=row.need("frame.number"),
        time=float(row.text("frame.time_relative")),
        source=row.text("_ws.col.Source"),
        destination=row.text("_ws.col.Destination"),
        protocol=row.text("_ws.col.Protocol"),
        length=row.need("frame.len"),
        info=row.text("_ws.col.Info").strip(),
    )


def _gaps(rows: list[_Row]) -> Iterator[int]:
    for row in rows:
        if row.text("tcp.analysis.lost_segment", "tcp.analysis.ack_lost_segment"):
            yield row.need("frame.number")


def _handshakes(rows: list[_Row]) -> Iterator[Handshake]:
    """Collect the opening of each stream: a SYN, the answer to it, and the answer to that."""
    opening: dict[int, tuple[str, str, list[HandshakeStep]]] = {}
    for row in rows:
        number, flags = row.number("tcp.stream"), row.need("tcp.flags")
        if number is None:
            continue
        kind = flags & (_SYN | _ACK)
        if kind == _SYN and number not in opening:
            opening[number] = (row.end("src", "tcp"), row.end("dst", "tcp"), [_step(row, "SYN")])
            continue
        client, server, steps = opening.get(number, ("", "", []))
        source = row.end("src", "tcp")
        if len(steps) == 1 and kind == _SYN | _ACK and source == server:
            steps.append(_step(row, "SYN, ACK"))
        elif len(steps) == 2 and kind == _ACK and source == client:  # noqa: PLR2004 (the third)
            steps.append(_step(row, "ACK"))
    for number, (client, server, steps) in sorted(opening.items()):
        yield Handshake(number, client, server, tuple(steps))


def _step(row: _Row, flags: str) -> HandshakeStep:
    shift = row.number("tcp.options.wscale.shift")
    return HandshakeStep(
        frame=row.need("frame.number"),
        time=float(row.text("frame.time_relative")),
        flags=flags,
        sequence=row.need("tcp.seq"),
        acknowledgement=row.need("tcp.ack"),
        window=row.need("tcp.window_size"),
        mss=row.number("tcp.options.mss_val"),
        window_scale=None if shift is None else 1 << shift,
        sack_permitted=bool(row.text("tcp.options.sack_perm")),
    )


def _pieces(followed: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield (frame, peer, bytes) from tshark's YAML; peer 0 sent the stream's first packet.

    Read line by line: the format is fixed, and a YAML parser takes a hundred times as long.
    """
    frame = peer = -1
    encoded: list[bytes] = []
    for line in [*followed.split(b"\n"), b"packets:"]:
        if line.startswith(b"      "):
            encoded.append(line)
            continue
        if encoded:
            yield frame, peer, base64.b64decode(b"".join(encoded))
            encoded = []
        key, _, value = line.strip().partition(b": ")
        if key == b"- packet":
            frame = int(value)
        elif key == b"peer":
            peer = int(value)


def _tcp_streams(rows: list[_Row], chunks: dict[int, list[Chunk]]) -> Iterator[Stream]:
    first: dict[int, _Row] = {}
    for row in rows:
        number = row.number("tcp.stream")
        if number is not None:
            first.setdefault(number, row)
    for number, row in sorted(first.items()):
        client, server = row.end("src", "tcp"), row.end("dst", "tcp")
        pieces = chunks.get(number, [])
        if row.need("tcp.flags") & (_SYN | _ACK) == _SYN | _ACK:
            # The capture began with the answer: whoever answers a SYN is the server.
            client, server = server, client
            pieces = [Chunk(c.frame, c.time, not c.forward, c.data) for c in pieces]
        yield Stream("tcp", number, client, server, tuple(pieces))


def _udp_streams(rows: list[_Row]) -> Iterator[Stream]:
    ends: dict[int, tuple[str, str]] = {}
    chunks: dict[int, list[Chunk]] = {}
    for row in rows:
        number = row.number("udp.stream")
        if number is None or not row.text("udp.payload"):
            continue
        source = row.end("src", "udp")
        client, _ = ends.setdefault(number, (source, row.end("dst", "udp")))
        data = bytes.fromhex(row.text("udp.payload").replace(":", ""))
        time = float(row.text("frame.time_relative"))
        chunk = Chunk(row.need("frame.number"), time, source == client, data)
        chunks.setdefault(number, []).append(chunk)
    for number, (client, server) in sorted(ends.items()):
        yield Stream("udp", number, client, server, tuple(chunks[number]))


ENGINE = Tshark()
