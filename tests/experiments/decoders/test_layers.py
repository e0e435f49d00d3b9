"""Streams inside streams: bytes, frames and times are led back to the stream that was captured."""

from __future__ import annotations

from conversations import stream
from hypothesis import given, settings
from hypothesis import strategies as st
from sealed_talk import C, S

from experiments.analysis import layers
from experiments.analysis.model import Decoded, Exposure, Layer, Passage, Span

UNTIMED = settings(deadline=None)  # the first example loads what it needs

SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=12)


@given(
    before=st.binary(max_size=20), rest=st.binary(min_size=1, max_size=40), size=st.integers(1, 7)
)
@UNTIMED
def test_the_rest_of_a_stream_is_a_stream(before: bytes, rest: bytes, size: int) -> None:
    """What follows an offset has the bytes, frames and times that it has in the whole."""
    whole = stream([(C, before + rest), (S, b"answer")], size=size)
    layer = layers.tail(whole, len(before), None, "the rest")
    assert layer
    inner = layers.inner(whole, layer)
    assert inner.side(forward=True) == rest
    assert inner.side(forward=False) == b""
    for start in range(len(rest)):
        at = start + len(before)
        place = (start, start + 1)
        assert inner.frames(*place, forward=True) == whole.frames(at, at + 1, forward=True)
        assert inner.time(start + 1, forward=True) == whole.time(at + 1, forward=True)


@given(sizes=SIZES, gap=st.integers(1, 4), size=st.integers(1, 7), data=st.data())
@UNTIMED
def test_what_was_read_inside_is_led_back(
    sizes: list[int], gap: int, size: int, data: st.DataObject
) -> None:
    """A place inside a layer of several runs is the place of the same bytes in the stream."""
    content, spans, side = b"", [], b""
    for index, length in enumerate(sizes):
        side += b"-" * gap
        piece = bytes([97 + index]) * length
        spans.append(Span(len(content), len(side), length))
        content, side = content + piece, side + piece
    whole = stream([(C, side)], size=size)
    around = Passage("outer", C, content, spans[0].stream, len(side), ("tls",), tuple(spans))
    layer = Layer(around, None)
    inner = layers.inner(whole, layer)
    assert inner.side(forward=True) == content
    start = data.draw(st.integers(0, len(content) - 1))
    end = data.draw(st.integers(start + 1, len(content)))
    exposure = Exposure("message", "x", "there", C, start, end, ("gzip",), {}, "irc")
    whole_of_it = (Span(0, 0, len(content)),)
    passage = Passage("inside", C, content, 0, len(content), (), whole_of_it)
    passages, exposures = layers.lift(Decoded("irc", (passage,), (exposure,)), layer, "tls")
    (lifted,) = exposures
    assert side[lifted.start : lifted.start + 1] == content[start : start + 1]
    assert side[lifted.end - 1 : lifted.end] == content[end - 1 : end]
    assert (lifted.encodings, lifted.protocol) == (("tls", "gzip"), "tls/irc")
    (composed,) = passages
    for position in range(len(content)):
        at, after = composed.place(position, position + 1)
        assert (side[at:after], after - at) == (content[position : position + 1], 1)
        assert inner.frames(position, position + 1, forward=True) == whole.frames(
            at, after, forward=True
        )


def test_both_directions_keep_their_order() -> None:
    """Inside, who spoke first is who spoke first outside."""
    whole = stream([(C, b"xxA"), (S, b"yyB"), (C, b"C"), (S, b"D")])
    layer = layers.tail(whole, 2, 2, "the rest")
    assert layer
    inner = layers.inner(whole, layer)
    assert [(chunk.forward, chunk.data, chunk.frame) for chunk in inner.chunks] == [
        (True, b"A", 1),
        (False, b"B", 2),
        (True, b"C", 3),
        (False, b"D", 4),
    ]


def test_nothing_is_left_of_nothing() -> None:
    """An agreement at the end of what was captured leads nowhere."""
    whole = stream([(C, b"abc")])
    assert layers.tail(whole, 3, None, "the rest") is None
