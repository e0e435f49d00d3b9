"""The evidence engine beside tshark, tcpflow, dpkt and scapy, on generated captures.

Every figure comes from a process of its own: wall and CPU seconds (user and system, of it and its
children) and the most memory that was resident. Ours and theirs take turns; medians are shown. The
captures are made for the run and deleted afterwards; `--sizes` says how large they are.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks import captures
from benchmarks.rows import Row
from experiments.analysis.compiled import native
from lab.errors import Fault, LabError
from lab.memory import available

if TYPE_CHECKING:
    from collections.abc import Callable

PROJECT: Final = Path(__file__).resolve().parent.parent
SIZES: Final = (10, 100, 1000, 4000)  # MB
# What takes so long on larger captures that it would hold up the rest, and says nothing new.
_SLOW: Final = {"scapy": 10, "dpkt": 1000}
# tshark keeps what it has seen: this many times the capture's size.
_KEPT: Final = {"tshark": 2.0}
_TSHARK: Final = ["tshark", "-n", "-o", "tcp.reassemble_out_of_order:TRUE"]
_FIELDS: Final = ["-T", "fields", "-e", "frame.number", "-e", "tcp.stream"]
_HTTP: Final = ["-e", "http.request.full_uri", "-e", "http.authorization", "-e", "http.file_data"]
_READ: Final = (
    "import sys\nwith open(sys.argv[1], 'rb', buffering=0) as file:\n"
    "    piece = bytearray(1 << 20)\n    while file.readinto(piece): pass\n"
)
# A process inherits the most memory of the one that started it, so a small one does, and tells
# how its child ended, seconds of wall and CPU, and KiB.
_LAUNCHER: Final = """
import os, sys, time
since = time.monotonic()
null = os.open(os.devnull, os.O_RDWR)
dup = [(os.POSIX_SPAWN_DUP2, null, descriptor) for descriptor in (0, 1, 2)]
process = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=dup)
_, status, used = os.wait4(process, 0)
took = time.monotonic() - since
print(os.waitstatus_to_exitcode(status), took, used.ru_utime + used.ru_stime, used.ru_maxrss)
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process took: seconds, and MiB at most."""

    wall: float
    cpu: float
    memory: float


def _ours(mode: str) -> Callable[[Path, Path], list[str]]:
    return lambda path, _: [sys.executable, "-m", "benchmarks.engine_pass", mode, str(path)]


def _payloads(path: Path, _: Path) -> list[str]:
    return [*_TSHARK, "-r", str(path), *_FIELDS, "-e", "tcp.seq", "-e", "tcp.payload"]


def _http(path: Path, _: Path) -> list[str]:
    return [*_TSHARK, "-r", str(path), "-Y", "http", *_FIELDS, *_HTTP]


def _all(path: Path, _: Path) -> list[str]:
    """All that our pass with every stream decoded tells, as near as one pass of tshark comes."""
    return [*_payloads(path, _), *_HTTP]


def _peer(name: str) -> Callable[[Path, Path], list[str]]:
    return lambda path, _: [sys.executable, "-m", "benchmarks.other_engines", name, str(path)]


def _tcpflow(path: Path, folder: Path) -> list[str]:
    return ["tcpflow", "-q", "-r", str(path), "-o", str(folder / "flows")]


def _floor(path: Path, _: Path) -> list[str]:
    return [sys.executable, "-c", _READ, str(path)]


# (what of ours, beside what, its process, what to compare, the aim)
PAIRS: Final = (
    ("follow", "reading the file, warm", _floor, "≤ 30 times"),
    ("search", "tshark, payloads out", _payloads, "≥ 30 times less CPU"),
    ("http", "tshark, payloads out, HTTP fields and bodies", _all, "≥ 10 times less CPU"),
    ("http", "tshark, HTTP fields and bodies alone", _http, ""),
    ("search", "tcpflow, streams into files", _tcpflow, "less CPU"),
    ("follow", "dpkt, streams put together", _peer("dpkt"), ""),
    ("follow", "scapy, sessions", _peer("scapy"), ""),
)
_WHAT: Final = {
    "follow": "all packets and streams",
    "search": "the same and 1000 secrets in every spelling",
    "http": "the same and every stream decoded",
}


def run(runs: int, sizes: tuple[int, ...] = SIZES) -> list[Row]:
    """Measure on captures of these sizes (MB). Raises LabError."""
    native.engine()  # compiled before, if it was not
    folder = Path(tempfile.mkdtemp(prefix="imlab-bench-"))
    try:
        block = captures.make_block()
        rows: list[Row] = []
        for size in sizes:
            room = shutil.disk_usage(folder).free
            if room < 2.5 * size * 10**6:
                raise LabError(
                    f"making a capture of {size} MB",
                    f"{folder} has room for {room // 10**6} MB",
                    fault=Fault.MACHINE,
                    todo="set TMPDIR to a folder with more, or give --sizes 10,100",
                )
            path = folder / f"{size}.pcap"
            captures.write(path, size * 10**6, block)
            for pair in PAIRS:
                name = pair[1].partition(",")[0]
                if size <= _SLOW.get(name, size) and _fits(_KEPT.get(name, 0) * size, name):
                    rows += _beside(pair, path, folder, size, runs)
            path.unlink()
        return rows
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fits(memory: float, name: str) -> bool:
    """Whether the machine has that much memory (MB) for a peer; what is left out is said."""
    free = available() / 1e6
    if memory <= free:
        return True
    print(f"  {name} would need {memory:.0f} MB of memory: left out", file=sys.stderr)  # noqa: T201 - progress
    return False


def _beside(
    pair: tuple[str, str, Callable[[Path, Path], list[str]], str],
    path: Path,
    folder: Path,
    size: int,
    runs: int,
) -> list[Row]:
    mode, beside, theirs, aim = pair
    program = theirs(path, folder)[0]
    if not shutil.which(program):
        print(f"  {program} is not installed: left out", file=sys.stderr)  # noqa: T201 - progress
        return []
    print(f"  {size} MB: {mode} beside {beside}", file=sys.stderr, flush=True)  # noqa: T201 - progress
    repeats = runs if size <= 100 else min(runs, 3) if size <= 1000 else 1  # noqa: PLR2004 - MB
    pairs = []
    for turn in range(repeats + (size <= 100)):  # noqa: PLR2004 - small ones have a turn uncounted
        costs = _cost(_ours(mode)(path, folder)), _cost(theirs(path, folder))
        shutil.rmtree(folder / "flows", ignore_errors=True)
        if turn or size > 100:  # noqa: PLR2004 - MB
            pairs.append(costs)
    what = f"{size} MB: {_WHAT[mode]}"
    if size <= 10 and program == "tshark":  # noqa: PLR2004 - MB: starting up counts as much
        aim = "no slower"
    return [
        Row(
            f"{what}, {name}",
            statistics.median(getattr(ours, field) for ours, _ in pairs),
            beside,
            statistics.median(getattr(other, field) for _, other in pairs),
            unit,
            repeats,
            aim
            if field == "cpu" or (field == "wall" and aim == "no slower")
            else "≤ 512 MB"
            if field == "memory"
            else "",
        )
        for field, name, unit in (
            ("wall", "wall", "s"),
            ("cpu", "CPU", "s"),
            ("memory", "memory", "MiB"),
        )
    ]


def _cost(argv: list[str]) -> Cost:
    """Run a process to its end; its output goes nowhere."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _LAUNCHER, *argv],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    status, *figures = done.stdout.split()
    if status != "0":
        raise LabError(
            f"measuring {argv[0]}",
            f"it ended with {status}: {' '.join(argv)}",
            fault=Fault.MACHINE,
            todo="run that command to see why",
        )
    wall, cpu, memory = map(float, figures)
    return Cost(wall, cpu, memory / 1024)
