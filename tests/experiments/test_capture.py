"""Listening on adapters of a real lab."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from experiments.capture import Captures, Counts, parse_counts
from lab.errors import LabError

if TYPE_CHECKING:
    from pathlib import Path

    from real_labs import OpenLab

CLOSING = b"""\
tcpdump: listening on eth0, link-type EN10MB (Ethernet), snapshot length 262144 bytes
16 packets captured
16 packets received by filter
0 packets dropped by kernel
"""


def test_tcpdumps_closing_lines_are_read() -> None:
    """Captured, received and dropped."""
    assert parse_counts(CLOSING) == Counts(16, 16, 0)


def test_what_was_received_and_not_written_counts_as_dropped() -> None:
    """A capture that ended too early is not whole."""
    said = CLOSING.replace(b"16 packets captured", b"12 packets captured")
    assert parse_counts(said).dropped == 4


def test_counts_that_are_not_there_are_not_zero() -> None:
    """tcpdump that was killed says nothing, and nothing is assumed."""
    assert parse_counts(CLOSING.splitlines()[0]) == Counts(None, None, None)


@pytest.mark.lab
def test_a_capture_holds_everything_from_the_first_packet_to_the_last(
    small_lab: OpenLab, tmp_path: Path
) -> None:
    """It is ready before the workload starts and ends after its last packet; none is missing."""

    def place(name: str) -> Path:
        (tmp_path / "captures").mkdir(exist_ok=True)
        return tmp_path / name

    points = [("peer", "eth0"), ("guest", "eth0"), ("host", "eth0")]
    with Captures(small_lab.sessions, points, place) as captures:  # type: ignore[arg-type] # as in conftest
        small_lab.session("peer").run(["ping", "-n", "-c", "20", "-i", "0.002", "192.168.1.10"])
    for row in captures.rows:
        assert row["dropped"] == 0
        told = _tshark(tmp_path / row["file"], "icmp", "frame.interface_name")
        assert told == ["eth0"] * 40, row["host"]
    assert {row["link_type"] for row in captures.rows} == {1}


@pytest.mark.lab
def test_an_adapter_that_is_not_there_is_one_clear_error(
    small_lab: OpenLab, tmp_path: Path
) -> None:
    """The error has tcpdump's own words, and no capture is left running."""
    points = [("peer", "eth9")]
    with (
        pytest.raises(LabError, match="eth9"),
        Captures(
            small_lab.sessions,
            points,
            lambda _: tmp_path / "x.pcapng",  # type: ignore[arg-type] # as in conftest
        ),
    ):
        pass
    assert small_lab.session("peer").run(["pgrep", "tcpdump"], check=False).exit_code == 1


def _tshark(path: Path, select: str, field: str) -> list[str]:
    done = subprocess.run(
        ["tshark", "-r", str(path), "-Y", select, "-T", "json", "-e", field],
        capture_output=True, check=True,
    )  # fmt: skip
    return [packet["_source"]["layers"][field][0] for packet in json.loads(done.stdout)]
