"""IRC: who signed in how, and who said what where."""

from __future__ import annotations

import pytest
from conversations import IRC, IRC_SASL, b64, read, said
from sealed_talk import C, S, Turn, tls


def test_a_session_is_read() -> None:
    """Sign-in, rooms and messages of both sides are told with who and whom."""
    decoded, rows = read(IRC)
    assert (decoded.protocol, decoded.complete) == ("irc", True)
    assert decoded.facts == {"server": "irc.example", "nick": "alice"}
    assert said(rows, "user", "password", "message", "sealed") == [
        ("password", "open:sesame", "", ""),
        ("user", "alice", "", ""),
        ("user", "al", "", ""),
        ("password", "key1", "", "#tea"),
        ("message", "good evening", "alice", "#tea"),
        ("message", "hello alice", "bob", "#tea"),
        ("message", "waves", "bob", "alice"),
        ("password", "hunter2", "", ""),
        ("sealed", "?OTR:AAMDx", "alice", "bob"),
        ("message", "café", "alice", "bob"),
    ]
    assert [(r.text, r.whom) for r in rows if r.kind == "contact"] == [
        ("alice", "#tea"),
        ("bob", "#tea"),
    ]


def test_a_password_names_its_user_and_a_tag_the_time() -> None:
    """What was told with a text is kept beside it, under the same names in every protocol."""
    _, rows = read(IRC)
    about = {row.text: row.exposure.about for row in rows}
    assert about["open:sesame"]["user"] == "alice"
    assert about["hunter2"]["user"] == "alice"
    assert about["hello alice"]["sent"] == "2016-01-01T10:00:00Z"


def test_frames_and_time_are_those_of_the_text() -> None:
    """A message names the frames that carry it, and the time of the last of them."""
    _, rows = read([(C, b"NICK a\r\nPRIVMSG b :12345678\r\n")], size=10)
    (message,) = [row for row in rows if row.kind == "message"]
    assert message.frames == (2, 3)
    assert message.when == pytest.approx(0.3)
    assert (message.source, message.destination) == ("192.168.1.20:1025", "192.168.1.10:8000")


def test_sasl_in_pieces_is_one_response() -> None:
    """PLAIN is base64 in AUTHENTICATE, in pieces of 400 where it is long (IRCv3)."""
    _, rows = read(IRC_SASL)
    assert said(rows, "password") == [("password", "s3cret", "", "")]
    long = b64(b"\0alice\0" + b"p" * 600)
    pieces = b"".join(
        b"AUTHENTICATE %s\r\n" % long[start : start + 400] for start in range(0, len(long), 400)
    )
    _, rows = read([(C, b"NICK alice\r\nAUTHENTICATE PLAIN\r\n" + pieces)])
    assert [row.text for row in rows if row.kind == "password"] == ["p" * 600]


def test_an_empty_password_is_none() -> None:
    """Nothing is reported that has no text."""
    _, rows = read([(C, b"NICK alice\r\nAUTHENTICATE PLAIN\r\nAUTHENTICATE AGFsAA==\r\n")])
    assert [(row.kind, row.text) for row in rows] == [("user", "alice"), ("user", "al")]


def test_a_link_between_servers_is_read() -> None:
    """What servers pass on has its sender before it, whichever side says it."""
    turns: list[Turn] = [
        (C, b"PASS link 0210 ngIRCd|26:CHLMSX\r\nSERVER a.example 1 :A\r\n"),
        (S, b"PASS link 0210\r\nSERVER b.example 1 :B\r\n:carol PRIVMSG dave :across\r\n"),
        (C, b":dave PRIVMSG carol :and back\r\n"),
    ]
    _, rows = read(turns)
    assert said(rows, "message") == [
        ("message", "across", "carol", "dave"),
        ("message", "and back", "dave", "carol"),
    ]


def test_nicks_change() -> None:
    """Who says something is who they are by then."""
    turns: list[Turn] = [
        (C, b"NICK alice\r\nUSER a 0 * :A\r\n"),
        (S, b":x 433 * alice :in use\r\n"),
        (C, b"NICK alice_\r\n"),
        (S, b":x 001 alice_ :hi\r\n"),
        (C, b"PRIVMSG bob :one\r\n"),
        (S, b":alice_!a@h NICK :ally\r\n"),
        (C, b"PRIVMSG bob :two\r\n"),
    ]
    _, rows = read(turns)
    assert [(r.text, r.who) for r in rows if r.kind == "message"] == [
        ("one", "alice_"),
        ("two", "ally"),
    ]


def test_a_file_offer_tells_where_to_fetch_it() -> None:
    """DCC names the file and the address, which it writes as a number."""
    offer = b"PRIVMSG bob :\x01DCC SEND plan.txt 3232235796 4000 77\x01\r\n"
    _, rows = read([(C, b"NICK a\r\n" + offer)])
    (row,) = [row for row in rows if row.kind == "file"]
    assert row.text == "plan.txt"
    assert row.exposure.about["address"] == "192.168.1.20"
    assert row.exposure.about["port"] == "4000"


def test_a_banner_is_no_message() -> None:
    """Notices of the server itself are told as the server's."""
    _, rows = read([(S, b":irc.example NOTICE * :*** Looking up your hostname\r\n")])
    assert [row.kind for row in rows] == ["server"]


def test_after_starttls_there_is_tls() -> None:
    """STARTTLS (IRCv3) is followed into TLS, and with keys into the IRC in it."""
    before: tuple[Turn, ...] = ((C, b"CAP LS\r\nSTARTTLS\r\n"), (S, b":x 670 * :STARTTLS ok\r\n"))
    turns, keys = tls(before=before, talk=((C, b"NICK alice\r\nPRIVMSG bob :within\r\n"),))
    decoded, rows = read(turns)
    assert (decoded.protocol, decoded.inside) == ("irc", ("tls",))
    assert decoded.facts["server name"] == "chat.example"
    assert not [row for row in rows if row.kind == "message"]
    from conversations import stream

    from experiments.analysis.decoders import decode
    from experiments.analysis.told import told

    followed = stream(turns, size=100)
    opened = decode(followed, keys)
    assert opened
    assert opened.inside == ("tls", "irc")
    (message,) = [row for row in told(followed, opened) if row.kind == "message"]
    assert (message.text, message.who, message.protocol) == ("within", "alice", "irc/tls/irc")


@pytest.mark.parametrize(
    "line",
    [
        b"USER alice\r\nPASS x\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"hello there\r\n",
        b"NICKNAMES it",
    ],
)
def test_other_lines_are_not_irc(line: bytes) -> None:
    """Commands that others share are not enough."""
    decoded, _ = read([(C, line)])
    assert decoded.protocol != "irc"
