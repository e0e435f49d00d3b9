"""XMPP: sign-ins, messages, presence and contacts, from wherever a capture begins."""

from __future__ import annotations

import hashlib
import zlib

from conversations import XMPP, b64, read, said, stream
from sealed_talk import C, S, Turn, tls

from experiments.analysis import stanzas
from experiments.analysis.decoders import decode

ALICE = "alice@example.org/desk"


def test_a_session_is_read() -> None:
    """SASL PLAIN, roster, presence and messages are told with who and whom."""
    decoded, rows = read(XMPP)
    assert (decoded.protocol, decoded.complete) == ("xmpp", True)
    assert decoded.facts == {"domain": "example.org", "jid": ALICE}
    assert said(rows, "user", "password", "message", "sealed", "contact") == [
        ("user", "alice", "", ""),
        ("password", "s3cret", "", ""),
        ("user", ALICE, "", ""),
        ("contact", "bob@example.org", "", ""),
        ("message", "tea & cake?", ALICE, "bob@example.org"),
        ("message", "yes, please", "bob@example.org/phone", ALICE),
        ("message", "hello all", "carol", "room@muc.example.org"),
        ("sealed", "c2VhbGVk", ALICE, "bob@example.org"),
        ("message", "copied", "dave@example.org/x", "alice@example.org/pad"),
    ]


def test_what_is_sealed_is_no_message() -> None:
    """Neither the payload of OMEMO nor the note beside it counts as a message."""
    _, rows = read(XMPP)
    assert not [row for row in rows if row.kind == "message" and "OMEMO" in row.text]
    (sealed,) = [row for row in rows if row.kind == "sealed"]
    assert sealed.exposure.about["scheme"] == "eu.siacs.conversations.axolotl"


def test_the_server_says_whether_a_password_is_right() -> None:
    """A credential is told with the server's answer to it."""
    for answer, word in ((b"<success", "yes"), (b"<failure", "no")):
        turns = [*XMPP[:3], (S, answer + b" xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>")]
        _, rows = read(turns)
        (password,) = [row for row in rows if row.kind == "password"]
        assert password.exposure.about["accepted"] == word
        assert password.exposure.about["user"] == "alice"


def test_the_old_sign_in_is_read() -> None:
    """jabber:iq:auth sends the password, or a hash of it that is told as one (XEP-0078)."""
    head = (
        b"<stream:stream xmlns='jabber:client'><iq type='set' id='1'><query xmlns='jabber:iq:auth'>"
    )
    digest = hashlib.sha1(b"1s3cret").hexdigest()  # noqa: S324 (as the protocol has it)
    for field, kind, text in (
        (b"<password>s3&lt;cret</password>", "password", "s3<cret"),
        (b"<digest>%s</digest>" % digest.encode(), "hash", digest),
    ):
        end = b"<resource>r</resource></query></iq>"
        _, rows = read([(C, head + b"<username>alice</username>" + field + end)])
        assert said(rows) == [("user", "alice", "", ""), (kind, text, "", "")]


def test_reading_begins_in_the_middle() -> None:
    """A capture that begins within a stanza loses that one, and learns who is signed in."""
    turns: list[Turn] = [
        (S, b"uery></iq><message from='bob@x/p' to='alice@x/d'><body>one</body></message>"),
        (C, b"<message to='bob@x'><body>two</body></message>"),
    ]
    _, rows = read(turns)
    assert said(rows) == [
        ("message", "one", "bob@x/p", "alice@x/d"),
        ("message", "two", "alice@x/d", "bob@x"),
    ]


def test_a_hole_costs_no_more_than_a_stanza() -> None:
    """Where bytes are missing, reading goes on with the next whole stanza, and says so."""
    one = b"<message from='a@x' to='b@x'><body>first</body></message>"
    hole = b"<message from='a@x' to='b@x'><body>los"
    decoded, rows = read(
        [(C, XMPP[0][1] + one + hole + b"</other></body>" + one.replace(b"first", b"next"))]
    )
    assert [row.text for row in rows if row.kind == "message"] == ["first", "next"]
    assert not decoded.complete


def test_an_archive_tells_the_time() -> None:
    """A message out of an archive has its own ends and time (XEP-0313)."""
    stanza = (
        b"<message to='alice@x/d'><result xmlns='urn:xmpp:mam:2' id='7'><forwarded "
        b"xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' stamp='2016-01-01T10:00:00Z'/>"
        b"<message xmlns='jabber:client' from='bob@x/p' to='alice@x'><body>old</body></message>"
        b"</forwarded></result></message>"
    )
    _, rows = read([(S, stanza)])
    assert said(rows) == [("message", "old", "bob@x/p", "alice@x")]
    assert rows[0].exposure.about["sent"] == "2016-01-01T10:00:00Z"
    assert rows[0].exposure.where == "XMPP archive, body"


def test_entities_are_never_expanded() -> None:
    """A document type is refused, so no entity but XML's own stands for anything."""
    bomb = b"<!DOCTYPE x [<!ENTITY a 'aaaa'><!ENTITY f SYSTEM 'file:///etc/passwd'>]>"
    body = b"<message to='b@x'><body>&a;&f;</body></message>"
    decoded, rows = read([(C, XMPP[0][1] + bomb + body)])
    assert rows == []
    assert not decoded.complete


def test_depth_and_length_are_bounded() -> None:
    """A stanza that is deeper or longer than servers allow is skipped, and what follows is read."""
    after = b"<message to='b@x'><body>after</body></message>"
    deep = b"<message>" + b"<a>" * 1000 + b"</a>" * 1000 + b"</message>"
    long = b"<message to='b@x'><body>" + b"x" * stanzas.LONGEST + b"</body></message>"
    for bad in (deep, long):
        side = stanzas.read(bad + after)
        assert not side.clean
        assert [stanza.child("body") is not None for stanza in side.stanzas] == [True]


def test_starttls_is_followed() -> None:
    """What comes after <proceed/> is TLS, and with keys the stream within it is read."""
    ns = b" xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
    before = (*XMPP[:2], (C, b"<starttls" + ns), (S, b"<proceed" + ns))
    turns, keys = tls(before=before, talk=tuple(XMPP[:4]))
    followed = stream(turns, size=64)
    decoded = decode(followed, keys)
    assert decoded
    assert (decoded.protocol, decoded.inside) == ("xmpp", ("tls", "xmpp"))
    assert decoded.notes == ("turns to TLS after STARTTLS",)
    (password,) = [e for e in decoded.exposures if e.kind == "password"]
    assert (password.text, password.encodings) == ("s3cret", ("tls", "base64"))
    closed = decode(followed)
    assert closed
    assert not [e for e in closed.exposures if e.kind == "password"]


def test_a_packed_stream_is_unpacked() -> None:
    """zlib after <compressed/> hides nothing (XEP-0138)."""
    packer = zlib.compressobj()
    words = [b"<message to='b@x'><body>packed %d</body></message>" % number for number in (1, 2)]
    turns: list[Turn] = [
        *XMPP[:2],
        (
            C,
            b"<compress xmlns='http://jabber.org/protocol/compress'><method>zlib</method></compress>",
        ),
        (S, b"<compressed xmlns='http://jabber.org/protocol/compress'/>"),
    ]
    turns += [(C, packer.compress(text) + packer.flush(zlib.Z_SYNC_FLUSH)) for text in words]
    decoded, rows = read(turns)
    assert decoded.inside == ("xmpp",)
    messages = [row for row in rows if row.kind == "message"]
    assert [(row.text, row.frames) for row in messages] == [("packed 1", (5,)), ("packed 2", (6,))]


def test_a_room_with_a_password() -> None:
    """Joining a room tells its name, and its password (XEP-0045)."""
    join = (
        b"<presence to='tea@muc.x/al'><x xmlns='http://jabber.org/protocol/muc'>"
        b"<password>cauldron</password></x></presence>"
    )
    _, rows = read([(C, join)])
    assert said(rows) == [
        ("room", "tea@muc.x", "al", "tea@muc.x"),
        ("password", "cauldron", "", "tea@muc.x"),
    ]


def test_other_mechanisms_give_only_the_name() -> None:
    """SCRAM sends no password, and none is made up."""
    first = b64(b"n,,n=alice,r=fyko+d2lbbFgONRv9qkxdawL")
    auth = b"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-1'>%s</auth>"
    _, rows = read([XMPP[0], (C, auth % first)])
    assert said(rows) == [("user", "alice", "", "")]
