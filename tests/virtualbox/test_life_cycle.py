"""Machines of a VirtualBox that runs: made, looked at, taken away, and nothing else is touched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.errors import LabError
from lab.making import unmake
from lab.providers.virtualbox.provider import PROVIDER

if TYPE_CHECKING:
    from virtualbox_labs import Box, Labs

pytestmark = [pytest.mark.lab, pytest.mark.virtualbox]

DESCRIBE = """
import json, sys, vboxapi
manager = vboxapi.VirtualBoxManager()
box = manager.getVirtualBox()
found = {}
for machine in manager.getArray(box, "machines"):
    nics = [machine.getNetworkAdapter(n) for n in range(8)]
    serial = machine.getSerialPort(0)
    found[machine.name] = {
        "id": machine.id, "groups": list(manager.getArray(machine, "groups")),
        "memory": machine.memorySize, "cpus": machine.CPUCount, "os": machine.OSTypeId,
        "firmware": machine.firmwareSettings.firmwareType,
        "settings": machine.settingsFilePath, "console": serial.path,
        "labels": {k: machine.getExtraData("imlab/" + k) for k in ("lab_id", "lab", "host")},
        "macs": [n.MACAddress for n in nics if n.enabled],
        "redirects": [r for n in nics if n.enabled
                      for r in manager.getArray(n.NATEngine, "redirects")],
        "nat": [[n.NATEngine.hostIP, n.NATEngine.localhostReachable] for n in nics if n.enabled],
        "media": [a.medium.location for a in manager.getArray(machine, "mediumAttachments")
                  if a.medium],
    }
print(json.dumps(found))
"""


def test_a_machine_is_what_the_plan_says(box: Box, labs: Labs) -> None:
    """Name, label, group, size, type, cables and the one way in, which is no way out."""
    ledger = labs.make(box.plan(hosts=1))
    row = ledger.owned("virtualbox", "machine")[0]
    machine = box.run_json(DESCRIBE)["imlab-small-m1"]
    folder = str(ledger.folder / "virtualbox" / "m1")
    assert machine["id"] == row["name"]
    assert machine["labels"] == {"lab_id": ledger.lab_id, "lab": "small", "host": "m1"}
    assert machine["groups"] == ["/imlab/small"]
    assert (machine["memory"], machine["cpus"], machine["os"]) == (16, 1, "Debian_64")
    assert machine["macs"] == ["0A0000000001", row["mac"].replace(":", "").upper()]
    assert machine["redirects"] == [f"imlab-ssh,1,127.0.0.1,{row['port']},,22"]
    assert machine["nat"][1] == ["127.0.0.1", 0]
    assert sorted(machine["media"]) == [f"{folder}/disk.vdi", f"{folder}/seed.iso"]
    assert machine["console"] == f"{folder}/console.log"
    assert machine["settings"].startswith(folder)
    assert Path(f"{folder}/seed.iso").stat().st_mode & 0o777 == 0o600


def test_machines_live_until_they_are_taken_away(box: Box, labs: Labs) -> None:
    """Observe sees each; destroy leaves no machine, medium or file, and can be repeated."""
    ledger = labs.make(box.plan())
    assert PROVIDER.observe(ledger) == {"m1": None, "m2": None}
    PROVIDER.destroy(ledger, 10.0)
    assert PROVIDER.observe(ledger) == dict.fromkeys(("m1", "m2"), "its machine is not on record")
    assert [path.name for path in ledger.folder.iterdir() if path.is_dir()] == []
    PROVIDER.destroy(ledger, 10.0)
    unmake(ledger)


def test_a_machine_that_was_switched_off_is_seen(box: Box, labs: Labs) -> None:
    """The reason is VirtualBox's own word for the machine's state."""
    ledger = labs.make(box.plan(hosts=1))
    (row,) = ledger.owned("virtualbox", "machine")
    box.run(POWER_OFF, row["name"])
    assert PROVIDER.observe(ledger) == {"m1": "the machine is not running: PoweredOff"}


POWER_OFF = """
import sys, vboxapi
manager = vboxapi.VirtualBoxManager()
session = manager.getSessionObject(None)
machine = manager.getVirtualBox().findMachine(sys.argv[1])
machine.lockMachine(session, manager.constants.LockType_Shared)
session.console.powerDown().waitForCompletion(-1)
"""

STRANGER = """
import sys, vboxapi
manager = vboxapi.VirtualBoxManager()
box, c = manager.getVirtualBox(), manager.constants
folder = sys.argv[1]
machine = box.createMachine(folder + "/strange.vbox", "imlab-small-m1", c.PlatformArchitecture_x86,
                            ["/imlab/small"], "Debian_64", "", "", "", "")
machine.setExtraData("imlab/lab", "small")
machine.setExtraData("imlab/lab_id", "of another lab")
box.registerMachine(machine)
disk = box.createMedium("VDI", folder + "/disk.vdi", c.AccessMode_ReadWrite, c.DeviceType_HardDisk)
disk.createBaseStorage(1 << 20, [c.MediumVariant_Standard]).waitForCompletion(-1)
print(machine.id)
"""
GO_STRANGER = """
import sys, vboxapi
manager = vboxapi.VirtualBoxManager()
box, c = manager.getVirtualBox(), manager.constants
machine = box.findMachine(sys.argv[1])
machine.unregister(c.CleanupMode_UnregisterOnly)
machine.deleteConfig([]).waitForCompletion(-1)
for disk in manager.getArray(box, "hardDisks"):
    if disk.location == sys.argv[2]:
        disk.deleteStorage().waitForCompletion(-1)
"""


def test_a_stranger_of_the_same_name_is_no_obstacle_and_stays(
    box: Box, labs: Labs, tmp_path: Path
) -> None:
    """A machine of the same name, group and label key, and a disk of the same file name."""
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    uuid = box.run(STRANGER, str(stranger)).strip()
    with_stranger = box.lists()
    try:
        ledger = labs.make(box.plan())
        assert PROVIDER.observe(ledger) == {"m1": None, "m2": None}
        assert uuid in box.lists()["machines"]
        unmake(ledger)
        assert box.lists() == with_stranger
        assert (stranger / "disk.vdi").exists()
    finally:
        box.run(GO_STRANGER, uuid, str(stranger / "disk.vdi"))


def test_two_labs_share_a_base_that_the_last_one_closes(box: Box, labs: Labs) -> None:
    """Each machine has a disk of its own on it; the base is never written."""
    written = box.base.stat().st_mtime_ns
    first, second = labs.make(box.plan("one", 1)), labs.make(box.plan("two", 1))
    ((base, children),) = box.lists()["disks"]
    assert (base, len(children)) == (str(box.base), 2)
    unmake(first)
    assert [len(children) for _, children in box.lists()["disks"]] == [1]
    assert PROVIDER.observe(second) == {"m1": None}
    unmake(second)
    assert box.lists()["disks"] == []
    assert box.base.stat().st_mtime_ns == written


def test_what_cannot_be_made_leaves_nothing(box: Box, labs: Labs, tmp_path: Path) -> None:
    """The second machine's disk has gone: the first one goes, too, and so does the record."""

    def images(form: str, wanted: set[str]) -> object:
        from dataclasses import replace

        there = box.images(form, wanted).items()
        return {name: replace(image, path=tmp_path / "gone.vdi") for name, image in there}

    with pytest.raises(LabError, match="gone|not exist|find"):
        labs.make(box.plan(), images)
    assert list((labs.root / "labs").glob("[!.]*")) == []


def test_a_record_that_was_cut_short_is_no_obstacle(box: Box, labs: Labs) -> None:
    """Of a lab whose ledger cannot be read all goes nevertheless: the label tells what it had."""
    ledger = labs.make(box.plan())
    (ledger.folder / "ledger.json").write_bytes(b'{"format": 1, "pl')
    unmake(ledger)
    assert box.lists()["machines"] == []


def test_machines_whose_files_were_removed_by_hand_go(box: Box, labs: Labs) -> None:
    """VirtualBox keeps them on its list as inaccessible; the ledger tells whose they are."""
    import shutil

    ledger = labs.make(box.plan())
    box.instance.stop()  # as after a restart of the machine
    shutil.rmtree(ledger.folder / "virtualbox" / "m1")
    assert PROVIDER.observe(ledger)["m1"] is not None
    unmake(ledger)
    assert box.lists()["machines"] == []


def test_labs_come_and_go_side_by_side(box: Box, labs: Labs) -> None:
    """Three at once, on one base and with hosts of the same names, and none in another's way."""
    from concurrent.futures import ThreadPoolExecutor

    def once(name: str) -> dict[str, str | None]:
        ledger = labs.make(box.plan(name, 1))
        seen = PROVIDER.observe(ledger)
        unmake(ledger)
        return seen

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(once, ("one", "two", "three"))) == [{"m1": None}] * 3
    assert box.lists()["disks"] == []
