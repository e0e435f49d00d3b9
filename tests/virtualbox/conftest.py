"""A VirtualBox that runs: the testbed's, with settings of its own for each process that tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from virtualbox_labs import EMPTY_DISK, Box, Labs

from lab.providers.virtualbox import asking, testbed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """Run a VirtualBox of this process's own; it ends with the tests."""
    folder = tmp_path_factory.mktemp("vbox")
    instance = testbed.build().instance(folder / "home")
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
