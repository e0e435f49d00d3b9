"""What results look like on a terminal."""

from __future__ import annotations

from commands.show import shortened


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
