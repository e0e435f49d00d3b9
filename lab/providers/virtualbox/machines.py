"""Machines: made from plain data, started side by side, looked at. Runs in the agent.

A machine's order (jobs.py makes it) is a dict:

    uuid, host, name, settings (path of its .vbox), group, labels, os, memory, cpus, firmware,
    source (media.py, owned.py), disk and seed and console (paths), disk_mib, nics

and a NIC is {slot, mac, attach}, attach as in the plan or {"none": true}.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.providers.virtualbox import media, owned
from lab.providers.virtualbox.api import Late, Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.providers.virtualbox.api import Api, Thing

LABEL = "imlab/"  # how our extra data begins: imlab/lab_id, imlab/lab, imlab/host
SLOTS = 8  # network adapters of a PIIX3 chipset
DISK = "disk"  # the storage controller that imlab adds: port 0 the disk, port 1 the seed CD
MAKING = 120.0  # seconds for one machine, whose disk may have to be imported
STARTING = 120.0  # seconds until all that start together run
VRAM = 16  # MiB
#: Milliseconds until an adapter of a machine that was restored has its link again, 5000 by default.
LINK_UP_DELAY = "VBoxInternal/Devices/e1000/{}/Config/LinkUpDelay"


def make(api: Api, order: dict[str, Any], note: Callable[[str], None]) -> str:
    """Make a machine that is powered off, with all it needs; return its UUID.

    Labelled before it is registered: what is in VirtualBox's list can be told to be ours.
    Raises Refused, Late.
    """
    end = time.monotonic() + MAKING
    source = order["source"]
    Path(order["settings"]).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if source["kind"] == "appliance":
        note(f"importing {Path(source['path']).name}")
        machine = owned.import_appliance(api, order)
    else:
        api.box.do("getGuestOSType", order["os"])  # createMachine takes any word since 7.1
        machine = api.create_machine(
            settings=order["settings"],
            name=order["name"],
            groups=[order["group"]],
            os=order["os"],
            flags=f"UUID={order['uuid']}",
        )
        _configure(api, machine, order)
        _label(machine, order)
        api.box.do("registerMachine", machine)
    with _locked(api, machine) as mutable:
        if source["kind"] == "appliance":
            _configure(api, mutable, order)
            _label(mutable, order)
            mutable.put("groups", [order["group"]])
        media.plug_in(api, mutable, order, end)
        mutable.do("saveSettings")
    if source["kind"] == "unattended":
        note(f"preparing the unattended installation of {order['host']!r}")
        owned.prepare_installation(api, machine, order)
    return str(machine.get("id"))


def _label(machine: Thing, order: dict[str, Any]) -> None:
    for key, value in order["labels"].items():
        machine.do("setExtraData", LABEL + key, value)
    for nic in order["nics"]:
        machine.do("setExtraData", LINK_UP_DELAY.format(nic["slot"]), "100")


def _configure(api: Api, machine: Thing, order: dict[str, Any]) -> None:
    sign = api.signature
    machine.put("memorySize", order["memory"])
    machine.put("CPUCount", order["cpus"])
    machine.put(*sign.firmware_type, api.constant("FirmwareType", order["firmware"].upper()))
    _firmware(api, machine, order)
    machine.put(*sign.utc_clock, not order["os"].startswith("Windows"))
    machine.get(*sign.cpu).do(
        "setCPUProperty", api.constant(sign.cpu_enum, "PAE"), not order["os"].endswith("_64")
    )
    machine.put(*sign.audio, "enabled", False)  # noqa: FBT003 - as above
    machine.put("graphicsAdapter", "VRAMSize", VRAM)
    _console(api, machine.do("getSerialPort", 0), order["console"])
    wired = {nic["slot"]: nic for nic in order["nics"]}
    for slot in range(SLOTS):
        adapter = machine.do("getNetworkAdapter", slot)
        if slot in wired:
            _wire(api, adapter, wired[slot])
        else:
            adapter.put("enabled", False)  # noqa: FBT003 - as above


def _firmware(api: Api, machine: Thing, order: dict[str, Any]) -> None:
    """Boot from the disk at once: without a menu, a logo and other places to look at."""
    sign = api.signature
    settings = machine.get(*sign.firmware)
    settings.put("IOAPICEnabled", True)  # noqa: FBT003 - the setting's own value
    settings.put("bootMenuMode", api.constant(sign.boot_menu_enum, "Disabled"))
    settings.put("logoFadeIn", False)  # noqa: FBT003 - as above
    settings.put("logoFadeOut", False)  # noqa: FBT003 - as above
    settings.put("logoDisplayTime", 0)
    second = "DVD" if order["source"]["kind"] == "unattended" else "Null"
    for position, device in enumerate(("HardDisk", second, "Null", "Null"), 1):
        machine.do("setBootOrder", position, api.constant("DeviceType", device))


def _console(api: Api, port: Thing, path: str) -> None:
    port.put("enabled", True)  # noqa: FBT003 - as above
    port.put("path", path)
    port.put("hostMode", api.constant("PortMode", "RawFile"))


def _wire(api: Api, adapter: Thing, nic: dict[str, Any]) -> None:
    adapter.put("enabled", True)  # noqa: FBT003 - as above
    # Windows 7, Debian and a small kernel all have its driver.
    adapter.put("adapterType", api.constant("NetworkAdapterType", "I82540EM"))
    adapter.put("MACAddress", nic["mac"].replace(":", "").upper())
    ((kind, value),) = nic["attach"].items()
    if kind == "bridged":
        adapter.put("bridgedInterface", value)
    elif kind == "internal":
        adapter.put("internalNetwork", value)
    elif kind == "generic":
        adapter.put("genericDriver", value["driver"])
        for name, text in value["properties"].items():
            adapter.do("setProperty", name, str(text))
    elif kind == "nat":
        _translate(api, adapter.get("NATEngine"), value)
    types = {"nat": "NAT", "none": "Null"}
    name = types.get(kind, kind.capitalize())
    adapter.put("attachmentType", api.constant("NetworkAttachmentType", name))
    adapter.put("cableConnected", kind != "none")


def _translate(api: Api, engine: Thing, value: dict[str, Any]) -> None:
    """Set a NAT engine up; `closed` is for a way in that is no way out.

    Bound to the loopback address its connections reach nothing else, and what listens there is
    kept from it. A name server is not offered.
    """
    if value.get("closed"):
        engine.put("hostIP", "127.0.0.1")
        engine.put("DNSPassDomain", False)  # noqa: FBT003 - as above
        if api.signature.localhost:
            engine.put("localhostReachable", False)  # noqa: FBT003 - as above
    tcp = api.constant("NATProtocol", "TCP")
    for forward in value.get("forwards", ()):
        engine.do(
            "addRedirect",
            forward.get("name") or f"tcp{forward['host_port']}",
            api.constant("NATProtocol", "UDP") if forward.get("protocol") == "udp" else tcp,
            "127.0.0.1",
            int(forward["host_port"]),
            "",
            int(forward["guest_port"]),
        )


class _locked:  # noqa: N801 - used like a function
    """The changeable half of a machine, for as long as its write lock is held."""

    def __init__(self, api: Api, machine: Thing) -> None:
        self.api, self.machine, self.session = api, machine, api.session()

    def __enter__(self) -> Thing:
        lock = self.api.constant("LockType", "Write")
        self.machine.do("lockMachine", self.session, lock)
        mutable: Thing = self.session.get("machine")
        return mutable

    def __exit__(self, *_: object) -> None:
        self.session.do("unlockMachine")


def start(api: Api, uuids: list[str], frontend: str, environment: list[str]) -> None:
    """Start machines side by side; return when all run. Raises Refused of the first that cannot."""
    begun: list[tuple[str, Thing, Thing]] = []
    end = time.monotonic() + STARTING
    failed: Exception | None = None
    for uuid in uuids:
        machine, session = api.box.do("findMachine", uuid), api.session()
        name = str(machine.get("name"))
        try:
            progress = machine.do("launchVMProcess", session, frontend, environment)
        except Refused as error:
            failed = failed or error
            break
        begun.append((name, session, progress))
    for name, session, progress in begun:
        try:
            api.finish(progress, f"starting {name}", end)
        except (Refused, Late) as error:
            failed = failed or error
        else:
            try:
                session.do("unlockMachine")
            except Refused as error:
                failed = failed or Refused(
                    f"starting {name}", error.code, "its process ended as soon as it ran"
                )
    if failed:
        raise failed


def observe(api: Api, uuids: dict[str, str]) -> dict[str, str | None]:
    """Return each host (host -> UUID) with None if its machine runs, else why it does not."""
    found: dict[str, str | None] = {}
    for host, uuid in uuids.items():
        try:
            state = state_of(api, api.box.do("findMachine", uuid))
        except Refused as error:
            known = error.code == "VBOX_E_OBJECT_NOT_FOUND"
            found[host] = "VirtualBox has no such machine" if known else error.text
        else:
            found[host] = None if state == "Running" else f"the machine is not running: {state}"
    return found


def state_of(api: Api, machine: Thing) -> str:
    """Return a machine's state by the name of this version's enum."""
    return api.name_of("MachineState", machine.get("state"))
