"""People of an experiment: signed in to messaging systems, and what they are known to have sent."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from provisioning import countermeasures, messaging
from provisioning.countermeasures import Participant, Setting

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from experiments.workloads import Stage
    from lab.plan import Plan
    from provisioning.countermeasures import Protection
    from provisioning.messaging import Connect, Exchange, Planted

SYSTEMS = ("chat_server", "irc_server", "xmpp_server")


@dataclass
class Record:
    """What all people of a workload did, and each text that they are known to have sent."""

    visits: list[Exchange] = field(default_factory=list)
    planted: list[Planted] = field(default_factory=list)

    def chat(self) -> dict[str, Any]:
        """Return the "chat" of results.json; a text that several scenes sent stands there once."""
        merged: dict[tuple[object, ...], Planted] = {}
        numbers: dict[str, int] = {}
        for item in self.planted:
            key = (item.kind, item.text, item.sender, item.server, item.wire)
            if (seen := merged.get(key)) is None:
                numbers[item.kind] = numbers.get(item.kind, 0) + 1
                merged[key] = replace(item, id=f"{item.kind}-{numbers[item.kind]}")
            else:
                ways = tuple(dict.fromkeys((*seen.directions, *item.directions)))
                merged[key] = replace(seen, directions=ways)
        addresses = {item.text: item.directions for item in merged.values() if item.wire
                     and item.kind == "contact"}  # fmt: skip
        return {
            "visits": [exchange.to_json() for exchange in self.visits],
            "planted": [_without(item, addresses).to_json() for item in merged.values()],
        }


def _without(item: Planted, addresses: Mapping[str, tuple[str, ...]]) -> Planted:
    """Return a user's name without the ways on which it went as part of an address.

    What is read there is the address: the analysis counts a text inside of a longer one as that.
    """
    ways = addresses.get(f"{item.text}@{item.server}", ()) if item.kind == "user" else ()
    left = tuple(way for way in item.directions if way not in ways)
    return replace(item, directions=left, wire=item.wire and bool(left))


@dataclass
class Scene:
    """One system under one countermeasure."""

    stage: Stage
    setting: Setting
    protection: Protection
    record: Record
    server: str

    @property
    def system(self) -> str:
        """The name of the system's role."""
        return self.setting.name

    @contextmanager
    def people(self) -> Iterator[People]:
        """Let people come; all go together when the block ends, and are on record."""
        crowd = People(self)
        try:
            with crowd:
                yield crowd
        finally:
            self.record.visits += crowd.exchanges
            # What somebody tried and failed to do may have crossed or not: it is no ground truth.
            for item in messaging.planted(each for each in crowd.exchanges if each.ok):
                told = messaging.readable(item, self.protection.places(item), self.setting.system)
                self.record.planted.append(replace(told, wire="wire" in told.readable))


@dataclass
class People:
    """Clients that are closed together, and their exchanges; a context manager."""

    scene: Scene
    exchanges: list[Exchange] = field(default_factory=list)
    _open: ExitStack = field(default_factory=ExitStack)

    def sign_in(self, account: str, connect: Connect | None = None) -> Any:  # noqa: ANN401 -- each system's own client
        """Return the client of an account that has just signed in. Raises LabError.

        connect -- how the client connects, if not as its host does.
        """
        setting = self.scene.setting
        who = next(each for each in setting.people if each.account.name == account)
        if connect is None:
            client = self.scene.protection.client(who)
        else:
            client = setting.system.client(setting.plan, who.at, who.server, connect)

        def close() -> None:
            client.close()
            self.exchanges += client.exchanges

        self._open.callback(close)
        client.sign_in(who.account)
        return client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()


@contextmanager
def scene(  # noqa: PLR0913 -- who, where, with whom, under what, and where it is written down
    stage: Stage,
    record: Record,
    system: str,
    server: str,
    seats: Mapping[str, str],
    *,
    countermeasure: str = "none",
) -> Iterator[Scene]:
    """Set a scene: seats -- account -> the host where somebody sits. Raises LabError."""
    accounts = {account.name: account for account in stage.plan.accounts}
    setting = Setting(
        stage.plan,
        {host.name: stage.sessions[host.name] for host in stage.plan.hosts},
        system,
        messaging.find(system),
        tuple(Participant(at, server, accounts[name]) for name, at in seats.items()),
    )
    with countermeasures.find(countermeasure).applied(setting) as protection:
        yield Scene(stage, setting, protection, record, server)


def faults(  # noqa: PLR0913 -- what a workload has to say of its parameters
    workload: str,
    parameters: dict[str, Any],
    plan: Plan,
    *,
    hosts: Iterable[str],
    accounts: Iterable[str],
    other: Iterable[str] = (),
) -> list[str]:
    """Return what is wrong with parameters of which some name hosts, some accounts: pure."""
    named = {
        **{key: {host.name for host in plan.hosts} for key in hosts},
        **{key: {account.name for account in plan.accounts} for key in accounts},
    }
    known = (*named, *other)
    found = [f"{workload} has no parameter {key!r}" for key in parameters if key not in known]
    return found + [
        f"{workload}: {key} is {parameters.get(key)!r}; there are: {', '.join(sorted(there))}"
        for key, there in named.items()
        if not isinstance(parameters.get(key), str) or parameters[key] not in there
    ]


def role_faults(workload: str, plan: Plan, server: object, systems: Iterable[str]) -> list[str]:
    """Return which of these systems a host does not serve: pure."""
    roles = {role.name for host in plan.hosts if host.name == server for role in host.roles}
    return [f"{workload}: {server} has no role {name}" for name in systems if name not in roles]


def choice_faults(workload: str, key: str, given: object, there: Iterable[str]) -> list[str]:
    """Return what is wrong with a list of which each is one of those there are: pure."""
    known = list(there)
    if isinstance(given, list) and given and all(each in known for each in given):
        return []
    return [f"{workload}: {key} is {given!r}, must be a list of some of: {', '.join(known)}"]
