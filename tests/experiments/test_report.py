"""The report: self-contained, harmless, the same each time, and shown by a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest
from fixture_run import FIXTURE, edit_packets, needs_tshark, remake

from experiments import drawing
from experiments import page as page_
from experiments.evidence import DERIVED
from experiments.judge import judge, load_run
from lab.errors import LabError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = needs_tshark

HOSTILE = "<script>alert('imlab')</script> & \"100%\" +1"
needs_chromium = pytest.mark.skipif(
    not shutil.which("chromium"), reason="chromium is not installed"
)


class Tags(HTMLParser):
    """Every start tag of a page with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect."""
        self.found.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a judged copy of the recorded run."""
    path = tmp_path_factory.mktemp("judged") / "run"
    shutil.copytree(FIXTURE, path)
    judge(path)
    return path


def test_every_engine_comes_to_the_same_verdicts(judged: Path, tmp_path: Path) -> None:
    """Our own engine and tshark judge the recorded run alike, word for word.

    The record is older than the last of the nine claims, which nothing in it can confirm.
    """
    path = tmp_path / "again"
    shutil.copytree(FIXTURE, path)
    reference = judge(path, engine="tshark")
    assert reference.analysis["engine"]["name"] == "tshark"
    ours = judge(judged)
    assert ours.analysis["engine"]["name"] == "native"
    assert ours.verdicts == reference.verdicts
    assert [row["verdict"] for row in ours.verdicts] == ["confirmed"] * 8 + ["not measured"]


@pytest.fixture
def page(judged: Path) -> str:
    """Return the page."""
    return (judged / "report.html").read_text("utf-8")


def test_judging_writes_the_five_derived_files(judged: Path) -> None:
    """Analysis, verdicts, both reports and their list, with hashes that fit."""
    assert all((judged / name).is_file() for name in DERIVED)
    listed = json.loads((judged / "derived.json").read_bytes())["files"]
    for name, row in listed.items():
        content = (judged / name).read_bytes()
        assert row == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    verdicts = json.loads((judged / "verdicts.json").read_bytes())
    keys = {"id", "claim", "figure", "verdict", "measured", "evidence"}
    assert all(set(row) == keys for row in verdicts)


def test_judging_again_gives_the_same_bytes(judged: Path) -> None:
    """Nothing of the moment gets into what is derived."""
    before = {name: (judged / name).read_bytes() for name in DERIVED}
    judge(judged)
    assert {name: (judged / name).read_bytes() for name in DERIVED} == before


def test_the_page_loads_nothing(page: str) -> None:
    """No tag names an address that a browser would fetch, and the policy forbids it anyway."""
    tags = Tags(page).found
    for tag, attributes in tags:
        for name in ("src", "href", "srcset", "data", "action", "poster", "background"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, value)
        assert not any(name.startswith("on") or name == "style" for name in attributes)
    policy = next(a["content"] for t, a in tags if t == "meta" and "http-equiv" in a)
    assert policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        text = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)[-1]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "@import" not in page
    assert "url(" not in page


def test_hostile_text_is_shown_as_text(page: str) -> None:
    """A message that is a script stands in the page escaped, and makes no element."""
    assert "&lt;script&gt;alert(" in page
    assert "<script>alert(" not in page
    scripts = [attributes for tag, attributes in Tags(page).found if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "data"}, {}]


def test_hostile_bytes_in_a_capture_cannot_end_the_data(tmp_path: Path) -> None:
    """A request line with '</script>' reaches the packet list, and stays data."""
    attack = b"GET /</script><img/src=x>"

    def poison(host: str, data: bytes) -> bytes:
        def change(packets: list[bytes]) -> list[bytes]:
            line = b"GET /server/PostHome.php HTTP/1.1\r\nHost: 192.168.1.10\r\n"
            new = attack + b" HTTP/1.1\r\nX: "
            new += b"y" * (len(line) - len(new) - 2) + b"\r\n"
            assert len(new) == len(line)
            return [packet.replace(line, new) for packet in packets]

        return edit_packets(data, change) if host == "peer" else data

    told = judge(remake(tmp_path, change_capture=poison))
    page = told.page.read_text("utf-8")
    rows = told.report["observers"][0]["packet_list"]
    assert any("</script>" in row[6] for row in rows)
    assert "</script><img" not in page
    assert not [a for tag, a in Tags(page).found if tag == "img"]


def test_every_planted_text_is_in_the_page_and_marked(page: str) -> None:
    """The matrix shows each planted text, the streams mark them."""
    planted = load_run(FIXTURE).results["chat"]["planted"]
    shown = re.sub(r"\s+", " ", "".join(re.findall(r"<q>(.*?)</q>", page, re.DOTALL)))
    for row in planted:
        assert (
            page_.Environment(autoescape=True).from_string("{{ x }}").render(x=row["text"]) in shown
        )
    marks = re.findall(r'<mark class="(\w+)"[^>]*>(.*?)</mark>', page)
    assert ("password", "Kisumu-2016") in marks
    assert ("message", "HI SIR, BLACKOUT!") in marks


def test_a_long_stream_is_shown_where_it_matters() -> None:
    """Chunks without a planted text are counted, those with one are shown wherever they stand."""
    chunks = [
        {"frame": n, "bytes": 10, "forward": True, "parts": [["x" * 10, "m" if n == 7 else None]]}
        for n in range(1, 11)
    ]
    rows = page_.cut(chunks)
    assert [row.get("frame") for row in rows] == [1, 2, None, 7, None]
    assert rows[2] == {"skipped": 4, "bytes": 40, "first": 3, "last": 6}
    assert rows[4] == {"skipped": 3, "bytes": 30, "first": 8, "last": 10}


def test_tampered_evidence_is_judged_and_denounced(tmp_path: Path) -> None:
    """Changed evidence is no secret: the page says on top what does not match."""
    path = tmp_path / "run"
    shutil.copytree(FIXTURE, path)
    (path / "logs/tcpdump-peer.log").chmod(0o644)
    (path / "logs/tcpdump-peer.log").write_text("changed")
    told = judge(path)
    assert told.faults == ("logs/tcpdump-peer.log is not what was sealed",)
    assert "The evidence is not what was sealed: logs/tcpdump-peer.log" in told.page.read_text()


def test_an_empty_run_has_a_report(tmp_path: Path) -> None:
    """A run in which nothing was measured makes a page that says so, without a number."""

    def empty(told: dict[str, Any]) -> None:
        told.update(ping=[], captures=[], repository=[])
        told["chat"] = {"visits": [], "planted": []}

    told = judge(remake(tmp_path, change_results=empty))
    page = told.page.read_text("utf-8")
    assert {row["verdict"] for row in told.verdicts} == {"not measured"}
    assert "Not measured: nothing was pinged." in page
    assert "Not measured: nothing was captured." in page
    assert told.score["recall"] is None


def test_no_reply_is_no_time(tmp_path: Path) -> None:
    """A host that did not answer has no bar and no milliseconds."""

    def silence(told: dict[str, Any]) -> None:
        told["ping"] = [
            {
                **told["ping"][0],
                **dict.fromkeys(("ttl", "min_ms", "avg_ms", "max_ms")),
                "received": 0,
                "loss_percent": 100.0,
                "replies": [],
            }
        ]

    page = judge(remake(tmp_path, change_results=silence)).page.read_text("utf-8")
    section = page.partition('<section id="ping"')[2].partition("</section>")[0]
    assert "no reply" in section
    assert "100 %" in section
    assert "0.000" not in section


def test_a_folder_that_is_no_run_is_an_error_in_words(tmp_path: Path) -> None:
    """No traceback for a wrong path."""
    with pytest.raises(LabError, match="opening the run"):
        judge(tmp_path)


def test_the_picture_keeps_the_guest_inside_its_host() -> None:
    """The guest's box lies in the host's, the peer's outside, and nothing leaves the sheet."""
    sheet = drawing.topology(load_run(FIXTURE).plan)
    boxes = {box.title: box for box in sheet.boxes}
    host, guest, peer = boxes["host"], boxes["guest"], boxes["peer"]

    def inside(inner: drawing.Box, outer: drawing.Box) -> bool:
        return (
            outer.x <= inner.x
            and outer.y <= inner.y
            and inner.x + inner.width <= outer.x + outer.width
            and inner.y + inner.height <= outer.y + outer.height
        )

    page = drawing.Box(0, 0, sheet.width, sheet.height, "")
    assert inside(guest, host)
    assert not inside(peer, host)
    assert all(inside(box, page) for box in sheet.boxes)
    assert [port.watched for port in sheet.ports] == [True, True, True]
    assert "guest (a guest of host): eth0 bridged to eth0" in sheet.alternative


@pytest.mark.parametrize(
    ("longest", "end"), [(None, 1.0), (0.0, 1.0), (0.592, 1.0), (1.2, 2.0), (80, 100.0), (2, 2.0)]
)
def test_the_scale_of_the_ping_picture_is_round(longest: float | None, end: float) -> None:
    """It ends at 1, 2 or 5 times a power of ten, at or above the slowest reply."""
    assert drawing.ping_scale([{"max_ms": longest}]) == end


def test_the_markup_is_well_formed(page: str) -> None:
    """Elements are closed where they must be: the drawing parses as XML."""
    (picture,) = re.findall(r'<svg class="topology".*?</svg>', page, re.DOTALL)
    root = ET.fromstring(picture)  # noqa: S314 (our own output)
    assert root.attrib["role"] == "img"
    assert root.findtext("title")


def chromium(path: Path, profile: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Open a page in headless Chromium, with a profile of its own and no network services."""
    argv = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    argv += ["--disable-background-networking", f"--user-data-dir={profile}", *options]
    argv += ["--virtual-time-budget=5000"]  # the packet list is unpacked after the page is loaded
    return subprocess.run(
        [*argv, path.as_uri()], check=True, capture_output=True, text=True, timeout=60
    )


@needs_chromium
def test_a_browser_shows_the_page_without_a_complaint(judged: Path, tmp_path: Path) -> None:
    """Chromium runs the script, blocks nothing by the policy and logs nothing to the console."""
    done = chromium(judged / "report.html", tmp_path / "profile", "--dump-dom")
    assert 'data-ready="yes"' in done.stdout
    assert "226 packets" in done.stdout
    assert 'class="packets"' in done.stdout
    assert "CONSOLE" not in done.stderr, done.stderr


@needs_chromium
def test_a_hostile_page_would_be_noticed(judged: Path, tmp_path: Path) -> None:
    """The console check is no formality: a script that the policy forbids is complained about."""
    broken = tmp_path / "broken.html"
    text = (judged / "report.html").read_text("utf-8")
    broken.write_text(text.replace("</main>", "<script>alert(1)</script></main>"), "utf-8")
    done = chromium(broken, tmp_path / "profile", "--dump-dom")
    assert "CONSOLE" in done.stderr
    assert "Content Security Policy" in done.stderr
