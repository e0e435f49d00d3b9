"""What every decoder keeps to, whatever is in a stream."""

from __future__ import annotations

from itertools import pairwise

import pytest
from conversations import corpus, shuffled_sides, stream
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sealed_talk import Turn, tls

from experiments.analysis.decoders import decode, decoders
from experiments.analysis.model import Chunk, Decoded, Opener, Stream
from experiments.analysis.told import told

CORPUS = corpus()
EXACT = ("message", "user", "password")
# Codings after which the text still stands in the stream as it is.
PLAIN = {"chunked", "telnet"}
QUICK = settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
TURNS = st.lists(st.tuples(st.booleans(), st.binary(max_size=200)), max_size=6)


def check(followed: Stream, decoded: Decoded | None) -> None:
    """Assert that all that was read lies in the stream, and that its frames are the stream's."""
    if not decoded:
        return
    frames = {chunk.frame for chunk in followed.chunks}
    for exposure in decoded.exposures:
        side = followed.side(forward=exposure.forward)
        assert 0 <= exposure.start <= exposure.end <= len(side), exposure
        assert exposure.text, exposure
    for passage in decoded.passages:
        assert 0 <= passage.start <= passage.end <= len(followed.side(forward=passage.forward))
        for one, other in pairwise(passage.spans):
            assert one.content < other.content
    for row in told(followed, decoded):
        assert set(row.frames) <= frames
        assert row.frames, row


def exact(decoded: Decoded | None) -> set[tuple[str, str]]:
    """Return the messages, users and passwords."""
    found = decoded.exposures if decoded else ()
    return {(e.kind, e.text) for e in found if e.kind in EXACT}


def cut(turns: list[Turn], length: int) -> list[Turn]:
    """Return the first bytes of a conversation, in the order in which they were said."""
    kept = []
    for way, data in turns:
        kept.append((way, data[:length]))
        length -= len(data)
        if length <= 0:
            break
    return kept


@pytest.mark.parametrize("name", sorted(decoders()))
@given(turns=TURNS, udp=st.booleans())
@QUICK
def test_any_bytes_are_survived(name: str, turns: list[Turn], *, udp: bool) -> None:
    """Random bytes raise nothing, recognised or not."""
    decoder = decoders()[name]
    followed = stream(turns, protocol="udp" if udp else "tcp")
    decoder.recognises(followed)
    if any(data for _, data in turns):
        check(followed, decoder.decode(followed))
        if isinstance(decoder, Opener):
            decoder.open(followed, tls()[1])


@pytest.mark.parametrize("name", sorted(CORPUS))
@given(data=st.data())
@QUICK
def test_what_is_broken_is_survived(name: str, data: st.DataObject) -> None:
    """Bytes of a conversation that are changed, lost or put in elsewhere raise nothing."""
    protocol, turns = CORPUS[name]
    broken = []
    for way, said in turns:
        if data.draw(st.integers(0, 3)):
            broken.append((way, said))
            continue
        at = data.draw(st.integers(0, len(said)))
        upto = data.draw(st.integers(at, min(at + 40, len(said))))
        broken.append((way, said[:at] + data.draw(st.binary(max_size=8)) + said[upto:]))
    if data.draw(st.booleans()):
        broken = shuffled_sides(broken)
    followed = stream(broken, protocol=protocol, size=data.draw(st.integers(0, 50)))
    keys = tls("TLSv1_2")[1] + tls()[1]
    check(followed, decode(followed, keys))
    for decoder in decoders().values():
        decoder.recognises(followed)
        check(followed, decoder.decode(followed))


RUNS = (
    *(
        b" ",
        b"\t",
        b"\n",
        b"\r\n",
        b"a",
        b'"',
        b"<",
        b"</",
        b"=",
        b"a=",
        b"\\",
        b'\\"',
        b"@",
        b"a@",
    ),
    *(
        b"&",
        b"\xff",
        b"\xff\xfa",
        b"{",
        b"[",
        b'{"a":',
        b"<a>",
        b"<!--",
        b"<![",
        b"<![CDATA[",
        b"<?",
    ),
    *(b"=?u?q?", b"\r\n ", b"0", b"\r\n--B", b"{1}\r\n", b"\0", b"\xc0\x0c", b"&amp;", b"<td>"),
    *(b"\x81\x80\0\0\0\0", b"\x17\x03\x03\0\0", b"x-y: z\r\n"),
)


@pytest.mark.parametrize("name", sorted(CORPUS))
@given(data=st.data())
@QUICK
def test_a_long_run_of_the_same_is_survived(name: str, data: st.DataObject) -> None:
    """What makes a pattern try again and again, or a number too long, is read like anything else.

    One pattern that is not linear makes this test take minutes.
    """
    protocol, turns = CORPUS[name]
    index = data.draw(st.integers(0, len(turns) - 1))
    way, said = turns[index]
    at = data.draw(st.integers(0, len(said)))
    run = data.draw(st.sampled_from(RUNS))
    long = said[:at] + run * (30_000 // len(run)) + said[at:]
    followed = stream([*turns[:index], (way, long), *turns[index + 1 :]], protocol=protocol)
    check(followed, decode(followed, tls()[1]))


@pytest.mark.parametrize("name", sorted(CORPUS))
def test_a_cut_invents_nothing(name: str) -> None:
    """Wherever a capture ends, no message, user or password is told that the whole has not."""
    protocol, turns = CORPUS[name]
    keys = tls("TLSv1_2")[1] + tls()[1]
    whole = exact(decode(stream(turns, protocol=protocol), keys))
    total = sum(len(said) for _, said in turns)
    for length in range(1, total, max(total // 400, 1)):
        followed = stream(cut(turns, length), protocol=protocol)
        decoded = decode(followed, keys)
        check(followed, decoded)
        assert exact(decoded) <= whole, length


@pytest.mark.parametrize("name", sorted(CORPUS))
@given(data=st.data())
@QUICK
def test_how_the_bytes_were_cut_into_frames_does_not_matter(name: str, data: st.DataObject) -> None:
    """The same bytes in other frames tell the same, in the same places."""
    protocol, turns = CORPUS[name]
    if protocol == "udp":
        return
    whole = decode(stream(turns))
    size = data.draw(st.integers(1, 300))
    pieces = decode(stream(turns, size=size))
    assert whole
    assert pieces
    assert pieces.protocol == whole.protocol
    assert pieces.exposures == whole.exposures


@pytest.mark.parametrize("name", sorted(CORPUS))
def test_a_text_stands_where_it_is_said_to_stand(name: str) -> None:
    """The bytes of what was read hold the text itself, where nothing had to be undone."""
    protocol, turns = CORPUS[name]
    followed = stream(turns, protocol=protocol, size=11 if protocol == "tcp" else 0)
    decoded = decode(followed)
    assert decoded
    check(followed, decoded)
    for exposure in decoded.exposures:
        if exposure.kind not in EXACT or set(exposure.encodings) - PLAIN:
            continue
        written = followed.side(forward=exposure.forward)[exposure.start : exposure.end]
        text = exposure.text.replace("&", "&amp;") if exposure.protocol == "xmpp" else exposure.text
        if decoded.protocol != "telnet":  # a key that was taken back is still there
            assert text.encode().strip() in written.replace(b"\r\n", b"\n"), exposure


@pytest.mark.parametrize("name", sorted(set(CORPUS) - {"noise"}))
def test_who_is_taken_for_the_client_does_not_matter(name: str) -> None:
    """A capture that begins with an answer has its ends exchanged; it tells the same."""
    protocol, turns = CORPUS[name]
    one = decode(stream(turns, protocol=protocol))
    other = decode(stream(shuffled_sides(turns), protocol=protocol))
    assert one
    assert other
    assert (other.protocol, other.inside) == (one.protocol, one.inside)
    told = {(e.kind, e.text, e.forward) for e in one.exposures if e.kind in EXACT}
    assert {(e.kind, e.text, not e.forward) for e in other.exposures if e.kind in EXACT} == told


def test_an_empty_stream_is_nothing() -> None:
    """A connection without a byte is not decoded."""
    assert decode(Stream("tcp", 0, "a:1", "b:2", ())) is None
    assert decode(Stream("tcp", 0, "a:1", "b:2", (Chunk(1, 0.0, forward=True, data=b""),))) is None


@pytest.mark.parametrize("name", sorted(decoders()))
def test_decoders_are_named_as_their_files(name: str) -> None:
    """What is found by name says its name."""
    assert decoders()[name].name == name
