"""What no other decoder knows: how random its bytes are, and what they may be.

Entropy and printable share are measured, the guess is called one. A short stream is not judged:
even perfect noise of 100 bytes repeats some of them.
"""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from typing import TYPE_CHECKING, Final

from experiments.analysis.model import Decoded

if TYPE_CHECKING:
    from experiments.analysis.model import Stream

# Bytes of each direction that are measured.
SAMPLE: Final = 64 * 1024
# Fewer bytes than this say nothing about randomness.
ENOUGH: Final = 128
_TEXT: Final = frozenset(range(0x20, 0x7F)) | frozenset(b"\t\r\n")
_MOSTLY: Final = 0.95
# What comes this near to what noise of the same length has is noise to this measure, in bits per
# byte: it is several times the spread from one noise to the next.
_NEAR: Final = 0.15
_NOISE: Final = "without a pattern: encrypted or compressed"
_SHORT: Final = "too short to say"
# How protocols without a decoder, and files, begin: what is told, and the pattern of first bytes.
_BEGINNINGS: Final = (
    ("gzip", rb"\x1f\x8b\x08"),
    ("zlib", rb"\x78[\x01\x5e\x9c\xda]"),
    ("Zstandard", rb"\x28\xb5\x2f\xfd"),
    ("ZIP archive", rb"PK\x03\x04"),
    ("JPEG picture", rb"\xff\xd8\xff"),
    ("PNG picture", rb"\x89PNG\r\n\x1a\n"),
    ("PDF", rb"%PDF-"),
    ("DTLS (encrypted)", rb"[\x14-\x17]\xfe[\xfd\xff]\x00[\x00\x01]\x00"),
    ("RTMP", rb"(?s)\x03.{4}\x00{4}"),
    ("SMB", rb"(?s)\x00.{3}[\xfe\xff]SMB"),
    ("NTP", rb"(?s)[\x0b\x13\x1b\x23\xe3\xdb\xd9].{47}\Z"),
    ("RFB (VNC)", rb"RFB \d{3}\.\d{3}\n"),
    ("STUN", rb"(?s)[\x00\x01].{3}\x21\x12\xa4\x42"),
    ("MQTT", rb"(?s)\x10.{1,4}\x00\x04MQTT"),
    ("SOCKS 5", rb"\x05[\x01-\x03][\x00-\x02]{1,3}\Z"),
    ("BitTorrent", rb"\x13BitTorrent protocol"),
    ("SSDP, a search for devices", rb"(?:M-SEARCH|NOTIFY) \* HTTP/1\.1\r\n"),
    ("Dropbox's search on the network", rb'\{"host_int": ?\d'),
    ("Spotify's search for players", rb"SpotUdp0"),
    ("NetBIOS datagram", rb"(?s)[\x10-\x16][\x00-\x0f].{12} [A-P]{32}"),
    ("Telegram, a call's relay (encrypted)", rb"(?s).{16}\xff{12}"),
    ("Telegram MTProto, abridged (encrypted)", rb"(?s)\xef[\x01-\x7e].{3}\x00{5}"),
    ("Telegram MTProto, intermediate (encrypted)", rb"\xee{4}|\xdd{4}"),
    ("KakaoTalk LOCO (encrypted)", rb"(?s)\x00\x01\x00\x00[\x01-\x10]\x00{3}[\x01\x02]\x00{3}"),
)
_KNOWN: Final = tuple((name, re.compile(pattern)) for name, pattern in _BEGINNINGS)


class Unknown:
    """Any bytes at all."""

    name = "unknown"

    def recognises(self, stream: Stream) -> bool:
        """Whether there are bytes."""
        return not stream.empty

    def decode(self, stream: Stream) -> Decoded:
        """Measure the stream."""
        sides = [stream.side(forward=forward)[:SAMPLE] for forward in (True, False)]
        data = b"".join(sides)
        facts = {
            "guess": guess(sides, datagrams=stream.protocol == "udp"),
            "entropy": f"{entropy(data):.2f} bits per byte",
            "printable": f"{printable(data):.0%}",
        }
        facts["sealed"] = _sealed(facts["guess"])
        for name, side in zip(("first bytes", "first bytes back"), sides, strict=True):
            if side:
                facts[name] = side[:16].hex(" ")
        return Decoded("unknown", (), (), complete=False, facts=facts)


def _sealed(words: str) -> str:
    """Tell whether nobody can read it: by what is known of the protocol, or perhaps."""
    if "encrypted)" in words:
        return "yes"
    return "perhaps" if words.endswith(_NOISE) or words == _SHORT else "no"


def entropy(data: bytes) -> float:
    """Return the bits per byte that the frequencies of bytes alone leave open."""
    if not data:
        return 0.0
    total = len(data)
    return -sum(n / total * math.log2(n / total) for n in Counter(data).values()) + 0.0


@functools.lru_cache(maxsize=1024)
def noise(count: int) -> float:
    """Return the entropy that `count` random bytes show on average, which is less than 8 bits.

    Each byte comes up binomially often, and the entropy is a sum over how often.
    """
    share = 1 / 256
    chance = math.exp(count * math.log1p(-share))
    total = 0.0
    for times in range(1, min(count, count // 256 * 3 + 64) + 1):
        chance *= (count - times + 1) / times * share / (1 - share)
        total += chance * times * math.log2(times)
    return math.log2(count) - 256 / count * total


def printable(data: bytes) -> float:
    """Return the share of bytes that are printable ASCII or white space."""
    return sum(n for byte, n in Counter(data).items() if byte in _TEXT) / max(len(data), 1)


def guess(sides: list[bytes], *, datagrams: bool = False) -> str:
    """Return what the bytes may be, in words; a guess and no more."""
    for side in sides:
        for name, pattern in _KNOWN:
            if pattern.match(side[:512]):
                return f"looks like {name}"
    data = b"".join(sides)
    if printable(data) >= _MOSTLY or _is_text(data):
        return "plain text"
    if len(data) < ENOUGH:
        return _SHORT
    if entropy(data) < noise(len(data)) - _NEAR:
        return "binary, neither compressed nor encrypted throughout"
    what = "datagrams" if datagrams else "bytes"
    return f"{what} {_NOISE}"


def _is_text(data: bytes) -> bool:
    """Whether it is text in UTF-8 beyond ASCII."""
    try:
        words = data.decode()
    except UnicodeDecodeError:
        return False
    shown = sum(char.isprintable() or char in "\t\r\n" for char in words)
    return shown >= _MOSTLY * len(words)


DECODER = Unknown()
