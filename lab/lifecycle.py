"""How a lab comes and goes: one table of states and what each verb does in them.

The states are read off the world each time (ledger, lock, supervisor), never remembered:

    absent    -- no record of it
    creating  -- somebody is making it now
    created   -- its hosts are up; it is not provisioned (or provisioning was cut short)
    ready     -- provisioned as well
    degraded  -- some of its hosts have died
    lost      -- all of it has gone but its record (the machine restarted, the keeper was killed)
    foreign   -- its record is of a later version of imlab, and nothing is done about it
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from lab import links, providers
from lab.errors import Fault, LabError
from lab.ledger import FORMAT, Ledger, state_root
from lab.making import (
    BEING_MADE,
    THIS_PROCESS,
    hosts_of,
    make,
    providers_of,
    uninterrupted,
    unmake,
)
from lab.plan import Plan
from lab.providers.base import Links, Order, Snapshots

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lab.hosts import Dial, Host
    from lab.limits import Share
    from lab.making import Images

PROBE_INTERVAL, SLOWEST_PROBE = 0.002, 0.25  # seconds; each time half as long again
LINK_ATTEMPTS = 4
BANNER_PATIENCE = 5.0  # seconds for one connection: a NAT port answers before its guest does


class State(Enum):
    """What a lab is in; the value is how it is shown."""

    ABSENT = "absent"
    CREATING = "creating"
    CREATED = "created"
    READY = "ready"
    DEGRADED = "degraded"
    LOST = "lost"
    FOREIGN = "foreign"


#: state -> what `up` does in it; "refuse" carries what to tell the user in WHY_NOT.
UP = {
    State.ABSENT: "create",
    State.CREATING: "refuse",
    State.CREATED: "resume",
    State.READY: "keep",
    State.DEGRADED: "refuse",
    State.LOST: "recreate",
    State.FOREIGN: "refuse",
}
WHY_NOT = {
    State.CREATING: BEING_MADE,
    State.DEGRADED: ("some of its hosts have died", "run `./inv lab-down`, then lab-up again"),
    State.FOREIGN: (
        "its record is of a later version of imlab",
        "use that version, or choose another name with --name",
    ),
}


@dataclass(frozen=True, slots=True)
class LabStatus:
    """One lab as it is.

    providers -- whose hosts it has; hosts -- each name with None (alive) or why it is not.
    """

    name: str
    state: State
    providers: tuple[str, ...]
    hosts: dict[str, str | None]
    created: float | None
    spec: str | None


@dataclass(frozen=True, slots=True)
class Lab:
    """A lab that is up: its plan, and how each host is reached."""

    ledger: Ledger
    plan: Plan
    hosts: dict[str, Host]

    @property
    def name(self) -> str:
        """The lab's name."""
        return self.ledger.name

    def dial(self, host: str) -> Dial:
        """Return how to open TCP connections to a host's own loopback."""
        if host not in self.hosts:
            self.host(host)
        if not self.ledger.current():
            raise self.ledger.gone()
        return providers.get(self.plan.host(host).provider).dial(self.ledger, host)

    def host(self, name: str) -> Host:
        """Return a host. Raises LabError that lists what there is."""
        if name not in self.hosts:
            raise LabError(
                f"finding host {name!r} in the lab {self.name!r}",
                f"there are: {', '.join(self.hosts)}",
                fault=Fault.USER,
                todo="name one of these",
            )
        return self.hosts[name]


def status(name: str, root: Path | None = None) -> LabStatus:
    """Look at one lab; its state is `absent` when there is none."""
    return _find(name, root or state_root())[1]


def _find(name: str, root: Path) -> tuple[Ledger | None, LabStatus]:
    try:
        ledger = Ledger.find(root, name)
    except KeyError:
        return None, LabStatus(name, State.ABSENT, (), {}, None, None)
    return ledger, _status(ledger)


def all_status(root: Path | None = None) -> list[LabStatus]:
    """Look at every lab on record."""
    return [_status(ledger) for ledger in Ledger.all_labs(root or state_root())]


def _status(ledger: Ledger) -> LabStatus:
    record = ledger.read()
    names = providers_of(ledger, record)
    recorded, hosts = record["state"], dict[str, "str | None"]()
    if _is_foreign(record):
        state = State.FOREIGN
    elif recorded == "creating":
        state = State.CREATING if ledger.alive() else State.LOST
    else:
        seen = {k: why for name in names for k, why in providers.get(name).observe(ledger).items()}
        hosts = {host["name"]: seen.get(host["name"]) for host in record["plan"]["hosts"]}
        dead = sum(reason is not None for reason in hosts.values())
        state = State(recorded) if not dead else State.DEGRADED
        if dead == len(hosts):
            state = State.LOST
    return LabStatus(
        ledger.name, state, tuple(names), hosts, record.get("created"), record.get("spec_path")
    )


def _is_foreign(record: dict[str, Any]) -> bool:
    return int(record.get("format", FORMAT)) > FORMAT


def prepare(name: str, provider: str = providers.DEFAULT) -> None:
    """Let the provider begin while the plan is being made, if that lab has to be created.

    provider -- as providers.chosen reads it.
    """
    default, _ = providers.chosen(provider)
    if UP[status(name).state] in {"create", "recreate"}:
        providers.get(default or providers.DEFAULT).prepare()


def faults(plan: Plan) -> list[str]:
    """Return what of a plan its providers cannot make, a sentence each."""
    return [
        fault
        for name in dict.fromkeys(host.provider for host in plan.hosts)
        for fault in providers.get(name).faults(plan, hosts_of(plan, name))
    ]


def up(  # noqa: PLR0913 - a plan, and how to go about it by keyword
    plan: Plan,
    images: Images,
    *,
    spec: tuple[str, str] = ("", ""),
    root: Path | None = None,
    configure_machine: bool = False,
    share: Share | None = None,
    note: Callable[..., None] = lambda *_: None,
) -> tuple[Lab, bool]:
    """Put a lab up so that every host's sshd answers; return it and whether it is new.

    images -- gives the base images by form and name, building what is missing.
    spec   -- (path, text) of where the plan came from; kept in the ledger.
    configure_machine -- the network of this machine itself may be changed where the plan wants it.
    share  -- what the lab may take of this machine; None: all of it.
    note   -- is told, in a few words, what goes on.

    Safe to repeat. Raises LabError, and then nothing is left of a lab that was being made.
    """
    root = root or state_root()
    ledger, found = _find(plan.lab, root)
    verb = UP[found.state]
    if verb == "refuse":
        saw, todo = WHY_NOT[found.state]
        raise LabError(f"putting up the lab {plan.lab!r}", saw, fault=Fault.USER, todo=todo)
    if verb in {"keep", "resume"} and ledger:
        try:
            lab = _attached(ledger)
        except KeyError:
            raise ledger.gone() from None
        _refuse_other_plan(lab, plan)
        return lab, False
    if verb == "recreate" and ledger:
        unmake(ledger)  # that one: meanwhile somebody else may have made the next
    blank = replace(
        Order(root, plan, (), {}, {}, {}, configure_machine=configure_machine, note=note),
        share=share,
    )
    made = make(plan, images, blank, spec)
    try:
        try:
            lab = _attached(made)
        except KeyError:
            raise made.gone() from None
        _measure_links(lab, note)
        note("waiting for SSH")
        wait_for_ssh(lab)
    except BaseException:  # Ctrl-C too: half a lab is no lab
        with uninterrupted():
            unmake(made)
        raise
    return lab, True


def _measure_links(lab: Lab, note: Callable[..., None]) -> None:
    """See that every cable with conditions has them, and record what was measured.

    Measured again where it has not: a busy machine is late now and then. Raises LabError.
    """
    linked = {
        host.provider for host in lab.plan.hosts if any(adapter.link for adapter in host.adapters)
    }
    makers = [maker for name in sorted(linked) if isinstance(maker := providers.get(name), Links)]
    if not makers:
        return
    for attempt in range(1, LINK_ATTEMPTS + 1):
        note("measuring the links" + (f", attempt {attempt}" if attempt > 1 else ""))
        rows = [row for maker in makers for row in maker.measure(lab.ledger)]
        if not (faults := links.departures(rows)):
            lab.ledger.update(links=rows)
            return
    raise LabError(
        f"measuring the links of the lab {lab.name!r}",
        "\n".join(faults),
        fault=Fault.MACHINE,
        todo="put it up when this machine is less busy, or declare what it can keep",
    )


def attach(name: str, root: Path | None = None) -> Lab:
    """Return a lab that is up, from its ledger alone. Raises LabError when there is none."""
    try:
        return _attached(Ledger.find(root or state_root(), name))
    except KeyError:
        there = ", ".join(s.name for s in all_status(root)) or "none"
        raise LabError(
            f"finding the lab {name!r}",
            f"labs that are up: {there}",
            fault=Fault.USER,
            todo="put it up with `./inv lab-up`, or name another with --name",
        ) from None


def _attached(ledger: Ledger) -> Lab:
    """Raise KeyError for a record without a lab in it."""
    record = ledger.read()
    _refuse_foreign(ledger, record, "using")
    plan = Plan.from_json(record["plan"])
    hosts = {h.name: providers.get(h.provider).host(record, h) for h in plan.hosts}
    return Lab(ledger, plan, hosts)


def down(name: str, root: Path | None = None) -> bool:
    """Take a lab down, whatever is left of it; False when there was none. Needs no spec."""
    try:
        ledger = Ledger.find(root or state_root(), name)
    except KeyError:
        return False
    _refuse_foreign(ledger, ledger.read(), "taking down")
    unmake(ledger)
    return True


def _refuse_foreign(ledger: Ledger, record: dict[str, Any], doing: str) -> None:
    if _is_foreign(record):
        saw, todo = WHY_NOT[State.FOREIGN]
        raise LabError(f"{doing} the lab {ledger.name!r}", saw, fault=Fault.USER, todo=todo)


def made_here(name: str, root: Path | None = None) -> bool:
    """Tell whether the lab of that name was made by this very process."""
    try:
        return Ledger.find(root or state_root(), name).read().get("maker") == THIS_PROCESS
    except KeyError:
        return False


def mark_ready(lab: Lab) -> None:
    """Record that the lab is provisioned. Raises LabError if it has gone meanwhile."""
    lab.ledger.update(state=State.READY.value)


def snapshot(lab: Lab, name: str) -> list[str]:
    """Save the hosts, running, under a name; return those that could be: namespaces cannot.

    Raises LabError: no host can be saved, or the name is taken.
    """
    there = snapshots(lab)
    if any(name in saved for saved in there.values()):
        raise LabError(
            f"saving the lab {lab.name!r}",
            f"there is a snapshot {name!r} already",
            fault=Fault.USER,
            todo="choose another name",
        )
    for provider, hosts in _savers(lab, f"saving the lab {lab.name!r}"):
        provider.save(lab.ledger, hosts, name)
    return list(there)


def restore(lab: Lab, name: str) -> list[str]:
    """Bring back the hosts that were saved; return them once all answer. Raises LabError."""
    doing = f"restoring the lab {lab.name!r}"
    there = snapshots(lab)
    of_first = next(iter(there.values()))
    whole = [saved for saved in of_first if all(saved in names for names in there.values())]
    if name not in whole:
        raise LabError(
            doing,
            f"there is no snapshot {name!r}; there are: {', '.join(whole) or 'none'}",
            fault=Fault.USER,
            todo=f"name one of these; `./inv lab-snapshot --name {lab.name}` makes one",
        )
    for provider, hosts in _savers(lab, doing):
        provider.restore(lab.ledger, hosts, name)
    wait_for_ssh(lab)
    return list(there)


def snapshots(lab: Lab) -> dict[str, list[str]]:
    """Return the names that each host is saved under, oldest first; of hosts that can be saved.

    Raises LabError when none can.
    """
    found: dict[str, list[str]] = {}
    for provider, hosts in _savers(lab, f"looking for snapshots of the lab {lab.name!r}"):
        saved = provider.saved(lab.ledger)
        found |= {host: saved.get(host, []) for host in hosts}
    return found


def _savers(lab: Lab, doing: str) -> list[tuple[Snapshots, list[str]]]:
    """Return who saves which hosts. Raises LabError that names those that nobody can save."""
    found: list[tuple[Snapshots, list[str]]] = []
    cannot: list[str] = []
    for name in dict.fromkeys(host.provider for host in lab.plan.hosts):
        provider = providers.get(name)
        hosts = [host.name for host in hosts_of(lab.plan, name)]
        if isinstance(provider, Snapshots):
            found.append((provider, hosts))
        else:
            cannot += [f"{host} ({name})" for host in hosts]
    if not found:
        raise LabError(
            doing,
            f"these hosts cannot be saved: {', '.join(cannot)}",
            fault=Fault.USER,
            todo="take the lab down and put it up again instead: that takes seconds",
        )
    return found


@contextlib.contextmanager
def working(
    lab: Lab, *, patience: float, note: Callable[[str], None] = lambda _: None
) -> Iterator[None]:
    """Have the lab's hosts to oneself: what two do at once would be seen in either's evidence.

    patience -- seconds to wait for whoever has them now. Raises LabError.
    """
    end = time.monotonic() + patience
    while (claim := lab.ledger.begin_work()) is None:
        if time.monotonic() >= end:
            raise LabError(
                f"working on the lab {lab.name!r}",
                "another lab-up or run works on its hosts",
                fault=Fault.USER,
                todo="wait for that one, or have a lab of your own with another --name",
            )
        note("waiting for another lab-up or run on this lab")
        time.sleep(PROBE_INTERVAL * 10)
    try:
        yield
    finally:
        os.close(claim)


def wait_for_ssh(lab: Lab, deadline: float | None = None) -> None:
    """Probe until every host's sshd has sent its banner (RFC 4253, 4.2). Raises LabError.

    deadline -- seconds; by default what each host's provider expects.
    """
    given_up = threading.Event()
    began = time.monotonic()

    def wait(name: str) -> None:
        usual = providers.get(lab.plan.host(name).provider).ssh_deadline
        _wait_for_banner(lab, name, began + (deadline or usual), given_up)

    pool = ThreadPoolExecutor(max_workers=8)
    try:
        for _ in pool.map(wait, lab.hosts):
            pass
    finally:  # after Ctrl-C nobody waits for hosts that do not answer
        given_up.set()
        pool.shutdown(wait=False, cancel_futures=True)


def _wait_for_banner(lab: Lab, name: str, end: float, given_up: threading.Event) -> None:
    dial, reason, interval = lab.dial(name), "never tried", PROBE_INTERVAL
    while time.monotonic() < end and not given_up.is_set():
        try:
            with contextlib.closing(dial(22)) as connection:
                connection.settimeout(max(0.01, min(end - time.monotonic(), BANNER_PATIENCE)))
                if connection.recv(4) == b"SSH-":
                    return
                reason = "something that is not SSH answers on port 22"
        except OSError as error:
            reason = str(error)
        given_up.wait(interval)
        interval = min(interval * 1.5, SLOWEST_PROBE)
    raise LabError(
        f"waiting for SSH on host {name!r} of the lab {lab.name!r}",
        reason,
        fault=Fault.GUEST,
        todo="put the lab up again; if it fails again, see `./inv doctor`",
    )


def _refuse_other_plan(lab: Lab, plan: Plan) -> None:
    if lab.plan != plan:
        raise LabError(
            f"putting up the lab {plan.lab!r}",
            f"a lab of that name is up, {_difference(lab.plan, plan)}",
            fault=Fault.USER,
            todo=f"`./inv lab-down --name {plan.lab}` first, or give this one another --name",
        )


def _difference(there: Plan, wanted: Plan) -> str:
    """Say in what way the plan of a lab that is up is not the wanted one."""

    def without_images(plan: Plan) -> Plan:
        return replace(plan, hosts=tuple(replace(host, image="") for host in plan.hosts))

    def images(plan: Plan) -> str:
        return ", ".join(sorted({host.image for host in plan.hosts}))

    if without_images(there) == without_images(wanted):
        return f"on images {images(there)}; wanted are {images(wanted)}"
    return "made from another spec or an earlier version of this one"
