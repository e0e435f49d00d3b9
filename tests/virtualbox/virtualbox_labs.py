"""Labs of VirtualBox machines as tests make them. Apart from conftest.py: there are several."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from real_labs import small_plan

from lab.ledger import Ledger
from lab.making import make, unmake
from lab.plan import PlannedAdapter
from lab.providers.base import Image, Order

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lab.plan import Plan
    from lab.providers.virtualbox.testbed import Instance

#: What VirtualBox lists as its own, asked in its own words: not through the code that is tested.
LISTS = """
import json, vboxapi
manager = vboxapi.VirtualBoxManager()
box = manager.getVirtualBox()
array = lambda of, name: manager.getArray(of, name)
def tree(media):
    return [[m.location, tree(array(m, "children"))] for m in media]
print(json.dumps({
    "machines": sorted(m.id for m in array(box, "machines")),
    "disks": sorted(tree(array(box, "hardDisks"))),
    "cds": sorted(m.location for m in array(box, "DVDImages")),
    "dhcp": len(array(box, "DHCPServers")),
    "groups": sorted(array(box, "machineGroups")),
    "networks": len(array(box, "NATNetworks")),
}))
"""


@dataclass(frozen=True)
class Box:
    """One VirtualBox, and a folder for what tests need besides."""

    instance: Instance
    folder: Path
    base: Path

    def lists(self) -> dict[str, Any]:
        """Return what VirtualBox itself has on its lists."""
        return dict(self.run_json(LISTS))

    def run(self, script: str, *arguments: str) -> str:
        """Run a script in VirtualBox's own Python; return what it prints."""
        import os
        import subprocess

        done = subprocess.run(
            [str(self.instance.python), "-c", script, *arguments],
            env={**os.environ, **self.instance.environment},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run_json(self, script: str, *arguments: str) -> Any:  # noqa: ANN401 - what it prints
        """Return what a script prints, as JSON."""
        import json

        return json.loads(self.run(script, *arguments))

    def images(self, form: str, wanted: set[str]) -> Mapping[str, Image]:
        """Return an empty disk for every image: machines run, and find nothing to boot."""
        assert form == "disk"
        return {name: Image(name, "empty", self.base, self.base) for name in wanted}

    def plan(self, name: str = "small", hosts: int = 2) -> Plan:
        """Return a lab of machines whose cables lead nowhere."""
        plan = small_plan(name)
        one = replace(plan.hosts[2], memory_mib=16, provider="virtualbox")
        return replace(
            plan,
            hosts=tuple(
                replace(one, name=f"m{n}", adapters=(_cable(n),)) for n in range(1, hosts + 1)
            ),
        )


def _cable(number: int) -> PlannedAdapter:
    properties = {"dest": "127.0.0.1", "sport": str(45000 + number), "dport": "9"}
    return PlannedAdapter(
        "eth0", f"0a:00:00:00:00:{number:02x}", "wired", "", f"192.168.1.{number}/24", "lan",
        attach={"generic": {"driver": "UDPTunnel", "properties": properties}},
    )  # fmt: skip


EMPTY_DISK = """
import sys, vboxapi
manager = vboxapi.VirtualBoxManager()
box, c = manager.getVirtualBox(), manager.constants
disk = box.createMedium("VDI", sys.argv[1], c.AccessMode_ReadWrite, c.DeviceType_HardDisk)
disk.createBaseStorage(64 << 20, [c.MediumVariant_Standard]).waitForCompletion(-1)
disk.close()
"""


class Labs:
    """Labs under a state folder of their own; all are taken away in the end."""

    def __init__(self, box: Box, root: Path) -> None:
        self.box, self.root = box, root

    def make(self, plan: Plan, images: Any = None) -> Ledger:  # noqa: ANN401 - a function
        """Make a lab, without waiting for SSH: these machines have nothing to boot."""
        order = Order(self.root, plan, (), {}, {}, {})
        return make(plan, images or self.box.images, order, ("", ""))

    def close(self) -> None:
        """Take down what is left."""
        for ledger in Ledger.all_labs(self.root):
            unmake(ledger)
