"""SMTP, POP3, IMAP, FTP and Telnet: sign-ins, mails and files."""

from __future__ import annotations

import pytest
from conversations import FTP, IMAP, MAIL, POP3, SMTP, TELNET, b64, read, said
from sealed_talk import C, S, Turn, tls

TEXT = ("message", "Meet me at noon.", "Alice <alice@example.org>", "bob@example.org")
SUBJECT = ("subject", "café", "Alice <alice@example.org>", "bob@example.org")


@pytest.mark.parametrize(
    ("turns", "user", "password", "accepted"),
    [
        (SMTP, "alice", "s3cret", "yes"),
        (POP3, "alice", "s3cret word", "yes"),
        (IMAP, "alice", 's3c"r e\\t', "yes"),
        (FTP, "alice", "s3cret", "no"),
        (TELNET, "alice", "s3cret", "yes"),
    ],
    ids=["smtp", "pop3", "imap", "ftp", "telnet"],
)
def test_a_sign_in_is_read(turns: list[Turn], user: str, password: str, accepted: str) -> None:
    """User and password are told together, with the server's answer."""
    _, rows = read(turns)
    name = next(row for row in rows if row.kind == "user")
    word = next(row for row in rows if row.kind == "password")
    assert (name.text, word.text) == (user, password)
    assert (word.exposure.about["user"], word.exposure.about["accepted"]) == (user, accepted)


@pytest.mark.parametrize("turns", [SMTP, POP3, IMAP], ids=["smtp", "pop3", "imap"])
def test_a_mail_is_read(turns: list[Turn]) -> None:
    """Sender, recipient, subject and text of a mail, sent or fetched."""
    decoded, rows = read(turns)
    assert decoded.complete
    assert said(rows, "subject", "message") == [SUBJECT, TEXT]
    (message,) = [row for row in rows if row.kind == "message"]
    assert message.exposure.about["subject"] == "café"
    assert message.exposure.about["sent"] == "Fri, 1 Jan 2016 10:00:00 +0000"


@pytest.mark.parametrize(
    ("response", "told"),
    [
        (b"PLAIN " + b64(b"\0al\0pw"), [("user", "al"), ("password", "pw")]),
        (
            b"CRAM-MD5\r\n" + b64(b"al 9e95aee09c40af2b84a0c2b3bbae786e"),
            [("user", "al"), ("hash", "9e95aee09c40af2b84a0c2b3bbae786e")],
        ),
        (
            b"XOAUTH2 " + b64(b"user=al@x\1auth=Bearer ya29.x\1\1"),
            [("user", "al@x"), ("token", "ya29.x")],
        ),
        (b"PLAIN not-base64!", []),
    ],
)
def test_mechanisms(response: bytes, told: list[tuple[str, str]]) -> None:
    """What each mechanism gives away, and no password where none is sent."""
    turns: list[Turn] = [(S, b"220 x ESMTP\r\n"), (C, b"EHLO a\r\nAUTH " + response + b"\r\n")]
    _, rows = read(turns)
    assert [(row.kind, row.text) for row in rows if row.kind != "server"] == told


def test_apop_gives_a_hash() -> None:
    """APOP sends a digest and no password (RFC 1939, 7)."""
    turns: list[Turn] = [
        (S, b"+OK POP3 <1896.697170952@x>\r\n"),
        (C, b"APOP mrose c4c9334bac560ecc979e58001b3e22fb\r\n"),
    ]
    _, rows = read(turns)
    assert said(rows, "user", "hash", "password") == [
        ("user", "mrose", "", ""),
        ("hash", "c4c9334bac560ecc979e58001b3e22fb", "", ""),
    ]


def test_a_mail_in_pieces_of_mime() -> None:
    """The plain part of a mail in parts is its text, with its coding undone."""
    mail = (
        b"From: a@x\r\nTo: b@x\r\nSubject: s\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: multipart/alternative; boundary=B\r\n\r\n--B\r\n"
        b"Content-Type: text/html\r\n\r\n<p>page</p>\r\n--B\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + b64("grüße".encode())
        + b"\r\n--B--\r\n"
    )
    turns = [*SMTP[:15], (C, mail + b".\r\n")]
    _, rows = read(turns)
    (message,) = [row for row in rows if row.kind == "message"]
    assert (message.text, message.exposure.encodings) == ("grüße", ("base64",))


def test_commands_that_do_not_wait() -> None:
    """With pipelining (RFC 2920) the answers come late; a refused DATA is followed by commands."""
    envelope = b"MAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nRCPT TO:<c@x>\r\nDATA\r\n"
    turns: list[Turn] = [
        *SMTP[:3],
        (C, envelope),
        (S, b"250 ok\r\n250 ok\r\n550 nobody\r\n354 go\r\n"),
        (C, MAIL + b".\r\n" + envelope),
        (S, b"250 queued\r\n250 ok\r\n550 no\r\n550 no\r\n503 nobody to send to\r\n"),
        (C, b"AUTH PLAIN " + b64(b"\0al\0pw") + b"\r\n"),
        (S, b"535 wrong\r\n"),
    ]
    _, rows = read(turns)
    assert said(rows, "message") == [TEXT]
    (password,) = [row for row in rows if row.kind == "password"]
    assert (password.text, password.exposure.about["accepted"]) == ("pw", "no")


def test_what_stands_in_a_mail_is_no_command() -> None:
    """Lines within DATA that look like commands are the mail's."""
    mail = MAIL.replace(b"Meet", b"AUTH PLAIN " + b64(b"\0eve\0fake") + b"\r\nSTARTTLS\r\nMeet")
    decoded, rows = read([*SMTP[:15], (C, mail + b".\r\n"), (S, b"220 ok\r\n")])
    assert [row.text for row in rows if row.kind == "password"] == ["s3cret"]
    assert decoded.inside == ()


@pytest.mark.parametrize(
    ("before", "name"),
    [
        (((S, b"220 x ESMTP\r\n"), (C, b"EHLO a\r\nSTARTTLS\r\n"), (S, b"220 go\r\n")), "smtp"),
        (((S, b"+OK POP3\r\n"), (C, b"STLS\r\n"), (S, b"+OK go\r\n")), "pop3"),
        (((S, b"* OK IMAP4\r\n"), (C, b"a STARTTLS\r\n"), (S, b"a OK go\r\n")), "imap"),
        (((S, b"220 FTP\r\n"), (C, b"AUTH TLS\r\n"), (S, b"234 go\r\n")), "ftp"),
    ],
)
def test_where_it_turns_to_tls(before: tuple[Turn, ...], name: str) -> None:
    """The handover is told, and what TLS says in the clear is read."""
    turns, _ = tls("TLSv1_2", before=before)
    decoded, rows = read(turns)
    assert (decoded.protocol, decoded.inside) == (name, ("tls",))
    assert decoded.facts["tls version"] == "TLS 1.2"
    assert decoded.notes[0].startswith("turns to TLS after ")
    assert [row.text for row in rows if row.kind == "certificate"] == ["CN=chat.example"]


def test_a_refused_starttls_is_none() -> None:
    """Where the server declines, the rest is read as before."""
    turns: list[Turn] = [
        (S, b"220 x ESMTP\r\n"),
        (C, b"EHLO a\r\nSTARTTLS\r\n"),
        (S, b"250 ok\r\n454 not available\r\n"),
        (C, b"AUTH PLAIN " + b64(b"\0al\0pw") + b"\r\n"),
    ]
    decoded, rows = read(turns)
    assert decoded.inside == ()
    assert [row.text for row in rows if row.kind == "password"] == ["pw"]


def test_files_and_data_connections_of_ftp() -> None:
    """What was fetched, by whom, and where the data went."""
    _, rows = read(FTP)
    (file,) = [row for row in rows if row.kind == "file"]
    assert (file.text, file.exposure.about["user"]) == ("plans of tea.txt", "bob")
    assert [row.text for row in rows if row.kind == "address"] == ["192.168.1.10:1025"]


def test_a_capture_that_began_late_has_its_client() -> None:
    """The side that answers is the server, whichever spoke first."""
    turns = [(not way, data) for way, data in POP3]
    decoded, rows = read(turns)
    assert decoded.protocol == "pop3"
    assert [row.text for row in rows if row.kind == "password"] == ["s3cret word"]


def test_keys_typed_one_by_one() -> None:
    """Telnet sends each key alone; what was taken back is not in the text, but in its frames."""
    turns: list[Turn] = [(S, b"\xff\xfb\x01login: ")]
    turns += [(C, bytes([key])) for key in b"alx\x7fice\r"]
    _, rows = read(turns)
    (user,) = [row for row in rows if row.kind == "user"]
    assert (user.text, user.frames) == ("alice", tuple(range(2, 9)))
