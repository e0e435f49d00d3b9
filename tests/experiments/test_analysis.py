"""From real captures to what an eavesdropper could read."""

from __future__ import annotations

import functools
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from fixture_run import FIXTURE, edit_packets, needs_tshark, remake, results

from experiments.analysis import analyse
from experiments.analysis.engines import engine
from experiments.analysis.topology import visible
from experiments.judge import load_run
from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = needs_tshark

NEVER = "THIS ONE WAS NEVER SENT"
EVERYBODY = {"peer/eth0", "guest/eth0", "host/eth0"}


def analysis(path: Path, **more: str) -> dict[str, Any]:
    """Analyse a run folder."""
    run = load_run(path)
    return analyse(path, run.plan, run.results, **more)


@functools.cache
def original() -> dict[str, Any]:
    """Return the analysis of the recorded run, made once."""
    return analysis(FIXTURE)


def planted(told: dict[str, Any], text: str) -> dict[str, Any]:
    """Return the row of a planted text."""
    return next(row for row in told["planted"] if row["text"] == text)


def observer(told: dict[str, Any], name: str) -> dict[str, Any]:
    """Return an observer's row."""
    return next(row for row in told["observers"] if row["name"] == name)


def test_all_that_was_sent_in_the_clear_is_found() -> None:
    """Recall: every planted text, in every direction that it went, at every observer."""
    score = original()["score"]
    assert (score["missed"], score["inconclusive"], score["recall"]) == (0, 0, 1.0)
    assert score["found"] == score["expected"] == 60
    for row in original()["planted"]:
        if row["wire"]:
            assert {name: seen["state"] for name, seen in row["observers"].items()} == (
                dict.fromkeys(EVERYBODY, "found")
            )


def test_both_engines_come_to_the_same() -> None:
    """What was planted is judged the same, and handshakes, streams and findings are the same."""
    other = analysis(FIXTURE, engine_name="tshark")
    for key in ("planted", "unplanted", "score"):
        assert original()[key] == other[key]
    for ours, theirs in zip(original()["observers"], other["observers"], strict=True):
        for key in ("doubts", "bytes", "duration_s", "handshakes", "streams", "findings"):
            assert ours[key] == theirs[key]
        columns = [(row[:4], row[5]) for row in ours["packet_list"]]
        assert columns == [(row[:4], row[5]) for row in theirs["packet_list"]]


def test_nothing_is_reported_that_was_not_sent() -> None:
    """Precision: no message, user or password beyond the planted ones."""
    assert original()["unplanted"] == []


def test_what_was_never_sent_is_not_found() -> None:
    """A text that was planted and never sent is found by nobody, and that is a firm no."""
    seen = planted(original(), NEVER)["observers"]
    assert {name: row["state"] for name, row in seen.items()} == dict.fromkeys(
        EVERYBODY, "not found"
    )


def test_a_message_that_nobody_planted_is_reported(tmp_path: Path) -> None:
    """The list of false reports is no constant: take a text out of the ground truth, it is in."""

    def forget(told: dict[str, Any]) -> None:
        rows = told["chat"]["planted"]
        rows[:] = [row for row in rows if row["text"] not in {"Nightmare", "Bondo-2016"}]

    told = analysis(remake(tmp_path, change_results=forget))
    assert {(row["kind"], row["text"]) for row in told["unplanted"]} == {
        ("message", "Nightmare"),
        ("password", "Bondo-2016"),
    }
    assert {row["observer"] for row in told["unplanted"]} == EVERYBODY


@pytest.mark.parametrize(
    ("text", "direction", "where", "forms"),
    [
        ("HI SIR, BLACKOUT!", "guest->peer", "table cell", []),
        ("MSC. IT SECURITY & AUDIT IS FUN..", "guest->peer", "table cell", ["html-escaped"]),
        ("Nightmare", "peer->guest", "form field content", []),
        ("HI", "peer->guest", "form field content", []),
        ("HI", "guest->peer", "table cell", ["chunked", "gzip"]),
        ("Habari 👋🏽 ☕ kesho?", "guest->peer", "form field content", ["url-encoded"]),
        ("Habari 👋🏽 ☕ kesho?", "peer->guest", "table cell", ["chunked", "gzip"]),
        (
            "<script>alert('imlab')</script> & \"100%\" +1",
            "peer->guest",
            "table cell",
            ["html-escaped"],
        ),
        ("Kisumu-2016", "peer->guest", "form field password", []),
    ],
)
def test_a_text_is_found_where_it_was_written(
    text: str, direction: str, where: str, forms: list[str]
) -> None:
    """Where it stood and how it was encoded is told, for forms, tables, gzip and chunks."""
    for name in EVERYBODY:
        hits = planted(original(), text)["observers"][name]["hits"]
        assert [(hit["where"], hit["forms"]) for hit in hits if hit["direction"] == direction] == [
            (where, forms)
        ]


def test_a_short_text_is_not_found_inside_a_longer_one() -> None:
    """'HI' stands in 'HI SIR' too, and there it does not count."""
    blackout = planted(original(), "HI SIR, BLACKOUT!")["observers"]["peer/eth0"]["hits"]
    short = planted(original(), "HI")["observers"]["peer/eth0"]["hits"]
    assert not {tuple(hit["frames"]) for hit in blackout} & {tuple(hit["frames"]) for hit in short}


def test_the_frames_named_as_proof_hold_the_text() -> None:
    """Somebody else's search agrees: tshark finds the literal text in the frames named."""
    seen = planted(original(), "Kisumu-2016")["observers"]["guest/eth0"]
    done = subprocess.run(
        [
            *("tshark", "-r", str(FIXTURE / "captures/guest-eth0.pcapng")),
            *("-Y", 'frame contains "Kisumu-2016"', "-T", "fields", "-e", "frame.number"),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    assert [int(line) for line in done.stdout.split()] == [
        frame for hit in seen["hits"] for frame in hit["frames"]
    ]


def test_the_packet_list_is_that_of_wireshark() -> None:
    """Number, time, source, destination, protocol, length and info, as in Figures 14 and 18."""
    rows = observer(original(), "peer/eth0")["packet_list"]
    assert [row[0] for row in rows] == list(range(1, len(rows) + 1))
    assert rows[0][1] == 0.0
    first = next(row for row in rows if "[SYN]" in row[6])
    opening = rows[first[0] - 1 : first[0] + 3]
    assert [row[2:4] for row in opening] == [
        ["192.168.1.20", "192.168.1.10"],
        ["192.168.1.10", "192.168.1.20"],
        ["192.168.1.20", "192.168.1.10"],
        ["192.168.1.20", "192.168.1.10"],
    ]
    assert [row[4] for row in opening] == ["TCP", "TCP", "TCP", "HTTP"]
    assert [row[5] for row in opening] == [66, 66, 54, 440]  # as in the paper's own figures
    assert opening[3][6] == "GET /server/PostHome.php HTTP/1.1"
    request = next(row for row in rows if row[4] == "ARP")
    assert request[3] == "Broadcast"
    assert request[6].startswith("Who has 192.168.1.")


def test_handshakes_are_told_as_in_figure_14() -> None:
    """SYN, SYN/ACK and ACK with relative numbers, MSS, window scale and SACK."""
    for row in original()["observers"]:
        assert len(row["handshakes"]) == len([s for s in row["streams"] if s["transport"] == "tcp"])
        for shake in row["handshakes"]:
            assert shake["complete"]
            syn, answer, ack = shake["steps"]
            assert [step["flags"] for step in shake["steps"]] == ["SYN", "SYN, ACK", "ACK"]
            assert [step["sequence"] for step in shake["steps"]] == [0, 0, 1]
            assert (answer["acknowledgement"], ack["acknowledgement"]) == (1, 1)
            assert syn["mss"] == answer["mss"] == 1460
            assert syn["window_scale"] >= 1
            assert syn["sack_permitted"]
            assert ack["mss"] is None


def test_streams_are_followed_both_ways() -> None:
    """Client and server are told apart, and the bytes of Figure 19's request are all there."""
    stream = observer(original(), "guest/eth0")["streams"][0]
    assert (stream["source"], stream["destination"]) == ("peer", "guest")
    assert stream["protocol"] == "http"
    assert stream["bytes_forward"] == 386
    request = "".join(text for text, _ in stream["chunks"][0]["parts"])
    assert request.startswith("GET /server/PostHome.php HTTP/1.1\nHost: 192.168.1.10\n")
    assert request.endswith("Upgrade-Insecure-Requests: 1\n\n")


def test_the_hypervisor_has_the_same_streams_as_its_guest() -> None:
    """What the host's adapter captured of the guest is the same, byte for byte."""
    guest, host = (observer(original(), name)["streams"] for name in ("guest/eth0", "host/eth0"))
    assert {stream["sha256"] for stream in guest} == {stream["sha256"] for stream in host}


def swapped(packets: list[bytes]) -> list[bytes]:
    """Swap the two largest segments that follow each other, and repeat the first of them."""
    sizes = [len(packet) for packet in packets]
    index = next(i for i, size in enumerate(sizes) if size > 1500 and 400 < sizes[i + 1] < 1500)
    big, rest = packets[index : index + 2]
    return [*packets[:index], rest, big, big, *packets[index + 2 :]]


def test_reordered_and_repeated_segments_change_nothing(tmp_path: Path) -> None:
    """A stream whose segments came out of order and twice is the same stream."""

    def change(host: str, data: bytes) -> bytes:
        return edit_packets(data, swapped) if host == "peer" else data

    def recount(told: dict[str, Any]) -> None:
        row = next(row for row in told["captures"] if row["host"] == "peer")
        row["packets"] += 1

    told = analysis(remake(tmp_path, change_results=recount, change_capture=change))
    changed = observer(told, "peer/eth0")
    before = observer(original(), "peer/eth0")
    assert len(changed["packet_list"]) == len(before["packet_list"]) + 1
    assert [s["sha256"] for s in changed["streams"]] == [s["sha256"] for s in before["streams"]]
    assert told["score"]["found"] == 60


def test_dropped_packets_make_a_no_inconclusive(tmp_path: Path) -> None:
    """Where packets were dropped, or nobody counted, what was not found may have been there."""

    def drop(told: dict[str, Any]) -> None:
        for row in told["captures"]:
            row["dropped"] = {"peer": 3, "guest": None, "host": 0}[row["host"]]

    told = analysis(remake(tmp_path, change_results=drop))
    states = {name: row["state"] for name, row in planted(told, NEVER)["observers"].items()}
    assert states == {
        "peer/eth0": "inconclusive",
        "guest/eth0": "inconclusive",
        "host/eth0": "not found",
    }
    assert planted(told, "HI")["observers"]["peer/eth0"]["state"] == "found"
    assert observer(told, "peer/eth0")["doubts"] == ["3 packets were dropped"]


def test_a_missing_segment_is_noticed_although_nobody_reported_it(tmp_path: Path) -> None:
    """A hole in a connection makes the observer doubtful, whatever the drop counter says."""

    def hole(host: str, data: bytes) -> bytes:
        def cut(packets: list[bytes]) -> list[bytes]:
            index = next(i for i, packet in enumerate(packets) if b"HI SIR, BLACKOUT!" in packet)
            return packets[:index] + packets[index + 1 :]

        return edit_packets(data, cut) if host == "guest" else data

    def recount(told: dict[str, Any]) -> None:
        next(row for row in told["captures"] if row["host"] == "guest")["packets"] -= 1

    told = analysis(remake(tmp_path, change_results=recount, change_capture=hole))
    seen = planted(told, "HI SIR, BLACKOUT!")["observers"]
    assert seen["guest/eth0"]["state"] == "inconclusive"
    assert seen["host/eth0"]["state"] == "found"
    assert "segments are missing" in observer(told, "guest/eth0")["doubts"][0]
    assert told["score"]["recall"] is None


def test_what_a_countermeasure_hid_is_not_missed(tmp_path: Path) -> None:
    """Recall is over what the ground truth says was in the clear, where it says so."""

    def hide(told: dict[str, Any]) -> None:
        rows = told["chat"]["planted"]
        row = next(row for row in rows if row["text"] == "Nightmare")
        hidden = {**row, "id": "hidden", "text": "Nobody could read this", "readable": ["ends"]}
        rows += [hidden, {**hidden, "id": "open", "text": "Somebody could", "readable": ["wire"]}]

    told = analysis(remake(tmp_path, change_results=hide))
    states = planted(told, "Nobody could read this")["observers"].values()
    assert {(seen["state"], seen["expected"]) for seen in states} == {("not found", False)}
    ways = len(planted(told, "Somebody could")["directions"])
    assert told["score"]["missed"] == 3 * ways


def test_sealed_texts_and_addresses_are_what_was_sent(tmp_path: Path) -> None:
    """A decoder that tells a sealed line as a message, or an address as a user, invents nothing."""

    def other_kinds(told: dict[str, Any]) -> None:
        for row in told["chat"]["planted"]:
            kinds = {"message": "sealed", "user": "contact"}
            row["kind"] = kinds.get(row["kind"], row["kind"])

    told = analysis(remake(tmp_path, change_results=other_kinds))
    assert told["unplanted"] == []


def test_the_same_text_on_two_servers_is_judged_for_each(tmp_path: Path) -> None:
    """Having read a text on its way to one server does not say that it was read at the other."""

    def twice(told: dict[str, Any]) -> None:
        rows = told["chat"]["planted"]
        row = next(row for row in rows if row["text"] == "Nightmare")
        rows.append({**row, "id": "again", "server": "peer", "directions": ["peer->guest"]})

    told = analysis(remake(tmp_path, change_results=twice))
    rows = {row["server"]: row for row in told["planted"] if row["text"] == "Nightmare"}
    assert {seen["state"] for seen in rows["guest"]["observers"].values()} == {"found"}
    assert {seen["state"] for seen in rows["peer"]["observers"].values()} == {"not found"}
    assert told["score"]["missed"] == 3


def test_a_capture_with_fewer_packets_than_counted_is_doubtful(tmp_path: Path) -> None:
    """The counter of the capture and the file must agree."""

    def recount(told: dict[str, Any]) -> None:
        told["captures"][0]["packets"] += 5

    told = analysis(remake(tmp_path, change_results=recount))
    assert "were counted" in told["observers"][0]["doubts"][0]


def test_who_listens_elsewhere_is_not_blamed() -> None:
    """The host sees its bridged guest; the peer does not see what host and guest say."""
    plan = load_run(FIXTURE).plan
    assert visible(plan, "host", "eth0") == {"host", "guest"}
    assert visible(plan, "guest", "eth0") == {"guest"}
    assert visible(plan, "peer", "eth0") == {"peer"}


def test_a_text_off_the_path_is_neither_found_nor_missed(tmp_path: Path) -> None:
    """What went between host and guest was never to be seen at the peer."""

    def elsewhere(told: dict[str, Any]) -> None:
        row = next(row for row in told["chat"]["planted"] if row["text"] == NEVER)
        row["directions"], row["wire"] = ["host->guest"], True

    told = analysis(remake(tmp_path, change_results=elsewhere))
    states = {name: row["state"] for name, row in planted(told, NEVER)["observers"].items()}
    assert states["peer/eth0"] == "not on its path"
    assert states["guest/eth0"] == states["host/eth0"] == "not found"
    assert told["score"]["missed"] == 2


def test_banners_urls_and_referers_are_read() -> None:
    """What Figures 17 and 19 show besides messages is found with its place."""
    found = {
        (row["kind"], row["text"], row["where"], row["direction"])
        for row in observer(original(), "host/eth0")["findings"]
    }
    assert (
        "referer",
        "http://localhost/client/Home.php",
        "request header Referer",
        "peer->guest",
    ) in found
    assert ("url", "http://192.168.1.20/client/Home.php", "link in a page", "guest->peer") in found
    assert ("server", "PHP/5.3.0", "response header X-Powered-By", "guest->peer") in found
    assert any(kind == "browser" and "Firefox/49.0" in text for kind, text, *_ in found)
    assert "Upgrade-Insecure-Requests: 1" in {text for kind, text, *_ in found if kind == "header"}


def test_the_users_wireshark_settings_do_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Preferences in the user's home, here absolute sequence numbers, change nothing."""
    settings = tmp_path / ".config" / "wireshark"
    settings.mkdir(parents=True)
    (settings / "preferences").write_text(
        "tcp.relative_sequence_numbers: FALSE\nhttp.tcp.port: 99\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    capture = engine("tshark").read(FIXTURE / "captures/host-eth0.pcapng")
    monkeypatch.setenv("HOME", str(tmp_path / "without"))
    other = engine("tshark").read(FIXTURE / "captures/host-eth0.pcapng")
    assert capture.packets == other.packets
    assert any("[SYN] Seq=0" in packet.info for packet in capture.packets)


@pytest.mark.parametrize("name", ["native", "tshark"])
def test_a_file_that_is_no_capture_is_refused(tmp_path: Path, name: str) -> None:
    """Its own words are shown, and whose fault it is."""
    path = tmp_path / "a.pcapng"
    path.write_bytes(b"this is no capture at all")
    with pytest.raises(LabError, match=r"a\.pcapng") as caught:
        engine(name).read(path)
    assert caught.value.fault is Fault.USER


def test_a_capture_cut_off_in_the_middle_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    """What is there is analysed, and the rest is not taken for silence."""

    def cut(host: str, data: bytes) -> bytes:
        return data[: len(data) // 2] if host == "peer" else data

    told = analysis(remake(tmp_path, change_capture=cut))
    doubts = " ".join(observer(told, "peer/eth0")["doubts"])
    assert "could not be read to its end" in doubts
    assert planted(told, "Kisumu-2016")["observers"]["peer/eth0"]["state"] == "found"
    assert planted(told, NEVER)["observers"]["peer/eth0"]["state"] == "inconclusive"


def test_many_connections_need_more_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """With more streams than one pass asks for, the result is the same."""
    monkeypatch.setattr("experiments.analysis.engines.tshark.SPECULATIVE", 3)
    capture = engine("tshark").read(FIXTURE / "captures/host-eth0.pcapng")
    rows = observer(original(), "host/eth0")["streams"]
    assert [len(stream.chunks) for stream in capture.streams] == [len(r["chunks"]) for r in rows]


def test_without_tshark_the_package_to_install_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without tshark gets one sentence."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LabError, match="apt install tshark") as caught:
        engine("tshark").version()
    assert caught.value.fault is Fault.MACHINE


def test_an_engine_that_does_not_exist_lists_those_that_do() -> None:
    """Names are looked up in a table, and the table is shown."""
    with pytest.raises(LabError, match="there are: native, tshark"):
        engine("dumpcap")


def test_the_fixture_is_what_was_recorded() -> None:
    """The committed evidence still matches its own hashes."""
    assert load_run(FIXTURE).folder.verify() == []
    assert results()["captures"][0]["dropped"] == 0
    assert sum(path.stat().st_size for path in FIXTURE.rglob("*") if path.is_file()) < 200_000
