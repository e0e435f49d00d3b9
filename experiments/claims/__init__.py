"""Findings against what the paper says, or the author of an experiment: one row a claim.

A claim is a row of data (id, claim, figure, check, with); a check is a file of this package that
exports CHECK, a pure function from `Facts` and the row's parameters to an `Outcome`.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from lab import table
from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from experiments.claims.facts import Facts

DEFINITIONS: Final = Path(__file__).resolve().parent.parent / "definitions"
_KEYS: Final = {"id", "claim", "figure", "check", "with"}


def checks() -> dict[str, Any]:
    """Return the checks by name."""
    return table.scan(sys.modules[__name__], "CHECK")


def claims_of(experiment: dict[str, Any]) -> list[dict[str, Any]]:
    """Return an experiment's claims: its own `claims`, or those of the definition of its name.

    Raises LabError for rows that are no claims. An experiment that makes none has none.
    """
    rows = experiment.get("claims")
    if rows is None:
        definition = DEFINITIONS / f"{Path(str(experiment.get('name', ''))).name}.yaml"
        rows = []
        if definition.is_file():
            rows = (yaml.safe_load(definition.read_text("utf-8")) or {}).get("claims", [])
    return [_row(row) for row in rows]


def _row(row: Any) -> dict[str, Any]:  # noqa: ANN401 (it comes from a file)
    if not isinstance(row, dict) or not {"id", "claim", "check"} <= set(row) <= _KEYS:
        raise LabError(
            "reading the claims",
            f"this is no claim: {row!r}",
            fault=Fault.SPEC,
            todo="A claim has id, claim, check, and may have figure and with.",
        )
    return row


def evaluate(rows: list[dict[str, Any]], facts: Facts) -> list[dict[str, Any]]:
    """Return verdicts.json: {id, claim, figure, verdict, measured, evidence} for each claim.

    Raises LabError when a claim names a check, or a parameter, that does not exist.
    """
    known = checks()
    verdicts = []
    for row in rows:
        check = table.pick(known, "check", row["check"])
        parameters = row.get("with") or {}
        try:
            inspect.signature(check).bind(facts, **parameters)
        except TypeError as error:
            raise LabError(
                f"judging the claim {row['id']!r}",
                f"{row['check']}: {error}",
                fault=Fault.SPEC,
                todo=f"Its parameters are {inspect.signature(check)}.",
            ) from error
        outcome = check(facts, **parameters)
        verdicts.append(
            {
                "id": row["id"],
                "claim": row["claim"],
                "figure": row.get("figure"),
                "verdict": str(outcome.verdict),
                "measured": outcome.measured,
                "evidence": outcome.evidence,
            }
        )
    return verdicts
