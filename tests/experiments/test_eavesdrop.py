"""What an eavesdropper heard: harmless text, packed packet lists, the page, bounds."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
import tracemalloc
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from talks import Capture, chat, http, sign_in

from experiments import columns, eavesdrop, timeline
from experiments.eavesdrop import document, overview, packets, page, proof
from experiments.eavesdrop.overview import Overview
from experiments.eavesdrop.plain import dumps, plain, readable
from experiments.eavesdrop.spool import Spool

RECORDED = Path(__file__).parent / "fixtures/paper-run/captures/peer-eth0.pcapng"
HOSTILE = b"</script><img src=x onerror=alert(1)><b title=\"'&"
needs_chromium = pytest.mark.skipif(
    not shutil.which("chromium"), reason="chromium is not installed"
)


class Tags(HTMLParser):
    """Every start tag of a page with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect."""
        self.found.append((tag, dict(attrs)))


def written(tmp_path: Path, capture: Capture) -> Path:
    """Return a capture file."""
    path = tmp_path / "made.pcap"
    path.write_bytes(capture.pcap())
    return path


# --- text ---------------------------------------------------------------------------------------


@given(st.text(alphabet=st.characters(), max_size=60))
def test_what_is_shown_is_printable_and_what_is_printable_is_shown(text: str) -> None:
    """No terminal obeys it; text without control characters stays as it is."""
    shown = plain(text)
    assert shown.isprintable()
    assert shown == text or not text.isprintable()


@given(st.binary(max_size=200))
def test_bytes_become_lines_of_printable_text(data: bytes) -> None:
    """Line ends and tabs stay, all else is printable."""
    assert all(char.isprintable() or char in "\n\t" for char in readable(data))


@given(st.text(alphabet=st.characters(), max_size=60))
def test_json_is_safe_to_print_and_says_the_same(text: str) -> None:
    """Whatever is in a string, a parser gets it back and a terminal obeys nothing."""
    line = dumps({"x": text})
    assert json.loads(line) == {"x": text}
    line.encode()
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", line)


# --- bounds -------------------------------------------------------------------------------------


def test_a_spool_keeps_so_many_rows_and_counts_the_others() -> None:
    """What is left out is known."""
    spool = Spool(3)
    for number in range(5):
        spool.add({"n": number})
    assert [row["n"] for row in spool.read()] == [0, 1, 2]
    assert (spool.rows, spool.left_out, len(spool)) == (3, 2, 5)


def test_a_tally_does_not_grow_without_bound() -> None:
    """The first texts are kept with their places, more are told apart, the rest is counted."""
    tally = overview.Tally()
    tracemalloc.start()
    for number in range(overview.DISTINCT * 2):
        tally.add((str(number),), {"text": str(number)})
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(tally.rows) == overview.KEPT
    assert tally.different == overview.KEPT + overview.DISTINCT
    assert tally.full
    assert tally.total == overview.DISTINCT * 2
    assert size < 40 << 20


# --- the packet list ----------------------------------------------------------------------------


def unpacked(packed: dict[str, Any]) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, Any]]:
    """Return columns and tables as the page's script unpacks them."""
    data = zlib.decompress(base64.b64decode(packed["packed"]))
    out, at = {}, 0
    for name, kind in packed["columns"]:
        size = np.dtype(kind).itemsize * packed["rows"]
        out[name] = np.frombuffer(data[at : at + size], f"<{kind}")
        at += size
    return out, json.loads(data[at:])


def test_packed_rows_come_back() -> None:
    """Time, ends, protocol, length and info of each row, in order."""
    rows = [
        [1, 0.0, "a", "b", "TCP", 60, "one"],
        [2, 0.000001, "b", "a", "HTTP", 61, "two"],
        [3, 99999.5, "a", "b", "TCP", 60, "one"],
        [4, -1.25, "c", "b", "ARP", 42, ""],
    ]
    packed = columns.of_rows(rows)
    made, tables = unpacked(packed)
    back = [
        [
            n + 1,
            made["seconds"][n] + made["micros"][n] / 1e6,
            tables["names"][made["source"][n]],
            tables["names"][made["destination"][n]],
            tables["protocols"][made["protocol"][n]],
            int(made["length"][n]),
            tables["infos"][made["info"][n]],
        ]
        for n in range(packed["rows"])
    ]
    assert back == rows


def test_sequence_numbers_are_packed_as_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    """Summed up as the script does they are the engine's, across windows too."""
    monkeypatch.setattr(packets, "_WINDOW", 7)
    with eavesdrop.analyze([RECORDED]) as heard:
        made, tables = unpacked(packets.pack(heard))
        table = heard.reading.packets
        expected: dict[int, tuple[int, int]] = {}
        for n, row in enumerate(table):
            if not made["tcp"][n]:
                continue
            key = int(made["flow"][n]) * 2 + int(made["side"][n])
            end, last = expected.get(key, (0, 0))
            seq = (end + int(made["seq"][n])) & 0xFFFFFFFF
            ack = (last + int(made["ack"][n])) & 0xFFFFFFFF
            assert (seq, ack) == (int(row["seq"]), int(row["ack"]))
            expected[key] = (seq + int(row["payload_length"]), ack)
        assert np.count_nonzero(made["seq"]) < len(table) / 2
        for n, row in enumerate(heard.reading.rows()):
            assert tables["names"][made["source"][n]] == row.source
            assert tables["names"][made["destination"][n]] == row.destination
            assert made["length"][n] == row.length


def test_the_first_packets_are_in_a_page_that_cannot_have_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sentence tells how many are not in it."""
    monkeypatch.setattr(packets, "MOST_ROWS", 10)
    with eavesdrop.analyze([written(tmp_path, chat())]) as heard:
        page.write(heard, tmp_path / "x.html")
    text = (tmp_path / "x.html").read_text("utf-8")
    assert "The page holds the first packets only; 11 later ones are not in it." in text


# --- the page -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of a capture in which everything that can be is hostile."""
    folder = tmp_path_factory.mktemp("page")
    made = chat()
    made.tcp(http(b"GET /" + HOSTILE + b" HTTP/1.1\r\nHost: x\r\nCookie: " + HOSTILE + b"\r\n\r\n"))
    made.tcp(http(sign_in(HOSTILE.replace(b"&", b"%26"), HOSTILE.replace(b"&", b"%26"))))
    irc = b"NICK eve\r\nUSER eve 0 * :e\r\nPRIVMSG #r" + HOSTILE.replace(b" ", b"_") + b" :"
    made.tcp([(True, irc + HOSTILE + b"\r\n")], ("10.0.0.1", 40005), ("10.0.0.2", 6667))
    source = folder / "made<script>.pcap"
    source.write_bytes(made.pcap())
    with eavesdrop.analyze([source]) as heard:
        page.write(heard, folder / "page.html")
    return folder / "page.html"


def test_hostile_contents_do_nothing_in_the_page(shown: Path) -> None:
    """They make no element, end no script and name nothing that would be fetched."""
    text = shown.read_text("utf-8")
    tags = Tags(text).found
    assert not [tag for tag, _ in tags if tag in {"img", "iframe", "object", "form", "base"}]
    scripts = [attributes for tag, attributes in tags if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "data"}, {}]
    for tag, attributes in tags:
        assert not any(name.startswith("on") or name == "style" for name in attributes), tag
        for name in ("src", "href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:,")), (tag, value)
    assert "&lt;/script&gt;&lt;img" in text
    policy = next(a["content"] for t, a in tags if t == "meta" and "http-equiv" in a)
    assert policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy


def test_findings_lead_to_their_frames(shown: Path) -> None:
    """Each message and password has a link to a frame that is in the packet list."""
    text = shown.read_text("utf-8")
    section = text.partition('<section id="read"')[2].partition("</section>")[0]
    frames = [int(number) for number in re.findall(r'href="#frame-0-(\d+)"', section)]
    assert {5, 18} <= set(frames)
    streams = re.findall(r'href="#stream-([a-z]+:\d+)"', section)
    assert streams
    assert all(f'id="stream-{name}"' in text for name in streams)


def test_what_was_read_is_marked_in_the_streams(shown: Path) -> None:
    """Message and password stand out where they were said."""
    marks = re.findall(r'<mark class="(\w+)"[^>]*>(.*?)</mark>', shown.read_text("utf-8"))
    assert ("password", "Kisumu-2016") in marks
    assert ("message", "meet me at noon") in marks


def browse(path: str, profile: Path) -> subprocess.CompletedProcess[str]:
    """Open an address in headless Chromium and return what it made of it."""
    argv = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    argv += ["--disable-background-networking", f"--user-data-dir={profile}", "--dump-dom"]
    argv += ["--virtual-time-budget=8000", path]
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=120)


@needs_chromium
def test_a_browser_shows_the_page_and_nothing_hostile_runs(shown: Path, tmp_path: Path) -> None:
    """The list is unpacked, nothing is blocked by the policy or logged."""
    done = browse(shown.as_uri(), tmp_path / "profile")
    assert 'data-ready="yes"' in done.stdout
    assert "CONSOLE" not in done.stderr, done.stderr
    rows = done.stdout.partition('<tbody id="rows">')[2].partition("</tbody>")[0]
    assert "40000 → 80 [SYN] Seq=0 Win=8192 Len=0" in rows
    assert "POST /login HTTP/1.1" in rows


@needs_chromium
def test_a_link_to_a_frame_and_a_filter_work(shown: Path, tmp_path: Path) -> None:
    """#frame-0-18 selects frame 18; #filter-0-tcp:1 leaves the packets of that stream."""
    at_frame = browse(f"{shown.as_uri()}#frame-0-18", tmp_path / "profile").stdout
    assert re.search(r'<tr class="[^"]*selected"[^>]*><td>18</td>', at_frame)
    filtered = browse(f"{shown.as_uri()}#filter-0-tcp:1", tmp_path / "profile").stdout
    found = re.search(r'id="count"[^>]*>(\d+) of', filtered)
    assert found
    assert found[1] == "11"


@needs_chromium
def test_keys_move_in_a_list_of_any_length(tmp_path: Path) -> None:
    """A list that is taller than a browser draws is scrolled by rows: its last one is reached."""
    numbers = np.arange(1_000_000)
    zero = np.zeros(len(numbers), np.uint32)
    from experiments import page as pages

    packed = columns.pack(
        {
            "seconds": (numbers // 1000).astype(np.int32),
            "micros": (numbers % 1000 * 1000).astype(np.uint32),
            **dict.fromkeys(("source", "destination", "length", "info"), zero),
            "protocol": zero.astype(np.uint16),
        },
        {"names": ["10.0.0.1"], "protocols": ["TCP"], "infos": ["x"]},
    )
    listed = {"name": "all", "total": len(numbers), **packed}
    template = tmp_path / "t.html.j2"
    template.write_text(
        '{% extends "base.html.j2" %}{% from "parts.html.j2" import packets with context %}'
        '{% block body %}<section id="packets">{{ packets(lists, [], columns, packets_json) }}'
        "</section>{% endblock %}"
    )
    text = pages.render("t.html.j2", [listed], folders=[tmp_path])
    path = tmp_path / "many.html"
    path.write_text(text)
    dom = browse(f"{path.as_uri()}#frame-0-1000000", tmp_path / "profile").stdout
    assert re.search(r'<tr class="tcp selected"[^>]*><td>1000000</td><td>999\.999000</td>', dom)


# --- JSON, proof, timeline ----------------------------------------------------------------------


def test_the_same_capture_gives_the_same_document() -> None:
    """Nothing of the moment gets in."""

    def written() -> str:
        out = io.StringIO()
        with eavesdrop.analyze([RECORDED]) as heard:
            document.write(heard, out)
        return out.getvalue()

    assert written() == written()


def test_a_comment_tells_who_told_whom() -> None:
    """The proof's words, with nothing that a terminal obeys."""
    row = {
        "kind": "message", "who": "a\x1b[m", "whom": "b", "text": "x\ny", "protocol": "irc",
        "about": {},
    }  # fmt: skip
    assert proof.sentence(row) == "message from a\\x1b[m to b: “x\\ny” (irc)"


def test_the_timeline_counts_every_packet_and_stays_in_its_frame() -> None:
    """The sum of the bars is the number of packets; bars and marks lie inside."""
    with eavesdrop.analyze([RECORDED]) as heard:
        line = page._timeline(heard)
        assert line
        assert sum(bar.packets for bar in line.bars) == heard.figures.packets
    for bar in line.bars:
        assert 0 <= bar.x <= bar.x + bar.width <= timeline.WIDTH
        assert bar.y >= 0
        assert bar.y + bar.height == pytest.approx(timeline.HEIGHT, abs=0.02)
    assert {mark.kind for mark in line.marks} >= {"message", "password"}
    assert all(0 <= mark.x <= timeline.WIDTH for mark in line.marks)


def test_a_contact_that_two_have_is_one_and_their_password_two() -> None:
    """The sentence counts what the lists show."""
    view = Overview()
    for user in ("anna", "bert"):
        for kind in ("contact", "password"):
            row = {"kind": kind, "text": "same", "about": {"user": user}, "frames": [1]}
            view.told(row)
    assert (view.contacts.different, view.passwords.different) == (1, 2)
