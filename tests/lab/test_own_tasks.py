"""Tasks that providers bring."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

from real_labs import PROJECT

from lab import own_tasks, providers

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_what_providers_bring_is_in_the_list_of_tasks() -> None:
    """./inv --list has each by its name; tasks.py names none of them."""
    brought = own_tasks.of_providers()
    assert brought
    command = [str(PROJECT / "inv"), "--list", "--list-format", "json"]
    listed = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    names = {task["name"] for task in listed["tasks"]}
    assert names >= {own.name for own in brought}
    assert not any(own.name in (PROJECT / "tasks.py").read_text() for own in brought)


def test_a_provider_without_tasks_adds_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither does one that is a single module."""
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "__init__.py").write_text("")
    (tmp_path / "single.py").write_text("")
    monkeypatch.setattr(providers, "__path__", [str(tmp_path)])
    assert own_tasks.of_providers() == []
