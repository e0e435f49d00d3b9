"""What `./inv doctor --provider virtualbox` says: each answer comes from VirtualBox itself."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.errors import LabError
from lab.ledger import state_root
from lab.providers.base import Finding
from lab.providers.virtualbox import asking
from lab.providers.virtualbox.adapters import HostAdapter, fitting
from lab.providers.virtualbox.refusals import DRIVER, HARDWARE

if TYPE_CHECKING:
    from collections.abc import Iterable

DEVICE = Path("/dev/vboxdrv")
MEMORY_MIB, DISK_MIB = 1024, 2048  # the paper's guest; its disk as it grows


def check() -> Iterable[Finding]:
    """Yield what there is, the first thing that is missing last."""
    try:
        with asking.start() as agent:
            facts, seen = agent.facts, agent.ask("look", everything=True)
            python = shlex.join(agent.python)
    except LabError as error:
        return [Finding("VirtualBox", "fail", error.saw, error.todo)]
    except asking.Denied as error:
        return [Finding("VirtualBox", "fail", error.text, "see whether its own window opens")]
    signed = (
        "" if facts["signature"] in facts["version"] else f", spoken to as {facts['signature']}"
    )
    return [
        Finding("its Python", "ok", f"{python} ({facts['python']}) has vboxapi"),
        Finding("VirtualBox", "ok", f"{facts['version']}, API {facts['api']}{signed}"),
        _hardware(seen["hardware"]),
        _driver(),
        *_adapters([HostAdapter.from_json(row) for row in seen["adapters"]]),
        _memory(seen),
        _disk(),
        Finding("its machines", "ok", f"{seen['machines']} registered; settings in {seen['home']}"),
    ]


def _hardware(there: bool) -> Finding:  # noqa: FBT001 - what VirtualBox says
    if there:
        return Finding("virtualisation by the processor", "ok", "VT-x or AMD-V is there")
    saw = "none: machines would be interpreted, a hundred times slower, or not start"
    return Finding("virtualisation by the processor", "warn", saw, HARDWARE)


def _driver() -> Finding:
    """Look for the device on Linux; elsewhere the driver comes and goes with VirtualBox."""
    name, system = "kernel driver", platform.system()
    if system != "Linux":
        return Finding(name, "ok", f"{system} loads it with VirtualBox")
    if not DEVICE.exists():
        saw = f"no {DEVICE}: bridged and internal networks are refused, machines hardly start"
        return Finding(name, "warn", saw, DRIVER[system])
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        # VirtualBox's own programs are setuid root and open it for their user.
        return Finding(name, "ok", f"{DEVICE}, through VirtualBox's own programs")
    return Finding(name, "ok", str(DEVICE))


def _adapters(there: list[HostAdapter]) -> list[Finding]:
    listed = "; ".join(str(adapter) for adapter in there) or "none"
    if any(adapter.up for adapter in there):
        findings = [Finding("adapters to bridge to", "ok", listed)]
    else:
        findings = [Finding("adapters to bridge to", "warn", listed, "plug one in")]
    for rule in ("wired", "wireless"):
        fit = fitting(rule, there)
        if len(fit) > 1:
            saw = f"{len(fit)} that are up fit: neither would be taken"
            findings.append(Finding(f"'{rule}' is", "warn", saw, "name one in the spec"))
        else:
            findings.append(
                Finding(f"'{rule}' is", "ok", fit[0].name if fit else "none that is up")
            )
    return findings


def _memory(seen: dict[str, Any]) -> Finding:
    free = seen["memory_free_mib"]
    saw = f"{free} of {seen['memory_mib']} MiB free, {seen['processors']} processors"
    if free < MEMORY_MIB:
        return Finding(
            "memory for machines", "warn", saw, f"a guest of the paper wants {MEMORY_MIB} MiB"
        )
    return Finding("memory for machines", "ok", saw)


def _disk() -> Finding:
    folder = state_root()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free >> 20
    saw = f"{free} MiB free where labs are kept"
    if free < DISK_MIB:
        return Finding("disk for machines", "warn", saw, "set IMLAB_STATE to a larger disk")
    return Finding("disk for machines", "ok", saw)
