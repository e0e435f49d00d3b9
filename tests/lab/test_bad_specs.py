"""A folder of bad specs, and beside each the exact message that its author must get.

After a change of wording: IMLAB_REGENERATE=1 pytest tests/lab/test_bad_specs.py
writes the .expected files anew; read the difference before it is committed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lab.spec import SpecError, check_spec, load_spec

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER = Path(__file__).parent / "bad_specs"
SPECS = sorted(path.stem for path in FOLDER.glob("*.yaml"))
IMAGES = ["debian-base", "debian-lamp"]


def check_echo(parameters: Mapping[str, Any]) -> list[tuple[tuple[str | int, ...], str, str]]:
    """Complain as a role's own check does: rows of path, message and fix."""
    faults: list[tuple[tuple[str | int, ...], str, str]] = []
    if not 0 < parameters.get("port", 7) < 65536:
        faults.append((("port",), "no TCP port", "choose one from 1 to 65535"))
    faults += [((key,), "no parameter of echo", "echo takes: port") for key in parameters
               if key != "port"]  # fmt: skip
    return faults


ROLES = {"chat_server": None, "echo": check_echo}


@pytest.mark.parametrize("name", SPECS)
def test_a_bad_spec_gets_exactly_its_message(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad spec is refused with the text beside it.

    IMLAB_REGENERATE=1 in the environment writes that text instead of comparing it.
    """
    monkeypatch.chdir(FOLDER)
    with pytest.raises(SpecError) as caught:
        load_spec(f"{name}.yaml", roles=ROLES, images=IMAGES)
    expected = FOLDER / f"{name}.expected"
    if os.environ.get("IMLAB_REGENERATE"):
        expected.write_text(f"{caught.value}\n", encoding="utf-8")
    assert f"{caught.value}\n" == expected.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SPECS)
def test_no_message_holds_a_password(name: str) -> None:
    """The passwords of the bad specs are in no message, wherever their author put them."""
    path = FOLDER / f"{name}.yaml"
    told = "\n".join(str(fault) for fault in check_spec(path, roles=ROLES, images=IMAGES))
    assert told
    for word in ("Kisumu", "Bondo", "20161110"):
        assert word not in told


def test_every_expectation_has_its_spec() -> None:
    """No .expected file is left behind by a spec that was renamed."""
    assert sorted(path.stem for path in FOLDER.glob("*.expected")) == SPECS
