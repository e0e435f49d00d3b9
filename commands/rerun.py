"""A run done again from its folder or archive alone, and held against what it was."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands import labs, runs
from commands.repeat import located
from experiments import definition
from experiments.evidence import RunFolder
from lab import lifecycle, providers
from lab.errors import Fault, LabError
from lab.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lab.image_recipe import Form, Recipe
    from lab.making import Images
    from lab.spec import LabSpec


@dataclass(frozen=True, slots=True)
class Options:
    """How `rerun` goes about it.

    provider       -- what makes the hosts, instead of what made them then (providers.chosen).
    their_recipes  -- build images of the run's recipes where ours have changed. These are
                      commands of whoever made the run, run as root of a user namespace.
    strict         -- measures count, too, not the verdicts alone.
    bases          -- where base images come from, instead of the cache.
    """

    out: Path = runs.RUNS
    provider: str = ""
    their_recipes: bool = False
    strict: bool = False
    bases: Images | None = None


@dataclass(frozen=True, slots=True)
class Rerun:
    """What came of it: the folder of the new run, and the comparison (experiments.comparing)."""

    folder: Path
    comparison: dict[str, Any]
    same: bool

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {"folder": str(self.folder), "same": self.same, **self.comparison}


def rerun(name: str, options: Options, note: Callable[..., None] = lambda *_: None) -> Rerun:
    """Put the lab of a run up again, run the same experiment, compare. Raises LabError.

    A run that is not what was sealed is not repeated: nobody would know what was.
    """
    from experiments.comparing import compare, outside  # noqa: PLC0415 - loads the engine
    from experiments.pack import opened, refuse_broken  # noqa: PLC0415 - as above
    from experiments.verifying import differences  # noqa: PLC0415 - as above

    with opened(located(name)) as path, tempfile.TemporaryDirectory(prefix="imlab-spec-") as space:
        note("verifying the run")
        refuse_broken(f"repeating the run {path.name}", differences(path))
        spec = Path(space) / "spec.yaml"
        spec.write_bytes((path / "spec.yaml").read_bytes())
        experiment = definition.parse(
            (path / "experiment.yaml").read_text("utf-8"), f"reading the experiment of {path.name}"
        )
        outcome = runs.run(experiment, spec, _as_then(path, spec, options, note), note)
        note("comparing")
        comparison = compare(path, outcome.folder)
    same = comparison["equal"] and not (options.strict and outside(comparison))
    return Rerun(outcome.folder, comparison, same)


def _as_then(
    path: Path, spec_file: Path, options: Options, note: Callable[..., None]
) -> runs.Options:
    """Return how the run was made: lab's name, provider, browser, image recipes."""
    from lab.spec import load_spec  # noqa: PLC0415 - only here

    folder = RunFolder.open(path)
    manifest = folder.manifest()
    then, spec = Plan.from_json(manifest["plan"]), load_spec(spec_file)
    _refuse_elsewhere(path, spec)
    if lifecycle.status(then.lab).state not in {lifecycle.State.ABSENT, lifecycle.State.LOST}:
        raise LabError(
            f"repeating the run {folder.name}",
            f"a lab called {then.lab} is up, and a run is repeated on a lab of its own",
            fault=Fault.USER,
            todo=f"./inv lab-down --name {then.lab}",
        )
    provider = makers(then, spec, options.provider)
    browser = any(
        host.image == spec.hosts[host.name].image + labs.BROWSER
        for host in then.hosts
        if host.name in spec.hosts
    )
    listed = "images.json" in manifest["files"]
    images = folder.read_json("images.json") if listed and options.their_recipes else {}
    bases = options.bases or labs.images(note, _recipes(images))
    return runs.Options(then.lab, provider, options.out, browser=browser, bases=bases)


def makers(then: Plan, spec: LabSpec, chosen: str) -> str:
    """Return who makes the hosts: who made them then, but for those of which it is chosen now."""
    default, by_host = providers.chosen(chosen)
    said = {name: host.provider for name, host in spec.hosts.items()}
    made = {host.name: host.provider for host in then.hosts}
    free = [host for host in made if said[host] is None]
    usual = default or next((made[host] for host in free), providers.DEFAULT)
    if default:
        made |= dict.fromkeys(free, default)
    others = {host: name for host, name in made.items() if name != (said[host] or usual)} | by_host
    return ",".join([usual, *(f"{host}={name}" for host, name in others.items())])


def _recipes(images: Mapping[str, Any]) -> dict[tuple[str, Form], Recipe]:
    from lab.image_recipe import Recipe  # noqa: PLC0415 - only here
    from lab.images import form_called  # noqa: PLC0415 - only here

    return {
        (image["name"], form_called(image["form"])): Recipe.from_json(image["recipe"])
        for image in images.values()
    }


def _refuse_elsewhere(path: Path, spec: LabSpec) -> None:
    """Refuse a lab of which a part is not in the run: computers and images of its maker's own."""
    own = [f"image {name} ({image.file})" for name, image in spec.images.items()]
    own += [f"computer {name}" for name, host in spec.hosts.items() if host.ssh]
    if own:
        raise LabError(
            f"repeating the run {path.name}",
            f"its lab needs what a run does not carry: {', '.join(own)}",
            fault=Fault.USER,
            todo="put the lab up from its spec where these are, and use ./inv run",
        )
