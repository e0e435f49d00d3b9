"""The cells of the matrix: every system that a lab has, under every countermeasure there is.

Both are found by scanning, so a further one is in the matrix without being named here. A cell is an
ordinary experiment with one conversation in it: `./inv run CELL/experiment.yaml` holds it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import yaml

from experiments import observers
from experiments.definition import FORMAT, Experiment, Step
from lab.errors import Fault, LabError
from provisioning import countermeasures, messaging

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lab.plan import Plan

SEED = 2016
# Order statistics bound the 95th percentile from both sides with 95 % from 59 lines on.
REPEATS = 60
MOST_REPEATS = 5000
_LETTERS = "abcdefghijkmnopqrstuvwxyz23456789"
_WORDS = (
    "harvest",
    "market",
    "blackout",
    "bicycle",
    "lantern",
    "cinnamon",
    "ferry",
    "violin",
    "granite",
    "meadow",
    "compass",
    "orchard",
    "thunder",
    "saffron",
    "quarry",
    "embassy",
    "glacier",
    "walnut",
)
# What protocols, databases and logs write in other ways: each of these is in some line.
_ODD = ('say "so"', "naïve café", "a & b <c>", "back\\slash 100 %", "tea 🍵 1+1=2", "it's {x}")


@dataclass(frozen=True, slots=True)
class Cell:
    """A system under a countermeasure; lacks -- why it cannot be, "" if it can."""

    system: str
    countermeasure: str
    server: str
    lacks: str = ""

    @property
    def name(self) -> str:
        """The name of its run."""
        return f"{self.system}-{self.countermeasure}".lower()


def cells(plan: Plan, only: Sequence[str] = ()) -> list[Cell]:
    """Return the cells that a lab can have; only -- names of systems and countermeasures, or parts.

    Raises LabError for a name that is neither, and when nothing is left.
    """
    servers = {role.name: host.name for host in plan.hosts for role in host.roles}
    known = messaging.systems()
    systems = _wanted([name for name in servers if name in known], only)
    measures = _wanted(countermeasures.names(), only)
    strange = [word for word in only if not _matches([*servers, *countermeasures.names()], word)]
    if strange:
        there = ", ".join([*(name for name in servers if name in known), *countermeasures.names()])
        raise LabError(
            "choosing cells of the matrix",
            f"no system and no countermeasure is called {', '.join(strange)}; there are: {there}",
            fault=Fault.USER,
            todo="name some of these with --only, for instance --only xmpp,tls",
        )
    return [
        Cell(system, measure, servers[system], countermeasures.find(measure).lacks(known[system]))
        for system in systems
        for measure in sorted(measures, key=lambda name: (name != "none", name))
    ]


def _matches(names: Sequence[str], word: str) -> list[str]:
    """Return what a word means: a name, or all that begin with it before a '_' or '-'."""
    exact = [name for name in names if name == word]
    return exact or [name for name in names if name.replace("-", "_").startswith(f"{word}_")]


def _wanted(names: Sequence[str], only: Sequence[str]) -> list[str]:
    chosen = [name for word in only for name in _matches(names, word)]
    return list(dict.fromkeys(chosen)) or list(names)


def experiment(cell: Cell, plan: Plan, spec: str, *, repeats: int = REPEATS) -> Experiment:
    """Return the experiment of a cell: what is said in it is the same each time it is made."""
    chance = Random(f"{SEED} {cell.system} {cell.countermeasure} {repeats}")  # noqa: S311 -- no secret
    people = _people(cell, plan)
    names = [person["account"] for person in people]
    texts = list(_texts(chance, repeats))
    parameters = {
        "system": cell.system,
        "countermeasure": cell.countermeasure,
        "keep_keys": True,
        "people": people,
        "lines": [
            {"from": names[number % 2], "to": names[1 - number % 2], "text": text}
            for number, text in enumerate(texts)
        ],
        "observers": observers.names(),
        "decoys": _decoys(chance, plan, names, cell),
    }
    data: dict[str, Any] = {
        "imlab_experiment": FORMAT,
        "name": cell.name,
        "title": f"Who reads what: {cell.system}, {cell.countermeasure}",
        "spec": spec,
        "seed": SEED,
        "steps": [{"conversation": parameters}],
        "claims": [],
    }
    text = yaml.safe_dump(data, allow_unicode=True, sort_keys=False, width=100)
    step = Step("conversation", parameters)
    return Experiment(cell.name, data["title"], spec, SEED, (step,), data, text)


def _people(cell: Cell, plan: Plan) -> list[dict[str, str]]:
    """Return two people: one across the wire, and one at the server, as in the paper.

    Whoever is across the wire sits neither at the server nor at the machine that it runs in.
    """
    server = plan.host(cell.server)
    away = [host.name for host in plan.hosts if host.name not in {server.name, server.on}]
    away = away or [host.name for host in plan.hosts if host.name != server.name]
    if not away or len(plan.accounts) < 2:  # noqa: PLR2004 -- a pair
        raise LabError(
            f"finding two people for {cell.system}",
            f"{len(plan.accounts)} accounts, and hosts beside the server: {len(away)}",
            fault=Fault.SPEC,
            todo="give the lab two accounts and a host beside the server's",
        )
    first, second = (account.name for account in plan.accounts[:2])
    return [
        {"at": away[-1], "server": server.name, "account": first},
        {"at": server.name, "server": server.name, "account": second},
    ]


def _texts(chance: Random, number: int) -> Iterator[str]:
    """Yield messages that nobody says by chance, in words and characters of all kinds."""
    for index in range(number):
        odd = f" {_ODD[index // 2 % len(_ODD)]}" if index % 2 else ""
        yield f"{chance.choice(_WORDS)} {_token(chance)}{odd} {chance.choice(_WORDS)}"


def _token(chance: Random, length: int = 12) -> str:
    return "".join(chance.choice(_LETTERS) for _ in range(length))


def _decoys(chance: Random, plan: Plan, names: list[str], cell: Cell) -> list[dict[str, str]]:
    """Return as many messages and names of the same make, which nobody ever says."""
    accounts = {account.name: account for account in plan.accounts}
    rows = [{"kind": "message", "text": text} for text in _texts(chance, 20)]
    for name in names:
        other = "".join(chance.sample(name, len(name))) + chance.choice(_LETTERS)
        password = f"{accounts[name].password}{chance.choice(_LETTERS)}"
        rows += [
            {"kind": "user", "text": other},
            {"kind": "password", "text": password},
            {"kind": "contact", "text": f"{other.lower()}@{cell.server}"},
        ]
    return rows
