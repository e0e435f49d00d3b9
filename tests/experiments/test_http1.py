"""HTTP messages, pages and forms out of stream bytes."""

from __future__ import annotations

import base64
import gzip
import zlib

import brotli
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.analysis import http1, markup
from experiments.analysis.decoders import decode
from experiments.analysis.model import Chunk, Stream

UNTIMED = settings(deadline=None)  # the first example loads what it needs

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def answers(data: bytes, asked: bytes = GET) -> tuple[list[tuple[http1.Message, int]], bool]:
    """Parse responses to requests."""
    return http1.responses(data, http1.requests(asked)[0])


def chunked(data: bytes, size: int) -> bytes:
    """Return a body in chunks."""
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    return b"".join(b"%x;x=y\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\nTrailer: 1\r\n\r\n"


def stream(request: bytes, response: bytes = b"", cut: int = 7) -> Stream:
    """Return a stream whose bytes came in frames of a few bytes, numbered from 1."""
    chunks, frame = [], 0
    for forward, data in ((True, request), (False, response)):
        for start in range(0, len(data), cut):
            frame += 1
            chunks.append(Chunk(frame, frame / 10, forward, data[start : start + cut]))
    return Stream("tcp", 0, "192.168.1.20:1025", "192.168.1.10:8080", tuple(chunks))


@given(body=st.binary(max_size=300), size=st.integers(1, 50))
@UNTIMED
def test_chunks_are_joined_and_their_place_is_kept(body: bytes, size: int) -> None:
    """A chunked body is the body, and each of its bytes is found again in the stream."""
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(body, size)
    ((message, index),), complete = answers(data)
    assert complete
    assert (message.body.content, index) == (body, 0)
    for span in message.body.spans:
        at = slice(span.stream, span.stream + span.length)
        assert data[at] == body[span.content : span.content + span.length]


@pytest.mark.parametrize(
    ("coding", "pack"),
    [
        (b"gzip", gzip.compress),
        (b"x-gzip", gzip.compress),
        (b"deflate", zlib.compress),
        (b"deflate", lambda data: zlib.compress(data)[2:-4]),
        (b"br", brotli.compress),
        (b"zstd", zstandard.compress),
    ],
)
def test_packed_bodies_are_unpacked(coding: bytes, pack: object) -> None:
    """Gzip, deflate with and without its zlib frame, Brotli and Zstandard are undone."""
    packed = pack(b"secret" * 20)  # type: ignore[operator]
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n"
    ((message, _),), _ = answers(head % (coding, len(packed)) + packed)
    assert message.body.content == b"secret" * 20
    assert message.body.undone


@settings(deadline=None, max_examples=300)
@given(
    body=st.binary(max_size=300),
    width=st.sampled_from((31, 15, -15)),
    cut=st.integers(0, 400),
    changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=3),
)
def test_damaged_packed_bodies_are_read_as_zlib_reads_them(
    body: bytes, width: int, cut: int, changes: list[tuple[int, int]]
) -> None:
    """What zlib unpacks is unpacked, byte for byte; what ISA-L alone refuses is asked of zlib."""
    packer = zlib.compressobj(6, zlib.DEFLATED, width)
    data = bytearray(packer.compress(body) + packer.flush())[: cut or None]
    for place, value in changes:
        if place < len(data):
            data[place] = value
    coding = b"gzip" if width == 31 else b"deflate"
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n"
    ((message, _),), _ = answers(head % (coding, len(data)) + data)
    wanted = None
    for each in (31,) if width == 31 else (15, -15):
        try:
            wanted = zlib.decompressobj(each).decompress(bytes(data))
            break
        except zlib.error:
            continue
    if wanted is not None and message.body.undone:
        assert message.body.content == wanted
    if wanted is not None:
        assert message.body.undone


def test_a_coding_that_is_not_known_is_said_so() -> None:
    """A body of another coding stays as it is, and is not taken for readable."""
    ((message, _),), _ = answers(
        b"HTTP/1.1 200 OK\r\nContent-Encoding: compress\r\nContent-Length: 3\r\n\r\nabc"
    )
    assert (message.body.content, message.body.undone) == (b"abc", False)


@pytest.mark.parametrize(
    ("coding", "pack"),
    [(b"gzip", gzip.compress), (b"br", brotli.compress), (b"zstd", zstandard.compress)],
)
def test_a_bomb_is_cut(coding: bytes, pack: object) -> None:
    """A body that unpacks to more than the limit stops there."""
    packed = pack(bytes(http1.LONGEST_BODY + 1000))  # type: ignore[operator]
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n"
    ((message, _),), _ = answers(head % (coding, len(packed)) + packed)
    assert len(message.body.content) == http1.LONGEST_BODY


def test_fields_that_would_take_for_ever() -> None:
    """Blanks without an end, and a length of more digits than a number has, are read at once."""
    blanks = b"GET / HTTP/1.1\r\nA: x" + b" \t" * 500_000
    assert http1.requests(blanks + b"y")[1] is False
    ((message,), complete) = http1.requests(blanks + b"y \t\r\n\r\n")
    assert (message.header("A")[:1], message.header("A")[-1:], complete) == ("x", "y", True)
    ((message,), complete) = http1.requests(
        b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 10_000 + b"\r\n\r\nbody"
    )
    assert (message.body.content, complete) == (b"body", False)


def test_pages_that_the_standard_parser_refuses() -> None:
    """A marked section of no known kind is a comment, as in browsers."""
    page = markup.read(b"<table><tr><td>one</td><![nonsense x]><td>two</td></tr></table>")
    assert [cell.text for cell in page.tables[0].rows[0]] == ["one", "two"]
    markup.read(b"<![" * 1000)


def test_responses_without_a_body_have_none() -> None:
    """HEAD, 204, 304 and 1xx carry no body whatever their fields say (RFC 9112, 6.3)."""
    asked = b"HEAD / HTTP/1.1\r\n\r\n" + GET + GET
    data = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
        b"HTTP/1.1 100 Continue\r\n\r\n"
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    )
    found, complete = answers(data, asked)
    assert complete
    assert [(m.status, i, m.body.content) for m, i in found] == [
        (200, 0, b""),
        (100, 1, b""),
        (304, 1, b""),
        (200, 2, b"ok"),
    ]


def test_without_a_length_the_body_ends_with_the_connection() -> None:
    """The oldest way to end a body still works."""
    ((message, _),), complete = answers(b"HTTP/1.0 200 OK\r\n\r\nall of this")
    assert (message.body.content, complete) == (b"all of this", True)


@given(cut=st.integers(0, 120))
@UNTIMED
def test_a_message_cut_off_gives_what_there_is(cut: int) -> None:
    """However early the capture ends, nothing raises and nothing is invented."""
    head = b"POST /a HTTP/1.1\r\nContent-Length: 40\r\n\r\n"
    data = head + b"x" * 40
    found, complete = http1.requests(data[:cut])
    assert complete is (cut == 0 or cut >= len(data))
    assert b"".join(m.body.content for m in found) == data[len(head) : max(cut, len(head))]


@given(data=st.binary(max_size=400))
@UNTIMED
def test_any_bytes_are_survived(data: bytes) -> None:
    """What is no HTTP is never an exception."""
    decode(
        stream(
            b"GET / HTTP/1.1\r\n" + data, b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n" + data
        )
    )


def test_a_table_of_chats_is_read_whatever_its_markup() -> None:
    """Capital tags, attributes, missing end tags, entities and nested markup are all a table."""
    page = (
        b"<TABLE border=1><TR><TD><b>USERNAME</b><TD>CHAT CONTENT"
        b"<tr class='x'><td>SERVER<td>one &amp; <i>two</i> &lt;b&gt; &#128075;</table>"
    )
    tables = markup.read(page).tables
    assert [[cell.text for cell in row] for row in tables[0].rows] == [
        ["USERNAME", "CHAT CONTENT"],
        ["SERVER", "one & two <b> 👋"],
    ]
    cell = tables[0].rows[1][1]
    assert page[cell.start : cell.end] == b"one &amp; <i>two</i> &lt;b&gt; &#128075;"


def test_the_place_of_a_cell_counts_bytes() -> None:
    """Characters of several bytes, in UTF-8 or not, and line ends do not shift a cell."""
    for charset in ("utf-8", "iso-8859-1", "no-such-charset"):
        text = "<p>käse\r\n\nö</p><table><tr><td>grün</td></tr></table>"
        page = text.encode("utf-8" if charset == "no-such-charset" else charset)
        (table,) = markup.read(page, charset).tables
        cell = table.rows[0][0]
        assert page[cell.start : cell.end] == page.partition(b"<td>")[2].partition(b"</td>")[0]


def test_forms_of_every_type_are_read() -> None:
    """URL-encoded, multipart and JSON forms give the same sign-in."""
    multipart = (
        b'--b\r\nContent-Disposition: form-data; name="user"\r\n\r\nCLIENT\r\n'
        b'--b\r\nContent-Disposition: form-data; name="pwd"\r\n\r\nK-1\r\n--b--\r\n'
    )
    for kind, body in (
        (b"application/x-www-form-urlencoded", b"user=CLIENT&pwd=K%2d1&content=x"),
        (b"multipart/form-data; boundary=b", multipart),
        (b"application/json", b'{"a": [{"user": "CLIENT", "pwd": "K-1"}]}'),
    ):
        head = b"POST / HTTP/1.1\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
        decoded = decode(stream(head % (kind, len(body)) + body))
        assert decoded
        assert [(e.kind, e.text) for e in decoded.exposures if e.kind != "url"] == [
            ("user", "CLIENT"),
            ("password", "K-1"),
        ], kind


def test_basic_credentials_are_read() -> None:
    """A user name and password in base64 are no secret (RFC 7617)."""
    token = base64.b64encode("CLIENT:pass:wörd".encode())
    decoded = decode(stream(b"GET / HTTP/1.1\r\nAuthorization: Basic " + token + b"\r\n\r\n"))
    assert decoded
    assert [(e.kind, e.text) for e in decoded.exposures[1:]] == [
        ("user", "CLIENT"),
        ("password", "pass:wörd"),
    ]


def test_the_frames_of_a_field_are_those_that_carry_it() -> None:
    """A value that spans frames names all of them and no other."""
    request = b"POST / HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    request += b"Content-Length: 20\r\n\r\ncontent=good+evening"
    followed = stream(request, cut=5)
    decoded = decode(followed)
    assert decoded
    (message,) = [e for e in decoded.exposures if e.kind == "message"]
    frames = followed.frames(message.start, message.end, forward=True)
    first = request.index(b"good") // 5 + 1
    last = (len(request) - 1) // 5 + 1
    assert frames == tuple(range(first, last + 1))


def test_other_protocols_are_left_alone() -> None:
    """A stream that is no HTTP is not decoded as if it were, on port 80 neither."""
    decoded = decode(stream(b"NICK CLIENT\r\nUSER x\r\n", b":irc 001 CLIENT\r\n"))
    assert decoded
    assert decoded.protocol == "irc"
