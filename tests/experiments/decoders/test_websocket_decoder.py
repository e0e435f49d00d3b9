"""WebSocket: masks, fragments and packing undone, and what is spoken inside."""

from __future__ import annotations

import pytest
from conversations import FRAMES, MASK, UPGRADE, WEBSOCKET, frame, packed, read, said
from hypothesis import given, settings
from hypothesis import strategies as st
from sealed_talk import C, S, Turn

from experiments.analysis.decoders.websocket import frames

UNTIMED = settings(deadline=None)  # the first example loads what it needs

MESSAGES = [
    ("message", "good evening", "", "bob"),
    ("message", "hello", "bob", ""),
    ("user", "bob", "", ""),
    ("message", "plain words", "", ""),
    ("message", "packed words", "", ""),
]


def test_messages_after_an_upgrade_are_read() -> None:
    """HTTP hands over what comes after 101; fragments are joined, heartbeats are no messages."""
    decoded, rows = read(WEBSOCKET)
    assert (decoded.protocol, decoded.inside, decoded.complete) == ("http", ("websocket",), True)
    assert decoded.notes == ("turns to websocket",)
    assert sorted(said(rows, "message", "user")) == sorted(MESSAGES)


def test_without_the_upgrade_the_frames_are_recognised() -> None:
    """A capture that begins after the upgrade is read as well."""
    decoded, rows = read(FRAMES)
    assert decoded.protocol == "websocket"
    assert sorted(said(rows, "message", "user")) == sorted(MESSAGES)


def test_a_fragmented_message_names_all_its_frames() -> None:
    """The frames of a text are those from its first fragment to its last."""
    _, rows = read(WEBSOCKET)
    (row,) = [row for row in rows if row.text == "good evening"]
    assert row.frames == (3, 4, 5)
    assert row.exposure.encodings == ("masked",)


@pytest.mark.parametrize("takeover", [True, False])
def test_packed_messages(*, takeover: bool) -> None:
    """permessage-deflate is undone, whether or not the sender keeps its window (RFC 7692)."""
    texts = [b'{"text":"the same words %d"}' % number for number in range(5)]
    turns: list[Turn] = [*UPGRADE]
    turns += [(C, frame(text, mask=MASK, packed=True)) for text in packed(texts, takeover=takeover)]
    _, rows = read(turns)
    assert [row.text for row in rows if row.kind == "message"] == [
        f"the same words {number}" for number in range(5)
    ]


@given(text=st.binary(max_size=70_000), mask=st.binary(min_size=4, max_size=4))
@UNTIMED
def test_a_mask_is_undone(text: bytes, mask: bytes) -> None:
    """Whatever the mask and the length, the payload is the payload."""
    (one,) = frames(frame(text, mask=mask))
    assert (one.payload, one.masked, one.final) == (text, True, True)


def test_xmpp_and_irc_inside_are_read() -> None:
    """What speaks a protocol of its own in text messages is handed to that protocol."""
    xmpp = b"<message xmlns='jabber:client' to='bob@x' from='al@x'><body>by web</body></message>"
    decoded, rows = read([*UPGRADE, (C, frame(xmpp, mask=MASK))])
    assert decoded.inside == ("websocket", "xmpp")
    assert said(rows, "message") == [("message", "by web", "al@x", "bob@x")]
    irc = [frame(b"NICK alice", mask=MASK), frame(b"PRIVMSG #tea :hi", mask=MASK)]
    decoded, rows = read([*UPGRADE, *((C, data) for data in irc)])
    assert said(rows, "message") == [("message", "hi", "alice", "#tea")]
    assert [row.frames for row in rows if row.kind == "message"] == [(4,)]


def test_stomp_and_socket_io_are_read() -> None:
    """The frames of STOMP, and JSON behind the digits of Socket.IO."""
    stomp = b"SEND\ndestination:/topic/tea\ncontent-type:text/plain\n\nscones?\0"
    events = b'42["chat message",{"from":"bob","text":"jam first"}]'
    _, rows = read([*UPGRADE, (C, frame(stomp, mask=MASK)), (S, frame(events))])
    assert said(rows, "message") == [
        ("message", "scones?", "", "/topic/tea"),
        ("message", "jam first", "bob", ""),
    ]


def test_json_in_json_is_read() -> None:
    """A service that puts JSON into a string hides nothing by it."""
    data = b'{"event":"posted","data":{"sender_name":"@bob","post":"{\\"message\\":\\"inner\\"}"}}'
    _, rows = read([*UPGRADE, (S, frame(data))])
    assert said(rows, "message") == [("message", "inner", "@bob", "")]
