"""An experiment that includes others: their steps and claims as one run, and one lot of results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from experiments import definition
from experiments.claims import claims_of
from experiments.run import merged
from lab.errors import LabError

if TYPE_CHECKING:
    from pathlib import Path

HEAD: dict[str, Any] = {"imlab_experiment": 1, "name": "both", "spec": "threats"}


def written(folder: Path, **more: object) -> str:
    """Return the path of an experiment with this beside its head."""
    path = folder / "both.yaml"
    path.write_text(yaml.safe_dump(HEAD | more))
    return str(path)


def test_steps_and_claims_of_others_come_first(tmp_path: Path) -> None:
    """Each claim is called by both names, and what is run is written down whole."""
    path = written(
        tmp_path,
        include=["threats/forgery", "threats/logs"],
        steps=[{"ping": {"count": 1}}],
        claims=[{"id": "ping", "claim": "Ping succeeds.", "check": "ping"}],
    )
    experiment = definition.load(path)
    assert [step.workload for step in experiment.steps] == ["forgery", "logs", "ping"]
    ids = [claim["id"] for claim in claims_of(experiment.data)]
    assert ids[:4] == ["forgery-udp", "forgery-tcp", "forgery-bound", "logs-chat"]
    assert ids[-1] == "ping"
    again = tmp_path / "again.yaml"
    again.write_text(experiment.text)
    assert definition.load(str(again)).data == experiment.data
    assert "include" not in experiment.data


@pytest.mark.parametrize(
    ("include", "why"),
    [
        ([], "include must be a list of 1 to 20"),
        ("paper", "include must be a list of 1 to 20"),
        (["nothing"], "no experiment 'nothing'; there are: "),
        ([7], "no experiment 7; there are: "),
        (["../paper"], "no experiment '../paper'; there are: "),
        (["threats"], "threats includes others itself"),
    ],
)
def test_what_cannot_be_included_is_told(include: object, why: str, tmp_path: Path) -> None:
    """Faults are told before anything is done."""
    with pytest.raises(LabError, match=why):
        definition.load(written(tmp_path, include=include))


def test_all_threats_are_in_the_run_of_all() -> None:
    """Every threat but those that measure the same under a cure is part of `./inv run threats`."""
    alone = {name for name in definition.names() if name.startswith("threats/")}
    data = yaml.safe_load((definition.FOLDER / "threats.yaml").read_text())
    assert alone - set(data["include"]) == {"threats/presence-tls"}
    ids = [claim["id"] for claim in claims_of(definition.load("threats").data)]
    assert len(ids) == len(set(ids))


def test_what_people_said_in_two_steps_is_kept() -> None:
    """Texts, lines and stores of both steps stay; ids that are taken become others everywhere."""

    def step(text: str, *, name: str = "message-1") -> dict[str, Any]:
        return {
            "chat": {
                "visits": [text],
                "planted": [{"id": name, "kind": "message", "text": text}],
                "lines": [{"planted": name}],
            },
            "repository": [{"host": text, "found": [name], "missing": []}],
            text: True,
        }

    both = merged(merged(step("one"), step("two")), step("three", name="message-2"))
    rows = both["chat"]["planted"]
    assert [row["text"] for row in rows] == ["one", "two", "three"]
    ids = [row["id"] for row in rows]
    assert len(set(ids)) == 3
    assert [line["planted"] for line in both["chat"]["lines"]] == ids
    assert [row["found"] for row in both["repository"]] == [[name] for name in ids]
    assert both["one"] is both["two"] is both["three"] is True
    assert merged({}, step("one")) == step("one")
    assert merged(step("one"), {"ping": []}) == {**step("one"), "ping": []}
