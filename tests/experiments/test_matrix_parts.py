"""The matrix's judging, part by part: pure, on made-up content."""

from __future__ import annotations

import base64
import html
import json
from math import comb
from random import Random
from statistics import median
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.matrix import metadata, page
from experiments.matrix.cell import verdict
from experiments.matrix.cost import COVERAGE, quantile, ranks
from experiments.matrix.needles import Needles
from experiments.matrix.secrets import Item, Line, Person, Truth
from experiments.matrix.sightings import Seen, Sighting, near

TEXT = 'granite vx7wfm3d2zec Say "naïve" & <b>it\'s</b> \\ 100 % 🍵 1+1=2 end'


def written() -> dict[str, bytes]:
    """Return the text as other programs write it."""
    return {
        "as is": TEXT.encode(),
        "url-encoded": quote_plus(TEXT).encode(),
        "html-escaped": html.escape(TEXT).encode(),
        "JSON-escaped": json.dumps(TEXT).encode(),
        "base64": base64.b64encode(b"xy" + TEXT.encode() + b"z"),
        "UTF-16": TEXT.encode("utf-16-be"),
        "hex": TEXT.encode().hex().upper().encode(),
        "SQL-escaped": TEXT.translate({c: f"\\{chr(c)}" for c in b"\\'\""}).encode(),
        # What Prosody's archive had for it (string.format("%q") and decimal escapes).
        "Lua-escaped": "".join(
            f"\\{byte}" if byte > 126 else {34: '\\"', 92: "\\\\"}.get(byte, chr(byte))
            for byte in TEXT.encode()
        ).encode(),
    }


@pytest.mark.parametrize("form", sorted(written()))
def test_a_text_is_found_in_every_form_that_hides_nothing(form: str) -> None:
    """It is told how it was written, and where; its decoy is not found."""
    decoy = Item("decoy", "message", TEXT.replace("vx7", "vx8"), decoy=True)
    needles = Needles([Item("it", "message", TEXT), decoy])
    content = b"\0\1 before " + written()[form] + b" after \2"
    hits = list(needles.find(content))
    assert {hit.id for hit in hits} == {"it"}
    assert form in {hit.form for hit in hits}


@given(st.binary(max_size=300), st.integers(1_000_000_000, 2_000_000_000))
def test_a_time_is_no_part_of_a_longer_number(noise: bytes, second: int) -> None:
    """Digits beside it make it another number."""
    needles = Needles([Item("t", "time", str(second))])
    text = str(second).encode()
    assert [hit.start for hit in needles.find(b"x" + text + b".5")] == [1]
    assert list(needles.find(b"1" + text)) == []
    assert list(needles.find(text + b"0")) == []
    if text not in noise:
        assert list(needles.find(noise)) == []


def test_what_could_not_be_seen_proves_nothing() -> None:
    """A word for each share; doubt makes it open unless all was read."""
    whole, doubtful, blind = Seen(), Seen(doubts=["3 packets were dropped"]), Seen(lacks="no file")
    shares = [(0, 0), (4, 4), (4, 2), (4, 0)]
    assert [verdict(*share, whole) for share in shares] == [
        "nothing there", "read", "partly read", "not read",
    ]  # fmt: skip
    assert [verdict(*share, doubtful) for share in shares] == [
        "nothing there", "read", "inconclusive", "inconclusive",
    ]  # fmt: skip
    assert {verdict(*share, blind) for share in shares} == {"not measured"}


@pytest.mark.parametrize("share", [0.5, 0.95])
@pytest.mark.parametrize("number", [6, 12, 60, 200])
def test_an_interval_covers_what_it_says_or_is_none(number: int, share: float) -> None:
    """Its ranks have the coverage by the binomial distribution, and no narrower ones do."""

    def chance(low: int, high: int) -> float:
        terms = (comb(number, k) * share**k * (1 - share) ** (number - k) for k in range(low, high))
        return sum(terms)

    found = ranks(number, share)
    widest = chance(1, number)
    if found is None:
        assert widest < COVERAGE
        return
    low, high = found
    assert chance(low, high) >= COVERAGE
    width = high - low - 1
    narrower = [chance(first, first + width) for first in range(1, number - width + 1)]
    assert all(one < COVERAGE for one in narrower)


def test_an_interval_holds_the_median_as_often_as_it_says() -> None:
    """Of two thousand samples of a skewed distribution nineteen in twenty or more."""
    chance = Random(1)
    truth, times = 0.6931471805599453, 2000  # the median of an exponential distribution
    rows = [quantile([chance.expovariate(1) for _ in range(20)], 0.5) for _ in range(times)]
    held = sum(row["low"] <= truth <= row["high"] for row in rows)
    assert held / times > COVERAGE - 0.015  # three standard deviations
    assert rows[0]["n"] == 20


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=40))
def test_a_quantile_is_one_of_the_values_or_between_two(values: list[float]) -> None:
    """The median is the usual one; too few values have no interval."""
    row = quantile(values, 0.5)
    assert row["value"] == median(values)
    assert quantile(values, 0.95)["value"] in values
    if len(values) < 6:
        assert row["low"] is None
    assert quantile([], 0.5)["value"] is None


def at(name: str, start: int, container: str = "file") -> Sighting:
    """Return a sighting of ten bytes."""
    return Sighting(name, "as is", container, start, start + 10, {"file": container})


@given(st.lists(st.integers(0, 5000), max_size=20), st.lists(st.integers(0, 5000), max_size=20))
def test_near_is_what_comparing_all_pairs_says(one: list[int], other: list[int]) -> None:
    """Two sightings are near when less than the distance lies between them, in one container."""
    first, second = [at("a", n) for n in one], [at("b", n) for n in other]
    expected = any(y < x + 10 + 100 and x < y + 10 + 100 for x in one for y in other)
    assert bool(near(first, second, 100)) == expected
    assert near(first, [at("b", n, "elsewhere") for n in other], 100) == ()


def truth() -> Truth:
    """Return a conversation of two, one line."""
    items = (
        Item("user-1", "user", "WANJIKU"),
        Item("user-2", "user", "OTIENO"),
        Item("message-1", "message", "granite vx7"),
        Item("time-1500-0", "time", "1500"),
        Item("time-1501-0", "time", "1501"),
        Item("address-peer", "address", "192.168.1.20"),
    )
    people = (
        Person("WANJIKU", "peer", "guest", "192.168.1.20", 1500.1, 1500.2, 1500.4, 1500.5),
        Person("OTIENO", "guest", "guest", "127.0.0.1", 1500.1, 1500.2, 1500.4, 1500.5),
    )
    lines = (Line("message-1", "WANJIKU", "OTIENO", 1500.3, 0.1),)
    return Truth("s", "c", items, people, lines, {item.id: item for item in items})


def seen(*rows: Sighting) -> Seen:
    """Return what was seen."""
    found = Seen()
    for row in rows:
        found.add(row)
    return found


def test_a_list_of_accounts_does_not_tell_who_talks_with_whom() -> None:
    """Two names side by side in a store are nothing without a message or a time beside them."""
    names = (at("user-1", 0), at("user-2", 50))
    (listed,) = metadata.with_whom(truth(), seen(*names), stored=True)
    assert listed.proof is None
    (talked,) = metadata.with_whom(truth(), seen(*names, at("message-1", 200)), stored=True)
    assert talked.proof is not None
    apart = seen(at("user-1", 0), at("user-2", 50_000), at("message-1", 100))
    (far,) = metadata.with_whom(truth(), apart, stored=True)
    assert far.proof is None


def test_a_time_counts_beside_the_name_or_address_it_is_about() -> None:
    """A time alone, or beside somebody else's name, tells nothing of a message."""

    def when(*rows: Sighting) -> list[str]:
        told = metadata.in_store(truth(), seen(*rows))
        return [f"{one.fact} {one.about}" for one in told if one.proof]

    assert when(at("time-1500-0", 0)) == []
    assert when(at("time-1500-0", 0), at("user-2", 20)) == ["how long OTIENO"]
    for name in ("user-1", "address-peer"):
        told = when(at("time-1500-0", 0), at(name, 20))
        assert told == ["when message-1", "how long WANJIKU"]
    assert when(at("time-1500-0", 0), at("user-1", 5000)) == []


def cell(**more: Any) -> dict[str, Any]:  # noqa: ANN401 - parts of a cell
    """Return a cell as matrix.json has it."""
    nothing = {"value": None, "low": None, "high": None, "n": 0}
    row = {"system": "s_server", "countermeasure": "none", "observer": "peer/eth0"}
    proof = {
        "secret": "message-1", "text": "<script>alert(1)</script>", "times": 1, "form": "as is",
        "file": "captures/peer-eth0.pcapng", "frames": [7], "filter": "frame.number in {7}",
    }  # fmt: skip
    rows = [
        {**row, "kind": kind, "sent": 1, "recovered": 1, "verdict": "read", "evidence": [proof]}
        for kind in ("message", "user", "password", "contact")
    ]
    rows.append(
        {**row, "kind": "decoys", "sent": 0, "recovered": 0, "verdict": "none reported",
         "evidence": []}
    )  # fmt: skip
    score = {
        "expected": 4, "found": 4, "missed": [], "beyond": [], "decoys": 9, "decoys_found": [],
        "unplanted": 0,
    }  # fmt: skip
    return {
        "run": "run", "system": "s_server", "countermeasure": "none", "started": "2026-01-01T00:00",
        "faults": [], "planted": {"message": 1}, "rows": rows, "keys": [], "captures": [],
        "observers": {
            "peer/eth0": {"doubts": [], "lacks": "", "level": "everything", "facts": {}}
        },
        "score": {"observers": {"peer/eth0": score}},
        "cost": {
            "latency_s": {"median": nothing, "p95": nothing}, "bytes": nothing, "observer": None,
            "setup": None, "yardstick_s": nothing, "cpu_s": {"places": {}, "programs": []},
        },
        **more,
    }  # fmt: skip


def content(*cells: dict[str, Any], **more: Any) -> dict[str, Any]:  # noqa: ANN401 - as above
    """Return matrix.json."""
    environment = {"host_facts": {}, "software": {}, "lab": "im", "description": ""}
    return {
        "name": "matrix", "cells": list(cells), "impossible": [], "claims": [],
        "environment": environment, **more,
    }  # fmt: skip


def test_what_was_captured_is_text_on_the_page_and_nothing_else() -> None:
    """Captured text is hostile text; what was not measured is a dash and never a number."""
    shown = page.render(content(cell()))
    assert "<script>alert" not in shown
    assert "&lt;script&gt;alert(1)" in shown
    assert "frame.number in {7}" in shown
    assert "not measured" in shown
    assert "Messages can be read on the wire under no countermeasure." in shown
    assert "style=" not in shown  # its policy allows none


def test_the_page_tells_what_cannot_be_claims_and_faults() -> None:
    """Pairs without a cell, verdicts of other runs, and evidence that was changed."""
    row = {"claim": "Ping succeeds.", "verdict": "confirmed", "measured": "6 of 6."}
    shown = page.render(
        content(
            cell(faults=["results.json is not what was sealed"]),
            impossible=[{"system": "w", "countermeasure": "tls", "why": "it has no way to"}],
            claims=[{"run": "other-run", "title": "Other", "verdicts": [row]}],
        )
    )
    for words in ("it has no way to", "Ping succeeds.", "other-run", "is not what was sealed"):
        assert words in shown
