"""Messages of DNS (RFC 1035) and of what looks like it: mDNS, LLMNR, NetBIOS names (RFC 1002)."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

TYPES: Final = {
    1: "A",
    2: "NS",
    5: "CNAME",
    6: "SOA",
    12: "PTR",
    15: "MX",
    16: "TXT",
    28: "AAAA",
    33: "SRV",
    35: "NAPTR",
    41: "OPT",
    43: "DS",
    46: "RRSIG",
    47: "NSEC",
    48: "DNSKEY",
    64: "SVCB",
    65: "HTTPS",
    255: "ANY",
}
_NETBIOS_TYPES: Final = {32: "NB", 33: "NBSTAT"}
_HEADER: Final = 12
_OPT: Final = 41
# More records than fit into the longest message of a name, a type and no data.
_MOST: Final = 4096
_LONGEST_NAME: Final = 255
_JUMPS: Final = 64
_NETBIOS_NAME: Final = 32
_RCODES: Final = {1: "format error", 2: "server failure", 3: "no such name", 5: "refused"}


@dataclass(frozen=True, slots=True)
class Row:
    """A question or a record: its name, the name's bytes in the message, type, and what it says."""

    name: str
    start: int
    end: int
    type: str
    says: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """A message; netbios is whether its names are NetBIOS's."""

    number: int
    response: bool
    result: str
    questions: tuple[Row, ...]
    records: tuple[Row, ...]
    netbios: bool


def read(data: bytes) -> Message | None:
    """Read a message; None where it is not one, whole and nothing but."""
    if len(data) < _HEADER:
        return None
    number, flags, *counts = (data[i] << 8 | data[i + 1] for i in range(0, _HEADER, 2))
    opcode, unused = flags >> 11 & 15, flags >> 6 & 1
    if opcode > 8 or unused or not 0 < sum(counts) <= _MOST or counts[0] > 64:  # noqa: PLR2004
        return None
    asked = _questions(data, counts[0])
    told = _records(data, asked[1], sum(counts[1:])) if asked else None
    if not asked or not told or told[1] != len(data) or not (asked[0] or told[0]):
        return None
    result = "" if flags & 15 == 0 else _RCODES.get(flags & 15, f"error {flags & 15}")
    netbios = any(row.type in _NETBIOS_TYPES.values() for row in (*asked[0], *told[0]))
    return Message(number, bool(flags & 0x8000), result, tuple(asked[0]), tuple(told[0]), netbios)


def _questions(data: bytes, count: int) -> tuple[list[Row], int] | None:
    position, rows = _HEADER, []
    for _ in range(count):
        named = _name(data, position)
        if not named or named[1] + 4 > len(data):
            return None
        name, end = named
        kind, group = _pair(data, end)
        if group & 0x7FFF not in {1, 255}:
            return None
        decoded = _netbios(name) if kind in _NETBIOS_TYPES else None
        what = _type(kind) if decoded is None else _NETBIOS_TYPES[kind]
        rows.append(Row(name if decoded is None else decoded, position, end, what))
        position = end + 4
    return rows, position


def _records(data: bytes, position: int, count: int) -> tuple[list[Row], int] | None:
    rows = []
    for _ in range(count):
        taken = _record(data, position)
        if not taken:
            return None
        row, position = taken
        if row:
            rows.append(row)
    return rows, position


def _pair(data: bytes, at: int) -> tuple[int, int]:
    return data[at] << 8 | data[at + 1], data[at + 2] << 8 | data[at + 3]


def _type(number: int) -> str:
    return TYPES.get(number, f"type {number}")


def _record(data: bytes, position: int) -> tuple[Row | None, int] | None:
    """Return a record and where the next one begins; options (RFC 6891) are none."""
    read_name = _name(data, position)
    if not read_name or read_name[1] + 10 > len(data):
        return None
    name, end = read_name
    kind, _ = _pair(data, end)
    length = data[end + 8] << 8 | data[end + 9]
    start, after = end + 10, end + 10 + length
    if after > len(data):
        return None
    if kind == _OPT:
        return None if name else (None, after)
    if kind in _NETBIOS_TYPES and (decoded := _netbios(name)) is not None:
        return Row(decoded, position, end, _NETBIOS_TYPES[kind], _node(data[start:after])), after
    return Row(name, position, end, _type(kind), _says(data, kind, start, after)), after


def _says(data: bytes, kind: int, start: int, end: int) -> str:
    piece = data[start:end]
    if (kind == 1 and len(piece) == 4) or (kind == 28 and len(piece) == 16):  # noqa: PLR2004
        return str(ipaddress.ip_address(piece))
    skip = {2: 0, 5: 0, 12: 0, 15: 2, 33: 6}.get(kind)
    if skip is not None:
        target = _name(data, start + skip) if start + skip < end else None
        if not target:
            return ""
        port = f":{piece[4] << 8 | piece[5]}" if kind == 33 else ""  # noqa: PLR2004 (SRV)
        return f"{target[0]}{port}"
    if kind == 16:  # noqa: PLR2004 (TXT)
        texts, position = [], 0
        while position < len(piece):
            length = piece[position]
            texts.append(piece[position + 1 : position + 1 + length].decode("utf-8", "replace"))
            position += 1 + length
        return "; ".join(texts)
    return ""


def _node(piece: bytes) -> str:
    """Return the address of a NetBIOS name record: two bytes of flags come first."""
    return str(ipaddress.ip_address(piece[2:6])) if len(piece) >= 6 else ""  # noqa: PLR2004


def _name(data: bytes, position: int) -> tuple[str, int] | None:
    """Return a name and where it ends; pointers lead back only, and not for ever."""
    labels: list[str] = []
    after, size, jumps = 0, 0, 0
    while position < len(data):
        length = data[position]
        if length & 0xC0 == 0xC0:  # noqa: PLR2004 (a pointer)
            if position + 1 >= len(data):
                return None
            after = after or position + 2
            target = (length & 0x3F) << 8 | data[position + 1]
            jumps += 1
            if target >= position or jumps > _JUMPS:
                return None
            position = target
            continue
        if length & 0xC0:
            return None
        position += 1
        if not length:
            return ".".join(labels), after or position
        label = data[position : position + length]
        size += length + 1
        if len(label) < length or size > _LONGEST_NAME:
            return None
        labels.append(label.decode("utf-8", "replace").replace("\0", ""))
        position += length
    return None


def _netbios(name: str) -> str | None:
    """Undo the encoding of a NetBIOS name: each byte is two letters from A to P."""
    first = name.partition(".")[0]
    if len(first) != _NETBIOS_NAME or not all("A" <= char <= "P" for char in first):
        return None
    codes = [ord(char) - ord("A") for char in first]
    plain = bytes(codes[i] << 4 | codes[i + 1] for i in range(0, _NETBIOS_NAME, 2))
    return plain[:15].decode("latin-1").rstrip(" \0")
