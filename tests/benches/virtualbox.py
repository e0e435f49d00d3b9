"""Labs of VirtualBox machines that boot in seconds, in a VirtualBox of the testbed's."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from real_labs import PROJECT, small_plan

from lab.providers.base import Image
from lab.providers.virtualbox import asking, testbed
from lab.providers.virtualbox.testbed.tiny import build_tiny

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lab.plan import Plan

HERE = PROJECT / "tests" / "virtualbox"
if str(HERE) not in sys.path:
    sys.path.append(str(HERE))

TINY = HERE / "tiny"
MEMORY_MIB = 64


class BENCH:
    """A VirtualBox; a bench of the same folder in another process uses the same one."""

    def __init__(self, folder: Path) -> None:
        from guard import GUARD
        from virtualbox_labs import EMPTY_DISK, Box

        instance = testbed.build().instance(folder / "virtualbox")
        if "pytest" in sys.modules:  # else we are one that tests start, and may be killed
            GUARD.watch(instance)
        self._before = {name: os.environ.get(name) for name in instance.environment}
        os.environ.update(instance.environment)
        asking.forget()
        self._nowhere = folder / "none.vdi"
        self._box = Box(instance, folder, build_tiny(TINY).vdi)
        self._blank = folder / "blank.vdi"
        if not self._blank.exists():
            self._box.run(EMPTY_DISK, str(self._blank))

    def plan(self, name: str = "small") -> Plan:
        """Three machines; none lives on another, since that would be this computer."""
        plan = small_plan(name)
        hosts = tuple(
            replace(
                host,
                provider="virtualbox",
                on=None,
                memory_mib=MEMORY_MIB,
                adapters=tuple(
                    replace(a, network="lan", bridged=None, attach=nowhere()) for a in host.adapters
                ),
            )
            for host in plan.hosts
        )
        return replace(plan, hosts=hosts)

    def images(self, form: str, wanted: set[str]) -> Mapping[str, Image]:
        """Return the small disk, and for "gone" one that is not there."""
        assert form == "disk"
        paths = {name: self._nowhere if name == "gone" else self._box.base for name in wanted}
        return {name: Image(name, "tiny", path, path) for name, path in paths.items()}

    def blank(self, form: str, wanted: set[str]) -> Mapping[str, Image]:
        """Return an empty disk."""
        return replace(self._box, base=self._blank).images(form, wanted)

    def unmakeable(self) -> Plan:
        """Return one whose disk has gone."""
        plan = self.plan()
        return replace(plan, hosts=tuple(replace(host, image="gone") for host in plan.hosts))

    def left(self) -> list[str]:
        """Return what VirtualBox still has on its lists."""
        lists = self._box.lists()
        return [*lists["machines"], *map(str, lists["disks"]), *lists["cds"]]

    def close(self) -> None:
        """End the VirtualBox."""
        self._box.instance.stop()
        asking.forget()
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def nowhere() -> dict[str, object]:
    """Return a cable that ends nowhere: without the kernel driver there are few others."""
    properties = {"dest": "127.0.0.1", "sport": "0", "dport": "9"}
    return {"generic": {"driver": "UDPTunnel", "properties": properties}}
