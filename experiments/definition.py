"""Experiments as data: what is done to a lab, what is listened to, what is claimed.

One YAML file of experiments/definitions/ each, or of a folder there ("threats/forgery"):

    imlab_experiment: 1
    name: paper
    title: what a reader sees on top of the report
    spec: paper                 # the lab that it needs (vm_specs/)
    seed: 2016                  # of everything that is chosen by chance
    licence: CC-BY-4.0          # of what a run of it leaves: SPDX's name, an address or a text
    authors:                    # who answers for it; orcid and affiliation may be left out
      - {name: Ada Lovelace, orcid: https://orcid.org/0000-0002-1825-0097, affiliation: …}
    repeat: 5                   # how often, and what is varied: see experiments/factors.py
    factors: {…}
    steps:                      # workloads in order, each with its parameters
      - ping: {count: 4, bytes: 32}
    claims: [...]               # see experiments/claims.py

`include` names other experiments of this folder: their steps and claims come first, as one run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from experiments import factors, workloads
from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from lab.plan import Plan

FOLDER = Path(__file__).resolve().parent / "definitions"
FORMAT = 1
MAX_BYTES = 256 * 1024
MAX_INCLUDED = 20
_KEYS = {
    "imlab_experiment", "name", "title", "spec", "seed", "licence", "authors", "include", "steps",
    "claims", *factors.KEYS, "cell",
}  # fmt: skip
_AUTHOR = {"name", "orcid", "affiliation"}
_ORCID = re.compile(r"https://orcid\.org/(\d{4}-){3}\d{3}[\dX]")


@dataclass(frozen=True, slots=True)
class Step:
    """One workload with its parameters."""

    workload: str
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Experiment:
    """An experiment; `data` is the file as parsed, `text` the file itself."""

    name: str
    title: str
    spec: str
    seed: int
    steps: tuple[Step, ...]
    data: dict[str, Any]
    text: str


def names() -> list[str]:
    """Return the names of the experiments that come with the project."""
    return sorted(str(p.relative_to(FOLDER).with_suffix("")) for p in FOLDER.rglob("*.yaml"))


def load(name: str) -> Experiment:
    """Read an experiment by name or path. Raises LabError with everything that is wrong."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    doing = f"reading the experiment {name!r}"
    if not path.is_file():
        raise LabError(
            doing,
            f"no such file; there are: {', '.join(names())}",
            fault=Fault.USER,
            todo="name one of these, or give the path of a YAML file",
        )
    try:
        raw = path.read_bytes()[: MAX_BYTES + 1]
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise _faulty(doing, [str(error)]) from error
    return parse(text, doing)


def parse(text: str, doing: str = "reading the experiment") -> Experiment:
    """Return the experiment that a file's text describes. Raises LabError with all its faults."""
    if len(text.encode()) > MAX_BYTES:
        raise _faulty(doing, [f"the file is longer than {MAX_BYTES} bytes"])
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise _faulty(doing, [str(error)]) from error
    if isinstance(data, dict) and "include" in data:
        data = _included(data, doing)
        text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)  # whole, as it is run
    faults = _faults(data)
    if faults:
        raise _faulty(doing, faults)
    steps = tuple(Step(*next(iter(step.items()))) for step in data["steps"])
    return Experiment(
        data["name"],
        data.get("title", data["name"]),
        data["spec"],
        data.get("seed", 0),
        tuple(Step(step.workload, step.parameters or {}) for step in steps),
        data,
        text,
    )


def _included(data: dict[str, Any], doing: str) -> dict[str, Any]:
    """Return an experiment with the steps and claims of those that it includes before its own.

    A claim is then called by both names: "forgery-udp" is that of threats/forgery.
    """
    wanted = data["include"]
    if not isinstance(wanted, list) or not 0 < len(wanted) <= MAX_INCLUDED:
        raise _faulty(doing, [f"include must be a list of 1 to {MAX_INCLUDED} experiments"])
    there = names()
    for name in wanted:
        if name not in there:
            why = f"include: no experiment {name!r}; there are: {', '.join(there)}"
            raise _faulty(doing, [why])
        if "\ninclude:" in (FOLDER / f"{name}.yaml").read_text(encoding="utf-8"):
            raise _faulty(doing, [f"include: {name} includes others itself"])
    steps: list[Any] = []
    claims: list[Any] = []
    for name in wanted:
        other, stem = load(name).data, name.rpartition("/")[2]
        steps += other["steps"]
        claims += [{**claim, "id": f"{stem}-{claim['id']}"} for claim in other.get("claims", [])]
    whole = {key: value for key, value in data.items() if key != "include"}
    for key, more in (("steps", steps), ("claims", claims)):
        own = data.get(key) or []
        if not isinstance(own, list):
            raise _faulty(doing, [f"{key} must be a list"])
        whole[key] = more + own
    return whole


def check(experiment: Experiment, plan: Plan) -> None:
    """Hold the steps against the lab before anything is done. Raises LabError with all faults."""
    faults = [
        fault
        for step in experiment.steps
        for fault in workloads.get(step.workload).check(step.parameters, plan)
    ]
    if faults:
        raise _faulty(f"checking the experiment {experiment.name!r}", faults)


def _faults(data: object) -> list[str]:
    if not isinstance(data, dict):
        return ["the file is no mapping"]
    faults = [f"unknown key {key!r}" for key in data if key not in _KEYS]
    if data.get("imlab_experiment") != FORMAT:
        faults.append(f"imlab_experiment is {data.get('imlab_experiment')!r}, must be {FORMAT}")
    faults += [
        f"{key} is {data.get(key)!r}, must be a text"
        for key in ("name", "spec")
        if not isinstance(data.get(key), str)
    ]
    if not isinstance(data.get("seed", 0), int):
        faults.append(f"seed is {data['seed']!r}, must be a whole number")
    faults += _credit_faults(data) + factors.faults(data)
    steps = data.get("steps")
    if not isinstance(steps, list) or not steps:
        return [*faults, "steps must be a list of workloads"]
    for number, step in enumerate(steps, 1):
        if not isinstance(step, dict) or len(step) != 1:
            faults.append(f"step {number} must be one 'workload: parameters'")
            continue
        ((workload, parameters),) = step.items()
        if workload not in workloads.names():
            there = ", ".join(workloads.names())
            faults.append(f"step {number}: no workload {workload!r}; there are: {there}")
        if parameters is not None and not isinstance(parameters, dict):
            faults.append(f"step {number}: the parameters of {workload} must be a mapping")
    return faults


def _credit_faults(data: dict[str, Any]) -> list[str]:
    """Return what is wrong with `licence` and `authors`."""
    faults = []
    if not _is_line(data.get("licence", "-")):
        faults.append(f"licence is {data['licence']!r}, must be a text, as CC-BY-4.0")
    authors = data.get("authors", [])
    if not isinstance(authors, list):
        return [*faults, "authors must be a list of {name: …}"]
    for number, author in enumerate(authors, 1):
        if not isinstance(author, dict) or not _is_line(author.get("name")):
            faults.append(f"author {number} must be a mapping with a `name`")
            continue
        faults += [f"author {number} has no key {key!r}" for key in author if key not in _AUTHOR]
        if not _is_line(author.get("affiliation", "-")):
            faults.append(f"author {number}: affiliation must be a text")
        if not _ORCID.fullmatch(str(author.get("orcid", _NOBODY))):
            faults.append(f"author {number}: orcid must be as {_NOBODY}")
    return faults


_NOBODY = "https://orcid.org/0000-0002-1825-0097"  # ORCID's own example


def _is_line(value: object) -> bool:
    return isinstance(value, str) and value.isprintable() and bool(value.strip())


def _faulty(doing: str, faults: list[str]) -> LabError:
    return LabError(doing, "\n".join(faults), fault=Fault.SPEC, todo="correct the file, run again")
