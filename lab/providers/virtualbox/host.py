"""What the machine that VirtualBox runs on has: adapters, processor, guest types. In the agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.providers.virtualbox.api import Refused

if TYPE_CHECKING:
    from lab.providers.virtualbox.api import Api


def look(api: Api, *, everything: bool = False) -> dict[str, Any]:
    """Return the adapters that can be bridged to; with `everything`, all that doctor shows."""
    host = api.box.get("host")
    feature = api.constant("ProcessorFeature", "HWVirtEx")
    found: dict[str, Any] = {
        "hardware": bool(host.do("getProcessorFeature", feature)),
        "adapters": [
            {
                "name": adapter.get("name"),
                "up": api.name_of("HostNetworkInterfaceStatus", adapter.get("status")) == "Up",
                "wireless": bool(adapter.get("wireless")),
                "medium": api.name_of("HostNetworkInterfaceMediumType", adapter.get("mediumType")),
                "address": adapter.get("IPAddress"),
            }
            for adapter in host.get("networkInterfaces")
            if api.name_of("HostNetworkInterfaceType", adapter.get("interfaceType")) == "Bridged"
        ],
    }
    if everything:
        found.update(
            memory_free_mib=int(host.get("memoryAvailable")),
            memory_mib=int(host.get("memorySize")),
            processors=int(host.get("processorOnlineCount")),
            guest_types=sorted(str(t.get("id")) for t in api.box.get("guestOSTypes")),
            machines=len(api.box.get("machines")),
            home=str(api.box.get("homeFolder")),
            default_folder=_default_folder(api),
        )
    return found


def _default_folder(api: Api) -> str:
    try:
        return str(api.box.get("systemProperties", "defaultMachineFolder"))
    except Refused:
        return ""
