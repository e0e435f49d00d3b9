"""What samples say: medians with bootstrap intervals, shares with Wilson's."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from fixture_run import FIXTURE, remake
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.comparing import compare, differing, measures_of, outside
from experiments.judge import assess, judge
from experiments.measures import Estimate, Measure, estimate, median, share
from lab.errors import LabError
from lab.image_recipe import load_recipe

if TYPE_CHECKING:
    from pathlib import Path

    from lab.image_recipe import Form

TIMES = st.lists(st.floats(0, 1e6), min_size=1, max_size=40)


@settings(deadline=None, max_examples=40)
@given(TIMES)
def test_a_median_lies_in_its_interval_and_the_interval_in_the_samples(times: list[float]) -> None:
    """For any samples; one alone has no interval; the same samples say the same again."""
    found = median(times, "x")
    assert found.value == pytest.approx(statistics.median(times))
    assert found == median(times, "x")
    if len(times) == 1:
        assert (found.low, found.high) == (None, None)
    else:
        assert found.low is not None
        assert found.high is not None
        assert min(times) <= found.low <= found.value <= found.high <= max(times)


def test_the_interval_covers_the_true_median_about_as_often_as_it_says() -> None:
    """Of 200 experiments of 25 samples with the true median 1, about 95 % have it inside."""
    chance = np.random.default_rng(7)
    covered = 0
    for n in range(200):
        found = median(list(chance.lognormal(0, 0.5, 25)), str(n))
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 1 <= found.high
    assert 180 <= covered <= 200


@given(st.integers(0, 500), st.integers(1, 500))
def test_a_share_has_wilsons_interval(hits: int, count: int) -> None:
    """It holds the share, stays within 0 and 100 %, and narrows with the count."""
    hits = min(hits, count)
    found, more = share(hits, count), share(hits * 4, count * 4)
    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low <= found.value + 1e-9
    assert found.value <= found.high + 1e-9 <= 100 + 1e-6
    assert more.low is not None
    assert more.high is not None
    assert more.high - more.low < found.high - found.low


def test_wilsons_interval_is_the_published_one() -> None:
    """Newcombe 1998, table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    for hits, count, low, high in (
        (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):  # fmt: skip
        found = share(hits, count)
        assert found.low == pytest.approx(100 * low, abs=0.006)
        assert found.high == pytest.approx(100 * high, abs=0.006)


def test_intervals_meet_or_not() -> None:
    """Two that touch meet; without an interval nothing is said."""
    assert Estimate(1, 0, 2, 5).overlaps(Estimate(3, 2, 4, 5)) is True
    assert Estimate(1, 0, 2, 5).overlaps(Estimate(3, 2.1, 4, 5)) is False
    assert Estimate(1, None, None, 1).overlaps(Estimate(3, 2.1, 4, 5)) is None


def test_what_the_recorded_run_measured() -> None:
    """Ping, loss and texts read of the fixture, against its own results."""
    found = measures_of(assess(FIXTURE))
    row = json.loads((FIXTURE / "results.json").read_bytes())["ping"][0]
    name = f"{row['source']} → {row['target']}"
    times = [reply["time_ms"] for reply in row["replies"]]
    assert found[f"ping {name}"][1].value == pytest.approx(statistics.median(times))
    assert found[f"ping lost {name}"][1] == share(0, row["sent"])
    assert found["messages read"][1].value == 100


def test_no_reply_is_no_time(tmp_path: Path) -> None:
    """A ping without replies has a loss of 100 % and no measure of time at all."""

    def silence(results: dict[str, list[dict[str, object]]]) -> None:
        for row in results["ping"]:
            row |= {"received": 0, "replies": [], "avg_ms": None, "loss_percent": 100.0}

    found = measures_of(assess(remake(tmp_path, change_results=silence)))
    assert not [name for name in found if name.startswith("ping ") and "lost" not in name]
    assert all(e.value == 100 for name, (_, e) in found.items() if name.startswith("ping lost"))


def test_an_estimate_of_a_share_counts() -> None:
    """Samples of 0 and 1 become a share in per cent."""
    found = estimate(Measure("x", "%", "share", (1.0, 0.0, 0.0, 0.0)))
    assert (found.value, found.n) == (25, 4)
    assert not math.isnan(found.low or 0)


# -- comparing --------------------------------------------------------------------------------


def test_a_run_compared_with_itself_is_equal(tmp_path: Path) -> None:
    """Nothing differs, every measure with an interval is within."""
    path = remake(tmp_path)
    judge(path)
    found = compare(path, path)
    assert found["equal"]
    assert found["told"] == found["plan"] == found["environment"] == found["experiment"] == []
    assert outside(found) == []


def test_what_differs_is_told(tmp_path: Path) -> None:
    """Losses turn a verdict and a measure; both runs' verdicts stand in the row."""
    path = remake(tmp_path / "a")

    def slow(results: dict[str, list[dict[str, object]]]) -> None:
        for row in results["ping"]:
            row["replies"] = (
                [
                    {**reply, "time_ms": 1000 + n}
                    for n, reply in enumerate(row["replies"])  # type: ignore[arg-type,var-annotated]
                ][:1]
                * 4
            )
            row["received"] = 1

    other = remake(tmp_path / "b", change_results=slow)
    found = compare(path, other)
    assert not found["equal"]
    row = next(row for row in found["verdicts"] if row["id"] == "ping")
    assert (row["first"], row["second"], row["equal"]) == ("confirmed", "refuted", False)
    assert [name for name in outside(found) if "lost" not in name]


def image(form: Form, **packages: str) -> dict[str, Any]:
    """Return what a run keeps of an image of debian-base, with these packages in it."""
    recipe = load_recipe("debian-base", form)
    return {"name": recipe.name, "form": form, "recipe": recipe.to_json(), "packages": packages}


def test_an_image_in_another_form_differs_by_what_both_forms_have(tmp_path: Path) -> None:
    """Namespaces' root file system, and a disk of the same recipe: the kernel is no difference.

    Where a run has an image in both forms, each is held against what there was of it.
    """
    rootfs = image("rootfs", curl="1", nano="7")
    disk = image("disk", curl="2", nano="7", linux="6")
    first = remake(tmp_path / "a", images={"debian-base": rootfs})
    both = remake(tmp_path / "b", images={"debian-base": rootfs, "debian-base (disk)": disk})
    curl = {"debian-base (disk)": [{"package": "curl", "first": "1", "second": "2"}]}
    found = compare(first, both)
    assert (found["packages"], found["recipes"]) == (curl, [])
    found = compare(both, first)
    assert (found["packages"], found["recipes"]) == ({}, [])
    alone = remake(tmp_path / "c", images={"debian-base (disk)": disk})
    back = {"debian-base": [{"package": "curl", "first": "2", "second": "1"}]}
    found = compare(alone, first)
    assert (found["packages"], found["recipes"]) == (back, [])


@pytest.mark.parametrize("form", ["rootfs", "disk"])
def test_another_recipe_is_told_whatever_its_form(tmp_path: Path, form: Form) -> None:
    """A package that the recipe wants, a file of it, its suite: any of them."""
    first = remake(tmp_path / "a", images={"debian-base": image("rootfs")})
    recipe = load_recipe("debian-base", form)
    changes = (
        replace(recipe, suite="trixie"),
        replace(recipe, files=()),
        replace(recipe, packages=("more", *recipe.packages)),
        replace(recipe, packages=(*recipe.packages, "more")),
    )
    for number, other in enumerate(changes):
        there = image(form) | {"recipe": other.to_json()}
        second = remake(tmp_path / str(number), images={"there": there})
        assert compare(first, second)["recipes"] == ["there"]


def test_verdicts_that_are_not_what_the_evidence_gives_are_told(tmp_path: Path) -> None:
    """Who doctors verdicts.json and lists it anew is found out by judging again."""
    path = remake(tmp_path)
    judge(path)
    verdicts = json.loads((path / "verdicts.json").read_bytes())
    verdicts[0]["verdict"] = "refuted"
    (path / "verdicts.json").write_text(json.dumps(verdicts))
    assert compare(path, path)["told"] == [verdicts[0]["id"]]


def test_a_whole_run_of_nonsense_is_refused_in_words(tmp_path: Path) -> None:
    """Sealed by somebody else, with results that mean nothing: no traceback."""

    def change(results: dict[str, object]) -> None:
        results["chat"] = [1]

    with pytest.raises(LabError, match="judging the run"):
        compare(remake(tmp_path, change_results=change), FIXTURE)


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(JSON, JSON)
def test_differing_finds_nothing_only_in_equal_data(first: object, second: object) -> None:
    """No row for equal data; for unequal data one at least, unless a key is absent for None."""
    assert differing(first, first) == []
    rows = differing(first, second)
    if not rows:
        assert "null" in json.dumps([first, second]) or first == second
