"""What a student's capture shows, held against what the student's own lab must have sent.

A capture proves something only if it is of that student's lab: every lab has adapters of its own,
whose hardware addresses follow from its name. Addresses and ports are the same in all labs, and
what a file calls itself is no proof of anything.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from experiments.analysis import capture
from experiments.analysis.capture.scan import Scanner, Secret
from experiments.analysis.decoders import decode
from experiments.eavesdrop import rows
from lab.errors import LabError
from teaching.submissions import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from experiments.analysis.capture import Reading

ETHERNET: Final = 1
ICMP: Final = 1
ECHO_REPLY: Final = 0
ECHO: Final = 8
SCRAMBLER_PORT: Final = 61080
#: Frames whose hardware addresses are looked at, and pings: a hand-in has hundreds.
MOST_FRAMES: Final = 50_000
MOST_PINGS: Final = 5000
MOST_STREAMS: Final = 3000


@dataclass(frozen=True, slots=True)
class Seen:
    """What one capture shows.

    macs   -- hardware addresses of its Ethernet frames.
    reads  -- which of the texts that were looked for can be read.
    pings  -- (source, destination, ICMP type, what it carries).
    opened -- TCP ports to which a handshake is complete; ports -- to which bytes went.
    fault  -- why it could not be read, "" if it could.
    """

    name: str
    packets: int = 0
    macs: frozenset[str] = frozenset()
    reads: frozenset[str] = frozenset()
    pings: tuple[tuple[str, str, int, bytes], ...] = ()
    opened: frozenset[int] = frozenset()
    ports: frozenset[int] = frozenset()
    tls: bool = False
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Ownership:
    """Whose labs a capture shows: the student's own, and whose besides."""

    own: bool
    others: tuple[str, ...] = field(default=())


def look(path: Path, name: str, texts: Iterable[str]) -> Seen:
    """Read a capture for what the rubric can ask of it. Never raises for what is in it."""
    wanted = sorted(set(texts))
    scanner = Scanner([Secret(text, text) for text in wanted]) if wanted else None
    try:
        with capture.read([path], scanner=scanner) as reading:
            reads = {hit.id for hit in reading.hits} if scanner is not None else set()
            tls, ports = False, set()
            for number, followed in enumerate(reading.followed()):
                if number >= MOST_STREAMS:
                    break
                if followed.protocol == "tcp" and followed.length(forward=True):
                    ports.add(int(followed.server.rpartition(":")[2]))
                decoded = decode(rows.as_stream(followed))
                if decoded is None:
                    continue
                tls = tls or "tls" in (decoded.protocol, *decoded.inside)
                for passage in decoded.passages if scanner is not None else ():
                    if passage.encodings:
                        reads |= {place.id for place in scanner.scan(passage.content)}  # type: ignore[union-attr]
            opened = {
                int(shake.server.rpartition(":")[2])
                for shake in reading.handshakes()
                if shake.complete
            }
            return Seen(
                name, len(reading), _macs(reading), frozenset(reads), _pings(reading),
                frozenset(opened), frozenset(ports), tls,
            )  # fmt: skip
    except LabError as error:
        return Seen(name, fault=error.saw.splitlines()[0] if error.saw else "it cannot be read")


def whose(seen: Seen, own: frozenset[str], others: Mapping[str, str]) -> Ownership:
    """Tell whose lab a capture is of. others: hardware address -> student."""
    strangers = sorted({others[mac] for mac in seen.macs if mac in others})
    return Ownership(bool(seen.macs & own), tuple(strangers))


def texts_of(need: Mapping[str, Any]) -> list[str]:
    """Return the texts that a rule has looked for."""
    return [*map(str, need.get("reads", ())), *map(str, need.get("hides", ()))]


def share(seen: Seen, need: Mapping[str, Any]) -> tuple[float, str]:
    """Return how much of what a rule needs a capture shows (0 to 1), and what is missing."""
    missing = []
    if "talks" in need and int(need["talks"]) not in seen.ports:
        missing.append(f"no conversation with port {need['talks']}")
    if need.get("scrambled") and SCRAMBLER_PORT not in seen.ports:
        missing.append("no scrambled connection")
    if need.get("tls") and not seen.tls:
        missing.append("no TLS")
    if "handshake" in need and int(need["handshake"]) not in seen.opened:
        missing.append(f"no complete handshake with port {need['handshake']}")
    if any(text in seen.reads for text in need.get("hides", ())):
        missing.append("it shows what it should not: something was sent unprotected")
    if missing:
        return 0, "; ".join(missing)
    if "pings" in need:
        return _ping_share(seen, need["pings"])
    wanted = [str(text) for text in need.get("reads", ())]
    found = sum(text in seen.reads for text in wanted)
    if found == len(wanted):
        return 1, ""
    return found / len(wanted), f"{found} of {len(wanted)} can be read in it"


def _ping_share(seen: Seen, ping: Mapping[str, str]) -> tuple[float, str]:
    """Half for having asked with the right pattern, all for the answer to it."""
    pattern = bytes.fromhex(ping["pattern"])
    there, back = (ping["from"], ping["to"], ECHO), (ping["to"], ping["from"], ECHO_REPLY)
    ways = {(a, b, kind) for a, b, kind, data in seen.pings if pattern * 2 in data * 2}
    if there in ways and back in ways:
        return 1, ""
    if there in ways:
        return 0.5, "it was sent, and no answer to it is in the capture"
    if any((a, b, kind) == there for a, b, kind, _ in seen.pings):
        return 0, "there is such a ping, but not with your pattern"
    return 0, f"no ping from {ping['from']} to {ping['to']}"


def _macs(reading: Reading) -> frozenset[str]:
    links = reading.packets[:MOST_FRAMES]["link"]
    found = set()
    for number in (np.flatnonzero(links == ETHERNET) + 1).tolist():
        frame = reading.frame(number)
        found |= {frame[:6], frame[6:12]}
    return frozenset(mac.hex(":") for mac in found if len(mac) == 6)  # noqa: PLR2004 - an address


def _pings(reading: Reading) -> tuple[tuple[str, str, int, bytes], ...]:
    """Return the pings (RFC 792, echo) of plain IPv4 packets."""
    table = reading.packets
    found: list[tuple[str, str, int, bytes]] = []
    for index in np.flatnonzero(table["protocol"] == ICMP)[:MOST_PINGS].tolist():
        packet = reading.frame(index + 1)[int(table[index]["layer"]) :]
        size = (packet[0] & 15) * 4 if packet else 0
        if len(packet) < size + 8 or packet[0] >> 4 != 4:  # noqa: PLR2004 - IPv4, its ICMP header
            continue
        kind = packet[size]
        if kind in {ECHO, ECHO_REPLY}:
            source, target = (str(ipaddress.IPv4Address(packet[at : at + 4])) for at in (12, 16))
            found.append((source, target, kind, packet[size + 8 :]))
    return tuple(dict.fromkeys(found))


def told(seen: Seen) -> str:
    """Return a capture's name and size as a page shows it."""
    return f"{shown(seen.name)} ({seen.packets} packets)"
