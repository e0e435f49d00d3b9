"""VirtualBox's refusals as errors that a user can act on. Pure."""

from __future__ import annotations

import platform
import re
from typing import TYPE_CHECKING

from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from lab.providers.virtualbox.asking import Denied

DRIVER = {
    "Linux": (
        "load VirtualBox's kernel driver: sudo modprobe vboxdrv; if there is none, install"
        " virtualbox-dkms and the kernel's headers, or run sudo /sbin/vboxconfig (with Secure Boot"
        " its module has to be signed)"
    ),
    "Darwin": "allow VirtualBox's extension in System Settings, Privacy & Security; restart",
    "Windows": "repair VirtualBox with its installer, as an administrator; restart",
}
HARDWARE = (
    "switch on virtualisation (VT-x, AMD-V) in the firmware's settings; on Windows, switch off"
    " Hyper-V and memory integrity, which keep it for themselves"
)
#: What is found in VirtualBox's words -> (whose fault, what to do). The first that fits.
KNOWN: tuple[tuple[str, Fault, str], ...] = (
    (r"VERR_SUP_DRIVERLESS|driverless", Fault.MACHINE, ""),
    (r"VERR_VM_DRIVER|kernel driver|VERR_SUPDRV|vboxdrv", Fault.MACHINE, ""),
    (r"VERR_(VMX|SVM|NEM)_|hardware virtualization", Fault.MACHINE, HARDWARE),
    (
        r"[Gg]uest OS type",
        Fault.SPEC,
        "write the host's `os` as one of docs/virtualbox.md, or as VirtualBox's own name of it",
    ),
    (
        r"with UUID .* already exists|VERR_ALREADY_EXISTS",
        Fault.MACHINE,
        "close that other file in VirtualBox's Media Manager: two of one identity cannot be open",
    ),
    (
        r"VERR_NO_MEMORY|not enough memory|NS_ERROR_OUT_OF_MEMORY|E_OUTOFMEMORY",
        Fault.MACHINE,
        "end other programs, or give the hosts less `memory`",
    ),
    (r"VERR_DISK_FULL|No space left", Fault.MACHINE, "free space where labs are kept"),
)


def explained(error: Denied, doing: str) -> LabError:
    """Return the LabError for a refusal of VirtualBox."""
    words = error.text or error.kind
    saw = f"{words}\n({error.call}: {error.code})" if error.call else words
    if error.kind == "Ended":
        saw = f"the process that speaks with VirtualBox ended:\n{words}"
    for pattern, fault, todo in KNOWN:
        if re.search(pattern, words):
            driver = DRIVER.get(platform.system(), DRIVER["Linux"])
            return LabError(doing, saw, fault=fault, todo=todo or driver)
    return LabError(
        doing, saw, fault=Fault.MACHINE, todo="run `./inv doctor --provider virtualbox`"
    )
