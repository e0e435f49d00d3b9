"""What a provider is: the seam between a plan and whatever makes it real.

A provider is one module or package of lab/providers/ that exports PROVIDER. It owns only what its
lab's ledger lists or what carries the lab's id, destroys only that, and needs no spec to do it.
None imports another. One lab may have hosts of several.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from lab.errors import Fault, LabError
from lab.hosts import Host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from lab.hosts import Dial
    from lab.ledger import Ledger
    from lab.limits import Share
    from lab.patches import Patch
    from lab.plan import Plan, PlannedHost

SSH_DEADLINE = 20.0  # seconds; a namespace host answers in 0.02, a busy machine may need more


@dataclass(frozen=True, slots=True)
class Image:
    """A base image on this machine, in the form that a provider asked for.

    path -- rootfs: folder with the root file system, owned by the mapped id range
            (lab/userns.py); disk: file with a bootable disk, which nobody writes to.
    lock -- file on which a lab holds a shared flock for as long as it uses the image.
    """

    name: str
    key: str
    path: Path
    lock: Path


def image_label(name: str, form: str) -> str:
    """Return what an image is called in records, where one name may be there in two forms."""
    return name if form == "rootfs" else f"{name} ({form})"


@dataclass(frozen=True, slots=True)
class Order:
    """Everything that a provider needs to make its part of a lab.

    hosts   -- the hosts that are its to make, parents first.
    record  -- the ledger's first entry (plan, keys, where the spec was); plain JSON data.
    files   -- per host: path -> (mode, text) to be there before its sshd starts.
    images  -- by the names that its hosts use, but for those of plan.images.
    patches -- cables between its hosts and those of others.
    configure_machine -- it may change the network of this machine itself.
    share   -- what the lab may take of the machine, None for all; who cannot bound it ignores it.
    note    -- is told, in a few words and as a share of 1, what goes on.
    """

    root: Path
    plan: Plan
    hosts: tuple[PlannedHost, ...]
    record: dict[str, Any]
    files: Mapping[str, dict[str, tuple[int, str]]]
    images: Mapping[str, Image]
    patches: tuple[Patch, ...] = ()
    configure_machine: bool = False
    share: Share | None = None
    note: Callable[..., None] = field(default=lambda *_: None)


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer to whether this machine can do it: its name, state, and what was seen.

    state -- "ok", "warn" (a lab can do without) or "fail"; todo -- what to do, "" if nothing.
    """

    name: str
    state: Literal["ok", "warn", "fail"]
    saw: str
    todo: str = ""

    def to_json(self) -> dict[str, str]:
        """Return the answer as JSON data."""
        return asdict(self)


class Provider(Protocol):
    """What every provider has; it also is a Maker or an Anchor, which make hosts.

    image_form   -- what it wants of an image: "rootfs", "disk", or "" for none.
    patched      -- its hosts' adapters are cabled to another provider's switch by patches.
    ssh_deadline -- seconds in which its hosts' sshd answers, or something is wrong.
    """

    name: str
    image_form: str
    patched: bool
    ssh_deadline: float

    def check(self) -> Iterable[Finding]:
        """Say whether this machine can make such hosts, and what to install if not."""

    def faults(self, plan: Plan, hosts: Iterable[PlannedHost]) -> list[str]:
        """Say what of these hosts it cannot make, a sentence each, from the plan alone."""

    def prepare(self) -> None:
        """Begin what any lab will need, while the plan is still being made; leaves no trace."""

    def observe(self, ledger: Ledger) -> dict[str, str | None]:
        """Return each of its hosts with None if it lives, else why it does not."""

    def destroy(self, ledger: Ledger, deadline: float) -> None:
        """End all that is its own in that lab; safe to repeat. Raises LabError.

        The record may be damaged: what carries the ledger's lab_id is the lab's all the same.
        """

    def host(self, record: Mapping[str, Any], planned: PlannedHost) -> Host:
        """Return how one logs in to a host."""

    def dial(self, ledger: Ledger, host: str) -> Dial:
        """Return how to open TCP connections to a host's own loopback."""


@runtime_checkable
class Maker(Provider, Protocol):
    """A provider that makes hosts for a lab that is on record already."""

    def create(self, order: Order, ledger: Ledger) -> None:
        """Make the order's hosts, all or none; the ledger hears of each thing before it is made.

        Raises LabError. Killed half-way, what it made is `destroy`'s to find.
        """


@runtime_checkable
class Links(Protocol):
    """A provider whose cables can have conditions, and that can measure them."""

    def measure(self, ledger: Ledger) -> list[dict[str, Any]]:
        """Return what each link does: host, adapter, declared, sending, receiving (lab/links.py).

        Raises LabError.
        """


def unlinked(host: PlannedHost) -> list[str]:
    """Complain of conditions on the cables of a host whose provider has none."""
    return [
        f"host {host.name}: {adapter.name}: `link` is for hosts of namespaces, whose cables alone "
        "can be slow, late or lossy"
        for adapter in host.adapters
        if adapter.link
    ]


class Beginning(Protocol):
    """A lab that is being made: on record, and gone by itself if it is never committed."""

    @property
    def ledger(self) -> Ledger:
        """Its record."""

    def commit(self) -> None:
        """Make the lab exist: from now on it stays. Raises LabError if it has ended meanwhile."""


@runtime_checkable
class Anchor(Provider, Protocol):
    """A provider with a process of its own that keeps the lab's record and makes its switches."""

    def begin(self, order: Order) -> Beginning:
        """Put the lab on record and make the order's hosts.

        Raises LabError; FileExistsError when a lab of that name is there already.
        """


@runtime_checkable
class Snapshots(Protocol):
    """A provider whose hosts can be saved, running, and brought back in seconds."""

    def save(self, ledger: Ledger, hosts: Iterable[str], name: str) -> None:
        """Save hosts under a name that is free. Raises LabError, and then nothing is saved."""

    def restore(self, ledger: Ledger, hosts: Iterable[str], name: str) -> None:
        """Bring hosts back to what they were. Raises LabError."""

    def saved(self, ledger: Ledger) -> dict[str, list[str]]:
        """Return the names that each host was saved under, oldest first."""


def unreachable(ledger: Ledger, host: str, saw: str) -> LabError:
    """Return the error for a host that cannot be reached."""
    return LabError(
        f"reaching host {host!r} of the lab {ledger.name!r}",
        saw,
        fault=Fault.GUEST,
        todo=f"see `./inv lab-status`; `./inv lab-down --name {ledger.name}` cleans up",
    )


def lab_login(record: Mapping[str, Any], planned: PlannedHost) -> Host:
    """Return how one logs in to a host that got the lab's own keys before it started."""
    keys = record["keys"]
    public = keys["hosts"][planned.name]["public"]
    return Host(planned.name, "root", public, keys["client"]["private"])
