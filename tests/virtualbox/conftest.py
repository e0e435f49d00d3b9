"""Fixtures: a VirtualBox of one's own, and the machine that boots where all is interpreted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.providers.virtualbox import testbed as testbeds
from lab.providers.virtualbox.testbed.tiny import TinyMachine, build_tiny

if TYPE_CHECKING:
    from collections.abc import Iterator

TINY = Path(__file__).with_name("tiny")


@pytest.fixture(scope="session")
def testbed() -> testbeds.Testbed:
    """Give the testbed, built if need be."""
    return testbeds.build()


@pytest.fixture(scope="session")
def tiny() -> TinyMachine:
    """Give the tiny machine's disk, built if need be."""
    return build_tiny(TINY)


@pytest.fixture
def instance(testbed: testbeds.Testbed, tmp_path: Path) -> Iterator[testbeds.Instance]:
    """Give a VirtualBox with nothing in it, for one test."""
    made = testbed.instance(tmp_path / "virtualbox")
    yield made
    made.stop()
