"""What `up` runs: decides, notes in the ledger what is about to be made, has the agent make it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import shutil
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.errors import Fault, LabError
from lab.ledger import Ledger
from lab.plan import Plan
from lab.providers.base import lab_login, unreachable
from lab.providers.virtualbox import asking, checks, jobs, this_machine
from lab.providers.virtualbox.adapters import HostAdapter
from lab.providers.virtualbox.asking import Agent, Denied
from lab.providers.virtualbox.refusals import explained
from lab.seed import seed_iso

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from lab.hosts import Dial, Host
    from lab.plan import PlannedHost
    from lab.providers.base import Finding, Order

SSH = 22
BASES = "bases.json"  # in the lab's folder: the disks that VirtualBox opened for this lab
PORTS = range(20000, 30000)  # below those that systems give to whoever asks for any
PATIENCE = 5.0  # seconds for a connection to a machine
#: Seconds until sshd answers: with hardware virtualisation; interpreted; installing itself first.
BOOTING, INTERPRETED, INSTALLING = 120.0, 3600.0, 7200.0
LOGIN = (
    180.0  # seconds for a login to a machine that may be interpreted: eight, on a quiet computer
)
#: How many times as long as on a namespace anything may take on a machine that is interpreted.
PACE = 30.0
MAKING_A_MACHINE, STARTING = 60.0, 300.0  # seconds
IMPORTING = 1800.0  # seconds more for a machine that is imported or installs itself
ENDING_A_MACHINE = 10.0  # seconds, besides the deadline that is given
SNAPSHOT_A_MACHINE = 300.0
#: Seconds in which VirtualBox may still finish the last call of somebody who was killed, and write
#: a machine's settings: IMachine::setExtraData waits three for windows, those that died included.
LATE_CALL, LOOK = 4.0, 0.1


class VirtualBoxProvider:
    """Every host a machine of VirtualBox; the host that others live `on` is this very machine."""

    name = "virtualbox"
    image_form = "disk"
    patched = True

    def __init__(self) -> None:
        #: What hosts that this process makes may take to answer.
        self.ssh_deadline = INTERPRETED
        #: Calls to VirtualBox's API that the last agent of each verb made: what a lab costs.
        self.calls: dict[str, int] = {}
        #: Labs that this process made, or not, with no call left under way.
        self._at_rest: set[str] = set()

    def check(self) -> Iterable[Finding]:
        """Say whether this machine can have such labs."""
        return checks.check()

    def faults(self, plan: Plan, hosts: Iterable[PlannedHost]) -> list[str]:
        """Say what of these hosts cannot be made, from the plan alone."""
        return jobs.faults(plan, tuple(hosts))

    def prepare(self) -> None:
        """Need nothing: which Python can speak with VirtualBox is found when it is asked."""

    def create(self, order: Order, ledger: Ledger) -> None:
        """Make and start the order's machines; see that this machine is what the plan says."""
        for host in jobs.this_machine(order.plan, order.hosts):
            this_machine.login(host)
        with _agent(f"making the machines of the lab {order.plan.lab!r}") as agent:
            try:
                self._create(order, ledger, agent)
            finally:
                if agent.rests:
                    self._at_rest.add(ledger.lab_id)

    def _create(self, order: Order, ledger: Ledger, agent: Agent) -> None:
        folder = ledger.folder / jobs.FOLDER
        real = jobs.this_machine(order.plan, order.hosts)
        seen = agent.ask("look")
        there = [HostAdapter.from_json(row) for row in seen["adapters"]]
        ports = _free_ports(order.root)
        facts = jobs.Facts(ledger.lab_id, folder, lambda: next(ports), there)
        made = jobs.jobs(order, facts)
        bridges = list(dict.fromkeys(name for job in made for name in job.bridges))
        for host in real:
            this_machine.check_addresses(host, bridges, configure=order.configure_machine)
        interpreted = not seen["hardware"]
        self._note(order, ledger, folder, made, agent, interpreted=interpreted)
        slow = any(job.order["source"]["kind"] != "disk" for job in made)
        patience = MAKING_A_MACHINE * (1 + len(made)) + IMPORTING * slow
        uuids = agent.ask(
            "make",
            machines=[job.order for job in made],
            lock=ledger.folder / jobs.LOCK,
            deadline=patience,
            note=order.note,
        )
        for job, uuid in zip(made, uuids, strict=True):
            if uuid != job.uuid:  # an imported machine has one of VirtualBox's choice
                ledger.disown(self.name, "machine", job.uuid)
                ledger.own(self.name, "machine", uuid, **_facts(job, interpreted=interpreted))
        order.note("starting machines")
        agent.ask("start", uuids=uuids, deadline=STARTING, **_how_to_start())
        self.calls["create"] = agent.calls
        installing = any(job.order["source"]["kind"] == "unattended" for job in made)
        self.ssh_deadline = INTERPRETED if interpreted else BOOTING
        self.ssh_deadline = INSTALLING if installing else self.ssh_deadline

    def _note(  # noqa: PLR0913 - what is known of the lab by then
        self,
        order: Order,
        ledger: Ledger,
        folder: Path,
        made: list[jobs.Job],
        agent: Agent,
        *,
        interpreted: bool,
    ) -> None:
        """Put on record what is about to be made; then write what is not VirtualBox's."""
        bases = sorted({job.base for job in made if job.base})
        open_before = set(agent.ask("known", paths=bases)) - _opened_by_labs(order.root)
        for base in bases:
            ledger.own(self.name, "base", base, opened=base not in open_before)
        for job in made:
            ledger.own(self.name, "machine", job.uuid, **_facts(job, interpreted=interpreted))
        folder.mkdir(mode=0o700, exist_ok=True)
        # For a record that is cut short: machines and disks tell whose they are, bases do not.
        (folder / BASES).write_text(json.dumps([b for b in bases if b not in open_before]))
        for job in made:
            seed = Path(job.order["seed"])
            seed.parent.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(seed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(descriptor, "wb") as stream:  # noqa: PTH123 - a descriptor has no path
                stream.write(
                    seed_iso(order.plan, job.host, order.files[job.host], management_mac=job.mac)
                )

    def observe(self, ledger: Ledger) -> dict[str, str | None]:
        """Ask VirtualBox for the state of each machine."""
        record = ledger.read()
        names = [host.name for host in _hosts(record)]
        machines = _machines(ledger)
        seen: dict[str, str | None] = {}
        if machines:
            try:
                with asking.start() as agent:
                    uuids = {host: row["name"] for host, row in machines.items()}
                    seen = agent.ask("observe", uuids=uuids)
            except (LabError, Denied) as error:
                saw = error.saw if isinstance(error, LabError) else error.text
                seen = dict.fromkeys(machines, f"VirtualBox does not answer: {saw.strip()}")
        real = {host.name for host in _this_machine(record)}
        return {
            name: None if name in real else seen.get(name, "its machine is not on record")
            for name in names
        }

    def destroy(self, ledger: Ledger, deadline: float) -> None:
        """Take the lab's machines and media away; safe to repeat. Raises LabError.

        Before anything in VirtualBox there is the folder: without it and a record there is nothing.
        """
        folder = ledger.folder / jobs.FOLDER
        rows = ledger.owned(self.name)
        if not ledger.current() or not (rows or folder.exists()):
            return
        uuids = [row["name"] for row in rows if row["kind"] == "machine"]
        bases = {row["name"] for row in rows if row["kind"] == "base" and row["opened"]}
        with contextlib.suppress(OSError, ValueError):
            bases.update(json.loads((folder / BASES).read_text()))
        patience = deadline + ENDING_A_MACHINE * max(1, len(uuids))
        with _agent(f"removing the machines of the lab {ledger.name!r}") as agent:
            agent.ask(
                "remove",
                lab_id=ledger.lab_id,
                uuids=uuids,
                folder=str(folder),
                bases=sorted(bases),
                patience=deadline / 2,
                within=patience,
                lock=ledger.folder / jobs.LOCK,
                deadline=2 * patience,
            )
            self.calls["destroy"] = agent.calls
        shutil.rmtree(folder, ignore_errors=True)
        if uuids and ledger.read()["state"] == "creating" and ledger.lab_id not in self._at_rest:
            _outlast_late_calls(folder)
        for row in rows:
            with contextlib.suppress(LabError):
                ledger.disown(self.name, row["kind"], row["name"])

    def host(self, record: Mapping[str, Any], planned: PlannedHost) -> Host:
        """Log in with the lab's own keys; to this machine with the user's."""
        if any(host.name == planned.name for host in _this_machine(record)):
            return this_machine.login(planned)
        machines = [row for row in record.get("owns", ()) if row["provider"] == self.name]
        interpreted = any(row.get("interpreted") for row in machines)
        pace = PACE if interpreted else 1.0
        return replace(lab_login(record, planned), patience=LOGIN, pace=pace)

    def dial(self, ledger: Ledger, host: str) -> Dial:
        """Connect through the port that leads to the machine's sshd, the only way in."""
        record = ledger.read()
        if any(real.name == host for real in _this_machine(record)):
            return this_machine.dial()

        def connect(port: int) -> socket.socket:
            row = _machines(ledger).get(host)
            if not ledger.current() or row is None:
                raise unreachable(ledger, host, "the lab is not up, or has no such host")
            if port != SSH:
                saw = "refused: of a virtual machine only sshd can be dialled"
                raise ConnectionRefusedError(errno.ECONNREFUSED, saw)
            return socket.create_connection(("127.0.0.1", row["port"]), timeout=PATIENCE)

        return connect

    def save(self, ledger: Ledger, hosts: Iterable[str], name: str) -> None:
        """Save machines with their memory; each stands still for that long. Raises LabError."""
        uuids = _uuids(ledger, hosts)
        doing = f"saving the lab {ledger.name!r} as {name!r}"
        try:
            with _agent(doing) as agent:
                agent.ask("save", uuids=uuids, name=name, deadline=SNAPSHOT_A_MACHINE * len(uuids))
        except LabError:
            with contextlib.suppress(LabError):
                self.forget(ledger, hosts, name)
            raise

    def restore(self, ledger: Ledger, hosts: Iterable[str], name: str) -> None:
        """Bring machines back to what they were, running. Raises LabError."""
        uuids = _uuids(ledger, hosts)
        with _agent(f"restoring the lab {ledger.name!r} to {name!r}") as agent:
            patience = SNAPSHOT_A_MACHINE * (1 + len(uuids))
            agent.ask("restore", uuids=uuids, name=name, deadline=patience, **_how_to_start())

    def saved(self, ledger: Ledger) -> dict[str, list[str]]:
        """Return the names that each machine was saved under, oldest first."""
        machines = _machines(ledger)
        if not machines:
            return {}
        with _agent(f"looking for what was saved of the lab {ledger.name!r}") as agent:
            return {host: agent.ask("saved", uuids=[row["name"]]) for host, row in machines.items()}

    def forget(self, ledger: Ledger, hosts: Iterable[str], name: str) -> None:
        """Delete what was saved under a name. Raises LabError."""
        uuids = _uuids(ledger, hosts)
        with _agent(f"forgetting {name!r} of the lab {ledger.name!r}") as agent:
            agent.ask("forget", uuids=uuids, name=name, deadline=SNAPSHOT_A_MACHINE * len(uuids))


def _outlast_late_calls(folder: Path) -> None:
    """Remove what comes back because of the last call of somebody who was killed."""
    end = time.monotonic() + LATE_CALL
    while time.monotonic() < end:
        time.sleep(LOOK)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _agent(doing: str) -> Iterator[Agent]:
    """Have an agent, whose refusals become errors that say what was being done."""
    with asking.start() as agent:
        try:
            yield agent
        except Denied as error:
            raise explained(error, doing) from error


def _how_to_start() -> dict[str, Any]:
    """Return the frontend, and what the machines' own processes need to know of a display."""
    environment = os.environ
    return {
        "frontend": environment.get("IMLAB_VBOX_FRONTEND", "headless"),
        "environment": [
            f"{name}={environment[name]}"
            for name in ("DISPLAY", "XAUTHORITY")
            if name in environment
        ],
    }


def _facts(job: jobs.Job, *, interpreted: bool) -> dict[str, Any]:
    named = {"host": job.host, "port": job.port, "mac": job.mac, "label": job.name}
    return {**named, "interpreted": interpreted}


def _hosts(record: Mapping[str, Any]) -> list[PlannedHost]:
    hosts = Plan.from_json(record["plan"]).hosts if "plan" in record else ()
    return [host for host in hosts if host.provider == PROVIDER.name]


def _this_machine(record: Mapping[str, Any]) -> list[PlannedHost]:
    if "plan" not in record:
        return []
    return jobs.this_machine(Plan.from_json(record["plan"]), _hosts(record))


def _machines(ledger: Ledger) -> dict[str, dict[str, Any]]:
    return {row["host"]: row for row in ledger.owned(PROVIDER.name, "machine")}


def _uuids(ledger: Ledger, hosts: Iterable[str]) -> list[str]:
    machines = _machines(ledger)
    return [machines[host]["name"] for host in hosts if host in machines]


def _opened_by_labs(root: Path) -> set[str]:
    """Return the bases that other labs have opened: the last of them closes each."""
    return {
        row["name"]
        for other in Ledger.all_labs(root)
        for row in other.owned(PROVIDER.name, "base")
        if row["opened"]
    }


def _free_ports(root: Path) -> Iterator[int]:
    """Yield TCP ports that nobody has and no lab has on record."""
    labs = Ledger.all_labs(root)
    taken = {row["port"] for lab in labs for row in lab.owned(PROVIDER.name, "machine")}
    for port in random.sample(PORTS, len(PORTS)):
        if port not in taken and _is_free(port):
            yield port
    raise LabError(
        "looking for a port that leads to a machine",
        f"all of {PORTS.start} to {PORTS.stop - 1} are taken",
        fault=Fault.MACHINE,
        todo="end programs that listen there, or take labs down",
    )


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


PROVIDER = VirtualBoxProvider()
