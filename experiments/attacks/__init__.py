"""Attacks on the hosts of one's own lab, and on nothing else, by construction.

- Who is attacked is named, never addressed: addresses are looked up in the lab's plan.
- An attack is a program of `ends`, put on a lab host over its session and run there. The network
  of that host has no way out of the lab.
- Only hosts of namespaces take part: a computer that was there already, or a machine with a
  network of its own, is refused.
- Before it sends anything, the program sees for itself that it is where the plan says, that there
  is no way out, and that its targets are next to it (`ends/guard.py`).
- How much and how long is bounded by constants that a workload's `check` holds parameters against,
  and once more by the program.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from lab.errors import Fault, LabError
from lab.plan import DEFAULT_PROVIDER
from provisioning.files import File

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from experiments.workloads import Stage
    from lab.plan import Plan
    from provisioning.channels import Stream
    from provisioning.transport import Session

ENDS = Path(__file__).resolve().parent / "ends"
PLACE = "/run/imlab-attacks"
START_DEADLINE = 10.0  # seconds
END_DEADLINE = 20.0
PYTHON = ("env", f"PYTHONPATH={PLACE}", "PYTHONDONTWRITEBYTECODE=1", "python3", "-m")


def faults(plan: Plan, hosts: Iterable[Any]) -> list[str]:
    """Return why these cannot take part in an attack, a sentence each; pure."""
    known = {host.name: host for host in plan.hosts}
    found = []
    for name in hosts:
        host = known.get(name) if isinstance(name, str) else None
        if host is None:
            there = ", ".join(known)
            found.append(f"{name!r} is no host of this lab; an attack names one of: {there}")
        elif host.provider != DEFAULT_PROVIDER:
            found.append(f"{name} is made by {host.provider}: only namespaces are attacked")
        elif not any(adapter.address for adapter in host.adapters):
            found.append(f"{name} has no address")
    return found


def order(plan: Plan, at: str, targets: Iterable[str]) -> dict[str, Any]:
    """Return what the program at a host is told of itself and of its targets.

    Raises LabError when somebody is no host of the lab, or none that may be attacked: pure.
    """
    named = list(targets)
    if refused := faults(plan, (at, *named)):
        raise LabError(
            f"attacking from {at}",
            "\n".join(refused),
            fault=Fault.USER,
            todo="name hosts of the lab; nothing was sent",
        )
    return {"here": _end(plan, at), "targets": {name: _end(plan, name) for name in named}}


def _end(plan: Plan, name: str) -> dict[str, str]:
    adapter = next(each for each in plan.host(name).adapters if each.address)
    address = adapter.address or ""
    return {"name": name, "adapter": adapter.name, "mac": adapter.mac, "address": address}


@dataclass
class Running:
    """A program of `ends` that runs on a host: what it says, line by line, and its end."""

    stream: Stream
    name: str
    host: str

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield what it says as it says it; ends with the program, which ends by itself.

        Raises LabError for one that ends because of what it saw.
        """
        for line in self.stream.stdout:
            event: dict[str, Any] = json.loads(line)
            if event["event"] == "refused":
                raise LabError(
                    f"running {self.name} on {self.host}",
                    event["why"],
                    fault=Fault.GUEST,
                    todo="an attack runs in its own lab only; nothing was sent",
                )
            yield event

    def until(self, event: str) -> dict[str, Any]:
        """Return the next event of that name. Raises LabError when the program ends before."""
        for said in self.events():
            if said.get("event") == event:
                return said
        raise LabError(
            f"waiting for {event!r} of {self.name} on {self.host}",
            self.stream.stderr.read().decode(errors="replace") or "it ended before",
            fault=Fault.US,
            todo="this is a fault of imlab's: the program there should have said more",
        )

    def tell(self, word: str) -> None:
        """Tell it a word, which is a line of its standard input."""
        self.stream.stdin.write(f"{word}\n".encode())
        self.stream.stdin.flush()

    def end(self) -> list[dict[str, Any]]:
        """Let it end; return what it still said."""
        self.stream.close_stdin()
        rest = list(self.events())
        self.stream.wait(END_DEADLINE)
        return rest

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stream.close_stdin()
        if kind is None:
            self.stream.wait(END_DEADLINE)


def start(
    stage: Stage, name: str, at: str, targets: Iterable[str], numbers: dict[str, Any]
) -> Running:
    """Start a program of `ends` at a host; numbers -- what it is told beside who and where.

    It ends when its standard input does, and after its own longest time.
    """
    told = {**numbers, **order(stage.plan, at, targets)}
    session = stage.sessions[at]
    put(session)
    stream = session.stream([*PYTHON, f"ends.{name}"], deadline=START_DEADLINE)
    running = Running(stream, name, at)
    running.tell(json.dumps(told))
    return running


def put(session: Session) -> None:
    """Put the programs on a host."""
    session.put_many(
        File(f"{PLACE}/ends/{path.name}", path.read_bytes(), 0o600)
        for path in sorted(ENDS.glob("*.py"))
    )


def wait_for(what: str, why_not: Callable[[], str], deadline: float = START_DEADLINE) -> None:
    """Ask until there is nothing against it any more. Raises LabError with the last reason."""
    until = time.monotonic() + deadline
    while reason := why_not():
        if time.monotonic() > until:
            raise LabError(
                f"waiting for {what}",
                f"{reason}, after {deadline:g} s",
                fault=Fault.GUEST,
                todo="see whether the hosts of the lab answer each other",
            )
        time.sleep(0.01)
