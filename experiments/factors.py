"""Factors and repeats: one experiment as many cells, each an experiment without either.

    repeat: 5                          # of every combination; 1 by default
    factors:
      countermeasure: [none, tls]      # levels
      size: [16, 1024]
      people:                          # levels with names of their own, where values are long
        two: [{at: peer, …}, …]
        three: […]
    lab:                               # laid over the spec, key by key
      networks: {lan: {link: {loss_percent: $loss}}}
    steps:
      - conversation: {countermeasure: $countermeasure, people: $people, …}

`$name` alone becomes the level's value, whatever it is; `${name}` within a text becomes its text.
The order is random, by the seed; each repeat has a seed of its own, the same for every level, so
that levels are compared under the same chance. Pure.
"""

from __future__ import annotations

import itertools
import random
import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_CELLS: Final = 10_000
MAX_LABEL: Final = 60
KEYS: Final = ("repeat", "factors", "lab")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
_WHOLE: Final = re.compile(r"\$([a-z][a-z0-9_]*)")
_WITHIN: Final = re.compile(r"\$\{([a-z][a-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination of levels, once: the experiment that it is, and what of the spec differs.

    levels -- label of the level of each factor; repeat -- from 1.
    """

    levels: dict[str, str]
    repeat: int
    experiment: dict[str, Any]
    overlay: dict[str, Any]

    @property
    def key(self) -> str:
        """What tells this cell from the others of its experiment."""
        return cell_key(self.experiment["cell"])

    @property
    def title(self) -> str:
        """The cell in words."""
        return ", ".join([*(f"{k} {v}" for k, v in self.levels.items()), f"repeat {self.repeat}"])

    @property
    def text(self) -> str:
        """The cell's own experiment.yaml."""
        return yaml.safe_dump(self.experiment, sort_keys=False, allow_unicode=True, width=100)


def cell_key(cell: Mapping[str, Any]) -> str:
    """Return the key of a cell from what its run's experiment says (`cell:`)."""
    return repr((sorted(cell["levels"].items()), cell["repeat"]))


def has_cells(data: Mapping[str, Any]) -> bool:
    """Tell whether an experiment is one of several cells."""
    return any(key in data for key in KEYS)


def levels_of(data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return label -> value of each factor's levels, in order."""
    return {
        name: dict(given) if isinstance(given, dict) else {_label(value): value for value in given}
        for name, given in (data.get("factors") or {}).items()
    }


def _label(value: object) -> str:
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def cells(data: Mapping[str, Any]) -> list[Cell]:
    """Return the cells of a sound experiment in the order in which they are done."""
    factors = levels_of(data)
    combinations = [
        dict(zip(factors, labels, strict=True)) for labels in itertools.product(*factors.values())
    ]
    planned = [(c, n) for n in range(1, data.get("repeat", 1) + 1) for c in combinations]
    seed = data.get("seed", 0)
    random.Random(seed).shuffle(planned)  # noqa: S311 - an order to be had again, no secret
    return [_cell(data, factors, levels, repeat, seed) for levels, repeat in planned]


def _cell(
    data: Mapping[str, Any],
    factors: dict[str, dict[str, Any]],
    levels: dict[str, str],
    repeat: int,
    seed: int,
) -> Cell:
    values = {name: factors[name][label] for name, label in levels.items()}
    own = {key: value for key, value in data.items() if key not in KEYS}
    own["steps"] = _put(data["steps"], values)
    own["seed"] = zlib.crc32(f"{seed}/{repeat}".encode())
    own["cell"] = {"levels": levels, "repeat": repeat}
    return Cell(levels, repeat, own, _put(data.get("lab") or {}, values))


def _put(node: Any, values: Mapping[str, Any]) -> Any:  # noqa: ANN401 (YAML)
    """Return data with every `$name` replaced."""
    if isinstance(node, dict):
        return {key: _put(value, values) for key, value in node.items()}
    if isinstance(node, list):
        return [_put(value, values) for value in node]
    if isinstance(node, str):
        whole = _WHOLE.fullmatch(node)
        if whole and whole[1] in values:
            return values[whole[1]]
        return _WITHIN.sub(
            lambda found: _label(values[found[1]]) if found[1] in values else found[0], node
        )
    return node


def laid_over(spec: Any, overlay: Any) -> Any:  # noqa: ANN401 (YAML)
    """Return a spec with other values: mappings are merged key by key, all else is replaced."""
    if not (isinstance(spec, dict) and isinstance(overlay, dict)):
        return overlay
    return {
        **spec,
        **{k: laid_over(spec[k], v) if k in spec else v for k, v in overlay.items()},
    }


def faults(data: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with `repeat`, `factors` and `lab`, and with what uses them."""
    found = []
    repeat, given, lab = data.get("repeat", 1), data.get("factors", {}), data.get("lab", {})
    if not isinstance(repeat, int) or isinstance(repeat, bool) or not 1 <= repeat <= MAX_CELLS:
        found.append(f"repeat is {repeat!r}, must be a whole number from 1 to {MAX_CELLS}")
    if not isinstance(lab, dict):
        found.append("lab must be a mapping that is laid over the spec")
    if not isinstance(given, dict):
        return [*found, "factors must be a mapping: name -> list of levels"]
    for name, levels in given.items():
        found += _level_faults(name, levels)
    if found:
        return found
    number = repeat
    for levels in given.values():
        number *= len(levels)
    if number > MAX_CELLS:
        found.append(f"{number} cells; {MAX_CELLS} are the most")
    used = set(_names([data.get("steps"), lab]))
    found += [f"factor {name} is used nowhere: write ${name}" for name in given if name not in used]
    if given:
        there = ", ".join(given)
        found += [f"${n} is no factor; there are: {there}" for n in sorted(used - set(given))]
    return found


def _level_faults(name: object, levels: object) -> Iterator[str]:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        yield f"factor {name!r}: a name is lower-case letters, digits and _, 32 at most"
        return
    if not isinstance(levels, list | dict) or not levels:
        yield f"factor {name} must be a list of levels, or a mapping label -> level"
        return
    labels = list(levels) if isinstance(levels, dict) else [_label(level) for level in levels]
    if isinstance(levels, list) and any(isinstance(level, list | dict) for level in levels):
        yield f"factor {name}: levels that are lists or mappings need labels: {{label: level, …}}"
    elif len(set(labels)) < len(labels):
        yield f"factor {name}: two of its levels are the same"
    for label in labels:
        if not isinstance(label, str) or not label.isprintable() or len(label) > MAX_LABEL:
            yield f"factor {name}: the label {label!r} must be a text of {MAX_LABEL} characters"


def _names(node: Any) -> Iterator[str]:  # noqa: ANN401 (YAML)
    """Yield every factor that some data uses."""
    if isinstance(node, dict):
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from _names(value)
    elif isinstance(node, str):
        whole = _WHOLE.fullmatch(node)
        yield from [whole[1]] if whole else _WITHIN.findall(node)
