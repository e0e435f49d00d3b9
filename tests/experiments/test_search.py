"""Finding a known text, and only it, through encodings that hide nothing."""

from __future__ import annotations

import base64
import html
import re
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from experiments.analysis.model import Chunk, Passage, Stream
from experiments.analysis.search import Haystack

FORWARD = True
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40)


def haystack(data: bytes) -> Haystack:
    """Return one direction of a stream that no decoder knows."""
    return Haystack(Stream("tcp", 0, "a:1", "b:2", (Chunk(1, 0.0, FORWARD, data),)), (), ())


def found(data: bytes, text: str, *longer: str) -> list[bytes]:
    """Return the stream bytes that hits point at."""
    return [data[hit.start : hit.end] for hit in haystack(data).find(text, longer)]


@given(text=TEXTS)
@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.encode(),
        lambda text: quote_plus(text).encode(),
        lambda text: re.sub("%..", lambda m: m[0].lower(), quote(text, safe="")).encode(),
        lambda text: html.escape(text).encode(),
    ],
)
def test_any_text_is_found_at_its_place_in_any_encoding(encode: object, text: str) -> None:
    """Plain, percent-encoded or escaped: the hit is exactly the bytes that say it."""
    assume(text.strip() == text)
    written: bytes = encode(text)  # type: ignore[operator]
    data = b"\r\nfield=" + written + b"&next=1"
    hits = found(data, text)
    assert written in hits


@given(text=TEXTS, user=TEXTS)
def test_credentials_in_base64_are_found(text: str, user: str) -> None:
    """SASL PLAIN (RFC 4616) is base64 of NUL-separated texts: not a secret."""
    assume(text.strip() == text)
    data = b"AUTH PLAIN " + base64.b64encode(f"\0{user}\0{text}".encode()) + b"\r\n"
    assume(text.encode() not in data)
    assert any("base64" in hit.forms for hit in haystack(data).find(text, (), spaced=True))


@pytest.mark.parametrize(
    "data",
    [
        b"content=HI+SIR",
        b"<td>HI SIR</td>",
        b"WHICH",
        b"CHI=1",
        b"HI there\r\n",
        b">SHI<",
        b"a HI\r\n",
    ],
)
def test_a_short_text_in_a_longer_one_is_not_found(data: bytes) -> None:
    """'HI' within words and sentences is not the message 'HI'."""
    assert found(data, "HI") == []


@pytest.mark.parametrize("data", [b"content=HI&x", b"<td>HI</td>", b"PRIVMSG a :HI\r\n", b"HI"])
def test_a_short_text_on_its_own_is_found(data: bytes) -> None:
    """The same text set apart by what separates values is found."""
    assert found(data, "HI") == [b"HI"]


@pytest.mark.parametrize(
    "data", [b":OTIENO!OTIENO@192.168.1.10 PRIVMSG", b"PRIVMSG OTIENO :Hi", b"to='OTIENO@guest/x'"]
)
def test_a_name_is_found_where_protocols_write_it(data: bytes) -> None:
    """Between spaces and within addresses; not as a message would be, and not within a word."""
    stream = Stream("tcp", 0, "a:1", "b:2", (Chunk(1, 0.0, FORWARD, data),))
    assert Haystack(stream, (), ()).find("OTIENO", (), spaced=True)
    assert Haystack(stream, (), ()).find("TIENO", (), spaced=True) == []


def test_inside_a_longer_planted_text_it_does_not_count() -> None:
    """Of two planted texts the shorter is not found where the longer stands."""
    data = b"<td>Good Afternoon all</td>"
    assert found(data, "Good Afternoon", "Good Afternoon all") == []
    assert found(data + b"<td>Good Afternoon</td>", "Good Afternoon", "Good Afternoon all") == [
        b"Good Afternoon"
    ]


def test_line_ends_are_the_same_text() -> None:
    """A form sends CRLF for what was planted with LF."""
    assert found(b"m=first line%0D%0Asecond&", "first line\nsecond") == [b"first line%0D%0Asecond"]


def test_one_place_is_one_hit() -> None:
    """Found plainly, in the raw stream and after decoding: reported once, best description."""
    data = b"POST\r\n\r\ncontent=Good+Afternoon"
    stream = Stream("tcp", 0, "a:1", "b:2", (Chunk(1, 0.0, FORWARD, data),))
    passage = Passage("request body", FORWARD, data[8:], 8, len(data))
    (hit,) = Haystack(stream, (passage,), ()).find("Good Afternoon", ())
    assert (hit.where, hit.forms) == ("request body", ("url-encoded",))
