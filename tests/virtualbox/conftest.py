"""Fixtures: VirtualBoxes that run, labs of machines, the machine that boots where all is slow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from benches.virtualbox import TINY
from guard import GUARD
from virtualbox_labs import EMPTY_DISK, Box, Labs

from lab.providers.virtualbox import asking
from lab.providers.virtualbox import testbed as testbeds
from lab.providers.virtualbox.testbed.tiny import TinyMachine, build_tiny

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
    GUARD.watch(made)
    yield made
    made.stop()


@pytest.fixture(scope="session")
def box(testbed: testbeds.Testbed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """Run a VirtualBox of this process's own, which the provider speaks with."""
    folder = tmp_path_factory.mktemp("vbox")
    instance = testbed.instance(folder / "home")
    GUARD.watch(instance)
    patch = pytest.MonkeyPatch()
    for name, value in instance.environment.items():
        patch.setenv(name, value)
    asking.forget()
    found = Box(instance, folder, folder / "base.vdi")
    found.run(EMPTY_DISK, str(found.base))
    yield found
    instance.stop()
    asking.forget()
    patch.undo()


@pytest.fixture
def labs(box: Box, tmp_path: Path) -> Iterator[Labs]:
    """Make labs; in the end VirtualBox has on its lists what it had before."""
    before = box.lists()
    labs = Labs(box, tmp_path / "state")
    yield labs
    labs.close()
    assert box.lists() == before
