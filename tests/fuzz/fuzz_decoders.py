"""Fuzzes the decoders with atheris: any bytes in any turns, each decoder and all that lies inside.

    FOLDER/bin/python tests/fuzz/fuzz_decoders.py SECONDS [libFuzzer options] [CORPUS]

FOLDER is made as fuzz_engine.py says, with pytest and hypothesis beside atheris. An input is: a
byte for the transport, a byte for the decoder (255: whichever recognises the bytes), then turns of
a byte for who speaks, two for how many bytes, and the bytes. A corpus is made of the conversations
that the tests of the decoders read. Wrong is what raises, what lies about places and frames, what
takes 25 seconds, or more than 1.5 GB. IMLAB_ENGINE=plain and IMLAB_ENGINE=checked choose how the
compiled functions run, as fuzz_engine.py's MODE does.
"""

from __future__ import annotations

import os
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

HERE = Path(__file__).resolve().parent
SECONDS = sys.argv[1] if len(sys.argv) > 1 else "60"
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent / "experiments" / "decoders")]

import atheris  # noqa: E402 - the path comes first

# Numba does not understand what atheris makes of a function.
PLAIN = os.environ.get("IMLAB_ENGINE") == "plain"
LEFT = [] if PLAIN else ["experiments.analysis.scanning.pages"]

with atheris.instrument_imports(include=["experiments"], exclude=LEFT):
    from conversations import corpus, stream
    from sealed_talk import tls

    from experiments.analysis import markup
    from experiments.analysis.decoders import decode, decoders
    from experiments.analysis.told import told

    NAMES = sorted(decoders())

KEYS = tls()[1]


def turns_of(data: bytes) -> list[tuple[bool, bytes]]:
    """Read the turns of an input."""
    turns, at = [], 0
    while at + 3 <= len(data):
        length = int.from_bytes(data[at + 1 : at + 3], "big")
        turns.append((data[at] % 2 == 0, data[at + 3 : at + 3 + length]))
        at += 3 + length
    return turns


def bytes_of(protocol: str, turns: list[tuple[bool, bytes]]) -> bytes:
    """Return the input that turns_of reads back."""
    out = bytes([protocol == "udp", 255])
    for forward, data in turns:
        for start in range(0, len(data), 65535):
            piece = data[start : start + 65535]
            out += bytes([not forward]) + len(piece).to_bytes(2, "big") + piece
    return out


def one(data: bytes) -> None:
    """Decode some bytes, and check what must be true of what is told."""
    if len(data) < 2:
        return
    followed = stream(turns_of(data[2:]), protocol="udp" if data[0] % 2 else "tcp")
    hint = NAMES[data[1] % len(NAMES)] if data[1] != 255 else ""
    decoded = decode(followed, KEYS, hint=hint)
    if decoded is None:
        return
    frames = {chunk.frame for chunk in followed.chunks}
    for exposure in decoded.exposures:
        side = followed.side(forward=exposure.forward)
        assert 0 <= exposure.start <= exposure.end <= len(side), exposure
        assert exposure.text, exposure
    for passage in decoded.passages:
        assert 0 <= passage.start <= passage.end <= len(followed.side(forward=passage.forward))
        for former, latter in pairwise(passage.spans):
            assert former.content < latter.content
    for row in told(followed, decoded):
        assert row.frames, row
        assert set(row.frames) <= frames


def main() -> None:
    """Run libFuzzer."""
    options = [argument for argument in sys.argv[2:] if argument.startswith("-")]
    folders = [argument for argument in sys.argv[2:] if not argument.startswith("-")]
    kept = Path(folders[0]) if folders else Path(tempfile.mkdtemp(prefix="imlab-fuzz-"))
    kept.mkdir(exist_ok=True)
    if not any(kept.iterdir()):
        for number, (protocol, turns) in enumerate(corpus().values()):
            (kept / f"seed-{number:03d}").write_bytes(bytes_of(protocol, turns))
    # What is compiled at first use is no timeout.
    markup.telling(b"<table>")
    markup.read(b"<table><tr><td>cell</td></tr></table>")
    argv = [sys.argv[0], f"-max_total_time={SECONDS}", "-timeout=25", "-rss_limit_mb=1536"]
    atheris.Setup([*argv, "-max_len=32768", *options, str(kept)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
