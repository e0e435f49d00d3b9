"""The doctor: each probe really tries, and says what to do."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

import pytest

from lab import doctor
from lab.doctor import SystemPackage, Warned, can_have_a_lab, examine, run_probe, system_packages
from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.lab
def test_a_machine_that_runs_these_tests_can_have_a_lab() -> None:
    """All probes together are quick; whatever is not ok says what to do."""
    started = time.monotonic()
    checks = examine()
    assert time.monotonic() - started < 30  # under one second; a busy machine is no fault
    assert can_have_a_lab(checks), checks
    assert len(checks) == len(doctor.PROBES)
    assert all(bool(check.todo) == (check.state != "ok") for check in checks)


def test_states_follow_what_a_probe_raises() -> None:
    """A LabError fails, Warned warns, and only a failure forbids a lab."""

    def fail() -> str:
        raise LabError("x", "saw", fault=Fault.MACHINE, todo="do")

    def warn() -> str:
        raise Warned("saw", "do")

    failed, warned, fine = run_probe("a", fail), run_probe("b", warn), run_probe("c", lambda: "saw")
    assert [failed.state, warned.state, fine.state] == ["fail", "warn", "ok"]
    assert [failed.todo, warned.todo, fine.todo] == ["do", "do", ""]
    assert can_have_a_lab([warned, fine])
    assert not can_have_a_lab([warned, failed, fine])


def test_a_missing_tool_is_named_with_its_purpose_and_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What `packages for labs` says is the line to copy."""
    (tmp_path / "list").write_text("run one imlab-nonesuch makes this\nbench two /nowhere that\n")
    monkeypatch.setattr(doctor, "system_packages", lambda: system_packages(path=tmp_path / "list"))
    with pytest.raises(LabError, match=r"one \(makes this\)") as caught:
        doctor._packages("run")
    assert caught.value.todo.endswith("install --no-install-recommends one")
    with pytest.raises(Warned):
        doctor._optional_packages("bench")


def test_a_package_is_present_by_its_command_or_its_file(tmp_path: Path) -> None:
    """As ./inv sees it."""
    assert shutil.which("sh")
    assert SystemPackage("run", "dash", "sh", "").present()
    assert SystemPackage("run", "x", str(tmp_path), "").present()
    assert not SystemPackage("run", "x", str(tmp_path / "nonesuch"), "").present()


@pytest.mark.lab
def test_a_refused_system_call_is_the_machines_fault() -> None:
    """An OSError in a probe's child is told with what was refused, not as a crash of ours."""

    def refused() -> None:
        raise PermissionError(1, "mount overlay on /mnt")

    with pytest.raises(LabError, match="mount overlay on /mnt") as caught:
        doctor._refusable(refused, 0)
    assert caught.value.fault is Fault.MACHINE
