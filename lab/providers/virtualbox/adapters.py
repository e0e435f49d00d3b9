"""Which of the machine's own adapters a bridged one shares: by name, or by a rule. Pure.

Rules: "wired" (one that is up), "wireless" (one that is up), "up" (wired before wireless). When two
fit, neither is taken: a capture on the wrong network would look like a result. Decided before a
machine starts, since VirtualBox does not come back from one that is bridged to nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from collections.abc import Sequence

NO_ADDRESS = ("", "0.0.0.0")  # noqa: S104 - VirtualBox's word for none
RULES = ("wired", "wireless", "up")


@dataclass(frozen=True, slots=True)
class HostAdapter:
    """An adapter of the machine that VirtualBox can bridge to, as VirtualBox sees it."""

    name: str
    up: bool
    wireless: bool
    medium: str = "Ethernet"
    address: str = ""

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> HostAdapter:
        """Make one of what the agent tells."""
        return cls(**data)

    def __str__(self) -> str:
        kind, state = "wireless" if self.wireless else "wired", "up" if self.up else "down"
        address = "no address" if self.address in NO_ADDRESS else self.address
        return f"{self.name} ({kind}, {state}, {address})"


def choose(wish: str, there: Sequence[HostAdapter]) -> HostAdapter:
    """Return the adapter of that name, or the only one that the rule fits. Raises LabError."""
    for adapter in there:
        if _same(wish, adapter.name):
            return adapter
    if wish not in RULES:
        raise _no(f"adapter {wish!r}", "this machine has none of that name", there)
    fit = fitting(wish, there)
    if len(fit) == 1:
        return fit[0]
    if not fit:
        raise _no(f"the {wish!r} adapter", "none that is up fits", there)
    raise _no(f"the {wish!r} adapter", f"{len(fit)} that are up fit", there)


def _same(wish: str, name: str) -> bool:
    """Tell whether a name is meant: on macOS VirtualBox calls en0 'en0: Ethernet'."""
    return wish == name or name.startswith(f"{wish}: ")


def fitting(rule: str, there: Sequence[HostAdapter]) -> list[HostAdapter]:
    """Return the adapters that a rule fits."""
    up = [adapter for adapter in there if adapter.up]
    wired = [adapter for adapter in up if not adapter.wireless]
    wireless = [adapter for adapter in up if adapter.wireless]
    return {"wired": wired, "wireless": wireless, "up": wired or wireless}[rule]


def _no(what: str, saw: str, there: Sequence[HostAdapter]) -> LabError:
    listed = "\n".join(f"  {adapter}" for adapter in there) or "  none"
    return LabError(
        f"choosing {what} to bridge to",
        f"{saw}; VirtualBox can bridge to:\n{listed}",
        fault=Fault.SPEC,
        todo=f"name one of these in the spec (bridged: NAME), or a rule: {', '.join(RULES)}",
    )
