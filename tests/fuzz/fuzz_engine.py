"""Fuzzes the engine with atheris: file readers, headers, reassembly, search.

    python3 -m venv FOLDER && FOLDER/bin/pip install atheris -r requirements.lock
    FOLDER/bin/python tests/fuzz/fuzz_engine.py MODE SECONDS [libFuzzer options] [CORPUS]

MODE is how the compiled functions run: `plain` (Python, so that coverage leads the fuzzer through
them), `checked` (compiled with a check of every index; an index out of bounds is a crash) or
`compiled` (as users run them). A corpus of small captures is made when CORPUS is empty. Wrong is
whatever raises anything but LabError, takes 25 seconds, or more than 1.5 GB.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from random import Random

HERE = Path(__file__).resolve().parent
MODE = sys.argv[1] if len(sys.argv) > 1 else "plain"
SECONDS = sys.argv[2] if len(sys.argv) > 2 else "60"
if MODE != "compiled":
    os.environ["IMLAB_ENGINE"] = MODE
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent / "experiments")]

import atheris  # noqa: E402 - the path and the mode come first

# Numba does not understand what atheris makes of a function.
KERNELS = ["walk", "flows", "tcp", "assembly", "link", "transport", "decode", "chains"]
LEFT = [f"experiments.analysis.capture.{name}" for name in KERNELS]
LEFT = [] if MODE == "plain" else [*LEFT, "experiments.analysis.scanning.pages"]

with atheris.instrument_imports(include=["experiments"], exclude=LEFT):
    import frames as f
    import numpy as np

    from experiments.analysis import capture
    from experiments.analysis.capture.layout import NONE
    from experiments.analysis.capture.scan import Pattern, Scanner, Secret
    from experiments.analysis.compiled import native
    from lab.errors import LabError

    native.engine()  # loads them

SCANNER = Scanner(
    [Secret("s", "secret"), Secret("long", "long" * 200)], [Pattern("p", rb"GET [^ ]+")]
)
HELD = os.memfd_create("fuzz")
PATH = f"/proc/self/fd/{HELD}"


def one(data: bytes) -> None:
    """Read some bytes as a capture and look at everything in it."""
    os.ftruncate(HELD, 0)
    os.pwrite(HELD, data, 0)
    try:
        with capture.read([PATH], scanner=SCANNER) as reading:
            look(reading, len(data))
    except LabError:
        pass


def look(reading: capture.Reading, size: int) -> None:
    """Ask for everything, and check what must be true of it."""
    assert len(reading) <= size
    assert len(list(reading.rows())) == len(reading)
    for row in reading.packets:
        assert row["captured"] <= size
        assert row["flow"] == NONE or row["flow"] < reading.streams
    list(reading.handshakes())
    _ = reading.skipped, reading.lost(), reading.comments, reading.stopped, reading.dropped
    for stream in reading.followed():
        for forward in (True, False):
            data = stream.side(forward=forward)
            assert len(data) == stream.length(forward=forward)
            assert data == b"".join(c.data for c in stream.chunks if c.forward is forward)
            if data:
                assert stream.frames(0, len(data), forward=forward)
        frames = stream.all_frames
        assert list(frames) == sorted(frames)
    for hit in reading.hits:
        assert hit.end > hit.start
        assert hit.frames


def seeds(folder: Path) -> None:
    """Write small captures of every kind into a folder."""
    number = 0

    def keep(data: bytes) -> None:
        nonlocal number
        (folder / f"seed-{number:03d}").write_bytes(data)
        number += 1

    v4, v6 = [("10.0.0.1", "10.0.0.2")], [("2001:db8::1", "2001:db8::2")]
    for index, (link, wrap) in enumerate(f.LINKS.values()):
        random = Random(index)
        packets = f.mixed(f.talks(random, v4 if link == 228 else v4 + v6, 1), random)[:12]
        keep(f.pcap(f.timed([wrap(packet) for packet in packets], random), link))
    for index, wrap in enumerate(f.TUNNELS.values()):
        random = Random(index)
        packets = f.mixed(f.talks(random, v4 + v6, 1), random)[:8]
        keep(f.pcapng(f.timed([f.ethernet(wrap(packet)) for packet in packets], random)))
    for index in range(6):
        random = Random(index)
        datagram = f.ip4("1.1.1.1", "2.2.2.2", 17, f.udp(1, 2, b"GET secret " * 20))
        pieces = f.fragments4(datagram, 40 + 8 * index, index)
        datagram = f.ip6("::1", "::2", 17, f.udp(1, 2, b"GET secret " * 20))
        pieces += f.fragments6(datagram, 40 + 8 * index, index)
        random.shuffle(pieces)
        keep(
            f.pcap(f.timed([f.ethernet(piece) for piece in pieces], random), order="<>"[index % 2])
        )
    error = b"\x03\x01\0\0\0\0\0\0" + f.ip4("1.1.1.1", "2.2.2.2", 6, f.tcp(1, 2, 3, 4, 2))
    keep(f.pcap([(0, f.ethernet(f.ip4("9.9.9.9", "1.1.1.1", 1, error)), 99)], nano=True))


def main() -> None:
    """Run libFuzzer."""
    options = [argument for argument in sys.argv[3:] if argument.startswith("-")]
    folders = [argument for argument in sys.argv[3:] if not argument.startswith("-")]
    corpus = Path(folders[0]) if folders else Path(tempfile.mkdtemp(prefix="imlab-fuzz-"))
    corpus.mkdir(exist_ok=True)
    if not any(corpus.iterdir()):
        seeds(corpus)
    np.seterr(all="ignore")
    one(next(corpus.iterdir()).read_bytes())  # what is compiled at first use is no timeout
    argv = [sys.argv[0], f"-max_total_time={SECONDS}", "-timeout=25", "-rss_limit_mb=1536"]
    atheris.Setup([*argv, "-max_len=16384", *options, str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
