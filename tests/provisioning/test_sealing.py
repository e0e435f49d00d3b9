"""Sealed messages: what fits where, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioning.sealing import MAX_WAITING, Joiner, Keys, RefusedError, split

if TYPE_CHECKING:
    import random

IDS = st.text("0123456789abcdef", min_size=16, max_size=16)


def pair() -> tuple[Keys, Keys]:
    """Return two people who have told each other their keys."""
    ring: dict[str, bytes] = {}
    return Keys("ANNE", ring), Keys("BEN", ring)


@given(st.binary(min_size=1, max_size=3000), IDS, st.integers(64, 500), st.randoms())
def test_lines_are_short_enough_and_join_in_any_order(
    sealed: bytes, message: str, longest: int, chance: random.Random
) -> None:
    """What was split comes out whole, whatever way its lines took."""
    lines = list(split(sealed, message, longest))
    assert all(len(line.encode()) <= longest for line in lines)
    assert all(line.isascii() and " " not in line for line in lines)
    chance.shuffle(lines)
    joiner = Joiner()
    taken = [joiner.take(line) for line in lines]
    assert taken[-1] == sealed
    assert taken[:-1] == [None] * (len(lines) - 1)


@given(st.integers(1, 34))
def test_what_has_no_room_is_told(longest: int) -> None:
    """Lines too short for their own head carry nothing."""
    with pytest.raises(ValueError, match="do not fit"):
        split(b"x", "0" * 16, longest)


@given(st.text() | st.from_regex(r"imlab1\.[0-9a-f]{16}\.[0-9]{1,4}\.[0-9]{1,4}\.[\w-]*"))
def test_a_line_of_anybody_is_refused_or_waited_for(line: str) -> None:
    """Whatever a server invents raises nothing but a refusal."""
    anne, _ = pair()
    joiner = Joiner()
    try:
        whole = joiner.take(line)
        if whole is not None:
            anne.open(whole, "BEN")
    except RefusedError:
        return
    assert whole is None, "a message that nobody sealed was opened"


def test_parts_that_never_come_do_not_pile_up() -> None:
    """A sender's unfinished messages are bounded."""
    joiner = Joiner()
    for number in range(10 * MAX_WAITING):
        joiner.take(f"imlab1.{number:016x}.0.2.AAAA")
    assert len(joiner._waiting) == MAX_WAITING


@given(st.text(max_size=2000))
def test_only_who_it_is_for_reads_it(text: str) -> None:
    """The recipient reads the text; another person, with a key and all, does not."""
    anne, ben = pair()
    eve = Keys("EVE", anne.ring)
    sealed = anne.seal(text, "BEN")
    assert len(text) < 8 or text.encode() not in sealed
    with pytest.raises(RefusedError, match="not sealed by ANNE"):
        eve.open(sealed, "ANNE")
    assert ben.open(sealed, "ANNE") == text


@given(st.data())
def test_a_changed_bit_is_refused(data: st.DataObject) -> None:
    """Nothing of a message that was tampered with is shown."""
    anne, ben = pair()
    sealed = bytearray(anne.seal("Good evening", "BEN"))
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(RefusedError):
        ben.open(bytes(sealed), "ANNE")


def test_what_comes_again_or_back_is_refused() -> None:
    """A server can neither repeat a message, nor send it back as the other's, nor reorder two."""
    anne, ben = pair()
    first, second = anne.seal("one", "BEN"), anne.seal("two", "BEN")
    with pytest.raises(RefusedError, match="said by ANNE to BEN"):
        anne.open(first, "BEN")  # a box opens both ways: what is inside tells
    assert ben.open(second, "ANNE") == "two"
    for old in (second, first):
        with pytest.raises(RefusedError, match="already"):
            ben.open(old, "ANNE")


def test_nobody_seals_for_who_has_told_no_key() -> None:
    """There is no falling back to plain text."""
    anne, _ = pair()
    with pytest.raises(RefusedError, match="CARL has told no key"):
        anne.seal("Good evening", "CARL")
    assert "private" not in repr(anne).lower()
