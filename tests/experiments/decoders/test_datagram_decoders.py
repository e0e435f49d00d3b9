"""DNS and its kin, QUIC's public hello, WhatsApp's opening, and what nobody knows."""

from __future__ import annotations

import random

import pytest
from conversations import DNS, DNS_ANSWER, DNS_QUESTION, DNS_TCP, WHATSAPP, noise, read
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sealed_talk import C, S, Turn, tls

from experiments.analysis import dnswire, quic_keys
from experiments.analysis.decoders import quic
from experiments.analysis.decoders.unknown import entropy, guess
from experiments.analysis.decoders.unknown import noise as expected


@pytest.mark.parametrize(("turns", "protocol"), [(DNS, "udp"), (DNS_TCP, "tcp")])
def test_names_and_answers(turns: list[Turn], protocol: str) -> None:
    """What was asked and what was answered, over UDP and over TCP."""
    decoded, rows = read(turns, protocol=protocol)
    assert (decoded.protocol, decoded.complete) == ("dns", True)
    assert [(row.text, row.exposure.where) for row in rows][:2] == [
        ("chat.example", "DNS question"),
        ("chat.example", "DNS answer"),
    ]
    assert rows[1].exposure.about == {"type": "A", "answers": "n1.example, 192.168.1.10"}
    assert [row.frames for row in rows[:2]] == [(1,), (2,)]


def test_a_name_that_is_not_there_is_told() -> None:
    """The result of a question that has no answer."""
    refused = DNS_QUESTION[:2] + b"\x81\x83" + DNS_QUESTION[4:]
    _, rows = read([(C, DNS_QUESTION), (S, refused)], protocol="udp")
    assert rows[1].exposure.about["result"] == "no such name"


def test_netbios_names_are_decoded() -> None:
    """Each letter of a NetBIOS name is two (RFC 1001, 14.1)."""
    name = b" FHEPFCELEHFCEPFFFACACACACACACABN\0"
    ask = bytes.fromhex("460e01100001000000000000") + name + b"\0\x20\0\x01"
    decoded, rows = read([(C, ask)], protocol="udp")
    assert decoded.protocol == "dns"
    assert (rows[0].text, rows[0].exposure.where) == ("WORKGROUP", "NetBIOS question")


@pytest.mark.parametrize(
    "data",
    [
        DNS_QUESTION[:-1],
        DNS_QUESTION + b"x",
        DNS_QUESTION[:12] + b"\xc0\x0c\0\x01\0\x01",
        DNS_QUESTION[:4] + b"\xff\xff" + DNS_QUESTION[6:],
        DNS_ANSWER[:-1],
        b"",
    ],
)
def test_what_is_no_message_is_none(data: bytes) -> None:
    """Cut messages, names that point at themselves, false counts, something behind the end."""
    assert dnswire.read(data) is None


def test_dhcp_names_the_device() -> None:
    """Host name, make and wanted address, beside the hardware address; told once."""
    head = b"\x01\x01\x06\0" + bytes(24) + bytes.fromhex("02004c4f4f50") + bytes(10 + 192)
    options = b"\x0c\x06laptop\x3c\x08MSFT 5.0\x32\x04\xc0\xa8\x01\x14\0\xff"
    message = head + b"\x63\x82\x53\x63\x35\x01\x03" + options
    decoded, rows = read([(C, message), (C, message)], protocol="udp")
    assert decoded.protocol == "dhcp"
    assert [(row.kind, row.text) for row in rows] == [
        ("contact", "laptop"),
        ("browser", "MSFT 5.0"),
        ("address", "192.168.1.20"),
    ]
    assert rows[0].exposure.about["address"] == "02:00:4c:4f:4f:50"
    side = message
    assert side[rows[0].exposure.start : rows[0].exposure.end] == b"laptop"


# The keys of RFC 9001, appendix A.1, for the connection id 8394c8f03e515708.
DESTINATION = bytes.fromhex("8394c8f03e515708")
KEY = bytes.fromhex("1f369613dd76d5467730efcbe3b1a22d")
IV = bytes.fromhex("fa044b2f42a3fd3b46fb255c")
GUARD = bytes.fromhex("9f50449e04a0e810283a1e9933adedd2")


def test_the_keys_are_those_of_the_rfc() -> None:
    """What is derived is what RFC 9001 prints."""
    version = quic._VERSIONS[1]
    assert quic_keys.client(version.salt, version.prefix, DESTINATION) == quic_keys.Keys(
        KEY, IV, GUARD
    )


def initial(frames: bytes, number: int) -> bytes:
    """Protect an Initial packet of a client with the keys that the RFC prints."""
    frames = frames.ljust(1162, b"\0")
    length = (0x4000 | (4 + len(frames) + 16)).to_bytes(2, "big")
    head = b"\xc3\0\0\0\x01\x08" + DESTINATION + b"\0\0" + length + number.to_bytes(4, "big")
    nonce = (int.from_bytes(IV, "big") ^ number).to_bytes(12, "big")
    sealed = AESGCM(KEY).encrypt(nonce, frames, head)
    mask = Cipher(algorithms.AES(GUARD), modes.ECB()).encryptor().update(sealed[:16])  # noqa: S305
    hidden = bytes(byte ^ mask[1 + index] for index, byte in enumerate(head[-4:]))
    return bytes([head[0] ^ (mask[0] & 0x0F)]) + head[1:-4] + hidden + sealed


def crypto(data: bytes, offset: int) -> bytes:
    """Return a CRYPTO frame."""
    return (
        b"\x06"
        + (0x4000 | offset).to_bytes(2, "big")
        + (0x4000 | len(data)).to_bytes(2, "big")
        + data
    )


def test_the_server_name_in_quic_is_public() -> None:
    """The first packets are opened with keys that anyone derives, in whatever order they come."""
    hello = tls()[0][0][1][5:]
    turns = [
        (C, initial(crypto(hello[100:], 100), 3)),
        (C, initial(b"\x01" + crypto(hello[:100], 0), 2)),
    ]
    decoded, rows = read(turns, protocol="udp")
    assert decoded.protocol == "quic"
    assert decoded.facts["server name"] == "chat.example"
    assert decoded.facts["version"] == "QUIC 1"
    names = [row for row in rows if row.kind == "server_name"]
    assert [(row.text, row.exposure.encodings) for row in names] == [("chat.example", ("quic",))]


def test_a_packet_that_does_not_authenticate_tells_nothing() -> None:
    """A byte that was changed on the way costs the name and nothing else."""
    packet = bytearray(initial(crypto(tls()[0][0][1][5:], 0), 2))
    packet[-1] ^= 1
    decoded, rows = read([(C, bytes(packet))], protocol="udp")
    assert (decoded.protocol, rows, decoded.complete) == ("quic", [], False)


def test_googles_quic_says_it_in_the_clear() -> None:
    """The hello of Q046 is a table of tags."""
    table = b"SNI\0\x0c\0\0\0UAID\x16\0\0\0"
    data = b"\xc3Q046\x50" + bytes(8) + b"\0\0\0\x01" + bytes(16)
    data += b"CHLO\x02\0\0\0" + table + b"chat.exampleChrome/83." + bytes(50)
    decoded, rows = read([(C, data)], protocol="udp")
    assert decoded.facts == {
        "sealed": "yes",
        "version": "Google QUIC Q046",
        "server name": "chat.example",
    }
    assert [(row.kind, row.text) for row in rows] == [
        ("server_name", "chat.example"),
        ("browser", "Chrome/83."),
    ]


def test_what_whatsapp_once_said_in_the_clear() -> None:
    """The device and the number of an old client; a new one begins with a handshake."""
    decoded, rows = read(WHATSAPP)
    assert decoded.protocol == "whatsapp"
    assert [(row.kind, row.text) for row in rows] == [
        ("browser", "iPhone-2.12.2-5222"),
        ("user", "15550100123"),
    ]
    decoded, rows = read([(C, b"WA\x06\x02\0\0\x24" + bytes(36))])
    assert (decoded.protocol, rows) == ("whatsapp", [])
    assert "Noise" in decoded.notes[0]


NOISE = random.Random(2016)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (NOISE.randbytes(20_000), "without a pattern"),
        (NOISE.randbytes(300), "without a pattern"),
        (b"the quick brown fox " * 20, "plain text"),
        ("grüße an alle ".encode() * 20, "plain text"),
        (b"\0\1\2\3" * 100, "neither compressed nor encrypted"),
        (NOISE.randbytes(50), "too short"),
        (b"\x1f\x8b\x08" + NOISE.randbytes(100), "gzip"),
        (b"RFB 003.008\n" + NOISE.randbytes(100), "VNC"),
    ],
)
def test_what_nobody_knows_is_measured(data: bytes, word: str) -> None:
    """Entropy and the share of text are told, and a guess that says it is one."""
    decoded, _ = read([(C, data)])
    assert (decoded.protocol, decoded.complete) == ("unknown", False)
    assert word in decoded.facts["guess"]
    assert decoded.facts["entropy"] == f"{entropy(data):.2f} bits per byte"


@pytest.mark.parametrize("count", [128, 300, 1000, 65536])
def test_noise_is_judged_by_its_length(count: int) -> None:
    """The entropy expected of so many random bytes is that of random bytes."""
    mean = sum(entropy(noise(count)) for _ in range(50)) / 50
    assert mean == pytest.approx(expected(count), abs=0.06)
    assert "without a pattern" in guess([noise(count)])
