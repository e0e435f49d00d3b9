"""What VirtualBox adds to ./inv."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.own_tasks import Answer, OwnTask

if TYPE_CHECKING:
    from lab.image_build import Progress


def _testbed(progress: Progress) -> Answer:
    from lab.providers.virtualbox import testbed

    built = testbed.build(progress)
    version, python = built.meta["virtualbox"], str(built.python)
    text = (
        f"VirtualBox {version} is in {built.folder}\n"
        "Labs use it, and not this machine's own, with\n"
        f"  export IMLAB_VBOX_PYTHON={python}\n"
        "and another one of the same, with its own settings and machines, with\n"
        "  export IMLAB_VBOX_HOME=FOLDER"
    )
    data = {
        "virtualbox": version,
        "folder": str(built.folder),
        "bytes": built.meta["bytes"],
        "environment": {"IMLAB_VBOX_PYTHON": python},
    }
    return Answer(text, data)


TASKS = (
    OwnTask(
        "vbox-testbed",
        "Build a VirtualBox that runs without its kernel driver, for tests, unless it is there",
        _testbed,
    ),
)
