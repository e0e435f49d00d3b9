"""One run: workloads under capture, and everything that was seen put into a sealed folder."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import os
import platform
import shutil
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments import workloads
from experiments.capture import Captures
from experiments.definition import check
from experiments.evidence import RunFolder, canonical
from lab import images as image_cache
from lab import providers
from lab.providers.base import image_label
from lab.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable

    from experiments.definition import Experiment
    from lab.lifecycle import Lab
    from provisioning.sessions import Sessions

LIBRARIES = ("cryptography", "invoke", "jinja2", "paramiko", "pydantic", "PyYAML", "rich")
PROJECT = Path(__file__).resolve().parent.parent
#: What a run tells of each image; meta.json of the cache has it.
OF_AN_IMAGE = (
    "name", "form", "key", "suite", "architecture", "builder", "recipe", "built", "packages",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Request:
    """What to run, on which lab, and where the evidence goes.

    before_s -- seconds of what happened before (putting the lab up …), by name.
    """

    experiment: Experiment
    lab: Lab
    out: Path
    browser: bool = False
    before_s: dict[str, float] | None = None


def run(
    request: Request, sessions: Sessions, note: Callable[[str], None] = lambda _: None
) -> RunFolder:
    """Run an experiment on a lab that is up and provisioned; return its sealed folder.

    Interrupted, the unsealed folder is removed: half a run is no evidence. Raises LabError.
    """
    experiment, plan = request.experiment, request.lab.plan
    check(experiment, plan)
    folder = RunFolder.create(experiment.name, request.out)
    claim = os.open(folder.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(claim, fcntl.LOCK_EX)  # as long as we live it is ours to remove
        request.lab.ledger.expect(folder.path)  # killed, it goes when the lab goes
        sealed = _run(request, sessions, folder, note)
    except BaseException:
        shutil.rmtree(folder.path, ignore_errors=True)
        raise
    finally:
        request.lab.ledger.finished(folder.path)
        os.close(claim)
    return sealed


def _run(
    request: Request, sessions: Sessions, folder: RunFolder, note: Callable[[str], None]
) -> RunFolder:
    experiment, plan = request.experiment, request.lab.plan
    record = request.lab.ledger.read()
    started, durations = datetime.now(UTC), dict(request.before_s or {})
    log: list[str] = []

    def told(text: str) -> None:
        log.append(f"{datetime.now(UTC).isoformat(timespec='milliseconds')} {text}")
        note(text)

    stage = workloads.Stage(
        plan,
        sessions,
        experiment.seed,
        browser=request.browser,
        note=told,
        reserve=folder.reserve,
    )
    points = [(capture.host, capture.adapter) for capture in plan.captures]
    results: dict[str, Any] = {}
    told("starting captures")
    with Captures(sessions, points, folder.reserve) as captures:
        for step in experiment.steps:
            since = time.monotonic()
            more = workloads.get(step.workload).run(stage, step.parameters)
            results = merged(results, more)
            spent = durations.get(step.workload, 0.0) + time.monotonic() - since
            durations[step.workload] = round(spent, 4)
    results["captures"] = captures.rows
    told("sealing the evidence")
    folder.write("results.json", results)
    folder.write("spec.yaml", record.get("spec_text") or "")
    folder.write("plan.json", plan.to_json())
    folder.write("experiment.yaml", experiment.text)
    folder.write("images.json", _images(record))
    folder.write("logs/packages.json", canonical(_packages(request.lab, sessions, told)))
    software = {**_software(record), **_kernels(request.lab, sessions)}
    folder.write("logs/run.log", "\n".join(log) + "\n")
    finished = datetime.now(UTC)
    durations["run"] = round((finished - started).total_seconds(), 4)
    folder.seal(
        started=started,
        finished=finished,
        seed=experiment.seed,
        experiment=experiment.data,
        spec_text=record.get("spec_text") or "",
        plan=plan.to_json(),
        software=software,
        durations_s=durations,
        links=record.get("links", []),
    )
    return folder


def merged(results: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Return what two steps brought: what people said in both is kept, the rest is the later's.

    A planted text's id that is taken already becomes another one, wherever the later step has it.
    """
    both = results | more
    if "chat" not in results or "chat" not in more:
        return both
    first, second = results["chat"], more["chat"]
    taken = {row["id"] for row in first["planted"]}
    renamed: dict[str, str] = {}
    for row in second["planted"]:
        number = len(first["planted"]) + len(renamed) + 1
        new = row["id"] if row["id"] not in taken else f"{row['kind']}-{number}"
        while new in taken:
            number += 1
            new = f"{row['kind']}-{number}"
        renamed[row["id"]] = new
        taken.add(new)
    both["chat"] = (
        first
        | second
        | {
            "visits": first["visits"] + second["visits"],
            "planted": first["planted"]
            + [row | {"id": renamed[row["id"]]} for row in second["planted"]],
            "lines": first.get("lines", [])
            + [row | {"planted": renamed[row["planted"]]} for row in second.get("lines", [])],
        }
    )
    both["repository"] = results.get("repository", []) + [
        row | {key: [renamed[name] for name in row[key]] for key in ("found", "missing")}
        for row in more.get("repository", [])
    ]
    return both


def _packages(
    lab: Lab, sessions: Sessions, note: Callable[[str], None]
) -> dict[str, dict[str, str]]:
    """Return the package versions of one host of each image, as the host itself tells them.

    An image of one's own may be of a system without dpkg: such a host tells none.
    """
    by_image = {
        image_label(host.image, providers.get(host.provider).image_form or "rootfs"): host.name
        for host in lab.plan.hosts
    }
    packages = {}
    for image, host in by_image.items():
        query = ["dpkg-query", "-W", "-f", "${Package}\t${Version}\n"]
        listed = sessions[host].run(query, check=False)
        if listed.exit_code != 0:
            note(f"{host} does not tell its packages: dpkg-query gave {listed.exit_code}")
            continue
        rows = [line.split("\t") for line in listed.stdout.decode().splitlines()]
        packages[image] = {name: version for name, version in rows if version}
    return packages


def _kernels(lab: Lab, sessions: Sessions) -> dict[str, str]:
    """Return what the hosts run on, as they tell it: a kernel, or kernels each with its hosts.

    Namespaces have the machine's, all of them; any other host has one of its own.
    """
    asked: dict[tuple[bool, str], str] = {}
    hosts: dict[str, list[str]] = {}
    for host in lab.plan.hosts:
        shares = providers.get(host.provider).image_form == "rootfs"
        whose = (shares, host.provider if shares else host.name)
        if whose not in asked:
            said = sessions[host.name].run(["uname", "-sr"], check=False)  # Windows has none
            asked[whose] = said.stdout.decode(errors="replace").strip()
        hosts.setdefault(asked[whose], []).append(host.name)
    hosts.pop("", None)
    each = [f"{kernel} ({', '.join(names)})" for kernel, names in hosts.items()]
    told = "; ".join(each) if len(each) > 1 else next(iter(hosts), "")
    return {"kernel of hosts": told} if told else {}


def _images(record: dict[str, Any]) -> dict[str, Any]:
    """Return what the lab's images were made of: recipe and the version of every package."""
    found = {}
    for label, key in record.get("images", {}).items():
        name = label.partition(" ")[0]
        if meta := image_cache.meta_of(name, key):
            found[label] = {"form": "rootfs"} | {k: meta[k] for k in OF_AN_IMAGE if k in meta}
    return found


def _commit() -> str:
    """Return which commit of imlab this is, "" where that cannot be known (no git, no checkout)."""
    describe = ["git", "-C", str(PROJECT), "describe", "--always", "--abbrev=12", "--dirty"]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(describe, capture_output=True, text=True, check=False, timeout=5)
        if done.returncode == 0 and (PROJECT / ".git").exists():
            return done.stdout.strip()
    return ""


def _software(record: dict[str, Any]) -> dict[str, str]:
    software = {
        "imlab": VERSION,
        "python": platform.python_version(),
        "provider": ", ".join(record["providers"]),
    }
    if commit := _commit():
        software["imlab commit"] = commit
    software |= {name: importlib.metadata.version(name) for name in LIBRARIES}
    return software | {f"image {name}": key for name, key in record.get("images", {}).items()}
