"""A run that a stranger gets: sealed to the last byte, a valid RO-Crate, one archive and back."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
import zstandard
from fixture_run import remake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments import pack, sums
from experiments.definition import load
from experiments.judge import judge
from experiments.verifying import differences
from lab.errors import LabError


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a sealed and judged run, not to be changed."""
    experiment = {
        "name": "paper",
        "title": "What is read",
        "licence": "CC-BY-4.0",
        "authors": [{"name": "A. Author", "orcid": "https://orcid.org/0000-0002-1825-0097"}],
    }
    path = remake(tmp_path_factory.mktemp("judged"), experiment=experiment)
    judge(path)
    return path


@pytest.fixture
def copy(judged: Path, tmp_path: Path) -> Path:
    """Give a copy of it to be changed."""
    return Path(shutil.copytree(judged, tmp_path / judged.name))


def flip(path: Path, at: int) -> None:
    """Change one bit of a file."""
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1
    path.write_bytes(data)


def names(path: Path) -> list[str]:
    """Return all files of a folder."""
    return sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())


def test_a_whole_run_has_no_differences(judged: Path) -> None:
    """Nothing is found where nothing was changed."""
    assert differences(judged) == []


@settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_changed_bit_is_found_and_its_file_named(judged: Path, data: st.DataObject) -> None:
    """One bit of any file of the run: exactly that file is named, the lists themselves too."""
    name = data.draw(st.sampled_from(names(judged)))
    at = data.draw(st.integers(0, 1 << 30))
    original = (judged / name).read_bytes()
    flip(judged / name, at)
    try:
        assert {fact.file for fact in differences(judged)} == {name}
    finally:
        (judged / name).write_bytes(original)


def test_missing_added_and_linked_files_are_told(copy: Path) -> None:
    """A file that is gone, one too many, and a link in place of a file: each is named."""
    (copy / "results.json").unlink()
    (copy / "extra.bin").write_bytes(b"x")
    capture = copy / "captures/guest-eth0.pcapng"
    capture.rename(copy.parent / "elsewhere")
    capture.symlink_to(copy.parent / "elsewhere")
    assert [(fact.file, fact.fault) for fact in differences(copy)] == [
        ("captures/guest-eth0.pcapng", "is no plain file"),
        ("extra.bin", "was added"),
        ("results.json", "is missing"),
    ]


@pytest.mark.parametrize("name", ["SHA256SUMS", "manifest.json"])
def test_a_list_that_is_gone_is_told(copy: Path, name: str) -> None:
    """Neither of the two lists can be taken away unnoticed."""
    (copy / name).unlink()
    assert {fact.file for fact in differences(copy)} == {name}


@pytest.mark.parametrize("nonsense", [b"", b"[]", b'{"files": 1}', b"\xff", b'{"files": {"a": 1}}'])
def test_broken_lists_are_facts(copy: Path, nonsense: bytes) -> None:
    """All three lists broken at once, in any way: each is named, and nothing is raised."""
    for name in ("SHA256SUMS", "manifest.json", "derived.json"):
        (copy / name).chmod(0o644)
        (copy / name).write_bytes(nonsense)
    found = {fact.file for fact in differences(copy)}
    assert {"SHA256SUMS", "manifest.json", "derived.json"} <= found


def test_judging_again_does_not_bless_changed_evidence(copy: Path) -> None:
    """After a capture was changed, making the report anew leaves the change told."""
    flip(copy / "captures/guest-eth0.pcapng", 5000)
    judge(copy)
    assert [fact.file for fact in differences(copy)] == ["captures/guest-eth0.pcapng"]


def test_coreutils_check_the_sums(judged: Path, copy: Path) -> None:
    """Who has no imlab checks the run with sha256sum."""
    check = ["sha256sum", "--quiet", "-c", "SHA256SUMS"]
    assert subprocess.run(check, cwd=judged, check=False, capture_output=True).returncode == 0
    flip(copy / "results.json", 7)
    refused = subprocess.run(check, cwd=copy, check=False, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "results.json: FAILED" in refused.stdout


@given(
    st.dictionaries(
        st.text(
            st.characters(exclude_characters="\\\x7f", exclude_categories=["C", "Z"]), min_size=1
        ),
        st.binary().map(lambda data: hashlib.sha256(data).hexdigest()),
    )
)
def test_sums_are_read_as_they_were_written(hashes: dict[str, str]) -> None:
    """What is rendered is parsed to the same, and any cut of it is refused."""
    content = sums.render(hashes)
    assert sums.parse(content) == hashes
    with pytest.raises(sums.BrokenError):
        sums.parse(content[:-2])


# -- the crate --------------------------------------------------------------------------------


def entities(path: Path) -> dict[str, dict[str, object]]:
    """Return the crate's entities by @id."""
    graph = json.loads((path / "ro-crate-metadata.json").read_bytes())["@graph"]
    return {entity["@id"]: entity for entity in graph}


def test_the_run_is_a_crate_that_the_library_reads(judged: Path) -> None:
    """ro-crate-py reads the folder and finds every file, licence, author and the run itself."""
    from rocrate.rocrate import ROCrate

    crate = ROCrate(judged)
    assert {e.id for e in crate.data_entities} == set(names(judged)) - {"ro-crate-metadata.json"}
    assert crate.root_dataset["license"].id == "https://spdx.org/licenses/CC-BY-4.0"
    assert crate.root_dataset["author"]["name"] == "A. Author"
    assert crate.root_dataset["mentions"].type == "CreateAction"
    assert crate.get("captures/guest-eth0.pcapng").type == "File"


def test_the_crate_keeps_the_musts_of_the_specification(judged: Path) -> None:
    """RO-Crate 1.1, sections 2 to 4: descriptor, root, unique ids, flat, no dangling parts."""
    data = json.loads((judged / "ro-crate-metadata.json").read_bytes())
    found = entities(judged)
    assert len(found) == len(data["@graph"])
    assert data["@context"][0] == "https://w3id.org/ro/crate/1.1/context"
    descriptor = found["ro-crate-metadata.json"]
    assert descriptor["@type"] == "CreativeWork"
    assert descriptor["about"] == {"@id": "./"}
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    root = found["./"]
    assert root["@type"] == "Dataset"
    assert {"name", "description", "datePublished", "license", "hasPart"} <= set(root)
    for part in root["hasPart"]:  # type: ignore[attr-defined]
        assert (judged / part["@id"]).is_file()
    for entity in found.values():
        assert "@type" in entity
        for value in entity.values():
            for item in value if isinstance(value, list) else [value]:
                assert not isinstance(item, dict) or set(item) == {"@id"}, "not flat"
                if isinstance(item, dict) and not item["@id"].startswith(("http", "./")):
                    assert item["@id"] in found


def test_the_crate_tells_hashes_sizes_seed_and_durations(judged: Path) -> None:
    """What the issue wants to be said is said, and agrees with the files."""
    found = entities(judged)
    capture = judged / "captures/guest-eth0.pcapng"
    entity = found["captures/guest-eth0.pcapng"]
    assert entity["sha256"] == hashlib.sha256(capture.read_bytes()).hexdigest()
    assert entity["contentSize"] == str(capture.stat().st_size)
    manifest = json.loads((judged / "manifest.json").read_bytes())
    assert found["#seed"]["value"] == manifest["seed"]
    for phase, seconds in manifest["durations_s"].items():
        assert found[f"#duration-{phase}"]["value"] == seconds
    for name, version in manifest["software"].items():
        place = "#imlab" if name == "imlab" else f"#software-{name.replace(' ', '-')}"
        assert found[place]["softwareVersion"] == version


@pytest.mark.skipif(not shutil.which("rocrate-validator"), reason="roc-validator is not installed")
def test_the_validator_accepts_the_crate(judged: Path) -> None:
    """roc-validator, where somebody has it and the network it wants, finds no fault."""
    validate = ["rocrate-validator", "-y", "validate", "-p", "process-run-crate-0.5", str(judged)]
    done = subprocess.run(validate, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("licence: [a]", "licence is ['a']"),
        ("authors: me", "authors must be a list"),
        ("authors: [{orcid: x}]", "author 1 must be a mapping with a `name`"),
        ("authors: [{name: A, orcid: 0000}]", "orcid must be as https://orcid.org/"),
        ("authors: [{name: A, mail: x}]", "author 1 has no key 'mail'"),
    ],
)
def test_faults_of_licence_and_authors_are_told(tmp_path: Path, lines: str, told: str) -> None:
    """A licence that is no text and an author without a name are refused before the run."""
    file = tmp_path / "x.yaml"
    file.write_text(f"imlab_experiment: 1\nname: x\nspec: paper\nsteps: [ping: {{}}]\n{lines}\n")
    with pytest.raises(LabError) as caught:
        load(str(file))
    assert told in caught.value.saw


# -- the archive ------------------------------------------------------------------------------


def test_packing_twice_gives_the_same_bytes(judged: Path, copy: Path, tmp_path: Path) -> None:
    """Also of a copy with other times, modes and owner, under another folder's name."""
    first = pack.pack(judged, tmp_path / "a.tar.zst").read_bytes()
    assert pack.pack(judged, tmp_path / "a.tar.zst").read_bytes() == first
    moved = copy.rename(copy.with_name("moved"))
    for file in moved.rglob("*"):
        os.utime(file, (1, 1))
    (moved / "manifest.json").chmod(0o640)
    assert pack.pack(moved, tmp_path / "b.tar.zst").read_bytes() == first


def test_an_archive_unpacks_to_the_same_run(judged: Path, tmp_path: Path) -> None:
    """Byte for byte; `tar` would make the same of it; a second time is refused, not overwritten."""
    archive = pack.pack(judged, tmp_path)
    assert archive.name == f"{judged.name}.tar.zst"
    path = pack.unpack(archive, tmp_path)
    assert names(path) == names(judged)
    assert differences(path) == []
    with pytest.raises(LabError, match="there already"):
        pack.unpack(archive, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([archive.name, path.name])
    with pack.opened(archive) as again:
        assert differences(again) == []
    assert not again.exists()


def test_a_broken_run_is_not_packed(copy: Path, tmp_path: Path) -> None:
    """The error names the file, and no archive is left."""
    flip(copy / "captures/host-eth0.pcapng", 99)
    with pytest.raises(LabError) as caught:
        pack.pack(copy, tmp_path)
    assert "captures/host-eth0.pcapng is not what was sealed" in caught.value.saw
    assert [p.name for p in tmp_path.iterdir()] == [copy.name]


def archive_of(members: list[tuple[tarfile.TarInfo, bytes]], path: Path) -> Path:
    """Write an archive of any members, as somebody hostile would."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for member, data in members:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    path.write_bytes(zstandard.compress(raw.getvalue()))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    """Return a member of an archive."""
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


HOSTILE = {
    "up": [(member("../evil"), b"x")],
    "up within": [(member("run/../../evil"), b"x")],
    "absolute": [(member("/tmp/evil"), b"x")],
    "no folder": [(member("evil"), b"x")],
    "two folders": [(member("a/evil"), b"x"), (member("b/evil"), b"x")],
    "hidden": [(member("run/.bashrc"), b"x")],
    "control character": [(member("run/a\nb"), b"x")],
    "backslash": [(member("run/..\\evil"), b"x")],
    "empty part": [(member("run//evil"), b"x")],
    "deep": [(member("/".join(["run"] * 9)), b"x")],
    "twice": [(member("run/evil"), b"x"), (member("run/evil"), b"y")],
    "twice but for case": [(member("run/evil"), b"x"), (member("run/EVIL"), b"y")],
    "file and folder": [(member("run/evil"), b"x"), (member("run/evil/more"), b"y")],
    "symbolic link": [(member("run/l", tarfile.SYMTYPE, "/"), b""), (member("run/l/evil"), b"x")],
    "hard link": [(member("run/l", tarfile.LNKTYPE, "/etc/passwd"), b"")],
    "device": [(member("run/d", tarfile.CHRTYPE), b"")],
    "pipe": [(member("run/p", tarfile.FIFOTYPE), b"")],
    "long name": [(member("run/" + "x" * 300), b"x")],
    "nothing": [],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_is_refused_and_leaves_nothing(kind: str, tmp_path: Path) -> None:
    """Traversal, links, devices, clashes: refused in words, nothing written anywhere."""
    archive = archive_of(HOSTILE[kind], tmp_path / "x.tar.zst")
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(LabError, match="unpacking"):
        pack.unpack(archive, into)
    assert not list(into.iterdir())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["into", "x.tar.zst"]
    assert not Path("/tmp/evil").exists()


def test_a_bomb_is_refused_before_it_grows(tmp_path: Path) -> None:
    """What would grow beyond all measure is refused at the header, before a byte is written."""
    header = tarfile.TarInfo("run/zeros")
    header.size = 7 << 30
    archive = tmp_path / "bomb.tar.zst"
    with archive.open("wb") as file, zstandard.ZstdCompressor().stream_writer(file) as stream:
        stream.write(header.tobuf(tarfile.USTAR_FORMAT))
        for _ in range(64):
            stream.write(bytes(1 << 20))
    with pytest.raises(LabError, match="more than a run can be"):
        pack.unpack(archive, tmp_path)


def test_many_files_are_refused(tmp_path: Path) -> None:
    """A run has some dozens of files; ten thousand are the most."""
    archive = archive_of(
        [(member(f"run/{n}"), b"") for n in range(pack.MAX_FILES + 1)], tmp_path / "many.tar.zst"
    )
    with pytest.raises(LabError, match="more than a run can be"):
        pack.unpack(archive, tmp_path)


@settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_a_damaged_archive_is_an_error_in_words(
    judged: Path, tmp_path: Path, data: st.DataObject
) -> None:
    """Cut or changed anywhere: refused in words, or the files' hashes tell, or nothing is lost."""
    archive = tmp_path / "whole.tar.zst"
    if not archive.exists():
        pack.pack(judged, archive)
    content = bytearray(archive.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    contents = [(judged / name).read_bytes() for name in names(judged)]
    damaged = tmp_path / "damaged.tar.zst"
    damaged.write_bytes(content)
    into = tmp_path / "into"
    into.mkdir(exist_ok=True)
    try:
        path = pack.unpack(damaged, into)
    except LabError:
        pass
    else:
        facts = differences(path)
        whole = [(path / name).read_bytes() for name in names(path)] == contents
        shutil.rmtree(path)
        assert facts or whole  # what was lost are bytes after the last file
    assert not list(into.iterdir())
