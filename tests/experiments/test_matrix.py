"""The matrix on a real lab: held, judged, and held against the truth and against Wireshark."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

import pytest

from commands import matrix
from experiments.matrix import judging, page
from lab import lifecycle
from lab.errors import LabError
from provisioning import countermeasures, messaging, roles

if TYPE_CHECKING:
    from collections.abc import Iterator

SPECS = Path(__file__).resolve().parents[2] / "vm_specs"
LINES = 12
KEYS = {
    "system", "countermeasure", "observer", "kind", "sent", "recovered", "verdict", "evidence",
}  # fmt: skip
WIRES = ("peer/eth0", "guest/eth0", "host/eth0")


class Made:
    """A matrix that was made for the tests."""

    def __init__(self, outcome: matrix.Outcome) -> None:
        self.folder, self.outcome = outcome.folder, outcome
        self.cells = {
            (cell["system"], cell["countermeasure"]): cell for cell in outcome.content["cells"]
        }

    def run(self, cell: dict[str, Any]) -> Path:
        """Return the run folder of a cell."""
        return self.folder / "cells" / cell["run"]

    def planted(self, cell: dict[str, Any], kind: str) -> dict[str, str]:
        """Return the texts of a kind by id."""
        results = json.loads((self.run(cell) / "results.json").read_text())
        return {row["id"]: row["text"] for row in results["chat"]["planted"] if row["kind"] == kind}

    def row(self, cell: dict[str, Any], observer: str, kind: str) -> dict[str, Any]:
        """Return a row of a cell."""
        (row,) = [r for r in cell["rows"] if (r["observer"], r["kind"]) == (observer, kind)]
        return row


def make(folder: Path, **more: object) -> Made:
    """Make a matrix on a lab of its own."""
    before = os.environ.get("IMLAB_STATE")
    os.environ["IMLAB_STATE"] = str(folder / "state")
    (folder / "out").mkdir()
    settings: dict[str, Any] = {"repeats": LINES, "out": folder / "out", **more}
    options = matrix.Options(**settings)
    try:
        made = Made(matrix.run_matrix(options))
        assert lifecycle.all_status() == []
        return made
    finally:
        for status in lifecycle.all_status():
            lifecycle.down(status.name)
        if before is None:
            os.environ.pop("IMLAB_STATE", None)
        else:
            os.environ["IMLAB_STATE"] = before


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Give the whole matrix, with few lines a cell."""
    return make(tmp_path_factory.mktemp("matrix"))


@pytest.mark.lab
@pytest.mark.slow
def test_every_system_meets_every_countermeasure_and_every_observer(made: Made) -> None:
    """All that scanning finds is there, with a row for each kind, of the keys that are promised."""
    systems = {"chat_server", "irc_server", "xmpp_server"}
    assert set(made.cells) == {(s, c) for s in systems for c in countermeasures.names()}
    kinds = {"message", "user", "password", "contact", "metadata", "decoys"}
    for cell in made.cells.values():
        assert set(cell["observers"]) == {*WIRES, "store", "memory", "ends"}
        assert Counter(row["observer"] for row in cell["rows"]) == Counter(
            dict.fromkeys(cell["observers"], len(kinds))
        )
    assert all(set(row) == KEYS for row in made.outcome.rows)
    assert {row["kind"] for row in made.outcome.rows} == kinds


@pytest.mark.lab
@pytest.mark.slow
def test_all_that_left_in_the_clear_is_found_and_nothing_else(made: Made) -> None:
    """Recall and precision are 1 against the ground truth, in captures, stores and at the ends."""
    for name, cell in made.cells.items():
        assert cell["faults"] == []
        for observer, score in cell["score"]["observers"].items():
            assert score["missed"] == [], (name, observer)
            assert score["beyond"] == [], (name, observer)
            assert (score["decoys_found"], score["unplanted"]) == ([], 0), (name, observer)
            assert score["decoys"] > 20
            assert cell["observers"][observer]["doubts"] == []


@pytest.mark.lab
@pytest.mark.slow
def test_the_table_says_what_each_countermeasure_is_known_for(made: Made) -> None:
    """Messages are read on the wire without one, at the server under all but end-to-end."""
    for (system, measure), cell in made.cells.items():
        wire = {made.row(cell, at, "message")["verdict"] for at in WIRES}
        assert wire == ({"read"} if measure == "none" else {"not read"}), (system, measure)
        names = {made.row(cell, at, "user")["verdict"] for at in WIRES}
        hidden = measure in {"tls", "port-scrambler"}
        assert names == ({"not read"} if hidden else {"read"}), (system, measure)
        if hidden:
            assert {cell["observers"][at]["level"] for at in WIRES} == {"times"}
        memory = made.row(cell, "memory", "message")
        if measure == "end-to-end":
            assert memory["recovered"] == 0, system
        elif system != "irc_server":  # which has one buffer a connection, written over and over
            assert memory["recovered"] > 0, (system, measure)
        keeps = "message" in messaging.find(system).stores and measure != "end-to-end"
        stored = made.row(cell, "store", "message")["verdict"]
        assert stored == ("read" if keeps else "not read"), (system, measure)
        assert made.row(cell, "ends", "message")["verdict"] == "read"
    xmpp = made.cells["xmpp_server", "none"]
    assert made.row(xmpp, "peer/eth0", "password")["verdict"] == "not read"
    assert made.row(xmpp, "peer/eth0", "contact")["verdict"] == "read"


@pytest.mark.lab
@pytest.mark.slow
def test_a_cell_holds_nothing_of_the_one_before(made: Made) -> None:
    """Between cells the service is what it was: no text of another cell is in store or memory."""
    for system in ("chat_server", "irc_server", "xmpp_server"):
        cells = [cell for (name, _), cell in made.cells.items() if name == system]
        for cell in cells:
            copies = b"".join(
                gzip.decompress(path.read_bytes())
                for folder in ("store", "memory")
                for path in (made.run(cell) / folder).iterdir()
            )
            for other in cells:
                tokens = {text.split()[1] for text in made.planted(other, "message").values()}
                there = {token for token in tokens if token.encode() in copies}
                if other is not cell:
                    assert not there, (system, cell["countermeasure"], other["countermeasure"])


def tshark(*words: str) -> str:
    """Return what tshark prints."""
    done = subprocess.run(["tshark", *words], capture_output=True, check=True, text=True)
    return done.stdout


def followed(capture: Path) -> dict[int, bytes]:
    """Return what Wireshark's own follow shows of each TCP stream, both ways."""
    numbers = sorted(set(tshark("-r", str(capture), "-T", "fields", "-e", "tcp.stream").split()))
    taps = [part for number in numbers for part in ("-z", f"follow,tcp,raw,{number}")]
    streams, current = {}, -1
    for line in tshark("-r", str(capture), "-q", *taps).splitlines():
        if found := re.match(r"Filter: tcp\.stream eq (\d+)", line):
            current = int(found[1])
            streams[current] = b""
        elif re.fullmatch(r"\t?([0-9a-f]{2})+", line):
            streams[current] += bytes.fromhex(line.strip())
    return streams


def shown(text: str, content: bytes) -> bool:
    """Whether a person who undoes forms and entities reads a text in what Wireshark shows."""
    entities = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    quoted = entities.replace('"', "&quot;")
    ways = {text, entities, quoted, quoted.replace("'", "&#039;"), entities.replace("'", "&apos;")}
    ways.add(quoted.replace("'", "&apos;"))
    plain = content.decode("utf-8", "replace")
    return any(way in plain for way in ways) or text in unquote_plus(plain)


@pytest.mark.lab
@pytest.mark.slow
@pytest.mark.parametrize("measure", ["none", "end-to-end", "tls", "port-scrambler"])
@pytest.mark.parametrize("system", ["chat_server", "irc_server", "xmpp_server"])
def test_what_is_told_of_a_wire_is_what_wireshark_follows(
    made: Made, system: str, measure: str
) -> None:
    """A text was found at an adapter if and only if tshark's follow of its capture shows it."""
    cell = made.cells[system, measure]
    for observer in WIRES:
        file = made.run(cell) / f"captures/{observer.replace('/', '-')}.pcapng"
        content = b"".join(followed(file).values()) + bodies(file)
        for kind in ("message", "user", "password", "contact"):
            row = made.row(cell, observer, kind)
            told = {proof["secret"] for proof in row["evidence"]}
            planted = made.planted(cell, kind)
            seen = {name for name, text in planted.items() if shown(text, content)}
            assert told == seen, (observer, kind)


def bodies(capture: Path) -> bytes:
    """Return what Wireshark makes of HTTP bodies, unpacked."""
    printed = tshark("-r", str(capture), "-T", "fields", "-e", "http.file_data", "-Y", "http")
    rows = [row.replace("\\n", "\n").replace("\\r", "") for row in printed.split("\n") if row]
    return b"\n".join(
        bytes.fromhex(row.replace(":", "")) if re.fullmatch("[0-9a-f:]+", row) else row.encode()
        for row in rows
    )


@pytest.mark.lab
@pytest.mark.slow
@pytest.mark.parametrize("system", ["irc_server", "xmpp_server", "chat_server"])
def test_a_reader_finds_each_proof_with_the_filter_that_is_given(made: Made, system: str) -> None:
    """The filter of a proof shows frames, all of them in the stream that is named."""
    cell = made.cells[system, "none"]
    row = made.row(cell, "peer/eth0", "message")
    assert len(row["evidence"]) == LINES
    file = made.run(cell) / row["evidence"][0]["file"]
    for proof in row["evidence"][:4]:
        wanted = f"({proof['filter']}) and ({proof['follow']})"
        printed = tshark("-r", str(file), "-Y", wanted, "-T", "fields", "-e", "frame.number")
        assert [int(number) for number in printed.split()] == proof["frames"]
        if proof["form"] == "as is":
            raw = tshark("-r", str(file), "-Y", wanted, "-T", "fields", "-e", "tcp.payload")
            payload = bytes.fromhex("".join(raw.split()).replace(":", "").replace(",", ""))
            assert proof["text"].encode() in payload


@pytest.mark.lab
@pytest.mark.slow
def test_a_reader_finds_each_proof_in_a_copy_at_its_offset(made: Made) -> None:
    """What lies at the offset of a proof is the text."""
    looked_at = 0
    for cell in made.cells.values():
        for observer in ("memory", "ends"):
            for proof in made.row(cell, observer, "user")["evidence"]:
                raw = (made.run(cell) / proof["file"]).read_bytes()
                content = gzip.decompress(raw) if proof["file"].endswith(".gz") else raw
                if proof["form"] == "as is":
                    text = proof["text"].encode()
                    assert content[proof["offset"] : proof["offset"] + len(text)] == text
                    looked_at += 1
    assert looked_at > 20


@pytest.mark.lab
@pytest.mark.slow
def test_the_commands_on_the_page_show_what_they_prove(made: Made) -> None:
    """Typed in the cell's folder, as they are, they print the text."""
    looked_at = Counter[str]()
    for cell in made.cells.values():
        for row in cell["rows"]:
            proofs = [
                p
                for p in row["evidence"]
                if p.get("form") == "as is" and {"offset", "text"} <= set(p)
            ]
            for proof in proofs[:1]:
                command = page.check(proof, row["observer"])
                done = subprocess.run(
                    ["/bin/sh", "-c", command], cwd=made.run(cell), capture_output=True, check=True
                )
                text = proof["text"].encode()
                named = proof["offset"] is None  # in the name of a file
                assert text in done.stdout if named else done.stdout.startswith(text), command
                looked_at[row["observer"]] += 1
    assert set(looked_at) == {"store", "memory", "ends"}


@pytest.mark.lab
@pytest.mark.slow
def test_judging_again_needs_the_folder_alone_and_says_the_same(made: Made) -> None:
    """The lab has gone; the same folder gives the same bytes."""
    before = (made.folder / judging.MATRIX).read_bytes()
    judging.judge(made.folder, [])
    assert (made.folder / judging.MATRIX).read_bytes() == before


@pytest.mark.lab
@pytest.mark.slow
def test_a_capture_that_dropped_packets_is_inconclusive(made: Made, tmp_path: Path) -> None:
    """What was not found there is open, and what was found stays found."""
    cell = made.cells["irc_server", "tls"]
    folder = tmp_path / "cell"
    subprocess.run(["cp", "-r", str(made.run(cell)), str(folder)], check=True)
    results = json.loads((folder / "results.json").read_text())
    for row in results["captures"]:
        row["dropped"] = 3 if row["host"] == "peer" else 0
    (folder / "results.json").chmod(0o644)
    (folder / "results.json").write_text(json.dumps(results))
    from experiments.matrix.cell import judge_cell

    again = judge_cell(folder)
    by = {(row["observer"], row["kind"]): row["verdict"] for row in again["rows"]}
    assert by["peer/eth0", "message"] == "inconclusive"
    assert by["guest/eth0", "message"] == "not read"
    assert again["observers"]["peer/eth0"]["level"] == "open"
    assert again["cost"]["bytes"]["value"] is None
    assert any("results.json" in fault for fault in again["faults"])


@pytest.fixture
def wall() -> Iterator[None]:
    """Add the folder of a further system to those that roles are looked for in."""
    folder = str(Path(__file__).parent / "fixtures" / "systems")
    roles.__path__.append(folder)
    messaging.systems.cache_clear()
    yield
    roles.__path__.remove(folder)
    messaging.systems.cache_clear()


@pytest.mark.lab
@pytest.mark.slow
@pytest.mark.usefixtures("wall")
def test_a_fourth_system_shows_up_by_being_in_a_folder(tmp_path: Path) -> None:
    """A lab that has it gets its cells, with every observer; what it cannot take is told."""
    spec = tmp_path / "walls.yaml"
    text = (SPECS / "im.yaml").read_text().replace("name: im", "name: walls")
    spec.write_text(text.replace("    roles:\n", "    roles:\n      wall_server: {}\n"))
    made = make(tmp_path, spec=str(spec), only=("wall",))
    assert {measure for _, measure in made.cells} == {"none", "end-to-end", "port-scrambler"}
    (cannot,) = made.outcome.content["impossible"]
    assert (cannot["system"], cannot["countermeasure"]) == ("wall_server", "tls")
    assert "no way to speak TLS" in cannot["why"]
    for (_, measure), cell in made.cells.items():
        for score in cell["score"]["observers"].values():
            assert (score["missed"], score["beyond"], score["decoys_found"]) == ([], [], [])
        stored = made.row(cell, "store", "message")["verdict"]
        assert stored == ("not read" if measure == "end-to-end" else "read")


@pytest.mark.lab
def test_a_name_that_nothing_has_is_told_with_those_there_are(tmp_path: Path) -> None:
    """Nothing is made for it."""
    with pytest.raises(LabError, match=r"no countermeasure is called quantum; there are: chat"):
        make(tmp_path, only=("irc", "quantum"))
    assert list((tmp_path / "out").iterdir()) == []
