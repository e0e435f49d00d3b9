"""Sessions with real servers (fixtures/make_chat_servers.py), and captures of the field."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from conversations import needs_tshark

from experiments.analysis.decoders import decode
from experiments.analysis.engines import engine
from experiments.analysis.told import Told, told

pytestmark = needs_tshark

RECORDED = Path(__file__).resolve().parents[1] / "fixtures" / "chat-servers"
ELSEWHERE = os.environ.get("IMLAB_CAPTURES", "")
DESK = "alice@example.org/desk"


def rows(path: Path, keys: bytes = b"") -> list[Told]:
    """Return all that is told in a capture."""
    return [
        row
        for stream in engine("tshark").read(path).streams
        for row in told(stream, decode(stream, keys))
    ]


def messages(keys: bytes = b"") -> Counter[tuple[str, str, str, str]]:
    """Return (protocols, text, who, whom) of the messages, and how often each was seen."""
    return Counter(
        (row.protocol, row.text, row.who, row.whom)
        for row in rows(RECORDED / "capture.pcap", keys)
        if row.kind == "message"
    )


def test_what_ngircd_and_prosody_passed_on_is_read() -> None:
    """Each message is seen where it is in the clear: by sender and receiver, or by one of them."""
    bob = "bob@example.org"
    assert messages() == {
        ("irc", "hello over IRC", "alice", "#tea"): 2,
        ("irc", "answer over IRC", "bob", "alice"): 2,
        ("xmpp", "hello over XMPP ", DESK, bob): 2,
        ("xmpp", "answer over XMPP ", f"{bob}/desk", DESK): 2,
        ("xmpp", "hello over XMPP TLSv1_2", DESK, bob): 1,
        ("xmpp", "answer over XMPP TLSv1_2", f"{bob}/desk", DESK): 1,
        ("xmpp", "hello over XMPP TLSv1_3", DESK, bob): 1,
        ("xmpp", "answer over XMPP TLSv1_3", f"{bob}/desk", DESK): 1,
        ("xmpp", "hello of old", "alice@example.org/old", bob): 2,
    }


def test_with_the_keys_the_rest_is_read_too() -> None:
    """A key log adds what TLS 1.2 and 1.3 hid, and nothing else."""
    bob = "bob@example.org"
    more = messages((RECORDED / "keys.log").read_bytes()) - messages()
    assert more == {
        ("xmpp/tls/xmpp", f"{word} over XMPP {version}", *ends): 1
        for version in ("TLSv1_2", "TLSv1_3")
        for word, ends in (("hello", (DESK, bob)), ("answer", (f"{bob}/desk", DESK)))
    }


def test_passwords_of_every_manner_are_read() -> None:
    """PASS and OPER, SASL and what was before it; all of them taken by the server."""
    found = {
        (row.protocol, row.text, row.exposure.about.get("accepted", ""))
        for row in rows(RECORDED / "capture.pcap")
        if row.kind == "password"
    }
    assert found == {
        ("irc", "server-word", ""),
        ("irc", "operator-word", ""),
        ("xmpp", "word-of-alice", "yes"),
        ("xmpp", "word-of-bob", "yes"),
    }


def shown(path: Path, field: str) -> set[str]:
    """Return the values of a field that tshark shows in a capture."""
    argv = ["tshark", "-r", str(path), "-o", "tcp.reassemble_out_of_order:TRUE", "-Y", field]
    argv += ["-T", "fields", "-e", field, "-E", "aggregator=|"]
    done = subprocess.run(argv, capture_output=True, check=False, text=True)
    return {word for line in done.stdout.splitlines() for word in line.split("|") if word}


@pytest.mark.skipif(not ELSEWHERE, reason="IMLAB_CAPTURES names no folder of captures")
def test_captures_of_the_field() -> None:
    """In captures that nobody made for this, names and sign-ins are those that tshark shows."""
    paths = sorted(path for path in Path(ELSEWHERE).iterdir() if ".pcap" in path.suffixes[0])
    assert paths
    for path in paths:
        found = rows(path)

        def texts(kind: str, where: str = "", found: list[Told] = found) -> set[str]:
            return {r.text for r in found if r.kind == kind and where in r.exposure.where}

        assert texts("server_name", "TLS") == shown(path, "tls.handshake.extensions_server_name")
        assert texts("fingerprint", "JA3") == shown(path, "tls.handshake.ja3")
        asked = {row.text for row in found if row.kind == "domain" and "NS q" in row.exposure.where}
        assert asked <= shown(path, "dns.qry.name"), path
        basic = {
            f"{row.exposure.about['user']}:{row.text}"
            for row in found
            if row.kind == "password" and "Authorization" in row.exposure.where
        }
        assert basic == shown(path, "http.authbasic")
        assert texts("subject", "mail") <= shown(path, "imf.subject")
