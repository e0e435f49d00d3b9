"""The engine says of every packet and every stream what Wireshark says.

Compared are, packet by packet, lengths, time, the streams' numbers, sequence and acknowledgement
numbers, segment lengths, flags, window and all of Wireshark's TCP analysis flags; stream by stream,
the bytes that each end sent. Where the two differ on purpose, differential.py leaves it out and
docs/analysis.md says why.

Without more said, the generated captures are the same each time. IMLAB_EXAMPLES=N searches for a
difference in N others a test, GROUPS times as many connections; IMLAB_CAPTURES=FOLDER has all
captures of a folder compared as well.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from random import Random

import frames as f
import pytest
from differential import differences
from fixture_run import FIXTURE, needs_tshark
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

pytestmark = needs_tshark

GIVEN = os.environ.get("IMLAB_CAPTURES", "")
CAPTURES = sorted(p for p in Path(GIVEN).rglob("*") if p.is_file()) if GIVEN else []
EXAMPLES = int(os.environ.get("IMLAB_EXAMPLES", "0"))
# Of hosts in one capture: tshark starts in the time in which it reads fifty.
GROUPS = 16
SUFFIXES = {".pcap", ".pcapng", ".cap", ".dmp"}

examples = settings(
    max_examples=EXAMPLES or 2,
    # What everybody runs finds the same each time; who searches wants what nobody saw yet.
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    # An example is a whole capture and a run of tshark: shrinking one would take minutes.
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
seeds = st.integers(0, 2**32)


def traffic(random: Random, groups: int = GROUPS, *, v6: bool = True) -> list[bytes]:
    """Return packets of TCP conversations that go wrong and of a few UDP ones."""
    return [packet for group in range(groups) for packet in _group(random, group, v6=v6)]


def _group(random: Random, group: int, *, v6: bool) -> list[bytes]:
    pairs = [(f"10.0.{group}.1", f"10.0.{group}.2"), (f"10.0.{group}.9", f"10.0.{group}.2")]
    if v6:
        pairs.append((f"2001:db8::{group + 1:x}:1", f"2001:db8::{group + 1:x}:2"))
    streams = f.talks(random, pairs, 4)
    for port in range(30100, 30103):
        one, other = random.choice(pairs)
        packets = []
        for _ in range(6):
            data = random.randbytes(random.randrange(900))
            sent = random.random() < 0.6
            ends, ports = ((one, other), (port, 30200)) if sent else ((other, one), (30200, port))
            packets.append(f.ip(*ends, 17, f.udp(*ports, data)))
        streams.append(packets)
    return f.mixed(streams, random)


def same(path: Path, records: list[f.Record], link: int = 1) -> None:
    """Write a capture and compare."""
    path.write_bytes(f.pcap(records, link))
    told = differences(path)
    assert not told, "\n".join(told[:20])


@examples
@given(seed=seeds)
def test_connections_that_go_wrong(tmp_path: Path, seed: int) -> None:
    """Loss, reordering, repetition, overlap of other bytes, numbers that wrap, ports reused."""
    random = Random(seed)
    packets = [f.ethernet(packet) for packet in traffic(random)]
    same(tmp_path / "a.pcap", f.timed(packets, random))


@pytest.mark.parametrize("name", f.LINKS)
def test_link_types(tmp_path: Path, name: str) -> None:
    """Whatever the packets were captured on."""
    random = Random(name)
    link, wrap = f.LINKS[name]
    packets = traffic(random, 3, v6=link != 228)
    same(tmp_path / "a.pcap", f.timed([wrap(packet) for packet in packets], random), link)


@pytest.mark.parametrize("name", f.TUNNELS)
def test_tunnels(tmp_path: Path, name: str) -> None:
    """Whatever they travel in."""
    random = Random(name)
    wrap = f.TUNNELS[name]
    packets = [f.ethernet(wrap(packet)) for packet in traffic(random, 3)]
    same(tmp_path / "a.pcap", f.timed(packets, random))


@examples
@given(seed=seeds)
def test_fragments(tmp_path: Path, seed: int) -> None:
    """Fragments in any order, some twice, some missing, some in another VLAN."""
    random = Random(seed)
    out: list[bytes] = []
    for number, packet in enumerate(traffic(random)):
        if random.random() > 0.4 or len(packet) < 100:
            out.append(f.ethernet(packet))
            continue
        cut = f.fragments4 if packet[0] >> 4 == 4 else f.fragments6
        # Never with the bit 0x800, which the VLANs have: Wireshark mixes the two by exclusive or.
        ident = (number & ~0x7FF) << 1 | number & 0x7FF
        pieces = cut(packet, 8 * random.randrange(3, 40), ident)
        if random.random() < 0.3:
            random.shuffle(pieces)
        if random.random() < 0.2:
            pieces.insert(random.randrange(len(pieces)), random.choice(pieces))
        if random.random() < 0.2:
            pieces.pop(random.randrange(len(pieces)))
        tag = ((0x8100, 0xF00 + number % 3),)
        out += [f.ethernet(piece, tags=tag if random.random() < 0.05 else ()) for piece in pieces]
    same(tmp_path / "a.pcap", f.timed(out, random))


@examples
@given(seed=seeds, snap=st.sampled_from([54, 60, 68, 96, 128, 200]) | st.integers(34, 300))
def test_cut_packets(tmp_path: Path, seed: int, snap: int) -> None:
    """Captures of which each packet was kept in part."""
    random = Random(seed)
    packets = f.timed([f.ethernet(packet) for packet in traffic(random)], random)
    same(tmp_path / "a.pcap", [(time, data[:snap], length) for time, data, length in packets])


@examples
@given(seed=seeds)
def test_malformed_packets(tmp_path: Path, seed: int) -> None:
    """Bytes of the headers that cannot be right, and packets that end anywhere."""
    random = Random(seed)
    out = []
    for packet in traffic(random):
        data = bytearray(f.ethernet(packet))
        if random.random() < 0.3:
            for _ in range(random.randrange(1, 4)):
                value = random.choice((0, 255, random.randrange(256), 1, 0x45, 6))
                data[random.randrange(12, min(len(data), 70))] = value
        out.append(bytes(data[: random.randrange(len(data))] if random.random() < 0.05 else data))
    same(tmp_path / "a.pcap", f.timed(out, random))


@examples
@given(seed=seeds)
def test_quoted_packets(tmp_path: Path, seed: int) -> None:
    """ICMP errors quote packets, of connections that are there and of others."""
    random = Random(seed)
    out = []
    for packet in traffic(random):
        out.append(packet)
        if random.random() > 0.2:
            continue
        quote = packet[: random.choice((28, 40, 60, 100, 400, 2000))]
        if packet[0] >> 4 == 4:
            error = struct.pack(">BBHI", random.choice((3, 4, 5, 11, 12)), 1, 0, 0) + quote
            out.append(f.ip4("10.0.0.77", "10.0.0.1", 1, error))
        else:
            error = struct.pack(">BBHI", random.choice((1, 2, 3)), 0, 0, 0) + quote
            out.append(f.ip6("2001:db8::77", "2001:db8::1:1", 58, error))
    same(tmp_path / "a.pcap", f.timed([f.ethernet(packet) for packet in out], random))


@examples
@given(
    seed=seeds,
    order=st.sampled_from("<>"),
    resolution=st.sampled_from([3, 6, 9, 0x80 | 10, 0x80 | 30]),
)
def test_pcapng(tmp_path: Path, seed: int, order: str, resolution: int) -> None:
    """Both byte orders and time stamps in powers of ten and of two."""
    random = Random(seed)
    records = f.timed([f.ethernet(packet) for packet in traffic(random, v6=False)], random)
    path = tmp_path / "a.pcapng"
    path.write_bytes(f.pcapng(records, order=order, resolution=resolution))
    assert differences(path) == []


def test_what_the_lab_captured() -> None:
    """A whole run of the paper's experiment, as three hosts saw it."""
    for path in (FIXTURE / "captures").iterdir():
        assert differences(path) == []


@pytest.mark.skipif(not CAPTURES, reason="IMLAB_CAPTURES names no folder of captures")
@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.name)
def test_captures_of_others(path: Path) -> None:
    """Every capture of the folder that IMLAB_CAPTURES names."""
    if path.suffix not in SUFFIXES:
        pytest.skip("no capture")
    assert differences(path) == []
