"""TLS: what is told in the clear, and what a key log opens."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from conversations import needs_tshark, noise, read, stream
from sealed_talk import C, S, Turn, certificate, tls

from experiments.analysis import tls_hello, tls_names
from experiments.analysis.decoders import decode
from experiments.analysis.search import Haystack
from experiments.analysis.told import told

if TYPE_CHECKING:
    from pathlib import Path

TALK: tuple[Turn, ...] = (
    (C, b"NICK alice\r\nPRIVMSG bob :sealed words\r\n"),
    (S, b":bob!b@h PRIVMSG alice :" + b"long " * 8000 + b"end\r\n"),
    (C, b"PRIVMSG bob :goodbye\r\n"),
)
SUITES = [
    ("TLSv1_3", ""),
    ("TLSv1_2", "ECDHE-ECDSA-AES128-GCM-SHA256"),
    ("TLSv1_2", "ECDHE-ECDSA-AES256-GCM-SHA384"),
    ("TLSv1_2", "ECDHE-ECDSA-CHACHA20-POLY1305"),
    ("TLSv1_2", "ECDHE-ECDSA-AES128-CCM"),
    ("TLSv1_2", "ECDHE-ECDSA-AES256-CCM8"),
    ("TLSv1_2", "ECDHE-ECDSA-AES128-SHA"),
    ("TLSv1_2", "ECDHE-ECDSA-AES256-SHA"),
    ("TLSv1_2", "ECDHE-ECDSA-AES128-SHA256"),
    ("TLSv1_2", "ECDHE-ECDSA-AES256-SHA384"),
    ("TLSv1_2", "old ECDHE-ECDSA-AES128-SHA"),
    ("TLSv1_2", "old ECDHE-ECDSA-AES256-SHA384"),
]


@pytest.mark.parametrize(("version", "name"), [("TLSv1_2", "TLS 1.2"), ("TLSv1_3", "TLS 1.3")])
def test_what_the_hellos_say(version: str, name: str) -> None:
    """Server name, versions, cipher and protocol stand in the clear."""
    decoded, rows = read(tls(version)[0])
    assert (decoded.protocol, decoded.complete) == ("tls", True)
    assert decoded.facts["server name"] == "chat.example"
    assert decoded.facts["tls version"] == decoded.facts["versions offered"] == name
    assert decoded.facts["cipher"].startswith("TLS_")
    assert decoded.facts["protocols offered"] == "xmpp-client"
    assert decoded.facts["resumed"] == "no"
    (row,) = [row for row in rows if row.kind == "server_name"]
    side = stream(tls(version)[0]).side(forward=True)
    assert side[row.exposure.start : row.exposure.end] == b"chat.example"
    assert not [row for row in rows if row.kind in {"message", "password"}]


def test_the_certificate_is_read_where_it_is_in_the_clear() -> None:
    """TLS 1.2 shows who the server is; TLS 1.3 hides it."""
    _, rows = read(tls("TLSv1_2")[0])
    (row,) = [row for row in rows if row.kind == "certificate"]
    assert row.text == "CN=chat.example"
    about = row.exposure.about
    assert (about["issuer"], about["names"]) == ("CN=chat.example", "chat.example")
    assert about["not_before"] == "2016-01-01 00:00:00 UTC"
    import ssl

    der = ssl.PEM_cert_to_DER_cert(certificate()[0].decode())
    side = stream(tls("TLSv1_2")[0]).side(forward=False)
    assert side[row.exposure.start : row.exposure.end] == der
    assert not [row for row in read(tls("TLSv1_3")[0])[1] if row.kind == "certificate"]


@pytest.mark.parametrize(("version", "ciphers"), SUITES)
@pytest.mark.parametrize("size", [0, 90])
def test_a_key_log_opens_it(version: str, ciphers: str, size: int) -> None:
    """Everything that was said is read, with the frames that carried it, for every suite."""
    turns, keys = tls(version, ciphers, talk=TALK)
    followed = stream(turns, size=size)
    decoded = decode(followed, keys)
    assert decoded
    assert (decoded.protocol, decoded.inside) == ("tls", ("irc",))
    rows = [row for row in told(followed, decoded) if row.kind == "message"]
    assert [(row.text[-5:], row.who, row.whom, row.protocol) for row in rows] == [
        ("words", "alice", "bob", "tls/irc"),
        ("g end", "bob", "alice", "tls/irc"),
        ("odbye", "alice", "bob", "tls/irc"),
    ]
    assert all(row.exposure.encodings == ("tls",) for row in rows)
    if size:
        assert len(rows[0].frames) <= 2
        assert len(rows[1].frames) > 400
    hits = Haystack(followed, decoded.passages, decoded.exposures).find("goodbye", ())
    assert [hit.forms for hit in hits] == [("tls",)]


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_other_keys_open_nothing(version: str) -> None:
    """Keys of another connection, broken ones and none: nothing is read and nothing raised."""
    turns, keys = tls(version, talk=TALK)
    others = tls(version, talk=((C, b"x\r\n"),))[1]
    wrong = b"\n".join(line[:-8] + b"00000000" for line in keys.splitlines())
    for log in (b"", others, wrong, noise(200), keys.replace(b" ", b"  ")):
        decoded = decode(stream(turns), log)
        assert decoded
        assert decoded.inside == ()


def test_a_record_that_is_missing_ends_the_reading() -> None:
    """After a gap nothing is guessed: what came before it is read."""
    turns, keys = tls("TLSv1_3", talk=TALK)
    index = max(index for index, (way, _) in enumerate(turns) if way is C)
    broken = [*turns[:index], (C, turns[index][1][:-1] + b"\0")]
    followed = stream(broken)
    decoded = decode(followed, keys)
    assert decoded
    texts = [row.text[-5:] for row in told(followed, decoded) if row.kind == "message"]
    assert texts == ["words", "g end"]


def test_the_middle_of_a_connection_is_told_as_such() -> None:
    """Records alone are TLS, without a word on who speaks."""
    turns, _ = tls("TLSv1_2", talk=TALK)
    decoded, rows = read(turns[4:])
    assert decoded.protocol == "tls"
    assert decoded.notes == ("the capture begins in the middle of a TLS connection",)
    assert (decoded.complete, rows) == (False, [])


def test_an_alert_in_the_clear_is_read() -> None:
    """Why a handshake failed stands in it."""
    hello = tls("TLSv1_2")[0][0]
    decoded, rows = read([hello, (S, b"\x15\x03\x03\x00\x02\x02\x30")])
    assert decoded.protocol == "tls"
    (alert,) = [row for row in rows if row.kind == "alert"]
    assert (alert.text, alert.exposure.about) == ("unknown_ca", {"level": "fatal"})


def test_ja4_of_the_published_example() -> None:
    """The fingerprint agrees with the one that its authors publish for these numbers."""
    ciphers = "1301 1302 1303 c02b c02f c02c c030 cca9 cca8 c013 c014 009c 009d 002f 0035"
    kinds = "001b 0000 0033 0010 4469 0017 002d 000d 0005 0023 0012 002b ff01 000b 000a 0015"
    signatures = "0403 0804 0401 0503 0805 0501 0806 0601"

    def numbers(text: str) -> bytes:
        return b"".join(bytes.fromhex(word) for word in text.split())

    data = {
        0x000D: b"\0\x10" + numbers(signatures),
        0x0010: b"\0\x0c\x02h2\x08http/1.1",
        0x002B: b"\x06\x0a\x0a\x03\x04\x03\x03",
    }
    hello = tls_hello.Hello(
        version=0x0303,
        random=bytes(32),
        session=b"",
        ciphers=tuple(int(word, 16) for word in f"0a0a {ciphers}".split()),
        extensions=tuple(
            (int(word, 16), data.get(int(word, 16), b"")) for word in f"1a1a {kinds} 2a2a".split()
        ),
    )
    assert tls_hello.ja4(hello) == "t13d1516h2_8daaf6152771_e5627efa2ab1"


def test_grease_means_nothing() -> None:
    """The sixteen reserved numbers are known as such, and no others (RFC 8701)."""
    reserved = [number for number in range(1 << 16) if tls_names.grease(number)]
    assert len(reserved) == 16
    assert reserved[0] == 0x0A0A
    assert reserved[-1] == 0xFAFA


@needs_tshark
@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_wireshark_agrees(version: str, tmp_path: Path) -> None:
    """Names, fingerprints and the plain text are what tshark reads of the same packets."""
    from scapy.layers.inet import IP, TCP
    from scapy.utils import wrpcap

    turns, keys = tls(version, talk=TALK)
    sequence = {C: 1000, S: 5000}
    packets = []

    def send(way: bool, flags: str, data: bytes = b"") -> None:  # noqa: FBT001 (a direction)
        ends = ("192.0.2.1", "192.0.2.2", 1025, 443)
        source, destination, sport, dport = ends if way else (ends[1], ends[0], ends[3], ends[2])
        head = TCP(sport=sport, dport=dport, flags=flags, seq=sequence[way], ack=sequence[not way])
        packets.append(IP(src=source, dst=destination) / head / data)
        sequence[way] += len(data) + ("S" in flags)

    send(C, "S")
    send(S, "SA")
    send(C, "A")
    for way, data in turns:
        for start in range(0, len(data), 1400):
            send(way, "PA", data[start : start + 1400])
    path, log = tmp_path / "tls.pcap", tmp_path / "keys"
    wrpcap(str(path), packets)
    log.write_bytes(keys)

    def tshark(*words: str) -> str:
        argv = ["tshark", "-r", str(path), "-o", f"tls.keylog_file:{log}", *words]
        return subprocess.run(argv, capture_output=True, check=True, text=True).stdout

    shown = tshark(
        *("-Y", "tls.handshake.type==1", "-T", "fields", "-e", "tls.handshake.ja3"),
        *("-e", "tls.handshake.extensions_server_name"),
    ).split()
    decoded, rows = read(turns)
    ja3 = next(r.text for r in rows if r.exposure.where == "TLS ClientHello, JA3")
    assert shown == [ja3, decoded.facts["server name"]]
    raw = tshark("-q", "-z", "follow,tls,raw,0").splitlines()
    plain = {C: b"", S: b""}
    # tshark names first whoever said something first, which in TLS 1.3 may be the server.
    first = any(line.startswith("Node 0: 192.0.2.1") for line in raw)
    for line in raw:
        if line.strip() and all(char in "0123456789abcdef" for char in line.strip()):
            plain[line.startswith("\t") is not first] += bytes.fromhex(line.strip())
    opened = decode(stream(turns), keys)
    assert opened
    ours = {p.forward: p.content for p in opened.passages if p.encodings == ("tls",)}
    assert ours == plain
