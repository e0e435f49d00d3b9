"""Somebody on the path reads messages, changes them, or can do neither."""

from __future__ import annotations

from typing import Any, Final

from experiments.claims.facts import Facts, Outcome, Verdict, frames, not_measured, stored

_SHOWN: Final = 80  # characters of a reason


def check(
    facts: Facts, countermeasure: str, *, reads: bool | None = None, changes: bool | None = None
) -> Outcome:
    """For every system under a countermeasure: messages were read on the path, or changed there.

    reads   -- whether all texts were read at the attacker's adapter, or none.
    changes -- whether all were shown changed. If not, they must have come as they were sent; and
               where one bit was changed, nothing may be shown but what was meant, sent again.
    """
    told = facts.results.get("onpath", {})
    rows = [row for row in told.get("rows", []) if row["countermeasure"] == countermeasure]
    if not rows:
        return not_measured(f"nobody was attacked under {countermeasure}")
    if not all(row["relayed"] for row in rows):
        return not_measured("the attacker did not come between: nothing went by way of it")
    if changes is not None and not all(row["changed"] for row in rows):
        return not_measured("the attacker changed nothing")
    outcomes = []
    if reads is not None:
        outcomes.append(_read(facts, told["attacker"], rows, wanted=reads))
    if changes is not None:
        outcomes.append(_changed(rows, wanted=changes))
    verdicts = {outcome.verdict for outcome in outcomes}
    worst = next(
        (v for v in (Verdict.REFUTED, Verdict.INCONCLUSIVE) if v in verdicts), Verdict.CONFIRMED
    )
    return Outcome(
        worst,
        " ".join(outcome.measured for outcome in outcomes),
        [row for outcome in outcomes for row in outcome.evidence],
    )


def _read(facts: Facts, attacker: str, rows: list[dict[str, Any]], *, wanted: bool) -> Outcome:
    texts = {row["text"] for row in rows} | {row["put"] for row in rows}
    sent = {row["text"] for row in rows}
    evidence = []
    read: set[str] = set()
    doubts = False
    for observer in facts.observers:
        if observer["host"] != attacker:
            continue
        doubts |= bool(observer["doubts"])
        for item in facts.analysis["planted"]:
            if item["text"] not in texts:
                continue
            for hit in item["observers"][observer["name"]]["hits"][:1]:
                read.add(item["text"])
                shows = f"“{item['text']}” {hit['direction']}, at the attacker"
                evidence.append(frames(observer, hit["frames"], shows, stream=hit["stream"]))
    relayed = sum(row["relayed"] for row in rows)
    text = f"{len(read & sent)} of {len(sent)} messages read at {attacker}, which passed on "
    text += f"{relayed} packets."
    right = read >= sent if wanted else not read
    verdict = Verdict.CONFIRMED if right else Verdict.REFUTED
    if doubts and right is not wanted:  # it rests on something that was not found
        verdict = Verdict.INCONCLUSIVE
    return Outcome(verdict, text, evidence or [stored("results.json", "onpath: relayed packets")])


def _changed(rows: list[dict[str, Any]], *, wanted: bool) -> Outcome:
    right = True
    words = []
    for row in rows:
        if wanted:
            right &= row["arrived"] == [row["put"]]
        else:
            right &= row["arrived"] == [row["text"]] and row["flipped"] in ([], [row["second"]])
        shown = ", ".join(f"“{text}”" for text in row["arrived"]) or "nothing"
        bit = ", ".join(f"“{text}”" for text in row["flipped"]) or "nothing"
        said = f" ({row['why'].splitlines()[0][:_SHOWN]})" if row["why"] else ""
        words.append(
            f"{row['system']}: of “{row['text']}” was shown {shown}; with one bit of "
            f"“{row['second']}” changed, {bit}{said}."
        )
    evidence = [stored("results.json", f"onpath, {row['system']}") for row in rows]
    return Outcome(Verdict.CONFIRMED if right else Verdict.REFUTED, " ".join(words), evidence)


CHECK = check
