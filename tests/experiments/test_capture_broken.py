"""Captures that are not whole: they never pass for ones in which nothing was dropped."""

from __future__ import annotations

import errno
import threading
from typing import TYPE_CHECKING

import pytest

from experiments.capture import Captures, Tap
from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from pathlib import Path

    from real_labs import OpenLab

pytestmark = pytest.mark.lab


@pytest.mark.parametrize("signal", ["TERM", "KILL", "STOP"])
def test_a_tcpdump_that_ended_or_stood_still_has_no_count_of_drops(
    small_lab: OpenLab, tmp_path: Path, signal: str
) -> None:
    """Ended in the middle it says '0 dropped', which is not what happened; stopped, it ends."""
    session = small_lab.session("peer")
    with Captures(
        small_lab.sessions,  # type: ignore[arg-type] # as in conftest
        [("peer", "eth0"), ("guest", "eth0")],
        lambda name: tmp_path / name.rpartition("/")[2],
    ) as captures:
        session.run(["ping", "-nc2", "-i", "0.01", "192.168.1.10"])
        session.run(["pkill", f"-{signal}", "-x", "tcpdump"])
        session.run(["ping", "-nc2", "-i", "0.01", "192.168.1.10"])
    rows = {row["host"]: row for row in captures.rows}
    assert rows["guest"]["dropped"] == 0
    if signal != "STOP":
        assert rows["peer"]["dropped"] is None
    assert session.run(["pgrep", "tcpdump"], check=False).exit_code == 1


def test_packets_that_cannot_be_kept_are_a_fault_of_the_machine(small_lab: OpenLab) -> None:
    """A full disk in the middle: one clear error, tcpdump ended, the session still good."""
    kept = threading.Event()

    def full(_: bytes) -> None:
        if kept.is_set():
            raise OSError(errno.ENOSPC, "No space left on device")
        kept.set()

    session = small_lab.session("peer")
    tap = Tap(session, "peer", "eth0", full)
    tap.wait_ready()
    session.run(["ping", "-nc3", "-i", "0.01", "192.168.1.10"])
    tap.wait_quiet()
    with pytest.raises(LabError, match="No space left") as caught:
        tap.stop()
    assert caught.value.fault is Fault.MACHINE
    assert session.run(["pgrep", "tcpdump"], check=False).exit_code == 1
