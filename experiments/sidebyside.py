"""Any number of runs side by side, and what each level of each factor did. Data alone.

A column is a run, or the repeats of one cell of a series: then a measure's value is the median over
the runs of what each said, with the bootstrap interval of that median; shares are counted over all
of them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from experiments.evidence import RunFolder
from experiments.factors import levels_of
from experiments.measures import estimate, median, of_run, share
from experiments.series import is_series, load

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from experiments.measures import Estimate, Measure

#: The levels of each factor in the order of its experiment (values are None).
Order: TypeAlias = "dict[str, dict[str, None]]"

FORMAT: Final = 1
PLOTS_A_FACTOR: Final = 12
MANY: Final = "ping"  # one for each pair of hosts
UNPLOTTED: Final = ("frames at", "duration of")


@dataclass(frozen=True, slots=True)
class Told:
    """A judged run as it lies on disk: what it measured and found."""

    path: Path
    manifest: dict[str, Any]
    verdicts: list[dict[str, Any]]
    measures: dict[str, tuple[Measure, Estimate]]

    @property
    def levels(self) -> dict[str, str]:
        """The level of each factor, {} for a run that is no cell."""
        levels: dict[str, str] = self.manifest["experiment"].get("cell", {}).get("levels", {})
        return levels


def read(path: Path) -> Told:
    """Read a judged run. Raises LabError."""
    folder = RunFolder.open(path)
    manifest = folder.manifest()
    found = of_run(folder.read_json("results.json"), folder.read_json("analysis.json"), manifest)
    measures = {measure.name: (measure, estimate(measure)) for measure in found}
    return Told(path, manifest, folder.read_json("verdicts.json"), measures)


def side_by_side(paths: Sequence[Path]) -> dict[str, Any]:
    """Return runs and series of runs as a table, with a part for each factor. Raises LabError.

    columns  -- label and runs of each.
    measures -- name, unit, and an estimate (or None) for each column.
    verdicts -- id, claim, and for each column how many runs came to which verdict.
    environment -- of software and machine what is not the same in all runs.
    factors  -- name, and by measure the estimates and the single values of each level.
    """
    columns: list[tuple[str, list[Told]]] = []
    titles: list[str] = []
    order: Order = {}
    for path in paths:
        if is_series(path):
            series = load(path)
            titles.append(series.experiment.title)
            for factor, levels in levels_of(series.experiment.data).items():
                order.setdefault(factor, {}).update(dict.fromkeys(levels))
            columns += _combinations(series.done().values(), order)
        else:
            told = read(path)
            titles.append(told.manifest["experiment"].get("title") or told.manifest["name"])
            columns.append((told.manifest["run"], [told]))
    everything = [told for _, group in columns for told in group]
    return {
        "format": FORMAT,
        "title": "; ".join(dict.fromkeys(titles)),
        "runs": len(everything),
        "columns": [
            {"label": label, "runs": [told.manifest["run"] for told in group]}
            for label, group in columns
        ],
        "verdicts": _verdicts(columns),
        "measures": _measures(columns),
        "environment": _environment(columns),
        "factors": _factors(everything, order),
    }


def _combinations(folders: Iterable[RunFolder], order: Order) -> list[tuple[str, list[Told]]]:
    """Return the repeats of each combination of levels, the first factor's levels outermost."""
    groups: dict[tuple[tuple[str, str], ...], list[Told]] = {}
    for folder in folders:
        told = read(folder.path)
        levels = {factor: told.levels[factor] for factor in order if factor in told.levels}
        groups.setdefault(tuple((levels | told.levels).items()), []).append(told)
    ranked = sorted(groups, key=lambda levels: [_rank(order, *level) for level in levels])
    return [
        (
            ", ".join(f"{factor} {label}" for factor, label in levels) or "all repeats",
            groups[levels],
        )
        for levels in ranked
    ]


def _rank(order: Order, factor: str, label: str) -> tuple[int, list[tuple[int, float, str]]]:
    """Return a sort key: levels as their experiment has them, others after them."""
    known = list(order.get(factor, ()))
    return (known.index(label) if label in known else len(known), _natural(label))


def _natural(label: str) -> list[tuple[int, float, str]]:
    """Return a sort key by which 9 comes before 10."""
    return [_number(word.rstrip(",")) for word in label.split()]


def _number(word: str) -> tuple[int, float, str]:
    try:
        return (0, float(word), "")
    except ValueError:
        return (1, 0.0, word)


def pooled(name: str, group: Sequence[Told]) -> Estimate | None:
    """Return what several runs say of a measure; of one run, what it says itself.

    Of shares, the samples of all runs are counted together.
    """
    found = [told.measures[name] for told in group if name in told.measures]
    if len(found) <= 1:
        return found[0][1] if found else None
    if found[0][0].kind == "share":
        samples = [sample for measure, _ in found for sample in measure.samples]
        return share(round(sum(samples)), len(samples))
    return median([one.value for _, one in found], name)


def _names(group: Iterable[Told]) -> dict[str, str]:
    """Return the unit of every measure that some of these runs have."""
    return {name: m.unit for told in group for name, (m, _) in told.measures.items()}


def _measures(columns: Sequence[tuple[str, list[Told]]]) -> list[dict[str, Any]]:
    rows = []
    for name, unit in _names(told for _, group in columns for told in group).items():
        values = [pooled(name, group) for _, group in columns]
        values_json = [asdict(value) if value else None for value in values]
        rows.append({"name": name, "unit": unit, "values": values_json})
    return rows


def _verdicts(columns: Sequence[tuple[str, list[Told]]]) -> list[dict[str, Any]]:
    claims = {
        row["id"]: row["claim"] for _, group in columns for told in group for row in told.verdicts
    }
    return [
        {
            "id": name,
            "claim": claim,
            "columns": [
                dict(
                    Counter(
                        row["verdict"]
                        for told in group
                        for row in told.verdicts
                        if row["id"] == name
                    )
                )
                for _, group in columns
            ],
        }
        for name, claim in claims.items()
    ]


def _environment(columns: Sequence[tuple[str, list[Told]]]) -> list[dict[str, Any]]:
    def facts(told: Told) -> dict[str, str]:
        software, machine = told.manifest["software"], told.manifest["host_facts"]
        found = {name: str(value) for name, value in software.items()}
        return found | {f"machine {name}": str(value) for name, value in machine.items()}

    groups = [[facts(told) for told in group] for _, group in columns]
    names = dict.fromkeys(name for group in groups for found in group for name in found)
    rows = []
    for name in names:
        values = [sorted({found.get(name, "–") for found in group}) for group in groups]
        if len({value for column in values for value in column}) > 1:
            rows.append({"what": name, "values": [", ".join(column) for column in values]})
    return rows


def _factors(everything: Sequence[Told], order: Order) -> list[dict[str, Any]]:
    """Return, for each factor, what its levels did: over all levels of the others."""
    names = dict.fromkeys([*order, *(factor for told in everything for factor in told.levels)])
    found = []
    for factor in names:
        groups: dict[str, list[Told]] = {}
        for told in everything:
            if factor in told.levels:
                groups.setdefault(told.levels[factor], []).append(told)
        labels = sorted(groups, key=lambda label: _rank(order, factor, label))
        measures = []
        for name, unit in _names(everything).items():
            rows = [
                {
                    "label": label,
                    "estimate": asdict(value) if value else None,
                    "values": [
                        told.measures[name][1].value
                        for told in groups[label]
                        if name in told.measures
                    ],
                }
                for label in labels
                for value in [pooled(name, groups[label])]
            ]
            if not name.startswith(UNPLOTTED) and any(row["values"] for row in rows):
                measures.append({"name": name, "unit": unit, "levels": rows})
        measures.sort(key=lambda row: str(row["name"]).startswith(MANY))  # what is one each, first
        found.append({"name": factor, "measures": measures[:PLOTS_A_FACTOR]})
    return found
