"""`./inv analyze` as its user meets it: screen, JSON, page, proof, errors, Ctrl-C."""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import zstandard
from talks import Capture, chat, http, sign_in
from terminal import ctrl_c

from experiments.analysis.compiled import native

PROJECT = Path(__file__).resolve().parents[2]
PROGRAM = [
    sys.executable, str(PROJECT / "commands" / "program.py"), "--search-root", str(PROJECT),
]  # fmt: skip
RECORDED = PROJECT / "tests/experiments/fixtures/paper-run/captures/peer-eth0.pcapng"
needs_tshark = pytest.mark.skipif(not shutil.which("tshark"), reason="tshark is not installed")


def call(*words: str | Path, stdin: bytes = b"", wait: float = 120) -> tuple[int, str, str]:
    """Call the task; return exit code, standard output and standard error."""
    done = subprocess.run(
        [*PROGRAM, "analyze", *map(str, words)],
        capture_output=True, check=False, timeout=wait, input=stdin,
    )  # fmt: skip
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def analyzed(*words: str | Path, stdin: bytes = b"") -> dict[str, Any]:
    """Return the JSON, checked against its schema."""
    code, out, err = call(*words, "--json", stdin=stdin)
    assert code == 0, err
    told = json.loads(out)
    validator().validate(told)
    return told  # type: ignore[no-any-return] # an object, says the schema


@functools.cache
def validator() -> jsonschema.Draft202012Validator:
    """Return the published schema."""
    schema = json.loads((PROJECT / "experiments/eavesdrop/schema.json").read_bytes())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small capture with a message, a password and a name in it."""
    native.engine()  # so that no test meets the words of its being compiled
    path = tmp_path_factory.mktemp("captures") / "chat.pcap"
    path.write_bytes(chat().pcap())
    return path


# --- the screen ---------------------------------------------------------------------------------


def test_the_screen_tells_who_said_what(capture: Path) -> None:
    """Message with sender and recipient, password with its user, the name asked for, frames."""
    code, out, err = call(capture)
    assert (code, err) == (0, "")
    assert "An eavesdropper reads 1 message, 1 password, 1 user name" in out
    assert re.search(r"messages 1 .*alice → bob “meet me at noon”  irc, frame \d+", out)
    assert re.search(r"password alice / Kisumu-2016  at 10\.0\.0\.2:80, http, frame 5", out)
    assert "chat.example" in out
    assert "drops not counted" in out


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (120, 40), (40, 10)])
def test_it_fits_the_terminal(columns: int, lines: int) -> None:
    """As many lines as there are, none longer than the screen; a prompt has room below."""
    from commands.heard import screen
    from experiments import eavesdrop

    with eavesdrop.analyze([RECORDED]) as heard:
        shown = screen(heard, columns, lines - 1)
    assert 5 < len(shown) <= lines - 1
    assert all(line.cell_len <= columns for line in shown)
    assert any("password" in line.plain for line in shown) or lines < 24


def test_captured_bytes_cannot_rule_the_terminal(tmp_path: Path) -> None:
    """Escape sequences, carriage returns and right-to-left marks are shown, not obeyed."""
    evil = b"\x1b]0;owned\x07\x1b[2J\r\xe2\x80\xae\xc2\x9b31m[bold]x[/bold]"
    made = Capture()
    made.tcp(http(sign_in(b"mallory" + evil.replace(b"\r", b"%0D"), b"pass" + evil)))
    path = tmp_path / "evil\x1b[31m.pcap"
    path.write_bytes(made.pcap())
    for words in ((), ("--json",), ("--stream", "tcp:0"), ("--packet", "4")):
        code, out, err = call(path, *words)
        assert code == 0, err
        assert not set(re.findall(r"[^\n\t\x20-\x7e\xa0-\uffff]", out))
        assert "\u202e" not in out
        if not words:
            assert "\\x1b[2J" in out
            assert "[bold]x[/bold]" in out


# --- JSON ---------------------------------------------------------------------------------------


def test_json_names_ends_figures_and_hashes_of_every_stream(capture: Path) -> None:
    """All that was said is there, as it was said."""
    told = analyzed(capture)
    streams = {f"{row['transport']}:{row['number']}": row for row in told["streams"]}
    assert set(streams) == {"udp:0", "tcp:0", "tcp:1"}
    web = streams["tcp:0"]
    request = sign_in(b"alice", b"Kisumu-2016")
    assert (web["client"], web["server"]) == ("10.0.0.1:40000", "10.0.0.2:80")
    assert web["bytes"]["forward"] == len(request)
    assert web["sha256"]["forward"] == hashlib.sha256(request).hexdigest()
    assert web["packets"] == {"forward": 5, "back": 4}
    assert web["protocol"] == "http"
    (message,) = told["messages"]
    assert (message["who"], message["whom"], message["text"]) == ("alice", "bob", "meet me at noon")
    assert message["time"] == "2023-11-14T22:13:20.017000000Z"
    assert message["frames"] == [18]
    assert (message["transport"], message["stream"]) == ("tcp", 1)
    assert {row["kind"] for row in told["credentials"]} == {"user", "password"}
    assert told["packets"] == len(chat().frames)
    assert told["stopped"] == ""


def test_a_stream_without_a_byte_is_told_too(tmp_path: Path) -> None:
    """Handshakes alone: every stream has a row, with the hash of nothing."""
    made = Capture()
    made.tcp([])
    path = tmp_path / "empty-streams.pcap"
    path.write_bytes(made.pcap())
    (row,) = analyzed(path)["streams"]
    assert row["bytes"] == {"forward": 0, "back": 0}
    assert row["sha256"]["back"] == hashlib.sha256(b"").hexdigest()


def tshark_follows(path: Path, row: dict[str, Any]) -> tuple[str, str, bytes, bytes]:
    """Return the ends and the bytes of a stream as tshark follows it."""
    way = f"follow,{row['transport']},raw,{row['number']}"
    argv = ["tshark", "-r", str(path), "-q", "-o", "tcp.reassemble_out_of_order:TRUE", "-z", way]
    lines = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()
    at = next(index for index, line in enumerate(lines) if line.startswith("Node 1: "))
    data = [line for line in lines[at + 1 :] if not line.startswith("===")]
    forward = b"".join(bytes.fromhex(line) for line in data if not line.startswith("\t"))
    back = b"".join(bytes.fromhex(line[1:]) for line in data if line.startswith("\t"))
    return lines[at - 1].partition(": ")[2], lines[at].partition(": ")[2], forward, back


def answered_twice(path: Path) -> set[int]:
    """Return the TCP streams whose SYN was answered with two different sequence numbers.

    Such a server kept no state (RFC 4987, 3.6) or was started anew; what counts is the answer that
    the client acknowledges, and tshark goes on with the first.
    """
    argv = ["tshark", "-r", str(path), "-Y", "tcp.flags.syn == 1 && tcp.flags.ack == 1", "-T",
            "fields", "-e", "tcp.stream", "-e", "tcp.seq_raw"]  # fmt: skip
    lines = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()
    streams = [int(stream) for stream, _ in {tuple(line.split("\t")) for line in lines}]
    return {stream for stream in streams if streams.count(stream) > 1}


def check_streams(path: Path) -> None:
    """Compare every stream with what tshark makes of it."""
    twice = answered_twice(path)
    for row in analyzed(path)["streams"]:
        client, server, forward, back = tshark_follows(path, row)
        assert (row["client"], row["server"]) == (client, server)
        if row["transport"] == "tcp" and row["number"] in twice:
            continue
        if row["missing"] == {"forward": 0, "back": 0}:  # else tshark writes words into the bytes
            hashes = {
                "forward": hashlib.sha256(forward).hexdigest(),
                "back": hashlib.sha256(back).hexdigest(),
            }
            assert row["sha256"] == hashes, f"{path.name} {row['transport']}:{row['number']}"


@needs_tshark
def test_streams_are_those_that_tshark_follows(capture: Path) -> None:
    """Ends and bytes, of the recorded run and of a made capture."""
    check_streams(RECORDED)
    check_streams(capture)


@needs_tshark
@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("IMLAB_CAPTURES"), reason="IMLAB_CAPTURES names no folder")
def test_captures_of_your_own() -> None:
    """IMLAB_CAPTURES=FOLDER: each capture in it is analysed, and its streams compared."""
    folder = Path(os.environ["IMLAB_CAPTURES"])
    found = sorted(path for path in folder.iterdir() if path.suffix in {".pcap", ".pcapng"})
    assert found
    for path in found:
        code, out, err = call(path)
        assert (code, err) == (0, ""), path.name
        assert len(out.splitlines()) <= 40
        check_streams(path)


# --- what is looked for ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.txt", "Kisumu-2016\nnot-in-there\n"),
        ("list.yaml", "- id: line 1\n  text: Kisumu-2016\n- id: line 2\n  text: not-in-there\n"),
        ("list.json", '[{"id": "line 1", "text": "Kisumu-2016"}, {"text": "not-in-there"}]'),
    ],
)
def test_secrets_are_found_and_not_printed(
    capture: Path, tmp_path: Path, name: str, text: str
) -> None:
    """Lines, YAML and JSON; a hit tells the secret's id, stream and frames."""
    listed = tmp_path / name
    listed.write_text(text)
    hits = analyzed(capture, "--secrets", listed)["hits"]
    assert {(row["id"], row["stream"], tuple(row["frames"])) for row in hits} == {
        ("line 1", 0, (5,))
    }
    assert "line 1" in call(capture, "--secrets", listed)[1]


def test_a_pattern_is_found(capture: Path) -> None:
    """NAME=REGEX, several times."""
    hits = analyzed(capture, "--pattern", "town=Kis[a-z]+-20[0-9]{2}", "--pattern=x=nothing~")
    assert {row["id"] for row in hits["hits"]} == {"town"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--pattern", "half"), "is not NAME=REGEX"),
        (("--pattern", "x=("), "no regular expression"),
        (("--secrets", "no-such-file"), "No such file"),
        (("--keys", str(PROJECT / "LICENSE")), "no line is LABEL"),
        (("--stream", "5"), "names no stream"),
        (("--stream", "tcp:99"), "none of that number"),
        (("--packet", "999"), "the capture has"),
        (("--html", "/no/such/folder/x.html"), "No such file"),
    ],
)
def test_a_wrong_option_is_an_error_in_words(
    capture: Path, words: tuple[str, ...], said: str
) -> None:
    """Exit code 2, what is wrong, whose fault, and no traceback."""
    code, _, err = call(capture, *words)
    assert code == 2, err
    assert said in err
    assert "next:" in err
    assert "Traceback" not in err


# --- what it reads --------------------------------------------------------------------------------


def test_packed_and_piped_captures_are_the_same(capture: Path, tmp_path: Path) -> None:
    """gzip, zstd and standard input give the streams of the plain file."""
    plain = capture.read_bytes()
    (tmp_path / "a.pcap.gz").write_bytes(gzip.compress(plain))
    (tmp_path / "a.pcap.zst").write_bytes(zstandard.compress(plain))
    streams = analyzed(capture)["streams"]
    for told in (
        analyzed(tmp_path / "a.pcap.gz"),
        analyzed(tmp_path / "a.pcap.zst"),
        analyzed("-", stdin=plain),
    ):
        assert told["streams"] == streams


def test_several_files_are_merged(capture: Path) -> None:
    """Words that are no options are captures, wherever they stand."""
    code, out, _ = call(capture, "--json", RECORDED)
    told = json.loads(out)
    assert code == 0
    assert [row["name"] for row in told["files"]] == [capture.name, RECORDED.name]
    alone = [analyzed(path) for path in (capture, RECORDED)]
    assert len(told["streams"]) == sum(len(one["streams"]) for one in alone)


def test_a_truncated_file_gives_what_there_is(capture: Path, tmp_path: Path) -> None:
    """One sentence says where it stopped; it is no error."""
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(capture.read_bytes()[:-7])
    told = analyzed(cut)
    assert told["packets"] == len(chat().frames) - 1
    assert "cut.pcap" in told["stopped"]
    code, out, _ = call(cut)
    assert code == 0
    assert "stopped" in out


def test_a_capture_without_a_packet(tmp_path: Path) -> None:
    """A header alone is a capture with nothing in it; JSON and page are made."""
    none = tmp_path / "none.pcap"
    none.write_bytes(Capture().pcap())
    assert analyzed(none)["packets"] == 0
    code, out, err = call(none, "--html", tmp_path / "none.html", "--proof", tmp_path / "p.pcapng")
    assert code == 0, err
    assert "There is nothing in it to read." in out


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\xd4\xc3\xb2\xa1\x02"])
def test_what_is_no_capture_is_an_error_in_words(tmp_path: Path, content: bytes) -> None:
    """Exit code 2 and what was seen."""
    path = tmp_path / "x.pcap"
    path.write_bytes(content)
    code, out, err = call(path)
    assert (code, out) == (2, "")
    assert "reading the capture x.pcap" in err
    assert call(tmp_path / "absent.pcap")[0] == 2
    assert call()[0] == 2


# --- one packet, one stream -----------------------------------------------------------------------


def test_one_packet_is_opened(capture: Path) -> None:
    """Its ends, stream, numbers and bytes."""
    code, out, _ = call(capture, "--packet", "5")
    assert code == 0
    assert "10.0.0.1 → 10.0.0.2" in out
    assert "tcp:0" in out
    assert "50 4f 53 54" in out  # POST
    told = json.loads(call(capture, "--packet", "5", "--json")[1])
    assert bytes.fromhex(told["hex"]) == chat().frames[4]


def test_one_stream_is_followed(capture: Path) -> None:
    """Both directions in order with their frames; JSON has the very bytes."""
    code, out, _ = call(capture, "--stream", "tcp:1")
    assert code == 0
    assert "PRIVMSG bob :meet me at noon" in out
    assert "→ frame 18" in out
    told = json.loads(call(capture, "--stream", "tcp:1", "--json")[1])
    assert [row["text"] for row in told["read"] if row["kind"] == "message"] == ["meet me at noon"]
    assert sum(row["bytes"] for row in told["chunks"]) == sum(told["bytes"].values())


# --- page and proof -------------------------------------------------------------------------------


@needs_tshark
def test_the_proof_has_the_frames_and_says_why(capture: Path, tmp_path: Path) -> None:
    """tshark opens it; each frame has a comment that names what it proves."""
    proof = tmp_path / "proof.pcapng"
    code, out, err = call(capture, "--proof", proof)
    assert code == 0, err
    assert "proof" in out
    argv = ["tshark", "-r", str(proof), "-T", "fields", "-e", "frame.time_epoch", "-e",
            "frame.comment"]  # fmt: skip
    lines = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()
    assert all("“" in line for line in lines)
    assert any("message from alice to bob: “meet me at noon” (irc)" in line for line in lines)
    told = analyzed(capture)
    kinds = ("messages", "credentials", "findings")
    frames = {frame for kind in kinds for row in told[kind] for frame in row["frames"]}
    assert len(lines) == len(frames) < told["packets"]


def test_a_capture_is_not_written_over(capture: Path) -> None:
    """--proof and --html refuse the name of what they read."""
    before = capture.read_bytes()
    for option in ("--proof", "--html"):
        code, _, err = call(capture, option, capture)
        assert code == 2
        assert "one of the captures" in err
    assert capture.read_bytes() == before


# --- Ctrl-C ---------------------------------------------------------------------------------------


def test_ctrl_c_gives_what_is_known_so_far(tmp_path: Path) -> None:
    """On a terminal, while more is still to come: a summary, and exit code 130."""
    pipe = tmp_path / "live.pcap"
    os.mkfifo(pipe)
    done = threading.Event()

    def feed() -> None:
        with pipe.open("wb") as into:
            into.write(chat().pcap())
            into.flush()
            done.wait(60)

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        code, said = ctrl_c([*PROGRAM, "analyze", str(pipe)], os.environ, after="1.8/? kB")
    finally:
        done.set()
        feeder.join()
    assert code == 130, said
    assert "interrupted" in said
    assert "meet me at noon" in said
    assert "Traceback" not in said
