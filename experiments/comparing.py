"""Two runs side by side: verdicts, measures, and what differed around them. Data alone."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from experiments.judge import assess
from experiments.measures import Estimate, Measure, estimate, of_run
from lab.errors import Fault, LabError
from lab.image_recipe import Recipe, in_form
from lab.images import form_called
from lab.plan import Plan

if TYPE_CHECKING:
    from pathlib import Path

    from experiments.judge import Judgement


def compare(first: Path, second: Path) -> dict[str, Any]:
    """Return what two runs have in common and what not, both judged anew from their evidence.

    verdicts     -- a row a claim: id, claim, first, second, equal.
    equal        -- whether every verdict is.
    told         -- claims whose verdict, as it came with the first run, is not what its evidence
                    gives here.
    measures     -- a row a measure: name, unit, first, second (estimates or None), within: whether
                    their intervals of 95 % meet; None where one of them has none.
    environment  -- what differs of software and machine: what, first, second.
    packages     -- by image of the second: name, first, second of each package that differs.
    recipes      -- images of the second whose recipe differs. An image that was there in another
                    form is held against that; what a form alone has is no difference.
    plan         -- where the plans differ: path, first, second.
    Raises LabError for a run that cannot be read.
    """
    one, other = _assessed(first), _assessed(second)
    verdicts = _verdicts(one, other)
    return {
        "format": 1,
        "first": _about(one),
        "second": _about(other),
        "equal": all(row["equal"] for row in verdicts),
        "verdicts": verdicts,
        "told": _told(first, one),
        "measures": _measures(one, other),
        "environment": _environment(one, other),
        "packages": _packages(one, other),
        "recipes": _recipes(one, other),
        "plan": differing(_plan(one), _plan(other)),
        "experiment": differing(one.run.manifest["experiment"], other.run.manifest["experiment"]),
    }


def _assessed(path: Path) -> Judgement:
    """Judge a run that anybody may have made; one that imlab did not is refused in words."""
    try:
        return assess(path)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise LabError(
            f"judging the run {path.name}",
            f"its files are whole, but not what imlab writes: {type(error).__name__}: {error}",
            fault=Fault.USER,
            todo="judge it with the version of imlab that made it",
        ) from error


def outside(comparison: dict[str, Any]) -> list[str]:
    """Return the measures whose intervals do not meet."""
    return [row["name"] for row in comparison["measures"] if row["within"] is False]


def _about(judgement: Judgement) -> dict[str, Any]:
    manifest = judgement.run.manifest
    return {key: manifest[key] for key in ("run", "name", "started", "seed")} | {
        "faults": list(judgement.faults)
    }


def _verdicts(one: Judgement, other: Judgement) -> list[dict[str, Any]]:
    rows = {row["id"]: row for row in one.verdicts}
    others = {row["id"]: row for row in other.verdicts}
    return [
        {
            "id": name,
            "claim": (rows.get(name) or others[name])["claim"],
            "first": rows[name]["verdict"] if name in rows else None,
            "second": others[name]["verdict"] if name in others else None,
            "equal": name in rows
            and name in others
            and rows[name]["verdict"] == others[name]["verdict"],
        }
        for name in dict.fromkeys([*rows, *others])
    ]


def _told(path: Path, judgement: Judgement) -> list[str]:
    folder = judgement.run.folder
    if not (path / "verdicts.json").is_file():
        return []
    said = {row["id"]: row["verdict"] for row in folder.read_json("verdicts.json")}
    found = {row["id"]: row["verdict"] for row in judgement.verdicts}
    return sorted(name for name in said | found if said.get(name) != found.get(name))


def measures_of(judgement: Judgement) -> dict[str, tuple[Measure, Estimate]]:
    """Return a run's measures by name with what they say."""
    found = of_run(judgement.run.results, judgement.analysis, judgement.run.manifest)
    return {measure.name: (measure, estimate(measure)) for measure in found}


def _measures(one: Judgement, other: Judgement) -> list[dict[str, Any]]:
    first, second = measures_of(one), measures_of(other)
    rows = []
    for name in dict.fromkeys([*first, *second]):
        mine, theirs = first.get(name), second.get(name)
        measure = (mine or second[name])[0]
        row = {
            "name": name,
            "unit": measure.unit,
            "first": asdict(mine[1]) if mine else None,
            "second": asdict(theirs[1]) if theirs else None,
            "within": mine[1].overlaps(theirs[1]) if mine and theirs else None,
        }
        rows.append(row)
    return rows


def _environment(one: Judgement, other: Judgement) -> list[dict[str, Any]]:
    def facts(judgement: Judgement) -> dict[str, Any]:
        manifest = judgement.run.manifest
        engine = judgement.analysis["engine"]
        return (
            {f"software {name}": version for name, version in manifest["software"].items()}
            | {f"machine {name}": value for name, value in manifest["host_facts"].items()}
            | {f"engine {engine['name']}": engine["version"]}
        )

    return [
        {"what": row["path"], "first": row["first"], "second": row["second"]}
        for row in differing(facts(one), facts(other), nested=False)
    ]


def _images(judgement: Judgement) -> dict[str, Any]:
    run = judgement.run
    listed = "images.json" in run.manifest["files"]
    images: dict[str, Any] = run.folder.read_json("images.json") if listed else {}
    return images


def _packages(one: Judgement, other: Judgement) -> dict[str, list[dict[str, Any]]]:
    """Return, by image, the packages that differ; of two forms, among those that both have."""
    found = {}
    for label, first, second in _pairs(one, other):
        then, now = first["packages"], second["packages"]
        if first["form"] != second["form"]:
            then = {name: version for name, version in then.items() if name in now}
            now = {name: version for name, version in now.items() if name in then}
        if rows := differing(then, now, nested=False):
            found[label] = [
                {"package": row["path"], "first": row["first"], "second": row["second"]}
                for row in rows
            ]
    return found


def _recipes(one: Judgement, other: Judgement) -> list[str]:
    return [label for label, first, second in _pairs(one, other) if not _same_recipe(first, second)]


def _same_recipe(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Tell whether two images are of one recipe, each in its form."""
    if first["form"] == second["form"]:
        return bool(first["recipe"] == second["recipe"])
    of_form = {image["form"]: Recipe.from_json(image["recipe"]) for image in (first, second)}
    rootfs = of_form.pop("rootfs", None)
    return rootfs is not None and all(
        in_form(rootfs, form_called(form)) == recipe for form, recipe in of_form.items()
    )


def _pairs(one: Judgement, other: Judgement) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Return the second run's images by what they are called, each with the one of the first.

    That is of the same form, if there was one, else of the form that there was.
    """
    first = _images(one)
    pairs = []
    for label, image in sorted(_images(other).items()):
        named = [then for then in first.values() if then["name"] == image["name"]]
        named.sort(key=lambda then: then["form"] != image["form"])
        pairs += [(label, then, image) for then in named[:1]]
    return pairs


def _plan(judgement: Judgement) -> dict[str, Any]:
    """Return the plan as this version of imlab writes it, hosts and adapters by name."""
    plan = Plan.from_json(judgement.run.manifest["plan"]).to_json()
    hosts = {
        host["name"]: {**host, "adapters": {a["name"]: a for a in host["adapters"]}}
        for host in plan["hosts"]
    }
    return {**plan, "hosts": hosts}


def differing(
    first: Any,  # noqa: ANN401 (JSON data)
    second: Any,  # noqa: ANN401 (as above)
    path: str = "",
    *,
    nested: bool = True,
) -> list[dict[str, Any]]:
    """Return where two pieces of JSON data differ: path ("a.b.c"), first, second (None: absent)."""
    if not (isinstance(first, dict) and isinstance(second, dict)) or (path and not nested):
        return [] if first == second else [{"path": path, "first": first, "second": second}]
    return [
        row
        for key in dict.fromkeys([*first, *second])
        for row in differing(
            first.get(key), second.get(key), f"{path}.{key}" if path else str(key), nested=nested
        )
    ]
