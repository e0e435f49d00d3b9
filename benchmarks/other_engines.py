"""What others need for the same, in Python: `python -m benchmarks.other_engines dpkt|scapy FILE`.

dpkt reads packets and leaves streams to its user: here the simplest that puts them in order. scapy
has sessions of its own.
"""

from __future__ import annotations

import sys
from pathlib import Path


def with_dpkt(path: Path) -> int:
    """Put streams together with dpkt; return their bytes."""
    import dpkt  # noqa: PLC0415 - only what is measured

    streams: dict[tuple[bytes, int, bytes, int], dict[int, bytes]] = {}
    with path.open("rb") as file:
        for _, frame in dpkt.pcap.Reader(file):
            packet = dpkt.ethernet.Ethernet(frame).data
            segment = getattr(packet, "data", None)
            if isinstance(segment, dpkt.tcp.TCP) and segment.data:
                key = (packet.src, segment.sport, packet.dst, segment.dport)
                streams.setdefault(key, {}).setdefault(segment.seq, segment.data)
    total = 0
    for pieces in streams.values():
        total += len(b"".join(pieces[seq] for seq in sorted(pieces)))
    return total


def with_scapy(path: Path) -> int:
    """Read packets and their sessions with scapy; return the payload's bytes."""
    from scapy.layers.inet import TCP  # noqa: PLC0415 - only what is measured
    from scapy.utils import PcapReader  # noqa: PLC0415 - as above

    total = 0
    with PcapReader(str(path)) as reader:
        for packet in reader:
            if TCP in packet:
                total += len(packet[TCP].payload)
    return total


if __name__ == "__main__":
    {"dpkt": with_dpkt, "scapy": with_scapy}[sys.argv[1]](Path(sys.argv[2]))
