"""Disks and CDs of machines: a linked clone of a base that is never written. Runs in the agent."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.providers.virtualbox.api import Refused, walk

if TYPE_CHECKING:
    from lab.providers.virtualbox.api import Api, Thing

CONTROLLER = "imlab"
MIB = 1 << 20
TRIES = 3  # another lab that goes down may close a base between our opening and our using it


def plug_in(api: Api, machine: Thing, order: dict[str, Any], end: float) -> None:
    """Give a locked machine its controller, disk and seed CD."""
    source = order["source"]
    device = {name: api.constant("DeviceType", name) for name in ("HardDisk", "DVD")}
    controller = machine.do("addStorageController", CONTROLLER, api.constant("StorageBus", "SATA"))
    controller.put("portCount", 3)
    if source["kind"] == "disk":
        disk = linked_clone(api, source["path"], order["disk"], end)
        machine.do("attachDevice", CONTROLLER, 0, 0, device["HardDisk"], disk)
    elif source["kind"] == "unattended":
        disk = new_disk(api, order["disk"], order["disk_mib"] * MIB, end)
        machine.do("attachDevice", CONTROLLER, 0, 0, device["HardDisk"], disk)
    if source["kind"] == "unattended":  # where the installer puts its CD
        machine.do("attachDeviceWithoutMedium", CONTROLLER, 2, 0, device["DVD"])
    machine.do("attachDevice", CONTROLLER, 1, 0, device["DVD"], _open(api, order["seed"], "DVD"))


def linked_clone(api: Api, base: str, path: str, end: float) -> Thing:
    """Return a new disk at `path` that holds what differs from `base`."""
    for attempt in range(TRIES):
        try:
            return _difference(api, _open(api, base, "HardDisk"), path, end)
        except Refused as error:
            if attempt == TRIES - 1 or error.code != "VBOX_E_INVALID_OBJECT_STATE":
                raise
    raise AssertionError  # the loop returns or raises


def _difference(api: Api, base: Thing, path: str, end: float) -> Thing:
    disk = _new(api, path)
    variant = [api.constant("MediumVariant", "Diff")]
    api.finish(base.do("createDiffStorage", disk, variant), "cloning the disk", end)
    return disk


def new_disk(api: Api, path: str, size: int, end: float) -> Thing:
    """Return a new empty disk of that many bytes, which grows as it is filled."""
    disk = _new(api, path)
    variant = [api.constant("MediumVariant", "Standard")]
    api.finish(disk.do("createBaseStorage", size, variant), "making a disk", end)
    return disk


def _new(api: Api, path: str) -> Thing:
    mode, kind = api.constant("AccessMode", "ReadWrite"), api.constant("DeviceType", "HardDisk")
    disk: Thing = api.box.do("createMedium", "VDI", path, mode, kind)
    return disk


def _open(api: Api, path: str, kind: str) -> Thing:
    mode = api.constant("AccessMode", "ReadOnly")
    try:
        medium: Thing = api.box.do(
            "openMedium",
            path,
            api.constant("DeviceType", kind),
            mode,
            False,  # noqa: FBT003 - the file keeps its UUID
        )
    except Refused as error:
        raise _why_not_opened(api, path, error) from error
    return medium


def _why_not_opened(api: Api, path: str, error: Refused) -> Refused:
    """Say what VirtualBox does not: its words are of an object that does not exist."""
    if not Path(path).is_file():
        return Refused(error.call, error.code, f"there is no file {path}")
    mine = uuid_of(path)
    for other in everything(api):
        if mine and other.get("id") == mine:
            where = other.get("location")
            text = f"{path}: a disk with UUID {mine} already exists, in {where}"
            return Refused(error.call, error.code, text)
    return Refused(error.call, error.code, f"{path}: {error.text}")


def uuid_of(path: str) -> str:
    """Return the UUID in the header of a VDI, "" for another file."""
    with Path(path).open("rb") as stream:
        header = stream.read(0x198)
    if header[0x40:0x44] != b"\x7f\x10\xda\xbe":  # the signature of VDICore.h, little-endian
        return ""
    return str(uuid.UUID(bytes_le=header[0x188:0x198]))


def known(api: Api, paths: list[str]) -> list[str]:
    """Return which of these files VirtualBox has open as media, whoever opened them."""
    there = {Path(medium.get("location")) for medium in everything(api)}
    return [path for path in paths if Path(path) in there]


def everything(api: Api) -> list[Thing]:
    """Return all disks (children before parents) and CDs that VirtualBox knows."""
    return [*walk(api.box.get("hardDisks")), *api.box.get("DVDImages")]


def within(path: str, folder: str) -> bool:
    """Tell whether a path is below a folder."""
    return Path(folder) in Path(path).parents
