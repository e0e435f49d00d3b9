"""Conversations of which the engine means to make more than Wireshark; how its code is run."""

from __future__ import annotations

import os
import subprocess
import sys
from random import Random
from typing import TYPE_CHECKING

import frames as f
from fixture_run import FIXTURE

from experiments.analysis import capture
from experiments.analysis.capture.fragments import Fragments
from experiments.analysis.compiled import native
from experiments.analysis.engines import engine
from experiments.analysis.model import Stream

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

CLIENT, SERVER = ("10.0.0.1", 1000), ("10.0.0.2", 80)


def talk(path: Path, segments: list[tuple[int, int, int, int, bytes]]) -> capture.Reading:
    """Read segments of (side, seq, ack, flags, data)."""
    packets = []
    for side, seq, ack, flags, data in segments:
        one, other = (CLIENT, SERVER) if side == 0 else (SERVER, CLIENT)
        segment = f.tcp(one[1], other[1], seq, ack, flags, data)
        packets.append(f.ethernet(f.ip4(one[0], other[0], 6, segment)))
    path.write_bytes(f.pcap(f.timed(packets, Random(1))))
    return capture.read([path])


OPEN = [(0, 99, 0, f.SYN, b""), (1, 499, 100, f.SYN | f.ACK, b""), (0, 100, 500, f.ACK, b"")]


def test_what_lies_behind_a_hole_at_the_end_is_readable(tmp_path: Path) -> None:
    """Nobody acknowledged it before the capture ended, but whoever listens has it."""
    with talk(
        tmp_path / "a", [*OPEN, (0, 100, 500, f.ACK, b"one "), (0, 110, 500, f.ACK, b"three")]
    ) as reading:
        (stream,) = reading.followed()
        assert stream.side(forward=True) == b"one three"
        assert stream.missing(forward=True) == 6
        assert stream.gaps == (5,)


def test_the_first_copy_of_a_byte_counts(tmp_path: Path) -> None:
    """Overlapping segments with other bytes in them change nothing that was there."""
    with talk(
        tmp_path / "a",
        [
            *OPEN,
            (0, 104, 500, f.ACK, b"EFGH"),
            (0, 102, 500, f.ACK, b"cdxxxxij"),
            (0, 100, 500, f.ACK, b"ABCD"),
        ],
    ) as reading:
        (stream,) = reading.followed()
        assert stream.side(forward=True) == b"ABCDEFGHij"
        assert [chunk.frame for chunk in stream.chunks] == [6, 4, 5]


def test_a_stray_answer_to_a_syn_does_not_take_the_stream_away(tmp_path: Path) -> None:
    """A second SYN, ACK with another number, and the connection goes on with the first."""
    with talk(
        tmp_path / "a",
        [*OPEN, (1, 7777, 100, f.SYN | f.ACK, b""), (1, 500, 100, f.ACK, b"still here")],
    ) as reading:
        (stream,) = reading.followed()
        assert stream.side(forward=False) == b"still here"


def test_a_connection_whose_syn_was_not_captured_follows_another(tmp_path: Path) -> None:
    """The same ports again, of which only the answer to the SYN is there: both are readable."""
    with talk(
        tmp_path / "a",
        [
            *OPEN,
            (1, 500, 100, f.ACK, b"first "),
            (1, 900_000, 70_000, f.SYN | f.ACK, b""),
            (1, 900_001, 70_000, f.ACK, b"second"),
            (0, 70_000, 900_007, f.ACK, b"asked"),
        ],
    ) as reading:
        (stream,) = reading.followed()
        assert stream.side(forward=False) == b"first second"
        assert stream.side(forward=True) == b"asked"


def test_another_connection_may_begin_with_a_hole(tmp_path: Path) -> None:
    """Of it neither the SYN nor the first bytes were captured: no hole of a billion bytes."""
    with talk(
        tmp_path / "a",
        [
            *OPEN,
            (1, 500, 100, f.ACK, b"first "),
            (1, 2_000_000_000, 70_000, f.SYN | f.ACK, b""),
            (1, 2_000_000_003, 70_000, f.ACK, b"second"),
            (0, 70_000, 2_000_000_009, f.ACK, b""),
            (1, 2_000_000_001, 70_000, f.ACK, b"!!"),  # what nobody misses any more
            (1, 2_000_000_009, 70_000, f.ACK, b" and third"),
        ],
    ) as reading:
        (stream,) = reading.followed()
        assert stream.side(forward=False) == b"first second and third"
        assert stream.missing(forward=False) == 2


def test_what_came_before_the_answer_that_it_counts_from_is_in_its_place(tmp_path: Path) -> None:
    """Another connection's first bytes, captured before its SYN, ACK."""
    with talk(
        tmp_path / "a",
        [
            *OPEN,
            (1, 500, 100, f.ACK, b"first "),
            (1, 2_000_000_001, 70_000, f.ACK, b"second "),
            (1, 2_000_000_000, 70_000, f.SYN | f.ACK, b""),
            (1, 2_000_000_008, 70_000, f.ACK, b"and on"),
        ],
    ) as reading:
        (stream,) = reading.followed()
        assert stream.side(forward=False) == b"first second and on"
        assert stream.missing(forward=False) == 0


def test_a_late_answer_to_a_syn_that_tells_nothing_new_changes_nothing(tmp_path: Path) -> None:
    """What was lost before it and comes again was acknowledged: it is a hole by then."""
    with talk(
        tmp_path / "a",
        [
            OPEN[0],
            (0, 100, 511, f.ACK, b""),
            (1, 500, 100, f.SYN | f.ACK, b""),
            (1, 511, 100, f.ACK, b"behind a hole"),
            (0, 100, 524, f.ACK, b""),
            (1, 501, 100, f.ACK, b"ten bytes."),
            (1, 524, 100, f.ACK, b", and on"),
        ],
    ) as reading:
        (stream,) = reading.followed()
        assert stream.side(forward=False) == b"behind a hole, and on"


def test_half_a_conversation_is_half_a_stream(tmp_path: Path) -> None:
    """One direction alone, from the middle: client is whoever was seen first."""
    with talk(tmp_path / "a", [(1, 5, 9, f.ACK, b"hello"), (1, 10, 9, f.ACK, b" you")]) as reading:
        (stream,) = reading.followed()
        assert (stream.client, stream.server) == ("10.0.0.2:80", "10.0.0.1:1000")
        assert stream.side(forward=True) == b"hello you"
        assert not stream.started


def test_who_answers_a_syn_is_the_server(tmp_path: Path) -> None:
    """Although its packet comes first."""
    with talk(tmp_path / "a", [*OPEN[1:], (0, 100, 500, f.ACK, b"x")]) as reading:
        (stream,) = reading.followed()
        assert (stream.client, stream.server) == ("10.0.0.1:1000", "10.0.0.2:80")
        assert stream.side(forward=True) == b"x"


def test_segments_that_wait_are_bounded(tmp_path: Path) -> None:
    """A hole that nobody fills and much behind it: it is given up, and nothing is lost."""
    from experiments.analysis.capture.state import MOST_WAITING

    count = MOST_WAITING + 500
    segments = [(0, 200 + 2 * n, 500, f.ACK, b"%02d" % (n % 100)) for n in range(count)]
    with talk(tmp_path / "a", [*OPEN, (0, 100, 500, f.ACK, b"go"), *segments]) as reading:
        (stream,) = reading.followed()
        assert stream.side(forward=True) == b"go" + b"".join(s[4] for s in segments)
        assert stream.missing(forward=True) == 98


def test_a_followed_stream_is_what_the_model_says() -> None:
    """Read from the file or held in memory, a stream answers the same."""
    with capture.read([FIXTURE / "captures/host-eth0.pcapng"]) as reading:
        for lazy in reading.followed():
            held = Stream(lazy.protocol, lazy.number, lazy.client, lazy.server, lazy.chunks)
            for forward in (True, False):
                whole = held.side(forward=forward)
                assert lazy.side(forward=forward) == whole
                assert lazy.length(forward=forward) == len(whole)
                for start in range(0, len(whole), 97):
                    end = min(start + 150, len(whole))
                    asked = (start, end)
                    assert lazy.frames(*asked, forward=forward) == held.frames(
                        *asked, forward=forward
                    )
                    assert lazy.time(end, forward=forward) == held.time(end, forward=forward)
                    assert lazy.read(*asked, forward=forward) == whole[start:end]


def test_plain_and_compiled_code_agree(tmp_path: Path) -> None:
    """As Python and as machine code the functions fill the same tables, byte for byte."""
    random = Random(5)
    talks = f.talks(random, [("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8::2")], 4)
    packets = [f.ethernet(p) for p in f.mixed(talks, random)]
    packets += [
        f.ethernet(p)
        for p in f.fragments4(f.ip4("1.1.1.1", "2.2.2.2", 17, f.udp(1, 2, bytes(999))), 64, 9)
    ]
    path = tmp_path / "a.pcap"
    path.write_bytes(f.pcap(f.timed(packets, random)))
    program = (
        "import hashlib, sys; from experiments.analysis import capture\n"
        "r = capture.read([sys.argv[1]])\n"
        "tables = r.packets, r.flows, r.extents\n"
        "print([hashlib.sha256(table.tobytes()).hexdigest() for table in tables])\n"
        "for one in r.followed():\n"
        "    sides = [one.side(forward=way) for way in (True, False)]\n"
        "    assert sides == [one.read(0, 1 << 30, forward=way) for way in (True, False)]\n"
        "    print(one, [hashlib.sha256(side).hexdigest() for side in sides])\n"
        "    size = one.length(forward=True)\n"
        "    where = one.flow, one._flipped\n"
        "    places = [(*where, at, min(at + 700, size)) for at in range(0, size, 99)]\n"
        "    if places:\n"
        "        told = r.frames_at(places)\n"
        "        assert told == [one.frames(*place[2:], forward=True) for place in places]\n"
        "        print(told)\n"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", program, str(path)],
            env={**os.environ, "IMLAB_ENGINE": mode},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for mode in ("", "plain", "checked")
    }
    assert len(told) == 1
    assert told.pop().count("Followed") > 4


def test_compiled_code_of_other_sources_is_not_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The object file's name is a hash of the sources: a change makes another name."""
    before = native.file_name()
    monkeypatch.setattr(native.parts()[0], "SOURCES", ("walk",))
    native.file_name.cache_clear()
    assert native.file_name() != before
    monkeypatch.undo()
    native.file_name.cache_clear()
    assert native.file_name() == before


def test_the_analysis_never_loads_numba() -> None:
    """It takes half a second; the compiled code needs it no more."""
    path = FIXTURE / "captures/host-eth0.pcapng"
    program = (
        "import sys; from experiments.analysis.engines import engine; from pathlib import Path\n"
        "engine('native').read(Path(sys.argv[1])); print('numba' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], check=True, capture_output=True, text=True
    )
    assert done.stdout == "False\n"
    assert engine("native").version()


def test_fragments_are_bounded_and_joined_in_the_order_of_their_offsets() -> None:
    """Of overlaps the lower offset counts; what is never finished goes, the oldest first."""
    waiting = Fragments()
    key = (b"a", b"b", 17, 1, 0)
    assert waiting.add(key, 8, b"BBBBBBBB", more=False) is None
    assert waiting.add(key, 0, b"AAAAAAAAAA", more=True) == b"AAAAAAAAAABBBBBB"
    assert len(waiting) == 0
    for number in range(5000):
        waiting.add((b"a", b"b", 17, number, 0), 0, b"x" * 8, more=True)
    assert len(waiting) == 4096
    assert waiting.given_up == 5000 - 4096
    assert waiting.add((b"a", b"b", 1, 1, 0), 65528, b"too far out", more=False) is None
