"""From tcpdump's classic pcap stream to pcapng."""

from __future__ import annotations

import shutil
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest
from fixture_run import blocks
from hypothesis import given
from hypothesis import strategies as st

from experiments.pcapng import Converter, Origin
from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from pathlib import Path

ORIGIN = Origin(name="eth0", description="guest eth0", hardware="x86_64", os="Linux 6.1")
PACKETS = [b"\xff" * 12 + b"\x08\x06" + bytes(28), b"\x02" * 12 + b"\x88\xb5" + b"abc"]
MAGICS = {"<us": 0xA1B2C3D4, ">us": 0xA1B2C3D4, "<ns": 0xA1B23C4D, ">ns": 0xA1B23C4D}


def pcap(kind: str, packets: list[bytes]) -> bytes:
    """Return a classic pcap file: byte order and resolution by kind, a packet each 1.25 s."""
    order = kind[0]
    head = struct.pack(order + "IHHiIII", MAGICS[kind], 2, 4, 0, 0, 262144, 1)
    fraction = 250_000 if kind.endswith("us") else 250_000_001
    records = [
        struct.pack(order + "IIII", 1_700_000_000 + n, fraction, len(p), len(p) + 5) + p
        for n, p in enumerate(packets)
    ]
    return head + b"".join(records)


def convert(data: bytes, size: int, received: int | None = 9, dropped: int | None = 2) -> bytes:
    """Feed the bytes in chunks of that size."""
    converter = Converter(ORIGIN)
    out = b"".join(converter.feed(data[i : i + size]) for i in range(0, len(data), size))
    return out + converter.finish(received=received, dropped=dropped)


def tshark(path: Path, *fields: str) -> list[list[str]]:
    """Return fields of every packet, as tshark reads the file; it must not complain."""
    argv = ["tshark", "-n", "-r", str(path), "-T", "fields"]
    argv += [word for name in fields for word in ("-e", name)]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    complaints = [line for line in done.stderr.splitlines() if "Running as user" not in line]
    assert complaints == []
    return [line.split("\t") for line in done.stdout.splitlines()]


@pytest.mark.skipif(not shutil.which("tshark"), reason="tshark is not installed")
@pytest.mark.parametrize("kind", MAGICS)
def test_wireshark_reads_time_lengths_and_adapter(kind: str, tmp_path: Path) -> None:
    """Both byte orders and both resolutions arrive with the right times, lengths and names."""
    path = tmp_path / "a.pcapng"
    path.write_bytes(convert(pcap(kind, PACKETS), 4096))
    fields = ("frame.time_epoch", "frame.cap_len", "frame.len")
    names = ("frame.interface_name", "frame.interface_description")
    fraction = "250000000" if kind.endswith("us") else "250000001"
    assert tshark(path, *fields, *names) == [
        [f"1700000000.{fraction}", "42", "47", "eth0", "guest eth0"],
        [f"1700000001.{fraction}", "17", "22", "eth0", "guest eth0"],
    ]
    done = subprocess.run(["capinfos", str(path)], check=True, capture_output=True, text=True)
    assert "Wireshark/... - pcapng" in done.stdout
    assert "Capture hardware:    x86_64" in done.stdout


@given(size=st.integers(1, 200), kind=st.sampled_from(sorted(MAGICS)))
def test_chunks_do_not_matter(size: int, kind: str) -> None:
    """However the stream is cut into chunks, the same bytes come out."""
    data = pcap(kind, PACKETS * 3)
    assert convert(data, size) == convert(data, len(data))


def test_a_packet_is_written_as_soon_as_it_is_complete() -> None:
    """Nothing waits for the end of the capture: Wireshark sees a packet when it arrives."""
    data = pcap("<us", PACKETS)
    converter = Converter(ORIGIN)
    first = 24 + 16 + len(PACKETS[0])
    assert [kind for kind, _ in blocks(converter.feed(data[:first]))] == [0x0A0D0D0A, 1, 6]
    assert converter.packets == 1
    assert converter.link_type == 1
    assert converter.feed(data[first:-1]) == b""
    assert [kind for kind, _ in blocks(converter.feed(data[-1:]))] == [6]


def test_the_statistics_hold_what_was_received_and_dropped() -> None:
    """Received and dropped counts end the section as isb_ifrecv and isb_ifdrop."""
    kind, block = blocks(convert(pcap("<us", PACKETS), 99))[-1]
    assert kind == 5
    assert struct.pack("<HHQ", 4, 8, 9) in block
    assert struct.pack("<HHQ", 5, 8, 2) in block


def test_an_unknown_count_is_not_written_as_zero() -> None:
    """Nobody counted drops: the option is absent."""
    _, block = blocks(convert(pcap("<us", PACKETS), 99, received=3, dropped=None))[-1]
    assert struct.pack("<HHQ", 4, 8, 3) in block
    assert struct.pack("<HH", 5, 8) not in block[20:]


def test_a_packet_cut_off_by_the_end_is_left_out() -> None:
    """A tcpdump killed in the middle of a packet leaves a file that is readable."""
    converter = Converter(ORIGIN)
    out = converter.feed(pcap("<us", PACKETS)[:-3]) + converter.finish(received=2, dropped=0)
    assert [kind for kind, _ in blocks(out)] == [0x0A0D0D0A, 1, 6, 5]


def test_nothing_captured_is_nothing_written() -> None:
    """A stream that ended before its header gives no file at all, and not half of one."""
    converter = Converter(ORIGIN)
    assert converter.feed(b"\xd4\xc3") + converter.finish() == b""


@pytest.mark.parametrize("data", [b"tcpdump: eth9", pcap("<us", []) + b"\xff" * 16])
def test_what_is_no_pcap_is_refused(data: bytes) -> None:
    """Bytes that are no pcap stream are an error that names the adapter, not a broken file."""
    converter = Converter(ORIGIN)
    with pytest.raises(LabError, match="guest eth0") as caught:
        converter.feed(data)
    assert caught.value.fault is Fault.GUEST


def test_a_finished_converter_takes_no_more() -> None:
    """Feeding after the end is a mistake of the program, and says so."""
    converter = Converter(ORIGIN)
    converter.finish()
    with pytest.raises(ValueError, match="after finish"):
        converter.feed(b"")
