"""HTTP/1.1: credentials, messages in JSON and pages, files, and what a connection turns to."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from conversations import HTTP, HTTP2, XMPP, b64, http, read, said, stream
from hypothesis import given, settings
from hypothesis import strategies as st
from sealed_talk import C, S, Turn, tls

from experiments.analysis import chatjson, jsonread, markup
from experiments.analysis.decoders import decode

UNTIMED = settings(deadline=None)  # the first example loads what it needs


def test_a_session_is_read() -> None:
    """Forms, JSON both ways, Basic and a packed page, each with who and whom."""
    decoded, rows = read(HTTP)
    assert (decoded.protocol, decoded.complete) == ("http", True)
    assert said(rows, "user", "password", "message") == [
        ("user", "alice", "", ""),
        ("password", "s3cret", "", ""),
        ("message", "tea at four?", "", "bob"),
        ("message", "gladly", "bob", ""),
        ("user", "alice", "", ""),
        ("password", "other", "", ""),
        ("user", "bob", "", ""),
        ("message", "packed words", "bob", ""),
    ]


def test_the_status_tells_whether_a_password_is_right() -> None:
    """401 refuses what a header brought."""
    _, rows = read(HTTP)
    basic = next(row for row in rows if row.text == "other")
    assert basic.exposure.about == {"user": "alice", "accepted": "no"}


def test_digest_and_bearer() -> None:
    """Digest gives a name and a hash, Bearer a token; neither a password."""
    digest = (
        b'Authorization: Digest username="alice", realm="tea", nonce="n", uri="/", '
        b'response="6629fae49393a05397450978507c4ef1"'
    )
    bearer = b"Authorization: Bearer eyJhbGciOi.x"
    for field, expected in (
        (digest, [("user", "alice"), ("hash", "6629fae49393a05397450978507c4ef1")]),
        (bearer, [("token", "eyJhbGciOi.x")]),
    ):
        _, rows = read([(C, b"GET / HTTP/1.1\r\n" + field + b"\r\n\r\n")])
        assert [(row.kind, row.text) for row in rows if row.kind != "url"] == expected


def test_ntlm() -> None:
    """The third message of NTLM names domain, user and host, and holds a hash."""
    parts = [b"", b"\x11" * 24, "LAB".encode("utf-16-le"), "alice".encode("utf-16-le")]
    parts += ["DESK".encode("utf-16-le"), b""]
    head, data, at = b"NTLMSSP\0\x03\0\0\0", b"", 64
    for part in parts:
        head += len(part).to_bytes(2, "little") * 2 + (at + len(data)).to_bytes(4, "little")
        data += part
    message = head + b"\x01\0\0\0" + data
    for scheme in (b"NTLM", b"Negotiate"):
        field = b"Authorization: " + scheme + b" " + b64(message)
        _, rows = read([(C, b"GET / HTTP/1.1\r\n" + field + b"\r\n\r\n")])
        assert [(row.kind, row.text) for row in rows if row.kind != "url"] == [
            ("user", "LAB\\alice"),
            ("hash", "11" * 24),
        ]


def test_pipelined_requests_and_their_answers() -> None:
    """Requests that do not wait for an answer are matched with theirs in order."""
    basic = b"Authorization: Basic YWxpY2U6"
    asked = (
        b"GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n" + basic + b"\r\n\r\nHEAD /3 HTTP/1.1\r\n\r\n"
    )
    answered = (
        http(b"HTTP/1.1 200 OK", b"one")
        + http(b"HTTP/1.1 401 No", b"no")
        + b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n"
    )
    decoded, rows = read([(C, asked), (S, answered)])
    assert decoded.complete
    assert [row.text for row in rows if row.kind == "url"] == [
        f"http://192.168.1.10:8000/{number}" for number in (1, 2, 3)
    ]
    assert [row.exposure.about.get("accepted") for row in rows if row.kind == "user"] == ["no"]


def test_a_file_that_is_sent_is_named() -> None:
    """A part with a file name is a file and not a message, and each part has its own place."""
    body = (
        b'--B\r\nContent-Disposition: form-data; name="user"\r\n\r\nalice\r\n'
        b'--B\r\nContent-Disposition: form-data; name="content"\r\n\r\nlook at this\r\n'
        b'--B\r\nContent-Disposition: form-data; name="up"; filename="cat.png"\r\n'
        b"Content-Type: image/png\r\n\r\n\x89PNG--B\r\n--B--\r\n"
    )
    request = http(b"POST /up HTTP/1.1", body, b"Content-Type: multipart/form-data; boundary=B")
    _, rows = read([(C, request)], size=16)
    told = {row.kind: row for row in rows}
    assert (told["message"].text, told["message"].who) == ("look at this", "alice")
    assert told["file"].text == "cat.png"
    place = told["message"].exposure
    assert request[place.start : place.end] == b"look at this"


def test_a_form_that_is_cut_is_not_read() -> None:
    """Half of a body may be half of a text."""
    head = b"POST / HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    _, rows = read([(C, head + b"Content-Length: 30\r\n\r\ncontent=good")])
    assert [row.kind for row in rows] == ["url"]


def test_a_form_without_a_single_field() -> None:
    """A body that is called a form and has no "=" is looked at once, and not from each byte."""
    head = b"Content-Type: application/x-www-form-urlencoded"
    _, rows = read([(C, http(b"POST / HTTP/1.1", b"x" * 1_000_000, head))])
    assert [row.kind for row in rows] == ["url"]
    _, rows = read([(C, http(b"POST / HTTP/1.1", b"a&user=al%20ice&=&content=x=y&", head))])
    assert said(rows, "user", "message") == [
        ("user", "al ice", "", ""),
        ("message", "x=y", "al ice", ""),
    ]


def test_a_tunnel_is_followed() -> None:
    """What comes after CONNECT is read as what it is."""
    before: tuple[Turn, ...] = (
        (C, b"CONNECT chat.example:443 HTTP/1.1\r\n\r\n"),
        (S, b"HTTP/1.1 200 Connection established\r\n\r\n"),
    )
    decoded, _ = read(tls("TLSv1_2", before=before)[0])
    assert (decoded.protocol, decoded.inside) == ("http", ("tls",))
    assert decoded.notes == ("turns to a tunnel to chat.example:443",)
    assert decoded.facts["server name"] == "chat.example"


def test_the_bodies_of_http_2_are_read() -> None:
    """JSON in HTTP/2 is read though its fields are not: in pieces, padded, and packed."""
    decoded, rows = read(HTTP2)
    assert (decoded.protocol, decoded.complete) == ("http2", True)
    assert said(rows, "message") == [
        ("message", "over two", "", "bob"),
        ("message", "packed two", "bob", ""),
    ]
    assert rows[0].frames == (3,)
    turns, keys = tls(talk=tuple(HTTP2))
    opened = decode(stream(turns), keys)
    assert opened
    assert opened.inside == ("http2",)
    assert [e.text for e in opened.exposures if e.kind == "message"] == ["over two", "packed two"]


def test_xmpp_in_bodies_is_read() -> None:
    """BOSH carries stanzas in the bodies of requests and answers (XEP-0124)."""
    body = b"<body rid='1' xmlns='http://jabber.org/protocol/httpbind'>%s</body>"
    turns = [
        (C, http(b"POST /bosh HTTP/1.1", body % XMPP[9][1], b"Content-Type: text/xml")),
        (S, http(b"HTTP/1.1 200 OK", body % XMPP[10][1], b"Content-Type: text/xml")),
    ]
    decoded, rows = read(turns)
    assert decoded.inside == ("xmpp",)
    assert [(row.text, row.frames) for row in rows if row.kind == "message"] == [
        ("tea & cake?", (1,)),
        ("yes, please", (2,)),
    ]


def test_what_a_page_fills_in() -> None:
    """A name that a form has ready is read; the word on a button is not."""
    page = (
        b'<form><input name="user" value="alice"><input type="submit" name="login" value="Go">'
        b'<input type="hidden" name="password" value="s3cret"></form>'
    )
    _, rows = read([HTTP[0], (S, http(b"HTTP/1.1 200 OK", page, b"Content-Type: text/html"))])
    assert [row.text for row in rows if row.exposure.where.startswith("filled-in")] == [
        "alice",
        "s3cret",
    ]


def test_a_page_that_is_cut_gives_whole_cells() -> None:
    """A cell that the capture cuts is no message."""
    page = b"<table><tr><th>USER<th>CONTENT<tr><td>bob<td>all of it<tr><td>bob<td>half of"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"
    _, rows = read([(C, b"GET / HTTP/1.1\r\n\r\n"), (S, head + page)])
    assert [row.text for row in rows if row.kind == "message"] == ["all of it"]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"error": "x", "message": "Not found"}, []),
        ({"status": 200, "message": "ok"}, []),
        ({"author": {"username": "bob"}, "content": "hi"}, [("message", "hi")]),
        ({"sender": "@b:x", "content": {"msgtype": "m.text", "body": "hi"}}, [("message", "hi")]),
        (
            {"sender": "@b:x", "content": {"algorithm": "m.megolm.v1", "ciphertext": "AwgA"}},
            [("sealed", "AwgA")],
        ),
        ({"access_token": "abc", "user_id": "@b:x"}, [("token", "abc")]),
        (
            {"room": "tea", "messages": [{"from": "a", "text": "1"}]},
            [("message", "1"), ("user", "a")],
        ),
    ],
)
def test_what_a_server_says_in_json(data: object, told: list[tuple[str, str]]) -> None:
    """A text is a message if somebody says it to somebody or somewhere, and not alone."""
    found = chatjson.read(json.dumps(data).encode(), asked=False)
    assert [(row.kind, row.text) for row in found] == told


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text('abc:{}\\"'), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(data=JSON)
@UNTIMED
def test_json_is_read_as_it_is_written(data: object) -> None:
    """Strings are those that were written, each at its place."""
    content = json.dumps(data, ensure_ascii=False).encode()
    values = jsonread.read(content)
    assert values

    def plain(value: jsonread.Value) -> object:
        if value.kind == "object":
            return {item.key: plain(item) for item in value.items}
        if value.kind == "array":
            return [plain(item) for item in value.items]
        return value.text if value.kind == "string" else json.loads(value.text)

    assert plain(values[0]) == data
    for value, _ in values[0].walk():
        if value.kind == "string":
            assert json.loads(b'"' + content[value.start : value.end] + b'"') == value.text


@given(content=st.binary(max_size=100))
@UNTIMED
def test_what_is_no_json_is_survived(content: bytes) -> None:
    """Any bytes, also deep and broken ones."""
    for data in (content, b'{"a":[' + content, b"[" * 5000 + content, b'{"text":"' + content):
        chatjson.read(data, asked=True)


_PIECES = st.sampled_from(
    [b"<TaBle", b"<table", b"<INPUT", b"<inpu", b"HTTP", b"htt", b"&#", b"&", b"\0", b"<p>", b"t"]
)


@UNTIMED
@given(st.lists(_PIECES, max_size=8).map(b"".join))
def test_a_page_tells_by_its_words_whatever_their_case(page: bytes) -> None:
    """As a plain search in small letters has it."""
    words = (b"<table", b"<input", b"http", b"&#", b"\0")
    assert markup.telling(page) == any(word in page.lower() for word in words)


def test_pages_are_sifted_in_several_threads_at_once() -> None:
    """Observers are read side by side: each thread has its own search, and all see the same."""
    pages = [b"<p>words</p>" * 20_000 + (b"<TABLE>" if n % 2 else b"") for n in range(64)]
    with ThreadPoolExecutor(max_workers=8) as pool:
        assert list(pool.map(markup.telling, pages)) == [n % 2 == 1 for n in range(64)]
