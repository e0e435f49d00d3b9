"""What `./inv bench virtualbox` measures, against the VirtualBox of the testbed.

No peer can be measured beside it: Vagrant, like anything else over VirtualBox, does not start a
machine without the kernel driver. What stands beside each figure is a floor or the other way of
doing the same; docs/virtualbox.md has the commands that compare with Vagrant where there is one.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.rows import Row
from lab import lifecycle
from lab.making import make, unmake
from lab.planning import make_plan
from lab.providers.base import Image, Order
from lab.providers.virtualbox import asking, testbed
from lab.providers.virtualbox.provider import PROVIDER
from lab.providers.virtualbox.testbed.tiny import build_tiny
from lab.spec import star

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from lab.ledger import Ledger
    from lab.plan import Plan
    from lab.providers.virtualbox.testbed import Instance

SIZES = (1, 3, 10)
DISK_MIB = 256  # of the disk that is cloned and copied; it holds random bytes
MEMORY_MIB = 64
TINY = Path(__file__).resolve().parent.parent / "tests" / "virtualbox" / "tiny"
MIB = 1 << 20

MAKE_DISK = """
import sys, vboxapi
manager = vboxapi.VirtualBoxManager()
box, c = manager.getVirtualBox(), manager.constants
disk = box.createMedium("VDI", sys.argv[1], c.AccessMode_ReadWrite, c.DeviceType_HardDisk)
disk.createBaseStorage(int(sys.argv[2]), [c.MediumVariant_Fixed]).waitForCompletion(-1)
disk.close()
"""
COPY_DISK = """
import sys, time, vboxapi
manager = vboxapi.VirtualBoxManager()
box, c = manager.getVirtualBox(), manager.constants
base = box.openMedium(sys.argv[1], c.DeviceType_HardDisk, c.AccessMode_ReadOnly, False)
copy = box.createMedium("VDI", sys.argv[2], c.AccessMode_ReadWrite, c.DeviceType_HardDisk)
since = time.monotonic()
base.cloneTo(copy, [c.MediumVariant_Standard], None).waitForCompletion(-1)
print(time.monotonic() - since)
copy.close()
base.close()
"""


@dataclass
class Bed:
    """A VirtualBox of this run's own, a disk to make machines on, and what was measured."""

    instance: Instance
    folder: Path
    base: Path
    figures: dict[str, list[float]] = field(default_factory=dict)

    def note(self, name: str, value: float) -> None:
        """Keep one figure."""
        self.figures.setdefault(name, []).append(value)

    def middle(self, name: str) -> float:
        """Return the median of a figure."""
        return float(statistics.median(self.figures[name]))

    def script(self, text: str, *arguments: str) -> str:
        """Run a script in VirtualBox's own Python."""
        done = subprocess.run(
            [str(self.instance.python), "-c", text, *arguments],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def images(self, _form: str, wanted: set[str]) -> Mapping[str, Image]:
        """Return the one disk for every image."""
        return {name: Image(name, "bench", self.base, self.base) for name in wanted}

    def up(self, plan: Plan, note: Callable[..., None] = lambda *_: None) -> Ledger:
        """Make a lab of machines that run; they find nothing to boot."""
        order = Order(self.folder / "state", plan, (), {}, {}, {}, note=note)
        return make(plan, self.images, order, ("", ""))


@contextmanager
def _bed() -> Iterator[Bed]:
    folder = Path(tempfile.mkdtemp(prefix="imlab-bench-"))
    instance = testbed.build().instance(folder / "home")
    before = {name: os.environ.get(name) for name in instance.environment}
    os.environ.update(instance.environment)
    asking.forget()
    bed = Bed(instance, folder, folder / "base.vdi")
    try:
        bed.script(MAKE_DISK, str(bed.base), str(DISK_MIB * MIB))
        with bed.base.open("r+b") as stream:  # behind the header and the table of a fixed disk
            stream.seek(2 * MIB)
            for _ in range(DISK_MIB - 2):
                stream.write(os.urandom(MIB))
        yield bed
    finally:
        instance.stop()
        asking.forget()
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
        shutil.rmtree(folder, ignore_errors=True)


def virtualbox(runs: int) -> list[Row]:
    """Machines created and running, disks cloned and copied, restored and started; API calls."""
    with _bed() as bed:
        for _ in range(runs):
            _agent(bed)
            for size in SIZES:
                _lab(bed, size)
            _copy(bed)
            _restore(bed)
        return _rows(bed, runs)


def _plan(size: int) -> Plan:
    """Return machines whose cables end nowhere: without the driver there are no other."""
    plan = make_plan(star(size, name=f"bench{size}", image="debian-base", disk=DISK_MIB))
    hosts = tuple(
        replace(
            host,
            provider=PROVIDER.name,
            memory_mib=MEMORY_MIB,
            adapters=tuple(replace(a, attach=_nowhere(n)) for a in host.adapters),
        )
        for n, host in enumerate(plan.hosts)
    )
    return replace(plan, hosts=hosts)


def _nowhere(number: int) -> dict[str, Any]:
    properties = {"dest": "127.0.0.1", "sport": str(45000 + number), "dport": "9"}
    return {"generic": {"driver": "UDPTunnel", "properties": properties}}


def _agent(bed: Bed) -> None:
    """Time an agent that reaches a VBoxSVC that runs: what each command costs at least."""
    with asking.start():  # that starts it
        since = time.monotonic()
        with asking.start():
            bed.note("agent", time.monotonic() - since)


def _lab(bed: Bed, size: int) -> None:
    marks: dict[str, float] = {}
    since = time.monotonic()
    ledger = bed.up(
        _plan(size),
        lambda text, *_: marks.update({text: time.monotonic() - since}),
    )
    bed.note(f"running {size}", time.monotonic() - since)
    bed.note(f"created {size}", marks["starting machines"])
    bed.note(f"calls up {size}", PROVIDER.calls["create"])
    if size == 1:
        disk = ledger.folder / "virtualbox" / "h1" / "disk.vdi"
        bed.note("clone MB", disk.stat().st_blocks * 512 / 1e6)
    since = time.monotonic()
    unmake(ledger)
    bed.note(f"down {size}", time.monotonic() - since)
    bed.note(f"calls down {size}", PROVIDER.calls["destroy"])


def _copy(bed: Bed) -> None:
    copy = bed.folder / "copy.vdi"
    bed.note("copy s", float(bed.script(COPY_DISK, str(bed.base), str(copy))))
    bed.note("copy MB", copy.stat().st_blocks * 512 / 1e6)
    copy.unlink()
    clone = bed.folder / "clone.vdi"
    took = json.loads(bed.script(CLONE_DISK, str(bed.base), str(clone)))
    bed.note("clone s", took)


CLONE_DISK = """
import sys, time, vboxapi
manager = vboxapi.VirtualBoxManager()
box, c = manager.getVirtualBox(), manager.constants
base = box.openMedium(sys.argv[1], c.DeviceType_HardDisk, c.AccessMode_ReadOnly, False)
clone = box.createMedium("VDI", sys.argv[2], c.AccessMode_ReadWrite, c.DeviceType_HardDisk)
since = time.monotonic()
base.createDiffStorage(clone, [c.MediumVariant_Diff]).waitForCompletion(-1)
print(time.monotonic() - since)
clone.deleteStorage().waitForCompletion(-1)
base.close()
"""


def _restore(bed: Bed) -> None:
    """Boot the small machine to SSH, save it, restore it to SSH."""
    disk = build_tiny(TINY).vdi
    plan = _plan(1)

    def images(_form: str, wanted: set[str]) -> Mapping[str, Image]:
        return {name: Image(name, "tiny", disk, disk) for name in wanted}

    since = time.monotonic()
    lab, _ = lifecycle.up(plan, images, root=bed.folder / "state")
    bed.note("boot", time.monotonic() - since)
    lifecycle.snapshot(lab, "bench")
    since = time.monotonic()
    lifecycle.restore(lab, "bench")
    bed.note("restore", time.monotonic() - since)
    lifecycle.down(lab.name, bed.folder / "state")


def _rows(bed: Bed, runs: int) -> list[Row]:
    rows = []
    for size in SIZES:
        many = f"{size} machine{'s' if size > 1 else ''}"
        created, running = bed.middle(f"created {size}"), bed.middle(f"running {size}")
        rows += [
            Row(f"{many} created", created, "reaching VirtualBox", bed.middle("agent"), "s", runs),
            Row(f"{many} running, interpreted", running, "created", created, "s", runs),
            Row(f"{many} gone", bed.middle(f"down {size}"), "running", running, "s", runs),
            Row(
                f"API calls to make {many}",
                bed.middle(f"calls up {size}"),
                "to remove them",
                bed.middle(f"calls down {size}"),
                "calls",
                runs,
            ),
        ]
    disk = f"a disk of {DISK_MIB} MiB"
    return [
        *rows,
        Row(f"linked clone of {disk}", bed.middle("clone s") * 1e3, "full copy",
            bed.middle("copy s") * 1e3, "ms", runs),
        Row("  and what it takes", bed.middle("clone MB") * 1e3, "full copy",
            bed.middle("copy MB") * 1e3, "kB", runs),
        Row("a machine restored, SSH answering", bed.middle("restore"), "lab-up, SSH answering",
            bed.middle("boot"), "s", runs),
    ]  # fmt: skip


BENCHMARKS: dict[str, Callable[[int], list[Row]]] = {"virtualbox": virtualbox}
