"""What results look like on a terminal."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from rich.console import Console

from commands import cli
from commands.show import doctor_view, shortened
from lab.doctor import Check

if TYPE_CHECKING:
    import pytest


def test_many_changes_of_a_kind_become_their_number() -> None:
    """What lab-up did fits on a screen, and few changes are told one by one."""
    files = [f"file /etc/{n}" for n in range(9)]
    assert shortened(["folder /run/a", *files, "started apache2"]) == [
        "folder /run/a",
        "9 files",
        "started apache2",
    ]
    assert shortened(files[:3]) == files[:3]
    assert shortened([]) == []


def test_a_command_to_copy_is_whole_and_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However narrow the screen, and however many checks want it."""
    screen = io.StringIO()
    monkeypatch.setattr(cli, "console", lambda: Console(file=screen, width=40))
    todo = "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ada"
    checks = [Check(name, "fail", "none", todo) for name in ("ids", "overlay")]
    cli.show(lambda: doctor_view(checks), [], as_json=False)
    assert screen.getvalue().splitlines()[-1] == f"ids, overlay: {todo}"
