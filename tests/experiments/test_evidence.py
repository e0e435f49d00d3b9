"""The run folder: written once, hashed, read-only."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from experiments.evidence import RunFolder, host_facts, rfc3339, runs
from lab.errors import LabError

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 23, 8, 30, 5, tzinfo=timezone(timedelta(hours=3)))


def seal(folder: RunFolder) -> dict[str, Any]:
    """Seal with plain values."""
    return folder.seal(
        started=NOW,
        finished=NOW + timedelta(seconds=2),
        seed=7,
        experiment={"name": "paper"},
        spec_text="imlab: 1\n",
        plan={},
        software={"tcpdump": "4.99"},
        durations_s={"ping": 0.5},
    )


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """Return an open run with two files."""
    made = RunFolder.create("paper", tmp_path, now=NOW)
    made.write("results.json", {"ping": []})
    made.write("logs/run.log", "started\n")
    return made


def test_the_name_is_the_time_in_utc_and_the_experiment(folder: RunFolder) -> None:
    """A run is named by when it started, in UTC whatever the clock's zone."""
    assert folder.name == "20261123T053005Z-paper"


def test_two_runs_in_one_second_are_two_folders(folder: RunFolder) -> None:
    """A second run of the same name and second does not touch the first."""
    other = RunFolder.create("paper", folder.path.parent, now=NOW)
    assert other.name == "20261123T053005Z-paper-2"
    assert not list(other.path.iterdir())


@pytest.mark.parametrize("name", ["../x", "", "A B", "x" * 65, ".hidden"])
def test_a_name_that_is_no_file_name_is_refused(name: str, tmp_path: Path) -> None:
    """Nothing is made for a name that could lead elsewhere."""
    with pytest.raises(LabError, match="name"):
        RunFolder.create(name, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_evidence_is_written_once(folder: RunFolder) -> None:
    """A second write of a file is refused and changes nothing."""
    with pytest.raises(LabError, match="already"):
        folder.write("results.json", {})
    assert json.loads((folder.path / "results.json").read_bytes()) == {"ping": []}


@pytest.mark.parametrize("name", ["../outside", "manifest.json", "verdicts.json", "/etc/x"])
def test_evidence_has_its_place(name: str, folder: RunFolder) -> None:
    """Evidence goes neither outside the folder nor under a name that is the folder's own."""
    with pytest.raises(LabError):
        folder.write(name, b"")
    assert not (folder.path.parent / "outside").exists()


def test_a_sealed_run_is_complete_and_read_only(folder: RunFolder) -> None:
    """The manifest lists every file with hash and size; files are 0444; nothing can be added."""
    manifest = seal(folder)
    assert manifest["files"]["logs/run.log"] == {
        "sha256": "eff64b343dcb2b1dc113648e7089b9ce9f8a7f6c7808a03a2cffb4ad7302f606",
        "bytes": 8,
    }
    assert sorted(manifest["files"]) == ["logs/run.log", "results.json"]
    assert manifest["started"] == "2026-11-23T05:30:05.000Z"
    for name in (*manifest["files"], "manifest.json"):
        assert stat.S_IMODE((folder.path / name).stat().st_mode) == 0o444
    with pytest.raises(LabError, match="sealed"):
        folder.write("more.txt", b"")
    with pytest.raises(LabError, match="sealed"):
        seal(folder)
    assert RunFolder.open(folder.path).manifest() == manifest
    assert folder.verify() == []


def test_verify_names_every_difference(folder: RunFolder) -> None:
    """A changed, a missing and an added file are told apart; derived files are no difference."""
    seal(folder)
    (folder.path / "results.json").chmod(0o644)
    (folder.path / "results.json").write_bytes(b"{}")
    (folder.path / "logs/run.log").unlink()
    (folder.path / "extra.txt").write_bytes(b"")
    folder.derive({"verdicts.json": b"[]"}, {"imlab": "0"})
    assert [(fact.file, fact.fault) for fact in folder.verify()] == [
        ("logs/run.log", "is missing"),
        ("results.json", "is not what was sealed"),
        ("extra.txt", "is not in the manifest"),
    ]


def test_derived_files_can_be_made_again(folder: RunFolder) -> None:
    """Deriving replaces derived files, lists their hashes and leaves the manifest alone."""
    before = seal(folder)
    folder.derive({"verdicts.json": b"[1]"}, {"tshark": "4"})
    folder.derive({"verdicts.json": b"[]"}, {"tshark": "5"})
    listed = folder.read_json("derived.json")
    assert listed["made_by"] == {"tshark": "5"}
    assert listed["files"]["verdicts.json"]["bytes"] == 2
    assert folder.manifest() == before
    with pytest.raises(LabError, match="derived"):
        folder.derive({"results.json": b""}, {})


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    """No manifest, a broken one, and one of a later format: told in words, not as a traceback."""
    for text in (None, "{", '{"format": 99}', "[]"):
        if text is not None:
            (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(LabError, match="opening the run"):
            RunFolder.open(tmp_path)


def test_runs_lists_sealed_ones_in_order(folder: RunFolder, tmp_path: Path) -> None:
    """A run that is not sealed is not listed; a root that does not exist has none."""
    assert runs(tmp_path) == []
    seal(folder)
    later = RunFolder.create("paper", tmp_path, now=NOW + timedelta(hours=1))
    seal(later)
    assert [run.name for run in runs(tmp_path)] == [folder.name, later.name]
    assert runs(tmp_path / "none") == []


def test_facts_identify_nobody() -> None:
    """The machine is described by size and kernel, not by name or user."""
    assert set(host_facts()) == {"cpus", "memory_mib", "machine", "system", "kernel"}


def test_times_are_rfc_3339_in_utc() -> None:
    """A time in any zone is written in UTC with a Z."""
    assert rfc3339(NOW) == "2026-11-23T05:30:05.000Z"
    assert rfc3339(datetime(2026, 1, 2, tzinfo=UTC)) == "2026-01-02T00:00:00.000Z"
