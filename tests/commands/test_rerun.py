"""`rerun`: a run done again from its archive alone, in another copy of the project."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from commands import labs, rerun
from experiments import pack
from experiments.evidence import RunFolder
from experiments.judge import judge
from lab.spec import load_spec

pytestmark = pytest.mark.lab
PROJECT = Path(__file__).resolve().parents[2]
EXPERIMENT = """
imlab_experiment: 1
name: pings
spec: two-peers
seed: 3
steps:
  - ping: {count: 5, bytes: 32, interval_s: 0.01}
claims:
  - {id: ping, claim: Both answer., check: ping}
"""


def call(root: Path, state: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Call a task of the project that lies at `root`."""
    program = [sys.executable, str(root / "commands/program.py"), "--search-root", str(root)]
    return subprocess.run(
        [*program, *words],
        env={**os.environ, "IMLAB_STATE": str(state)},
        capture_output=True, text=True, check=False, timeout=180, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of a run, made by the task."""
    space = tmp_path_factory.mktemp("made")
    (space / "pings.yaml").write_text(EXPERIMENT)
    words = ("run", str(space / "pings.yaml"), "--out", str(space / "runs"), "--json")
    done = call(PROJECT, space / "state", *words)
    assert done.returncode == 0, done.stderr
    return Path(json.loads(done.stdout)["folder"])


def remade(made: Path, root: Path, change: Any) -> Path:  # noqa: ANN401 - a function
    """Seal a copy of a run with other results, as if they had been measured."""
    folder = RunFolder.create("pings", root)
    manifest = json.loads((made / "manifest.json").read_bytes())
    for name in manifest["files"]:
        content = (made / name).read_bytes()
        if name == "results.json":
            results = json.loads(content)
            change(results)
            content = json.dumps(results).encode()
        folder.write(name, content)
    times = {key: datetime.fromisoformat(manifest[key]) for key in ("started", "finished")}
    same = ("seed", "experiment", "spec_text", "plan", "software", "durations_s")
    folder.seal(**times, **{key: manifest[key] for key in same})
    judge(folder.path)
    return folder.path


def test_a_packed_run_repeated_in_another_copy_gives_equal_verdicts(
    made: Path, tmp_path: Path
) -> None:
    """With nothing but the archive; the plan and the experiment are the same; exit code 0."""
    clone = tmp_path / "clone"
    left_out = shutil.ignore_patterns(".venv", ".git", "runs", "__pycache__", ".*_cache")
    shutil.copytree(PROJECT, clone, ignore=left_out)
    archive = pack.pack(made, tmp_path)
    words = ("rerun", str(archive), "--out", str(tmp_path / "again"), "--json")
    done = call(clone, tmp_path / "state", *words)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["equal"]
    assert found["same"]
    assert [row["first"] for row in found["verdicts"]] == ["confirmed"]
    assert found["plan"] == found["experiment"] == found["recipes"] == []
    assert found["second"]["seed"] == 3
    again = Path(found["folder"])
    assert (again / "spec.yaml").read_bytes() == (made / "spec.yaml").read_bytes()
    for folder in (made, again):
        plan = json.loads((folder / "plan.json").read_bytes())
        assert plan["lab"] == "two-peers"
    assert "lab two-peers" not in call(clone, tmp_path / "state", "lab-status").stdout


def test_a_run_that_comes_out_otherwise_is_told_with_exit_code_1(
    made: Path, tmp_path: Path
) -> None:
    """A run in which nobody answered, repeated where they do."""

    def silence(results: dict[str, Any]) -> None:
        for row in results["ping"]:
            row |= {"received": 0, "replies": [], "ttl": None, "loss_percent": 100.0}
            row |= {"min_ms": None, "avg_ms": None, "max_ms": None}

    path = remade(made, tmp_path, silence)
    done = call(PROJECT, tmp_path / "state", "rerun", str(path), "--out", str(tmp_path / "again"))
    assert done.returncode == 1, done.stderr
    assert "verdicts NOT equal" in done.stdout


def test_a_run_with_a_changed_byte_is_not_repeated(made: Path, tmp_path: Path) -> None:
    """Nothing is made: the file is named, as `verify` names it with exit code 1."""
    path = Path(shutil.copytree(made, tmp_path / made.name))
    capture = next((path / "captures").iterdir())
    capture.chmod(0o644)
    content = bytearray(capture.read_bytes())
    content[len(content) // 2] ^= 0x20
    capture.write_bytes(content)
    name = f"captures/{capture.name}"
    verified = call(PROJECT, tmp_path / "state", "verify", str(path), "--json")
    assert verified.returncode == 1
    assert json.loads(verified.stdout)["facts"] == [
        {"file": name, "fault": "is not what was sealed"}
    ]
    again = call(PROJECT, tmp_path / "state", "rerun", str(path), "--out", str(tmp_path / "x"))
    assert again.returncode == 2
    assert f"{name} is not what was sealed" in again.stderr
    assert not (tmp_path / "x").exists()


def test_a_provider_that_cannot_is_told_before_anything_is_made(made: Path, tmp_path: Path) -> None:
    """--provider external: it makes no computers; exit code 2 and a sentence."""
    words = ("rerun", str(made), "--provider", "external", "--out", str(tmp_path / "x"))
    done = call(PROJECT, tmp_path / "state", *words)
    assert done.returncode == 2
    assert "alice" in done.stderr
    assert not list(tmp_path.glob("x/*"))


def test_a_host_that_is_not_there_is_told_when_it_is_given_to_a_provider(
    made: Path, tmp_path: Path
) -> None:
    """--provider HOST=PROVIDER of another lab: exit code 2, and the hosts that there are."""
    words = ("rerun", str(made), "--provider", "carol=netns", "--out", str(tmp_path / "x"))
    done = call(PROJECT, tmp_path / "state", *words)
    assert done.returncode == 2
    assert "it has no host carol; it has: alice, bob" in " ".join(done.stderr.split())
    assert not list(tmp_path.glob("x/*"))


@pytest.mark.parametrize(
    ("then", "now", "again"),
    [
        ("netns", "", "netns"),
        ("guest=virtualbox", "", "netns,guest=virtualbox"),
        ("netns", "guest=virtualbox", "netns,guest=virtualbox"),
        ("guest=virtualbox", "netns", "netns"),
        ("virtualbox", "host=netns,peer=netns", "virtualbox,host=netns,peer=netns"),
    ],
)
def test_hosts_are_made_as_then_but_for_those_of_which_it_is_said(
    then: str, now: str, again: str
) -> None:
    """Of the paper's lab, whose spec does not say it; and so that the plan comes out right."""
    path = labs.spec_path("paper")
    plan = labs.plan_of(path, provider=then)
    found = rerun.makers(plan, load_spec(path), now)
    assert labs.plan_of(path, provider=found) == labs.plan_of(path, provider=again)


def test_what_a_spec_says_of_its_hosts_stays_unless_they_are_named() -> None:
    """vm_specs/mixed.yaml: --provider alone changes none of them, HOST=PROVIDER does."""
    path = labs.spec_path("mixed")
    plan, spec = labs.plan_of(path), load_spec(path)
    assert labs.plan_of(path, provider=rerun.makers(plan, spec, "virtualbox")) == plan
    found = labs.plan_of(path, provider=rerun.makers(plan, spec, "guest=netns"))
    assert {host.provider for host in found.hosts} == {"netns"}


def test_a_run_of_other_packages_and_recipe_is_told(made: Path, tmp_path: Path) -> None:
    """A run whose image had another version of a package: it is named, the verdicts count."""
    folder = RunFolder.create("pings", tmp_path)
    manifest = json.loads((made / "manifest.json").read_bytes())
    for name in manifest["files"]:
        content = (made / name).read_bytes()
        if name == "images.json":
            images = json.loads(content)
            (image,) = images.values()
            image["packages"]["openssh-server"] = "1:0.1-1"
            image["recipe"]["needs_mib"] += 1
            content = json.dumps(images).encode()
        folder.write(name, content)
    times = {key: datetime.fromisoformat(manifest[key]) for key in ("started", "finished")}
    same = ("seed", "experiment", "spec_text", "plan", "software", "durations_s")
    folder.seal(**times, **{key: manifest[key] for key in same})
    words = ("rerun", str(folder.path), "--out", str(tmp_path / "again"), "--json")
    done = call(PROJECT, tmp_path / "state", *words)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    (rows,) = found["packages"].values()
    assert [(row["package"], row["first"]) for row in rows] == [("openssh-server", "1:0.1-1")]
    assert found["recipes"] == list(found["packages"])
