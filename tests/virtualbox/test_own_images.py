"""Images of the user's own: an OVA is imported, a disk is cloned, an ISO installs itself."""

from __future__ import annotations

import re
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import pycdlib
import pytest

from lab.errors import LabError
from lab.making import unmake
from lab.plan import PlannedImage
from lab.providers.virtualbox import asking
from lab.providers.virtualbox.provider import PROVIDER

if TYPE_CHECKING:
    from virtualbox_labs import Box, Labs

    from lab.plan import Plan

pytestmark = [pytest.mark.lab, pytest.mark.virtualbox]

EXPORT = """
import sys, vboxapi
manager = vboxapi.VirtualBoxManager()
box, c = manager.getVirtualBox(), manager.constants
folder = sys.argv[1]
machine = box.createMachine(folder + "/old/old.vbox", "old", c.PlatformArchitecture_x86, [],
                            "Windows7", "", "", "", "")
machine.memorySize = 512
box.registerMachine(machine)
session = manager.getSessionObject(None)
machine.lockMachine(session, c.LockType_Write)
session.machine.addStorageController("IDE", c.StorageBus_IDE)
disk = box.createMedium("VDI", folder + "/old/d.vdi", c.AccessMode_ReadWrite, c.DeviceType_HardDisk)
disk.createBaseStorage(8 << 20, [c.MediumVariant_Standard]).waitForCompletion(-1)
session.machine.attachDevice("IDE", 0, 0, c.DeviceType_HardDisk, disk)
session.machine.saveSettings()
session.unlockMachine()
appliance = box.createAppliance()
machine.exportTo(appliance, folder + "/mine.ova")
progress = appliance.write("ovf-2.0", [], folder + "/mine.ova")
progress.waitForCompletion(-1)
assert progress.resultCode == 0, progress.errorInfo.text
media = machine.unregister(c.CleanupMode_DetachAllReturnHardDisksOnly)
machine.deleteConfig(media).waitForCompletion(-1)
"""


def on(plan: Plan, image: PlannedImage, os: str) -> Plan:
    """Return the lab with its only host on that image."""
    return replace(plan, images=(image,), hosts=(replace(plan.hosts[0], image=image.name, os=os),))


DISKS = """
import json, sys, vboxapi
manager = vboxapi.VirtualBoxManager()
machine = manager.getVirtualBox().findMachine(sys.argv[1])
print(json.dumps({
    "os": machine.OSTypeId, "memory": machine.memorySize, "name": machine.name,
    "groups": list(manager.getArray(machine, "groups")), "settings": machine.settingsFilePath,
    "label": machine.getExtraData("imlab/host"),
    "disks": [[a.controller, a.medium.location, a.medium.parent and a.medium.parent.location]
              for a in manager.getArray(machine, "mediumAttachments") if a.medium],
}))
"""


def test_an_ova_becomes_a_machine_of_the_lab(box: Box, labs: Labs, tmp_path: Path) -> None:
    """Imported into the lab's folder with the plan's memory, name and label; it keeps its disks."""
    box.run(EXPORT, str(tmp_path))
    plan = on(box.plan(hosts=1), PlannedImage("mine", str(tmp_path / "mine.ova")), "windows-7-32")
    ledger = labs.make(plan)
    (row,) = ledger.owned("virtualbox", "machine")
    machine = box.run_json(DISKS, row["name"])
    folder = ledger.folder / "virtualbox" / "m1"
    assert (machine["name"], machine["label"]) == ("imlab-small-m1", "m1")
    assert (machine["memory"], machine["os"]) == (16, "Windows7")
    assert machine["groups"] == ["/imlab/small"]
    assert all(
        folder in Path(path).parents
        for path in (machine["settings"], *(location for _, location, _ in machine["disks"]))
    )
    assert PROVIDER.observe(ledger) == {"m1": None}
    unmake(ledger)
    assert not folder.exists()
    assert (tmp_path / "mine.ova").exists()


def test_a_disk_of_ones_own_is_never_written(box: Box, labs: Labs, tmp_path: Path) -> None:
    """The machine writes on a linked clone; the file is there afterwards as it was."""
    from virtualbox_labs import EMPTY_DISK

    disk = tmp_path / "windows.vdi"
    box.run(EMPTY_DISK, str(disk))
    before = disk.read_bytes()
    ledger = labs.make(on(box.plan(hosts=1), PlannedImage("mine", str(disk)), "windows-7-64"))
    (row,) = ledger.owned("virtualbox", "machine")
    machine = box.run_json(DISKS, row["name"])
    assert machine["os"] == "Windows7_64"
    assert str(disk) in [parent for _, _, parent in machine["disks"]]
    unmake(ledger)
    assert disk.read_bytes() == before


INFO = 'Debian GNU/Linux 12.5.0 "Bookworm" - Official amd64 NETINST with firmware 20240210-11:27\n'
BOOT = "default install\nlabel install\n  kernel /install.amd/vmlinuz\n  append vga=788 --- quiet\n"


GRUB = "menuentry 'Install' {\n linux /install.amd/vmlinuz --- quiet\n}\n"


def installation_cd(folder: Path) -> Path:
    """Make a CD that VirtualBox takes for Debian's installer; nothing on it boots."""
    cd = pycdlib.PyCdlib()
    cd.new(interchange_level=3, rock_ridge="1.09", joliet=3)
    made = set()
    for number, (name, text) in enumerate(
        {
            ".disk/info": INFO,
            "isolinux/isolinux.bin": "\0" * 4096,
            "isolinux/isolinux.cfg": BOOT,
            "isolinux/txt.cfg": BOOT,
            "boot/grub/grub.cfg": GRUB,
            "install.amd/vmlinuz": "none",
            "install.amd/initrd.gz": "none",
        }.items()
    ):
        path = Path(name)
        for parent in reversed(path.parents[:-1]):
            if parent not in made:
                made.add(parent)
                cd.add_directory(plain(parent), rr_name=parent.name, joliet_path=f"/{parent}")
        content = text.encode()
        where = f"{plain(path.parent)}/F{number}.;1"
        cd.add_fp(BytesIO(content), len(content), where, rr_name=path.name, joliet_path=f"/{name}")
        if name.endswith(".bin"):
            loader = where
    cd.add_eltorito(loader, bootcatfile="/BOOT.CAT;1", rr_bootcatname="boot.cat", boot_load_size=4)
    cd.write(str(folder / "debian.iso"))
    cd.close()
    return folder / "debian.iso"


def plain(path: Path) -> str:
    """Return a folder's name on a CD without extensions: letters, digits and underscores."""
    return "/" + "/".join(part.upper().replace(".", "_") for part in path.parts)


SECRET = "Bondo-and-Kisumu-2016"
UNATTENDED = {
    "user": "student", "password": SECRET, "full_name": "A Student", "product_key": None,
    "locale": "en_US", "time_zone": "Africa/Nairobi",
}  # fmt: skip


@pytest.mark.usefixtures("box")
def test_an_iso_is_recognised(tmp_path: Path) -> None:
    """VirtualBox says which system a CD installs."""
    with asking.start() as agent:
        found = agent.ask("detect", iso=str(installation_cd(tmp_path)))
    assert found["detectedOSTypeId"].startswith("Debian")
    assert found["detectedOSVersion"].startswith("12.5")


def test_an_iso_installs_itself_with_the_users_credentials(
    box: Box, labs: Labs, tmp_path: Path
) -> None:
    """VirtualBox writes its answer file for them, in the lab's folder, and boots the CD."""
    iso = installation_cd(tmp_path)
    image = PlannedImage("mine", str(iso), dict(UNATTENDED))
    ledger = labs.make(on(box.plan(hosts=1), image, "debian"))
    (row,) = ledger.owned("virtualbox", "machine")
    machine = box.run_json(DISKS, row["name"])
    folder = ledger.folder / "virtualbox" / "m1"
    media = [location for _, location, _ in machine["disks"]]
    assert str(folder / "disk.vdi") in media
    assert str(folder / "unattended-aux-iso.viso") in media
    answers = (folder / "unattended-preseed.cfg").read_text()
    assert "passwd/username string student" in answers
    (crypted,) = re.findall(r"passwd/user-password-crypted password (\S+)", answers)
    assert crypted.startswith("$6$")
    assert SECRET not in answers
    assert folder.stat().st_mode & 0o077 == 0
    assert SECRET not in repr(image)
    unmake(ledger)
    assert iso.exists()


def test_what_is_no_image_is_refused(box: Box, labs: Labs, tmp_path: Path) -> None:
    """A file that is not there, an ISO with nobody to install for, a file of another kind."""
    for name, saw in (
        ("none.vdi", "no such file"), ("bare.iso", "has to be installed"), ("a.txt", r"\.txt"),
    ):  # fmt: skip
        if name != "none.vdi":
            (tmp_path / name).write_bytes(b"")
        with pytest.raises(LabError, match=saw):
            labs.make(on(box.plan(hosts=1), PlannedImage("mine", str(tmp_path / name)), "debian"))
