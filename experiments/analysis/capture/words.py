"""A packet as a row of the packet list: who, to whom, and in short words what.

The columns are those of Wireshark's list, the words our own and fewer. They are made when a row is
looked at; the pass makes none.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final

from experiments.analysis.capture.layout import (
    ACK,
    FRAGMENT,
    MALFORMED,
    PORTS_REUSED,
    QUOTED,
    STATUS_WORDS,
    SYN,
    TCP,
    UDP,
    UNKNOWN_LINK,
    WINDOW_UPDATE,
)

if TYPE_CHECKING:
    import numpy as np

_IPV4: Final = 0x0800
_IPV6: Final = 0x86DD
_ARP: Final = 0x0806
_FLAGS: Final = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR", "AE")
_NETWORKS: Final = {
    0x0800: "IPv4",
    0x86DD: "IPv6",
    0x0806: "ARP",
    0x8035: "RARP",
    0x88CC: "LLDP",
    0x888E: "EAPOL",
    0x8863: "PPPoE",
    0x8864: "PPPoE",
    0x8847: "MPLS",
    0x88E5: "MACsec",
    0x9000: "loopback test",
    0x2000: "CDP",
    0x8809: "slow protocols",
}
_PROTOCOLS: Final = {
    0: "IPv6 options",
    1: "ICMP",
    2: "IGMP",
    4: "IPv4",
    6: "TCP",
    17: "UDP",
    41: "IPv6",
    47: "GRE",
    50: "ESP",
    51: "AH",
    58: "ICMPv6",
    89: "OSPF",
    103: "PIM",
    112: "VRRP",
    132: "SCTP",
    136: "UDP-Lite",
}
_ICMP: Final = {
    0: "Echo (ping) reply   ",
    3: "destination unreachable",
    4: "source quench",
    5: "redirect",
    8: "Echo (ping) request ",
    11: "time exceeded",
    12: "parameter problem",
    13: "timestamp request",
    14: "timestamp reply",
}
_ICMPV6: Final = {
    1: "destination unreachable",
    2: "packet too big",
    3: "time exceeded",
    4: "parameter problem",
    128: "Echo (ping) request",
    129: "Echo (ping) reply",
    130: "listener query",
    131: "listener report",
    133: "router solicitation",
    134: "router advertisement",
    135: "neighbour solicitation",
    136: "neighbour advertisement",
    143: "listener report",
}
_WELL_KNOWN: Final = {
    53: "DNS",
    67: "DHCP",
    68: "DHCP",
    123: "NTP",
    137: "NBNS",
    161: "SNMP",
    514: "syslog",
    546: "DHCPv6",
    547: "DHCPv6",
    1900: "SSDP",
    3478: "STUN",
    4789: "VXLAN",
    5353: "mDNS",
    5355: "LLMNR",
}
_HTTP: Final = re.compile(
    rb"(?:GET|POST|HEAD|PUT|DELETE|OPTIONS|PATCH|CONNECT|TRACE) \S+ HTTP/1\.[01]|HTTP/1\.[01] \d{3}"
)
_SSH: Final = re.compile(rb"SSH-[12]\.")
_TLS_TYPES: Final = {20: "change cipher", 21: "alert", 22: "handshake", 23: "application data"}
_HELLO: Final = {1: "client hello", 2: "server hello", 11: "certificate"}
_NOT_SHOWN: Final = (
    FRAGMENT | QUOTED | UNKNOWN_LINK | MALFORMED | (1 << 16) | (1 << 18) | (1 << 22) | (1 << 23)
)


def address(raw: bytes) -> str:
    """Return an IP address of 4 or 16 bytes as text."""
    return str(ipaddress.ip_address(raw))


def end(raw: bytes, port: int) -> str:
    """Return "address:port", an IPv6 address in brackets."""
    text = address(raw)
    return f"[{text}]:{port}" if ":" in text else f"{text}:{port}"


def ends(flow: np.void, first: int | None = None) -> tuple[str, str]:
    """Return the ends of a flow, "address:port"; the client first, or the one asked for."""
    size = 4 if flow["version"] == 4 else 16  # noqa: PLR2004 - IPv4
    one = int(flow["flipped"]) if first is None else first
    address, port = flow["address"], flow["port"]
    client, server = (end(address[n][:size].tobytes(), int(port[n])) for n in (one, 1 - one))
    return client, server


def mac(raw: bytes) -> str:
    """Return a hardware address; all ones is "Broadcast", as Wireshark has it."""
    return "Broadcast" if raw == b"\xff" * len(raw) else raw.hex(":")


def status(bits: int) -> list[str]:
    """Return the words for the bits of a packet's status."""
    return [word for bit, word in STATUS_WORDS.items() if bits & bit]


def network(net: int, protocol: int, link: int) -> str:
    """Return what a frame carries, given its row's net, protocol and link: "TCP", "ARP"."""
    if net in {_IPV4, _IPV6}:
        return _PROTOCOLS.get(protocol, f"IP {protocol}" if protocol != 255 else _NETWORKS[net])  # noqa: PLR2004 - none
    if not net:
        return "802.3" if link == 1 else f"link type {link}"
    return _NETWORKS.get(net, f"0x{net:04x}")


def shown_status() -> dict[int, str]:
    """Return the bits of a status that the packet list tells, with their words."""
    return {bit: word for bit, word in STATUS_WORDS.items() if not bit & _NOT_SHOWN}


def row(packet: np.void, frame: bytes, flow: np.void | None) -> tuple[str, str, str, str]:
    """Return source, destination, protocol and info of a packet."""
    net, layer = int(packet["net"]), int(packet["layer"])
    source, destination = _ends(packet, frame, net, layer, flow)
    protocol, info = _what(packet, frame, net, layer, flow)
    return source, destination, protocol, info


def _ends(
    packet: np.void, frame: bytes, net: int, layer: int, flow: np.void | None
) -> tuple[str, str]:
    if net == _IPV4 and len(frame) >= layer + 20 and frame[layer] >> 4 == 4:  # noqa: PLR2004 - IPv4
        return address(frame[layer + 12 : layer + 16]), address(frame[layer + 16 : layer + 20])
    if net == _IPV6 and len(frame) >= layer + 40 and frame[layer] >> 4 == 6:  # noqa: PLR2004 - IPv6
        return address(frame[layer + 8 : layer + 24]), address(frame[layer + 24 : layer + 40])
    if flow is not None:
        size = 4 if flow["version"] == 4 else 16  # noqa: PLR2004 - IPv4
        sides = [address(flow["address"][side][:size].tobytes()) for side in (0, 1)]
        return (sides[1], sides[0]) if packet["direction"] else (sides[0], sides[1])
    if packet["link"] == 1 and len(frame) >= 14:  # noqa: PLR2004 - an Ethernet header
        return mac(frame[6:12]), mac(frame[:6])
    return "", ""


def _what(  # noqa: PLR0911 - one return a kind
    packet: np.void, frame: bytes, net: int, layer: int, flow: np.void | None
) -> tuple[str, str]:
    bits = int(packet["status"])
    number = int(packet["protocol"])
    if bits & UNKNOWN_LINK:
        return f"link {packet['link']}", f"link type {packet['link']} is not read"
    if net in {_IPV4, _IPV6}:
        if bits & QUOTED or number in {1, 58}:
            return _icmp(number, frame, net, layer)
        if flow is not None and number == TCP:
            return _tcp(packet, frame, flow)
        if flow is not None and number in {UDP, 136}:
            return _udp(packet, frame, flow)
        name = _PROTOCOLS.get(number, f"IP {number}" if number != 255 else _NETWORKS[net])  # noqa: PLR2004 - none
        words = ["fragment"] if bits & FRAGMENT else []
        words += ["malformed"] if bits & MALFORMED else []
        return name, ", ".join(words)
    if net == _ARP:
        return "ARP", _arp(frame[layer:])
    if not net:
        return "802.3" if packet["link"] == 1 else f"link {packet['link']}", ""
    return _NETWORKS.get(net, f"0x{net:04x}"), ""


def _arp(data: bytes) -> str:
    if len(data) < 28 or data[4:6] != b"\x06\x04":  # noqa: PLR2004 - Ethernet and IPv4
        return ""
    kind = int.from_bytes(data[6:8], "big")
    sender, sought = address(data[14:18]), address(data[24:28])
    if kind == 1:
        return (
            f"ARP announcement for {sender}"
            if sender == sought
            else f"Who has {sought}? Tell {sender}"
        )
    return f"{sender} is at {mac(data[8:14])}" if kind == 2 else f"operation {kind}"  # noqa: PLR2004 - a reply


def _icmp(number: int, frame: bytes, net: int, layer: int) -> tuple[str, str]:
    name, words = ("ICMP", _ICMP) if number == 1 else ("ICMPv6", _ICMPV6)
    start = layer + ((frame[layer] & 15) * 4 if net == _IPV4 and len(frame) > layer else 40)
    if len(frame) < start + 8:
        return name, ""
    kind, code = frame[start], frame[start + 1]
    info = words.get(kind, f"type {kind}, code {code}")
    if info.startswith("Echo"):
        identity, sequence = frame[start + 4 : start + 6], frame[start + 6 : start + 8]
        swapped = int.from_bytes(sequence, "little")
        info += f" id=0x{identity.hex()}, seq={int.from_bytes(sequence, 'big')}"
        info += f"/{swapped}, ttl={frame[layer + 8]}" if number == 1 else ""
    return name, info


def _tcp(packet: np.void, frame: bytes, flow: np.void) -> tuple[str, str]:
    direction = int(packet["direction"])
    side = flow["side"][direction]
    flags = int(packet["tcp_flags"])
    protocol, first = _application(packet, frame)
    bits = int(packet["status"])
    notes = [f"[{word}] " for word in status(bits & ~_NOT_SHOWN)]
    if first and not bits & ~(_NOT_SHOWN | WINDOW_UPDATE):
        return protocol, first
    window = int(packet["window"])
    if not flags & SYN and side["scale"] > 0:
        window <<= int(side["scale"])
    ports = [int(flow["port"][direction]), int(flow["port"][1 - direction])]
    text = f"{ports[0]} → {ports[1]} [{', '.join(flag_names(flags))}]"
    text += f" Seq={packet['seq']}"
    if flags & ACK:
        text += f" Ack={packet['ack']}"
    text += f" Win={window} Len={packet['payload_length']}"
    if flags & SYN:
        if side["mss"] >= 0:
            text += f" MSS={side['mss']}"
        if side["shift"] >= 0:
            text += f" WS={1 << int(side['shift'])}"
        if side["flags"] & 2:
            text += " SACK_PERM"
    return (protocol if first else "TCP"), "".join(notes) + text


def flag_names(flags: int) -> list[str]:
    """Return the names of TCP flags."""
    return [name for bit, name in enumerate(_FLAGS) if flags >> bit & 1] or ["none"]


def _payload(packet: np.void, frame: bytes) -> bytes:
    start = int(packet["payload"]) - int(packet["address"])
    if not packet["payload_captured"] or not 0 <= start < len(frame):
        return b""
    return frame[start : start + int(packet["payload_captured"])]


def _application(packet: np.void, frame: bytes) -> tuple[str, str]:
    """Return an application protocol and what the payload says, where its first bytes tell."""
    payload = _payload(packet, frame)
    if _HTTP.match(payload):
        return "HTTP", payload.split(b"\r\n", 1)[0][:200].decode("latin-1")
    if _SSH.match(payload):
        return "SSH", payload.split(b"\n", 1)[0].strip()[:200].decode("latin-1")
    if len(payload) > 5 and payload[0] in _TLS_TYPES and payload[1] == 3 and payload[2] < 5:  # noqa: PLR2004 - TLS's header
        what = _TLS_TYPES[payload[0]]
        if payload[0] == 22:  # noqa: PLR2004 - handshake
            what = _HELLO.get(payload[5], what)
        return "TLS", what
    return "TCP", ""


def _udp(packet: np.void, frame: bytes, flow: np.void) -> tuple[str, str]:
    direction = int(packet["direction"])
    ports = [int(flow["port"][direction]), int(flow["port"][1 - direction])]
    name = next((_WELL_KNOWN[port] for port in reversed(ports) if port in _WELL_KNOWN), "UDP")
    text = f"{ports[0]} → {ports[1]} Len={packet['payload_length']}"
    if name in {"DNS", "mDNS", "LLMNR"}:
        text = _question(_payload(packet, frame)) or text
    return name, text


def _question(data: bytes) -> str:
    """Return the first question of a DNS message in words (RFC 1035, 4.1)."""
    if len(data) < 17 or data[4:6] == b"\0\0":  # noqa: PLR2004 - the header and the shortest question
        return ""
    labels: list[str] = []
    at = 12
    while at < len(data) and data[at] and data[at] < 64 and len(labels) < 128:  # noqa: PLR2004 - RFC 1035
        labels.append(data[at + 1 : at + 1 + data[at]].decode("ascii", "replace"))
        at += 1 + data[at]
    return f"{'answer' if data[2] & 0x80 else 'query'} {'.'.join(labels)}"


__all__ = ["PORTS_REUSED", "address", "end", "flag_names", "mac", "row", "status"]
