"""Factors and repeats: cells, their order and seeds, what is substituted, what is refused."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from fixture_run import remake
from hypothesis import given
from hypothesis import strategies as st

from experiments import definition, factors, plots, series
from experiments.compare_page import render
from experiments.judge import judge
from experiments.sidebyside import side_by_side
from lab.errors import LabError

if TYPE_CHECKING:
    from pathlib import Path

TEXT = """
imlab_experiment: 1
name: sizes
spec: two-peers
seed: 5
repeat: 3
factors:
  bytes: [32, 1400]
  cure: {nothing: none, port: {scrambler: {key: 7}}}
lab:
  hosts: {alice: {ttl: $bytes, description: "of ${bytes} bytes"}}
steps:
  - ping: {count: 10, bytes: $bytes}
  - conversation: {countermeasure: $cure, lines: [{text: "$5 for ${bytes}"}]}
"""


def parsed(text: str = TEXT) -> dict[str, Any]:
    """Return an experiment's data."""
    return definition.parse(text).data


def test_every_combination_is_done_as_often_as_said_in_a_random_order() -> None:
    """Twelve cells, all different, not in the order of the file, the same order each time."""
    found = factors.cells(parsed())
    assert len({cell.key for cell in found}) == len(found) == 12
    counts = Counter(tuple(cell.levels.items()) for cell in found)
    assert set(counts.values()) == {3}
    assert len(counts) == 4
    keys = [cell.key for cell in found]
    assert keys == [cell.key for cell in factors.cells(parsed())]
    assert keys != sorted(keys)
    other = factors.cells({**parsed(), "seed": 6})
    assert [cell.key for cell in other] != keys
    assert {cell.key for cell in other} == set(keys)


def test_a_cell_is_an_experiment_of_its_own() -> None:
    """Levels stand where `$name` stood, with their types; the cell's file is read as any other."""
    cell = next(c for c in factors.cells(parsed()) if c.levels == {"bytes": "1400", "cure": "port"})
    assert cell.experiment["steps"] == [
        {"ping": {"count": 10, "bytes": 1400}},
        {"conversation": {"countermeasure": {"scrambler": {"key": 7}},
                          "lines": [{"text": "$5 for 1400"}]}},
    ]  # fmt: skip
    assert cell.overlay == {"hosts": {"alice": {"ttl": 1400, "description": "of 1400 bytes"}}}
    again = definition.parse(cell.text)
    assert again.data == cell.experiment
    assert not factors.has_cells(again.data)
    assert factors.cell_key(again.data["cell"]) == cell.key


def test_levels_of_one_repeat_share_a_seed_and_repeats_do_not() -> None:
    """What is chosen by chance is the same for every level, and new in each repeat."""
    seeds: dict[int, set[int]] = {}
    for cell in factors.cells(parsed()):
        seeds.setdefault(cell.repeat, set()).add(cell.experiment["seed"])
    assert all(len(found) == 1 for found in seeds.values())
    assert len(set.union(*seeds.values())) == 3


def test_repeat_needs_no_factors() -> None:
    """An experiment may be repeated and nothing varied."""
    text = "imlab_experiment: 1\nname: x\nspec: two-peers\nrepeat: 4\nsteps: [ping: {}]\n"
    assert sorted(cell.repeat for cell in factors.cells(parsed(text))) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"repeat": 0}, "repeat is 0"),
        ({"repeat": True}, "repeat is True"),
        ({"factors": [1]}, "factors must be a mapping"),
        ({"factors": {"Bytes": [1]}}, "factor 'Bytes': a name is"),
        ({"factors": {"bytes": []}}, "factor bytes must be a list"),
        ({"factors": {"bytes": [1, "1"]}}, "two of its levels are the same"),
        ({"factors": {"bytes": [[1], [2]]}}, "need labels"),
        ({"factors": {"bytes": [1], "cure": ["none"], "idle": [1]}}, "idle is used nowhere"),
        ({"factors": {"bytes": [1]}}, "$cure is no factor; there are: bytes"),
        ({"lab": [1]}, "lab must be a mapping"),
        ({"repeat": 10_000}, "40000 cells; 10000 are the most"),
    ],
)
def test_faults_are_told(change: dict[str, Any], told: str) -> None:
    """Before anything is made, in words that name the factor."""
    data = {**yaml.safe_load(TEXT), **change}
    with pytest.raises(LabError) as caught:
        definition.parse(yaml.safe_dump(data))
    assert told in caught.value.saw


LEVELS = st.lists(st.integers() | st.booleans() | st.text("ab $", max_size=4), min_size=1,
                  max_size=4, unique_by=str)  # fmt: skip


@given(st.dictionaries(st.from_regex("[a-z][a-z0-9_]{0,5}", fullmatch=True), LEVELS, max_size=3),
       st.integers(1, 3), st.integers())  # fmt: skip
def test_any_sound_factors_give_their_product(
    given_: dict[str, list[Any]], repeat: int, seed: int
) -> None:
    """For any factors: the product times the repeats, every level's value put as it is."""
    data = {
        "name": "x", "seed": seed, "repeat": repeat, "factors": given_,
        "steps": [{"ping": {name: f"${name}" for name in given_}}],
    }  # fmt: skip
    if factors.faults(data):
        assert any(len({str(v).lower() for v in levels}) < len(levels) or "" in map(str, levels)
                   for levels in given_.values())  # fmt: skip
        return
    number = repeat
    for levels in given_.values():
        number *= len(levels)
    found = factors.cells(data)
    assert len({cell.key for cell in found}) == number
    for cell in found:
        values = factors.levels_of(data)
        for name, value in cell.experiment["steps"][0]["ping"].items():
            assert value == values[name][cell.levels[name]]


def test_an_overlay_changes_only_what_it_names() -> None:
    """Mappings are merged, lists and values replaced, and the original stays."""
    spec = {"a": {"b": 1, "c": [1, 2]}, "d": 2}
    assert factors.laid_over(spec, {"a": {"c": [3], "e": None}}) == {
        "a": {"b": 1, "c": [3], "e": None},
        "d": 2,
    }
    assert spec == {"a": {"b": 1, "c": [1, 2]}, "d": 2}


# -- series -----------------------------------------------------------------------------------


@pytest.fixture
def made(tmp_path: Path) -> series.Series:
    """Give a new series."""
    spec = tmp_path / "spec.yaml"
    spec.write_text("imlab: 1\nname: peers\nhosts:\n  alice: {ttl: 1}\n  bob: {on: alice}\n")
    return series.create(definition.parse(TEXT), spec, tmp_path, {"provider": "netns"})


def cell_run(made: series.Series, cell: factors.Cell) -> Path:
    """Put a sealed and judged run of a cell into a series, made of the recorded one."""
    experiment = {**cell.experiment, "claims": [{"id": "ping", "claim": "c", "check": "ping"}]}
    path = remake(made.runs, experiment=experiment)
    judge(path)
    return path


def test_what_is_left_is_read_off_the_sealed_runs(made: series.Series) -> None:
    """A cell with a sealed run is done, in any order; half a run is none and is swept away."""
    made.runs.mkdir()
    order = [cell.key for cell in made.cells()]
    assert [cell.key for cell in made.left()] == order
    for number in (7, 2):
        cell_run(made, made.cells()[number])
    half = made.runs / "20260101T000000Z-sizes"
    (half / "captures").mkdir(parents=True)
    with made.alone():
        assert not half.exists()
        assert [cell.key for cell in made.left()] == [
            key for number, key in enumerate(order) if number not in {2, 7}
        ]
        with pytest.raises(LabError, match="another process"), made.alone():
            pass
    again = series.load(made.path)
    assert [cell.key for cell in again.left()] == [cell.key for cell in made.left()]


def test_the_lab_of_a_cell_has_the_overlay(made: series.Series) -> None:
    """`on` is a key like any other, and the lab's name tells the series."""
    cell = made.cells()[0]
    spec = json.loads(made.spec_of(cell))
    assert spec["hosts"]["bob"] == {"on": "alice"}
    assert spec["hosts"]["alice"]["ttl"] == int(cell.levels["bytes"])
    assert made.lab.startswith("peers-")
    assert len(made.lab) <= 32


def test_a_series_is_one_row_among_the_runs(made: series.Series) -> None:
    """`runs` lists how many of its cells are done, and the verdicts of all."""
    from commands.runs import listing
    from commands.show import runs_table

    made.runs.mkdir()
    assert listing(made.path.parent)[0]["cells"] == [0, 12]
    cell_run(made, made.cells()[0])
    (row,) = listing(made.path.parent)
    assert (row["run"], row["cells"], row["claims"]) == (made.path.name, [1, 12], 1)
    assert row["confirmed"] == 1
    assert runs_table([row])
    assert listing(made.path / "none") == []


def test_a_series_is_verified_run_by_run(made: series.Series) -> None:
    """A changed byte in a run of a series is told with the run's folder."""
    from commands.repeat import verify

    made.runs.mkdir()
    paths = [cell_run(made, cell) for cell in made.cells()[:2]]
    assert verify(str(made.path)).facts == []
    (paths[1] / "results.json").chmod(0o644)
    (paths[1] / "results.json").write_bytes(b"{}")
    (fact,) = verify(str(made.path)).facts
    assert fact.file == f"cells/{paths[1].name}/results.json"


def test_no_series_is_told(tmp_path: Path) -> None:
    """Neither a missing file, nor one of nonsense, nor one of a later format, is a traceback."""
    for text in (None, "{", "[]", '{"format": 9, "experiment": "", "spec": "", "how": {}}'):
        if text is not None:
            (tmp_path / "series.json").write_text(text)
        with pytest.raises(LabError, match="opening the series"):
            series.load(tmp_path)


def test_runs_side_by_side(made: series.Series, tmp_path: Path) -> None:
    """A series has a column a combination and a part a factor; a run has a column of its own."""
    made.runs.mkdir()
    for cell in made.cells():
        cell_run(made, cell)
    single = remake(tmp_path / "single")
    judge(single)
    found = side_by_side([made.path, single])
    assert [column["label"] for column in found["columns"]] == [
        "bytes 32, cure nothing", "bytes 32, cure port",
        "bytes 1400, cure nothing", "bytes 1400, cure port", single.name,
    ]  # fmt: skip
    assert [len(column["runs"]) for column in found["columns"]] == [3, 3, 3, 3, 1]
    assert [factor["name"] for factor in found["factors"]] == ["bytes", "cure"]
    levels = found["factors"][0]["measures"][0]["levels"]
    assert [level["label"] for level in levels] == ["32", "1400"]
    assert [len(level["values"]) for level in levels] == [6, 6]
    (ping,) = [row for row in found["verdicts"] if row["id"] == "ping"]
    assert ping["columns"] == [{"confirmed": 3}] * 4 + [{"confirmed": 1}]
    lost = next(row for row in found["measures"] if row["name"].startswith("ping lost"))
    assert lost["values"][0]["n"] == 3 * lost["values"][4]["n"]
    text = render(found)
    assert text.count("<svg") == sum(len(f["measures"]) for f in found["factors"])
    assert "http://" not in text.replace("http://192.168", "")
    assert render(found) == text


def test_a_page_escapes_what_an_experiment_says(made: series.Series) -> None:
    """A level's label is text, whatever it looks like."""
    made.runs.mkdir()
    cell = made.cells()[0]
    cell.experiment["cell"]["levels"]["cure"] = "<script>x</script>"
    cell_run(made, cell)
    text = render(side_by_side([made.path]))
    assert "<script>x" not in text
    assert "&lt;script&gt;x" in text


@given(st.lists(st.lists(st.floats(0, 1e9), min_size=1, max_size=5), min_size=1, max_size=8))
def test_everything_drawn_lies_in_the_picture(values: list[list[float]]) -> None:
    """For any values: dots, rings and bars are within the axes, and the scale begins at zero."""
    levels = [
        {
            "label": str(n),
            "values": row,
            "estimate": {"value": row[0], "low": min(row), "high": max(row)},
        }
        for n, row in enumerate(values)
    ]
    made = plots.plot({"name": "x", "unit": "ms", "levels": levels})
    low, high = plots.TOP - 0.01, plots.HEIGHT - plots.BOTTOM + 0.01
    for level in made.levels:
        ys = [y for _, y in level.dots] + [level.value, level.low, level.high]
        assert all(y is not None and low <= y <= high for y in ys)
        assert all(plots.LEFT <= x <= plots.WIDTH for x, _ in level.dots)
    assert made.ticks[0].label == "0"
    assert 2 <= len(made.ticks) <= 8
