"""Capture files of every kind, whole and damaged, one and several."""

from __future__ import annotations

import gzip
import io
import struct
import subprocess
import sys
from random import Random
from typing import TYPE_CHECKING

import frames as f
import pytest
import zstandard
from fixture_run import FIXTURE
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.analysis import capture
from experiments.analysis.capture import layout
from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from pathlib import Path

RECORDS = f.timed(
    [f.ethernet(p) for p in f.talks(Random(3), [("10.0.0.1", "10.0.0.2")])[0]], Random(3)
)
STREAMS = 2  # the ports are used again
SAID = [data for _, data, _ in RECORDS]


def frames_of(reading: capture.Reading) -> list[bytes]:
    """Return all frames."""
    return [reading.frame(number) for number in range(1, len(reading) + 1)]


def read(path: Path) -> tuple[list[bytes], str]:
    """Return all frames of a file, and why reading stopped."""
    with capture.read([path]) as reading:
        return frames_of(reading), reading.stopped


@pytest.mark.parametrize(
    "data",
    [
        f.pcap(RECORDS),
        f.pcap(RECORDS, order=">"),
        f.pcap(RECORDS, nano=True),
        f.pcap(RECORDS, order=">", nano=True),
        f.pcapng(RECORDS),
        f.pcapng(RECORDS, order=">"),
        f.pcapng(RECORDS, resolution=9),
        gzip.compress(f.pcap(RECORDS)),
        gzip.compress(f.pcap(RECORDS)[:999]) + gzip.compress(f.pcap(RECORDS)[999:]) + bytes(10),
        zstandard.compress(f.pcapng(RECORDS)),
        zstandard.compress(f.pcap(RECORDS)[:999]) + zstandard.compress(f.pcap(RECORDS)[999:]),
    ],
    ids=["le", "be", "ns", "be ns", "ng", "ng be", "ng ns", "gz", "gz twice", "zst", "zst twice"],
)
def test_every_format_says_the_same(tmp_path: Path, data: bytes) -> None:
    """Byte order, resolution, container and packing do not matter."""
    path = tmp_path / "any.name"
    path.write_bytes(data)
    assert read(path) == (SAID, "")
    with capture.read([path]) as reading:
        assert reading.packets["time"].tolist() == [time for time, _, _ in RECORDS]


def test_standard_input_is_read() -> None:
    """'-' takes a capture from a pipe, packed or not."""
    program = (
        "from experiments.analysis import capture\n"
        "r = capture.read(['-'])\n"
        "print(len(r), r.files[0].name, r.files[0].packed, r.streams)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=gzip.compress(f.pcap(RECORDS)),
        capture_output=True,
        check=True,
    )
    assert done.stdout.split() == [
        str(len(RECORDS)).encode(),
        b"standard",
        b"input",
        b"gzip",
        str(STREAMS).encode(),
    ]


def test_several_files_are_merged_by_time(tmp_path: Path) -> None:
    """Packets of three files come in the order of their times, whatever file they are in."""
    ordered = sorted(RECORDS)
    for index in range(3):
        (tmp_path / f"{index}.pcap").write_bytes(f.pcap(ordered[index::3]))
    with capture.read([tmp_path / f"{index}.pcap" for index in range(3)]) as reading:
        assert frames_of(reading) == [data for _, data, _ in ordered]
        assert [interface.file for interface in reading.interfaces] == [
            "0.pcap",
            "1.pcap",
            "2.pcap",
        ]
        assert reading.streams == STREAMS


def test_merged_files_give_the_streams_of_one(tmp_path: Path) -> None:
    """A conversation of which each file has one direction is whole when both are read."""
    with capture.read([FIXTURE / "captures/guest-eth0.pcapng"]) as whole:
        sides: dict[int, list[f.Record]] = {0: [], 1: []}
        for row in whole.packets:
            number = len(sides[0]) + len(sides[1]) + 1
            record = (int(row["time"]), whole.frame(number), int(row["length"]))
            sides[int(row["direction"])].append(record)
        expected = [stream.chunks for stream in whole.followed()]
        for side, records in sides.items():
            (tmp_path / f"{side}.pcap").write_bytes(f.pcap(records, nano=True))
    with capture.read([tmp_path / "0.pcap", tmp_path / "1.pcap"]) as reading:
        assert [stream.chunks for stream in reading.followed()] == expected


def test_interfaces_comments_keys_and_drops_of_pcapng(tmp_path: Path) -> None:
    """Each interface has its own link type and clock; notes and TLS keys are kept."""
    ip = f.ip4("10.0.0.1", "10.0.0.2", 17, f.udp(1, 2, b"x"))
    keys = b"CLIENT_RANDOM 00 11\n"
    data = (
        f.block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + f.option(1, b"a note"))
        + f.interface(1)
        + f.interface(101, resolution=9)
        + f.block(10, struct.pack("<II", 0x544C534B, len(keys)) + keys)
        + f.packet_block((10**18 + 5000, f.ethernet(ip), 99), 0, comment="look here")
        + f.block(0x0BAD, b"something private")
        + f.packet_block((10**18 + 5123, ip, len(ip)), 1, resolution=9)
        + f.block(3, struct.pack("<I", len(ip)) + ip)
        + f.block(5, struct.pack("<III", 1, 0, 0) + f.option(5, struct.pack("<Q", 7)))
        + f.section(">")
        + f.interface(12, ">")
        + f.packet_block((10**18, ip, len(ip)), 0, ">")
    )
    path = tmp_path / "a.pcapng"
    path.write_bytes(data)
    with capture.read([path]) as reading:
        assert reading.stopped == ""
        assert [interface.link for interface in reading.interfaces] == [1, 101, 12]
        assert reading.packets["time"].tolist()[:2] == [10**18 + 5000, 10**18 + 5123]
        assert reading.packets["interface"].tolist() == [0, 1, 0, 2]
        assert reading.packets["link"].tolist() == [1, 101, 1, 12]
        assert [(note.frame, note.text) for note in reading.comments] == [
            (0, "a note"),
            (1, "look here"),
        ]
        assert reading.secrets == keys
        assert reading.dropped == 7
        assert reading.streams == 1


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda data: data[:-7], "ends in the middle of a packet at byte"),
        (lambda data: data + b"\xff" * 200, "is damaged at byte"),
        (lambda data: gzip.compress(data)[:-900], "gzip data is damaged at byte"),
        (
            lambda data: zstandard.compress(data[:9000]) + zstandard.compress(data[9000:])[:-9],
            "zstd data is damaged at byte",
        ),
    ],
)
@pytest.mark.parametrize("make", [f.pcap, f.pcapng])
def test_damaged_files_are_read_as_far_as_they_go(tmp_path, make, damage, word) -> None:  # noqa: ANN001 - see above
    """What is there comes out, and one sentence says where it stopped."""
    path = tmp_path / "a"
    path.write_bytes(damage(make([(time, data * 4, len(data) * 4) for time, data, _ in RECORDS])))
    with capture.read([path]) as reading:
        assert word in reading.stopped or "ends in the middle" in reading.stopped
        assert reading.stopped.endswith(f"after {len(reading)} packets")
        assert frames_of(reading) == [data * 4 for data in SAID[: len(reading)]]


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_nothing_in_a_file_makes_it_fail(tmp_path_factory: pytest.TempPathFactory, data) -> None:  # noqa: ANN001 - hypothesis's
    """Any bytes, changed anywhere: packets, or LabError; never anything else."""
    whole = bytearray(data.draw(st.sampled_from([f.pcap(RECORDS), f.pcapng(RECORDS)])))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(whole) - 1))
        piece = data.draw(st.binary(max_size=8))
        whole[at : at + len(piece)] = piece
    path = tmp_path_factory.mktemp("any") / "a"
    path.write_bytes(bytes(whole))
    try:
        with capture.read([path]) as reading:
            frames_of(reading)
            assert len(list(reading.rows())) == len(reading)
            for stream in reading.followed():
                assert len(stream.side(forward=True)) == stream.length(forward=True)
    except LabError:
        pass


@pytest.mark.parametrize(
    ("content", "word"),
    [(b"", "it is empty"), (b"no capture", "neither pcap nor pcapng"), (None, "No such file")],
)
def test_what_is_no_capture_is_refused(tmp_path: Path, content: bytes | None, word: str) -> None:
    """With what it is instead, and whose fault that is."""
    path = tmp_path / "a"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LabError, match=word) as caught:
        capture.read([path])
    assert caught.value.fault is Fault.USER


def test_a_folder_is_no_capture(tmp_path: Path) -> None:
    """Nor is naming none."""
    with pytest.raises(LabError, match="directory"):
        capture.read([tmp_path])
    with pytest.raises(LabError, match="none was named"):
        capture.read([])


def test_packets_and_streams_are_opened_by_number(tmp_path: Path) -> None:
    """One packet and one stream out of many, and a message for numbers that there are not."""
    path = tmp_path / "a.pcap"
    records = [
        (
            n * 10**9,
            f.ethernet(f.ip4("10.0.0.1", "10.0.0.2", 17, f.udp(n % 50000, 53, b"%d" % n))),
            60,
        )
        for n in range(30_000)
    ]
    path.write_bytes(f.pcap(records))
    with capture.read([path]) as reading:
        assert reading.frame(29_999) == records[29_998][1]
        assert reading.packet(29_999).time == 29_998.0
        assert reading.find("udp", 4711).side(forward=True) == b"4711"
        assert reading.stream(12).frames(0, 1, forward=True) == (13,)
        for ask in (lambda: reading.frame(30_001), lambda: reading.find("tcp", 0)):
            with pytest.raises(LabError):
                ask()


def test_chosen_frames_are_written_as_they_were(tmp_path: Path) -> None:
    """The proof has the original bytes, lengths, times and interfaces, and what was noted."""
    path, proof = tmp_path / "a.pcap", tmp_path / "proof.pcapng"
    path.write_bytes(f.pcap([(time, data[:60], len(data)) for time, data, _ in RECORDS], nano=True))
    with capture.read([path]) as reading:
        reading.write([3, 1, 3], proof, {3: "the password"})
        rows = reading.packets[[0, 2]]
    with capture.read([proof]) as again:
        assert frames_of(again) == [SAID[0][:60], SAID[2][:60]]
        for name in ("time", "captured", "length", "link"):
            assert again.packets[name].tolist() == rows[name].tolist()
        assert [(note.frame, note.text) for note in again.comments] == [(2, "the password")]


def test_progress_is_told_and_an_interruption_keeps_what_is_known(tmp_path: Path) -> None:
    """Ctrl-C in the middle gives the packets so far, and says so."""
    path = tmp_path / "a.pcap"
    path.write_bytes(f.pcap(RECORDS * 3000))
    seen: list[capture.Progress] = []

    def stop(at: capture.Progress) -> None:
        seen.append(at)
        raise KeyboardInterrupt

    from experiments.analysis.capture import engine

    before, engine._EVERY_S = engine._EVERY_S, 0.0
    try:
        with capture.read([path], progress=stop) as reading:
            assert 0 < len(reading) < len(RECORDS) * 3000
            assert reading.interrupted
            assert "interrupted" in reading.stopped
            assert reading.frame(len(reading)) in SAID
    finally:
        engine._EVERY_S = before
    assert seen[0].packets > 0
    assert seen[0].total == path.stat().st_size


@pytest.mark.parametrize("links", [(147,), (1, 147)])
def test_link_types_that_are_not_read_are_counted(tmp_path: Path, links: tuple[int, ...]) -> None:
    """Nothing is passed over in silence."""
    data = f.section() + b"".join(f.interface(link) for link in links)
    data += b"".join(f.packet_block(RECORDS[n], n % len(links)) for n in range(10))
    path = tmp_path / "a.pcapng"
    path.write_bytes(data)
    with capture.read([path]) as reading:
        assert reading.skipped == {"unknown link type 147": 10 // len(links)}
        assert reading.marked(layout.UNKNOWN_LINK)[-1] == 10


def test_a_stream_longer_than_the_window_is_a_stream(tmp_path: Path) -> None:
    """Segments of one connection across many windows, one lost, and bytes in bounded pieces."""
    client, server = ("10.0.0.1", 1), ("10.0.0.2", 2)
    body = Random(1).randbytes(1_000_000)
    packets, at, sent = [], 1, io.BytesIO()
    for turn in range(24):
        for start in range(0, len(body), 50_000):
            data = body[start : start + 50_000]
            segment = f.tcp(client[1], server[1], at, 1, f.ACK, data)
            if (turn, start) != (3, 50_000):
                packets.append(f.ethernet(f.ip4(client[0], server[0], 6, segment)))
                sent.write(data)
            at += len(data)
    packets.append(f.ethernet(f.ip4(server[0], client[0], 6, f.tcp(2, 1, 1, at, f.ACK))))
    path = tmp_path / "a.pcap"
    path.write_bytes(f.pcap(f.timed(packets, Random(1))))
    with capture.read([path]) as reading:
        (stream,) = reading.followed()
        whole = sent.getvalue()
        assert stream.missing(forward=True) == 50_000
        assert stream.length(forward=True) == len(whole)
        assert b"".join(stream.pieces(forward=True)) == whole
        assert stream.side(forward=True) == whole[: 32 << 20]
        assert stream.read(5_000_000, 5_000_010, forward=True) == whole[5_000_000:5_000_010]
        assert b"".join(chunk.data for chunk in stream.walk()) == whole
        assert reading.lost()
