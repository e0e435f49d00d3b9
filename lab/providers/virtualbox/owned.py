"""Images that are the user's own: an OVA, or an ISO with unattended installation. In the agent.

A VDI is a base like any other (media.linked_clone): it is never written.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.providers.virtualbox.api import Refused

if TYPE_CHECKING:
    from lab.providers.virtualbox.api import Api, Thing

IMPORTING = 1800.0  # seconds


def import_appliance(api: Api, order: dict[str, Any]) -> Thing:
    """Import the one machine of an OVA into the lab's folder, under the lab's name and group.

    It gets a UUID of VirtualBox's choice: until it is labelled, where it lies tells whose it is.
    """
    appliance = api.box.do("createAppliance")
    end = time.monotonic() + IMPORTING
    api.finish(appliance.do("read", order["source"]["path"]), "reading the appliance", end)
    appliance.do("interpret")
    descriptions = appliance.get("virtualSystemDescriptions")
    if len(descriptions) != 1:
        raise Refused("importing the appliance", "imlab", f"it has {len(descriptions)} machines")
    _place(api, descriptions[0], order)
    api.finish(appliance.do("importMachines", []), "importing the appliance", end)
    (uuid,) = appliance.get("machines")
    machine: Thing = api.box.do("findMachine", uuid)
    return machine


def _place(api: Api, description: Thing, order: dict[str, Any]) -> None:
    """Say where the machine and its disks shall lie; leave out what a lab does not use."""
    folder = Path(order["settings"]).parent
    wanted = {
        "Name": order["name"],
        "PrimaryGroup": order["group"],
        "SettingsFile": order["settings"],
        "BaseFolder": str(folder.parent),
    }
    kinds, _, _, values, extra = description.do("getDescription")
    enabled, names = [], {}
    for kind in {int(k) for k in kinds}:
        names[kind] = api.name_of("VirtualSystemDescriptionType", kind)
    disks = 0
    chosen = []
    for kind, value in zip(kinds, values):  # noqa: B905 - Python 3.9 has no strict
        name = names[int(kind)]
        enabled.append(name not in {"SoundCard", "USBController", "Floppy", "CDROM"})
        if name == "HardDiskImage":
            chosen.append(str(folder / f"disk{disks}.vmdk"))
            disks += 1
        else:
            chosen.append(wanted.get(name, value))
    description.do("setFinalValues", enabled, chosen, list(extra))


def detect(api: Api, iso: str) -> dict[str, str]:
    """Return what VirtualBox thinks an installation CD is of."""
    installer = api.box.do("createUnattendedInstaller")
    installer.put("isoPath", iso)
    try:
        installer.do("detectIsoOS")
    except Refused as error:
        if error.code != "E_NOTIMPL" and "not detect" not in error.text.lower():
            raise
    names = ("detectedOSTypeId", "detectedOSVersion", "detectedOSFlavor", "detectedOSLanguages")
    return {name: str(installer.get(name)) for name in names}


def prepare_installation(api: Api, machine: Thing, order: dict[str, Any]) -> None:
    """Make the machine install itself at its first start, with the user's credentials.

    They come over the agent's standard input and go to VirtualBox, which writes them into the
    answer file beside the machine: in the lab's folder, which only its owner can read.
    """
    wish = order["source"]
    installer = api.box.do("createUnattendedInstaller")
    installer.put("isoPath", wish["path"])
    installer.put("machine", machine)
    installer.put("user", wish["user"])
    for attribute in api.signature.passwords:
        installer.put(attribute, wish["password"])
    for attribute, key in {
        "fullUserName": "full_name",
        "productKey": "product_key",
        "locale": "locale",
        "language": "language",
        "country": "country",
        "timeZone": "time_zone",
        "postInstallCommand": "then",
    }.items():
        if wish.get(key):
            installer.put(attribute, wish[key])
    if wish.get("image_index"):
        installer.put("imageIndex", int(wish["image_index"]))
    installer.put("hostname", f"{order['host']}.imlab.test")
    installer.put("installGuestAdditions", False)  # noqa: FBT003 - the setting's own value
    installer.put("auxiliaryBasePath", str(Path(order["settings"]).parent / "unattended-"))
    installer.do("prepare")
    installer.do("constructMedia")
    installer.do("reconfigureVM")
