"""The paper's proposal: the system's ports scrambled at the end devices (docs/scrambler.md).

Parameters: passphrase, what every user enters; passphrases, what is entered at single hosts in
its place (another key at one end is an experiment of its own). Without, one is made by chance,
and nobody gets to see it.

End devices are the hosts where people sit and those of their servers. Whoever sits at the server
itself crosses no wire and is not scrambled.
"""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from provisioning.countermeasures import AT_THE_SERVER, Participant, Setting
from provisioning.roles import scrambler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from lab.plan import Plan
    from provisioning.messaging import Client, Place, Planted, System

PARAMETERS = ("passphrase", "passphrases")
WORKERS = 8  # hosts at a time


@dataclass(frozen=True, slots=True)
class Scrambled:
    """Scramblers in force at all ends."""

    setting: Setting

    def client(self, who: Participant) -> Client:
        """Return the system's client as it is: the scrambler is transparent."""
        return self.setting.plain_client(who)

    def places(self, item: Planted, /) -> frozenset[Place]:
        """Say that nothing can be read on the wire, and all at the server."""
        del item
        return AT_THE_SERVER


@dataclass(frozen=True, slots=True)
class PortScrambler:
    """The countermeasure `port-scrambler`."""

    def check(self, parameters: Mapping[str, Any], plan: Plan) -> list[str]:
        """Return what is wrong with its parameters, a sentence each; no message repeats a key."""
        faults = [
            f"port-scrambler has no parameter {key!r}; it has {' and '.join(PARAMETERS)}"
            for key in parameters
            if key not in PARAMETERS
        ]
        if "passphrase" in parameters and not _enterable(parameters["passphrase"]):
            faults.append("'passphrase' must be text that can be typed, 1 to 1024 bytes")
        others = parameters.get("passphrases", {})
        if not isinstance(others, dict):
            return [*faults, "'passphrases' must be a mapping from hosts to what is entered there"]
        names = [host.name for host in plan.hosts]
        for host, passphrase in others.items():
            if host not in names:
                faults.append(f"passphrases: {host!r} is no host; hosts are {', '.join(names)}")
            if not _enterable(passphrase):
                faults.append(f"passphrases: that of {host!r} must be text that can be typed")
        return faults

    def lacks(self, system: System) -> str:
        """Say that every system can take it whose ports can be scrambled."""
        return " and ".join(scrambler.port_faults(list(system.ports)))

    @contextmanager
    def applied(self, setting: Setting) -> Iterator[Scrambled]:
        """Make every end a scrambled one, and undo that when the block ends."""
        common = setting.parameters.get("passphrase") or secrets.token_urlsafe(24)
        single = setting.parameters.get("passphrases", {})
        hosts = tuple(dict.fromkeys((*(who.at for who in setting.people), *setting.servers)))

        def set_up(host: str) -> None:
            ports = setting.system.ports
            scrambler.set_up(setting.sessions[host], ports, single.get(host, common))

        def remove(host: str) -> None:
            scrambler.remove(setting.sessions[host])

        try:
            _everywhere(set_up, hosts)
            yield Scrambled(setting)
        finally:
            _everywhere(remove, hosts)


def _everywhere(work: Callable[[str], None], hosts: tuple[str, ...]) -> None:
    """Do it at every host, also after one at which it fails; then raise the first failure."""
    with ThreadPoolExecutor(WORKERS) as pool:  # a key takes half a second at each end
        attempts = [pool.submit(work, host) for host in hosts]
    for attempt in attempts:
        attempt.result()


def _enterable(passphrase: object) -> bool:
    return isinstance(passphrase, str) and scrambler.can_be_entered(passphrase)


COUNTERMEASURE = PortScrambler()
