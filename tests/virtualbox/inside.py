"""Runs under the testbed's Python: does with VirtualBox what argv says, and answers in lines.

version                          the version
names                            the machines' names, a line each
create NAME | delete NAME        registers an empty machine; unregisters it, with its files
boot NAME DISK CD PORT SERIAL    runs a machine on a differencing copy of DISK, with port 22
                                 at 127.0.0.1:PORT and its console in SERIAL; says "running".
                                 On end-of-file from standard input presses the power button,
                                 says "off" when it is, and removes the machine
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import vboxapi

MANAGER = vboxapi.VirtualBoxManager()
VBOX = MANAGER.getVirtualBox()
C = MANAGER.constants


def done(progress: Any, seconds: float = 60.0) -> None:
    """Wait for an operation's end; raise what it says when it fails."""
    progress.waitForCompletion(int(seconds * 1000))
    if not progress.completed:
        raise SystemExit(f"not done after {seconds} s: {progress.description}")
    if progress.resultCode != 0:
        raise SystemExit(progress.errorInfo.text)


def machines() -> list[Any]:
    """Return the registered machines."""
    return list(MANAGER.getArray(VBOX, "machines"))


def create(name: str) -> Any:
    """Return a new machine, not registered yet."""
    x86 = C.PlatformArchitecture_x86
    machine = VBOX.createMachine("", name, x86, [], "Linux26_64", "", "", "", "")
    machine.memorySize = 128
    return machine


def delete(name: str) -> None:
    """Remove a machine; of its media only those in its own folder."""
    machine = VBOX.findMachine(name)
    folder = Path(machine.settingsFilePath).parent
    media = machine.unregister(C.CleanupMode_DetachAllReturnHardDisksOnly)
    own = [medium for medium in media if folder in Path(medium.location).parents]
    done(machine.deleteConfig(own))
    for medium in media:
        if medium not in own:
            medium.close()


def prepare(name: str, disk: str, cd: str, port: str, serial: str) -> Any:
    """Return a registered machine that can boot."""
    machine = create(name)
    firmware = machine.firmwareSettings
    firmware.bootMenuMode, firmware.logoDisplayTime = C.FirmwareBootMenuMode_Disabled, 0
    firmware.logoFadeIn = firmware.logoFadeOut = False
    console = machine.getSerialPort(0)
    console.path, console.enabled, console.hostMode = serial, True, C.PortMode_RawFile
    adapter = machine.getNetworkAdapter(0)
    adapter.adapterType = C.NetworkAdapterType_I82540EM
    adapter.attachmentType, adapter.MACAddress = C.NetworkAttachmentType_NAT, "525400123456"
    adapter.enabled = True
    adapter.NATEngine.addRedirect("ssh", C.NATProtocol_TCP, "127.0.0.1", int(port), "", 22)
    lan = machine.getNetworkAdapter(1)
    lan.adapterType, lan.MACAddress = C.NetworkAdapterType_I82540EM, "020000000003"
    lan.attachmentType, lan.enabled = C.NetworkAttachmentType_Null, True
    machine.addStorageController("disks", C.StorageBus_SATA).portCount = 2
    VBOX.registerMachine(machine)
    own = str(Path(machine.settingsFilePath).with_name("disk.vdi"))
    base = VBOX.openMedium(disk, C.DeviceType_HardDisk, C.AccessMode_ReadOnly, False)
    copy = VBOX.createMedium("VDI", own, C.AccessMode_ReadWrite, C.DeviceType_HardDisk)
    done(base.createDiffStorage(copy, [C.MediumVariant_Diff]))
    seed = VBOX.openMedium(cd, C.DeviceType_DVD, C.AccessMode_ReadOnly, False)
    session = MANAGER.getSessionObject(VBOX)
    machine.lockMachine(session, C.LockType_Write)
    session.machine.attachDevice("disks", 0, 0, C.DeviceType_HardDisk, copy)
    session.machine.attachDevice("disks", 1, 0, C.DeviceType_DVD, seed)
    session.machine.saveSettings()
    session.unlockMachine()
    return machine


def boot(name: str, *how: str) -> None:
    """Run a machine until standard input ends."""
    machine = prepare(name, *how)
    session = MANAGER.getSessionObject(VBOX)
    done(machine.launchVMProcess(session, "headless", []))
    print("running", flush=True)
    sys.stdin.read()
    session.console.powerButton()
    until = time.monotonic() + 60
    while machine.state != C.MachineState_PoweredOff:
        if time.monotonic() > until:
            raise SystemExit(f"still in state {machine.state}")
        time.sleep(0.1)
    while machine.sessionState != C.SessionState_Unlocked:
        time.sleep(0.1)
    print("off", flush=True)
    delete(name)


def main(verb: str, *rest: str) -> None:
    """Do it."""
    if verb == "version":
        print(VBOX.version)
    elif verb == "names":
        for machine in machines():
            print(machine.name)
    elif verb == "create":
        VBOX.registerMachine(create(*rest))
    else:
        {"delete": delete, "boot": boot}[verb](*rest)


main(*sys.argv[1:])
