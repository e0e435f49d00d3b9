"""MQTT, SIP, the messengers of their time, and SSH."""

from __future__ import annotations

import pytest
from conversations import MQTT, MSN, OSCAR, SIP, SSH, YMSG, read, said
from sealed_talk import C, S, Turn


def test_mqtt() -> None:
    """A sign-in, a subscription, and what is published each way."""
    decoded, rows = read(MQTT)
    assert (decoded.protocol, decoded.complete, decoded.facts) == ("mqtt", True, {"client": "c1"})
    assert said(rows, "user", "password", "room", "message") == [
        ("user", "alice", "", ""),
        ("password", "s3cret", "", ""),
        ("room", "tea", "", ""),
        ("message", "good even!", "", "tea"),
        ("message", "hi alice", "bob", "tea"),
        ("user", "bob", "", "tea"),
    ]


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_sip(protocol: str) -> None:
    """The message of RFC 3428, and a hash in place of a password."""
    decoded, rows = read(SIP, protocol=protocol)
    assert (decoded.protocol, decoded.complete) == ("sip", True)
    assert said(rows) == [
        ("contact", "sip:user1@domain.com", "", ""),
        ("contact", "sip:user2@domain.com", "", ""),
        ("user", "user1", "", ""),
        ("hash", "0f0f", "", ""),
        ("message", "Watson, come here.", "sip:user1@domain.com", "sip:user2@domain.com"),
    ]


def test_msn() -> None:
    """What is said in a switchboard, by whom, with messages that have a length and no line end."""
    decoded, rows = read(MSN)
    assert (decoded.protocol, decoded.facts) == ("msn", {"account": "alice@example.org"})
    assert said(rows, "user", "message") == [
        ("user", "alice@example.org", "", ""),
        ("message", "hello", "alice@example.org", "bob@example.org"),
        ("message", "hi you", "bob@example.org", "alice@example.org"),
    ]
    assert {r.exposure.about.get("name", "") for r in rows if r.kind == "contact"} == {"", "Bob B"}


def test_oscar() -> None:
    """AIM and ICQ: the roasted password, and messages in the character sets that they use."""
    decoded, rows = read(OSCAR)
    assert (decoded.protocol, decoded.complete) == ("oscar", True)
    assert said(rows) == [
        ("user", "alice", "", ""),
        ("password", "s3cret", "", ""),
        ("browser", "ICQ 2001b", "", ""),
        ("contact", "bob", "", ""),
        ("message", "hello bob", "alice", "bob"),
        ("message", "grüße", "bob", "alice"),
    ]


def test_ymsg() -> None:
    """Yahoo Messenger: account, contacts and messages without their fonts."""
    decoded, rows = read(YMSG)
    assert (decoded.protocol, decoded.complete) == ("ymsg", True)
    assert said(rows) == [
        ("user", "alice", "", ""),
        ("contact", "bob", "", ""),
        ("message", "hello", "alice", "bob"),
        ("message", "hi there", "bob", "alice"),
    ]


def test_ssh() -> None:
    """The programs are told, and that the rest is sealed."""
    decoded, rows = read(SSH)
    assert (decoded.protocol, decoded.facts["sealed"]) == ("ssh", "yes")
    assert said(rows) == [
        ("server", "SSH-2.0-OpenSSH_9.2p1 Debian-2", "", ""),
        ("browser", "SSH-2.0-PuTTY_0.78", "", ""),
    ]


@pytest.mark.parametrize(
    "turns",
    [
        [(C, b"MESSAGE in a bottle\r\n")],
        [(C, b"MSG me\r\n")],
        [(C, b"\x10\x0c\0\x04QTTM\x04\xc2\0\x3c\0\0")],
        [(S, b"SSH\r\n")],
    ],
)
def test_what_only_looks_like_them(turns: list[Turn]) -> None:
    """Words alone are not a protocol."""
    decoded, _ = read(turns)
    assert decoded.protocol == "unknown"
