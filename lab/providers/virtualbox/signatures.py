"""What differs between VirtualBox 6.1, 7.0, 7.1 and 7.2 of what a lab needs: one table.

Names are those of the SDK reference of each version. `path` fields lead from a machine to a
setting: ("firmwareSettings", "firmwareType") is machine.firmwareSettings.firmwareType. All else
that a lab needs is called alike in the four.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

Path = tuple[str, ...]


@dataclass(frozen=True)
class Signature:
    """How one version wants to be called.

    create_machine -- the parameters of IVirtualBox::createMachine, in order.
    platform       -- the value of its parameter of that name (an enum of PlatformArchitecture).
    cpu            -- whose setCPUProperty it is; cpu_enum -- the enum of its first parameter.
    passwords      -- the attributes of IUnattended that take the password.
    localhost      -- whether INATEngine has localhostReachable.
    """

    version: str
    create_machine: Path
    firmware_type: Path
    firmware: Path
    boot_menu_enum: str
    utc_clock: Path
    cpu: Path
    cpu_enum: str
    audio: Path
    passwords: Path
    localhost: bool


V6_1 = Signature(
    version="6.1",
    create_machine=("settings", "name", "groups", "os", "flags"),
    firmware_type=("firmwareType",),
    firmware=("BIOSSettings",),
    boot_menu_enum="BIOSBootMenuMode",
    utc_clock=("RTCUseUTC",),
    cpu=(),
    cpu_enum="CPUPropertyType",
    audio=("audioAdapter",),
    passwords=("password",),
    localhost=False,
)
#: Machines may be encrypted: three parameters more. Audio has settings of its own.
V7_0 = replace(
    V6_1,
    version="7.0",
    create_machine=(*V6_1.create_machine, "cipher", "password_id", "password"),
    audio=("audioSettings", "adapter"),
    localhost=True,
)
#: Machines are of a platform (x86, ARM), which took over what belongs to one.
V7_1 = replace(
    V7_0,
    version="7.1",
    create_machine=("settings", "name", "platform", *V7_0.create_machine[2:]),
    firmware_type=("firmwareSettings", "firmwareType"),
    firmware=("firmwareSettings",),
    boot_menu_enum="FirmwareBootMenuMode",
    utc_clock=("platform", "RTCUseUTC"),
    cpu=("platform", "x86"),
    cpu_enum="CPUPropertyTypeX86",
    passwords=("userPassword", "adminPassword"),
)
V7_2 = replace(V7_1, version="7.2")

SIGNATURES = {(6, 1): V6_1, (7, 0): V7_0, (7, 1): V7_1, (7, 2): V7_2}
OLDEST, NEWEST = min(SIGNATURES), max(SIGNATURES)


class UnknownVersion(ValueError):  # noqa: N818 - a refusal
    """Raised for a version older than any in the table."""


def signature(api_version: str) -> Signature:
    """Return how to call the VirtualBox whose IVirtualBox::APIVersion is e.g. "7_2".

    One that is newer than all in the table is called like the newest, since its predecessors kept
    what they had; what then fails says so. Raises UnknownVersion for an older one.
    """
    match = re.match(r"(\d+)[_.](\d+)", api_version)
    version = (int(match[1]), int(match[2])) if match else (0, 0)
    if version < OLDEST:
        raise UnknownVersion(api_version)
    return SIGNATURES[max(known for known in SIGNATURES if known <= version)]
