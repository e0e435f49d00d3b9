"""Servers keep what was said when everybody has gone, or they do not."""

from __future__ import annotations

from experiments.claims.facts import Facts, Outcome, Verdict, not_measured, stored


def check(
    facts: Facts, system: str, countermeasure: str = "none", *, keeps: bool = True, what: str = ""
) -> Outcome:
    """All messages lie readable on the server's disk, or none of them does.

    what -- "address" judges instead whether logs tell from where people came.
    """
    told = facts.results.get("logs", {})
    row = next(
        (r for r in told.get("rows", [])
         if (r["system"], r["countermeasure"]) == (system, countermeasure)),
        None,
    )  # fmt: skip
    if row is None:
        return not_measured(f"{system} under {countermeasure} was not used")
    if what == "address":
        return _addresses(told, row, system, keeps=keeps)
    most = max(row["files"].values(), default=0)
    held = ", ".join(f"{number} in {path}" for path, number in sorted(row["files"].items()))
    text = f"{system}, countermeasure {countermeasure}: of {row['said']} messages {held or 'none'}"
    text += f" on the disk of {told['server']}, when all had gone."
    evidence = [
        stored("results.json", f"logs, {system}, {countermeasure}: {path}") for path in row["files"]
    ] or [stored("results.json", f"logs, {system}, {countermeasure}: no file")]
    right = most == row["said"] if keeps else most == 0
    return Outcome(Verdict.CONFIRMED if right else Verdict.REFUTED, text, evidence)


def _addresses(
    told: dict[str, object], row: dict[str, dict[str, dict[str, list[str]]]], system: str,
    *, keeps: bool,
) -> Outcome:  # fmt: skip
    who = str(told["from"])
    logs = row["who"][who]
    words = [
        f"{what} in {', '.join(paths) or 'no log'}"
        for what, paths in (("address", logs["address"]), ("name", logs["names"]))
    ]
    text = f"{system}: of {who} {'; '.join(words)}."
    evidence = [stored("results.json", f"logs, {system}: {path}") for path in logs["address"]]
    right = bool(logs["address"]) is keeps
    return Outcome(
        Verdict.CONFIRMED if right else Verdict.REFUTED,
        text,
        evidence or [stored("results.json", f"logs, {system}: no log")],
    )


CHECK = check
