"""Known texts and patterns, found in every spelling wherever they lie."""

from __future__ import annotations

import base64
import html
import json
import quopri
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

import frames as f
import pytest
from fixture_run import FIXTURE
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from experiments.analysis import capture, spellings
from experiments.analysis.capture.scan import Pattern, Scanner, Secret
from lab.errors import LabError

if TYPE_CHECKING:
    from pathlib import Path

texts = st.text(st.characters(codec="utf-8", exclude_categories=("C",)), min_size=8, max_size=40)


def in_base64(text: str) -> bytes:
    """Return it somewhere within a longer text, in base64."""
    return base64.b64encode(b"\0user\0" + text.encode() + b"!")


SPELL = {
    "as is": lambda t: t.encode(),
    "utf-16-le": lambda t: t.encode("utf-16-le"),
    "utf-16-be": lambda t: t.encode("utf-16-be"),
    "percent": lambda t: quote(t, safe="").encode(),
    "percent, lower": lambda t: quote(t, safe="").lower().encode() if t.islower() else t.encode(),
    "form": lambda t: quote_plus(t).encode(),
    "html": lambda t: html.escape(t).encode(),
    "json": lambda t: json.dumps(t).encode(),
    "quoted-printable": lambda t: quopri.encodestring(t.encode()).replace(b"=\n", b""),
    "base64 0": lambda t: base64.b64encode(t.encode()),
    "base64 1": lambda t: base64.b64encode(b"x" + t.encode() + b"yz"),
    "base64 2": lambda t: base64.b64encode(b"xx" + t.encode() + b"y"),
    "base64url": lambda t: base64.urlsafe_b64encode(b"~?>" + t.encode()),
    "hex": lambda t: t.encode().hex().encode(),
    "HEX": lambda t: t.encode().hex().upper().encode(),
}


@settings(deadline=None, max_examples=40)
@given(text=texts)
def test_every_spelling_is_found(text: str) -> None:
    """However a library writes a text, it is found in what it wrote."""
    text = text.strip()
    assume(len(text.encode()) >= 8)
    scanner, other = Scanner([Secret("s", text)]), Scanner([Secret("s", text)])
    other.matcher(1 << 40)  # as for a capture so large: compiled in another way
    for name, spell in SPELL.items():
        content = b"before " + spell(text) + b" after"
        found = list(scanner.scan(content))
        assert found, name
        assert list(other.scan(content)) == found, name


def test_the_spelling_is_told() -> None:
    """With the place, and plainer names first."""
    scanner = Scanner([Secret("s", "pass wörd & more")])
    found = {
        form: [place.form for place in scanner.scan(content)]
        for form, content in {
            "plain": "pass wörd & more".encode(),
            "url": b"p=pass+w%c3%b6rd+%26+more",
            "html": "<b>pass wörd &amp; more</b>".encode(),
            "json": b'"pass w\\u00f6rd & more"',
            "sasl": in_base64("pass wörd & more"),
        }.items()
    }
    assert found == {
        "plain": ["as is"],
        "url": ["url-encoded"],
        "html": ["html-escaped"],
        "json": ["JSON-escaped"],
        "sasl": ["base64"],
    }


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"say=HI&x=1", 1),
        (b"<td>HI</td>", 1),
        (b"HI SIR", 0),
        (b"WHICH", 0),
        (b"HI", 1),
        (b'{"text":"HI"}', 1),
    ],
)
def test_a_short_text_must_stand_alone(content: bytes, found: int) -> None:
    """Inside a word or a sentence it is chance."""
    assert len(list(Scanner([Secret("s", "HI")]).scan(content))) == found


def stream_of(path: Path, data: bytes, cuts: list[int], *, late: bool) -> None:
    """Write a capture with one stream, cut into segments, the second of them late."""
    bounds = [0, *sorted(set(cuts)), len(data)]
    pieces = [(a, data[a:b]) for a, b in pairwise(bounds) if b > a]
    if late and len(pieces) > 2:
        pieces.append(pieces.pop(1))
    packets = [
        f.ethernet(f.ip4("10.0.0.1", "10.0.0.2", 6, f.tcp(1, 2, 7 + at, 1, f.ACK, piece)))
        for at, piece in pieces
    ]
    path.write_bytes(f.pcap(f.timed(packets, Random(1))))


@settings(deadline=None, max_examples=30)
@given(cuts=st.lists(st.integers(1, 199), min_size=1, max_size=12), late=st.booleans())
def test_what_is_split_between_segments_is_found(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], *, late: bool
) -> None:
    """Wherever a stream is cut and in whatever order the pieces come."""
    path = tmp_path_factory.mktemp("split") / "a.pcap"
    data = b"." * 90 + b"the secret itself" + b"." * 93
    stream_of(path, data, cuts, late=late)
    scanner = Scanner([Secret("s", "the secret itself")], [Pattern("p", rb"sec[a-z]+ it")])
    with capture.read([path], scanner=scanner) as reading:
        found = {(hit.id, hit.start, hit.end) for hit in reading.hits}
        assert found == {("s", 90, 107), ("p", 94, 103)}
        for hit in reading.hits:
            assert hit.frames == reading.stream(0).frames(hit.start, hit.end, forward=True)


def test_what_is_split_between_windows_is_found(tmp_path: Path) -> None:
    """Across the border of what is read at a time, with another stream in between."""
    secrets = [f"secret number {n:05d}" for n in range(300)]
    whole = bytearray(Random(2).randbytes(12_000_000).replace(b"s", b"t"))
    for n, secret in enumerate(secrets):
        whole[n * 40_000 - 9 + 30_000 : n * 40_000 + 30_000 - 9 + len(secret)] = secret.encode()
    packets = []
    for at in range(0, len(whole), 1000):
        for port in (1, 9):
            segment = f.tcp(port, 2, 7 + at, 1, f.ACK, bytes(whole[at : at + 1000]))
            packets.append(f.ethernet(f.ip4("10.0.0.1", "10.0.0.2", 6, segment)))
    path = tmp_path / "a.pcap"
    path.write_bytes(f.pcap([(n, data, len(data)) for n, data in enumerate(packets)]))
    scanner = Scanner([Secret(text, text) for text in secrets])
    with capture.read([path], scanner=scanner) as reading:
        places = sorted((hit.flow, hit.start, hit.id) for hit in reading.hits)
    expected = [
        (flow, n * 40_000 - 9 + 30_000, text) for flow in (0, 1) for n, text in enumerate(secrets)
    ]
    assert places == expected


def test_nothing_is_found_across_a_hole_or_two_streams(tmp_path: Path) -> None:
    """Halves that never stood side by side are no find."""
    halves = [
        (1, 7, b"...the sec"),
        (9, 7, b"ret itself"),
        (1, 30, b"ret itself"),
    ]
    packets = [
        f.ethernet(f.ip4("10.0.0.1", "10.0.0.2", 6, f.tcp(port, 2, seq, 1, f.ACK, data)))
        for port, seq, data in halves
    ]
    packets.append(f.ethernet(f.ip4("10.0.0.2", "10.0.0.1", 6, f.tcp(2, 1, 1, 40, f.ACK))))
    path = tmp_path / "a.pcap"
    path.write_bytes(f.pcap(f.timed(packets, Random(1))))
    with capture.read([path], scanner=Scanner([Secret("s", "the secret itself")])) as reading:
        assert reading.hits == ()
        assert reading.stream(0).missing(forward=True) == 13


def test_long_texts_are_compared_to_their_end(tmp_path: Path) -> None:
    """Longer than what is kept of a stream: the beginning is not enough."""
    text = "x".join(str(n) for n in range(400))
    stream_of(tmp_path / "a.pcap", text.encode() + b"|" + text[:-1].encode(), [700], late=False)
    with capture.read([tmp_path / "a.pcap"], scanner=Scanner([Secret("s", text)])) as reading:
        assert [(hit.start, hit.end) for hit in reading.hits] == [(0, len(text))]


def test_the_lab_capture_is_searched() -> None:
    """What was planted in the clear is found in the recorded run, what was not is not."""
    wanted = ["Kisumu-2016", "Nightmare", "THIS ONE WAS NEVER SENT", "Habari 👋🏽 ☕ kesho?"]
    scanner = Scanner([Secret(text, text) for text in wanted])
    with capture.read([FIXTURE / "captures/peer-eth0.pcapng"], scanner=scanner) as reading:
        assert {hit.id for hit in reading.hits} == {*wanted} - {"THIS ONE WAS NEVER SENT"}
        for hit in reading.hits:
            written = reading.stream(hit.flow).read(hit.start, hit.end, forward=hit.forward)
            assert written in spellings.spellings(hit.id)


def test_a_pattern_that_is_none_is_refused() -> None:
    """With what is wrong with it."""
    with pytest.raises(LabError, match="looked for"):
        list(Scanner(patterns=[Pattern("p", rb"(?<=x)y")]).scan(b"xy"))


def test_a_secret_does_not_tell_itself() -> None:
    """Its text is in no message that is made of it."""
    assert "hidden" not in repr(Secret("name", "hidden"))
