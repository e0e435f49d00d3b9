"""The recorded run that the tests judge, and ways to make another run out of it.

`remake` writes a new sealed run folder in which results or captures were changed, so that a test
judges real evidence with one thing different.
"""

from __future__ import annotations

import copy
import json
import shutil
import struct
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from experiments.evidence import RunFolder

if TYPE_CHECKING:
    from collections.abc import Callable

FIXTURE = Path(__file__).parent / "fixtures" / "paper-run"
NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
EPB = 6

needs_tshark = pytest.mark.skipif(not shutil.which("tshark"), reason="tshark is not installed")


def results() -> dict[str, Any]:
    """Return the fixture's results.json."""
    return json.loads((FIXTURE / "results.json").read_bytes())


def remake(
    root: Path,
    *,
    change_results: Callable[[dict[str, Any]], None] = lambda _: None,
    change_capture: Callable[[str, bytes], bytes] = lambda _, data: data,
    experiment: dict[str, Any] | None = None,
    images: dict[str, Any] | None = None,
) -> Path:
    """Write and seal a copy of the fixture with changes; return its folder."""
    manifest = json.loads((FIXTURE / "manifest.json").read_bytes())
    told = copy.deepcopy(results())
    change_results(told)
    folder = RunFolder.create("remade", root, now=NOW)
    for row in told["captures"]:
        folder.write(row["file"], change_capture(row["host"], (FIXTURE / row["file"]).read_bytes()))
    folder.write("results.json", told)
    if images:
        folder.write("images.json", images)
    folder.seal(
        started=NOW,
        finished=NOW,
        seed=manifest["seed"],
        experiment=experiment or manifest["experiment"],
        spec_text=manifest["spec_text"],
        plan=manifest["plan"],
        software=manifest["software"],
        durations_s=manifest["durations_s"],
        facts=manifest["host_facts"],
    )
    return folder.path


def blocks(data: bytes) -> list[tuple[int, bytes]]:
    """Split pcapng bytes into (type, block); the two lengths of each block must agree."""
    found, position = [], 0
    while position < len(data):
        kind, length = struct.unpack_from("<II", data, position)
        (again,) = struct.unpack_from("<I", data, position + length - 4)
        assert length == again
        assert length % 4 == 0
        found.append((kind, data[position : position + length]))
        position += length
    return found


def edit_packets(data: bytes, edit: Callable[[list[bytes]], list[bytes]]) -> bytes:
    """Rewrite a capture with its packet blocks changed: reordered, repeated, taken out."""
    parts = blocks(data)
    packets = edit([block for kind, block in parts if kind == EPB])
    head = [block for kind, block in parts if kind not in {EPB, 5}]
    tail = [block for kind, block in parts if kind == 5]
    return b"".join(head + packets + tail)
