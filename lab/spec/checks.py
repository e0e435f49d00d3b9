"""What is wrong between the values of a spec: names that lead nowhere, addresses that clash.

Pure: a spec in, rows (path, message, fix) out. `broken` holds the paths of values that were
refused before; whatever hangs on one of them is not complained about a second time.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from lab.spec.errors import quote, suggest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from ipaddress import IPv4Address, IPv4Network

    from lab.spec.models import AdapterSpec, LabSpec, LinkSpec
    from lab.spec.yaml_positions import Path

MAX_ROWS = 500  # enough to keep an author busy; looking for the nearest name takes time
MAX_NESTING = 8  # hosts in a chain of `on`; virtual machines within each other get slow sooner
BRIDGE_PORTS = 1023  # BR_MAX_PORTS of the Linux bridge, less the unused port 0

# Parameters that mean the same for every role: name -> what kind of name it holds.
ROLE_REFERENCES = {"accounts": "account", "account": "account", "other": "host", "others": "host"}


class Row(NamedTuple):
    """One fault: where in the spec's tree, what is wrong, what to write instead.

    at_key -- it is the key at `path` that is wrong, not its value.
    """

    path: Path
    message: str
    fix: str
    at_key: bool = False


RoleCheck: TypeAlias = "Callable[[Mapping[str, Any]], list[tuple[Path, str, str]]]"


@dataclass(frozen=True)
class Known:
    """Names that tables outside this room have; None where nobody asked for the check.

    roles  -- role name -> what checks its parameters, or None for a role that takes any.
    images, providers -- their names.
    """

    roles: Mapping[str, RoleCheck | None] | None = None
    images: Collection[str] | None = None
    providers: Collection[str] | None = None


def check(
    spec: LabSpec, known: Known | None = None, broken: Collection[Path] = frozenset()
) -> list[Row]:
    """Return every fault between values of the spec; an empty list means that it can be planned.

    It stops after MAX_ROWS and says so in one more row.
    """
    checker = _Checker(spec, known or Known(), frozenset(broken))
    fresh = (row for row in checker.rows() if row.path not in checker.broken)
    rows = list(islice(fresh, MAX_ROWS))
    if len(rows) == MAX_ROWS:
        message = f"{MAX_ROWS} faults between values; nothing after them was looked at"
        rows.append(Row((), message, "correct those shown first"))
    return rows


def network_of(spec: LabSpec, host: str, adapter: str) -> str | None:
    """Return the network that an adapter reaches, through its parents' wires if it is bridged.

    None where the chain ends nowhere: an adapter without a cable, a name that does not exist,
    a circle, or a guest nested deeper than MAX_NESTING.
    """
    for _ in range(MAX_NESTING):
        owner = spec.hosts.get(host)
        found = owner.adapters.get(adapter) if owner else None
        if owner is None or found is None:
            return None
        if found.bridged is None:
            return found.network
        if owner.on is None:
            return None
        host, adapter = owner.on, found.bridged
    return None


class _Checker:
    def __init__(self, spec: LabSpec, known: Known, broken: frozenset[Path]) -> None:
        self.spec, self.known, self.broken = spec, known, broken
        self.names = {
            "host": self._names("hosts", spec.hosts),
            "network": self._names("networks", spec.networks),
            "account": self._names("accounts", spec.accounts),
        }
        self.taken: dict[str, set[IPv4Address]] = {}

    def _names(self, section: str, good: Collection[str]) -> list[str]:
        """Names that a section has, those with a fault in them included."""
        lost = [str(path[1]) for path in self.broken if path[:1] == (section,) and path[1:]]
        return [*good, *sorted(set(lost) - set(good))]

    def _section_lost(self, section: str) -> bool:
        return (section,) in self.broken

    def rows(self) -> Iterator[Row]:
        if not self.spec.hosts and not self.names["host"] and not self._section_lost("hosts"):
            yield Row(("hosts",), "a lab without hosts", "add a host under `hosts:`")
        yield from self._subnets()
        for name, network in self.spec.networks.items():
            if network.link is not None:
                yield from self._link(("networks", name, "link"), network.link)
        for name, host in self.spec.hosts.items():
            yield from self._parent(name)
            yield from self._image(("hosts", name, "image"), host.image)
            yield from self._provider(("hosts", name, "provider"), host.provider)
            for adapter in host.adapters:
                yield from self._adapter(name, adapter)
            for role, parameters in host.roles.items():
                yield from self._role(("hosts", name, "roles", role), role, parameters)
        yield from self._addresses()
        yield from self._ports()
        yield from self._captures()

    def _unknown(self, path: Path, kind: str, name: str) -> Iterator[Row]:
        """Complain about a name that its section does not have."""
        if name not in self.names[kind] and not self._section_lost(f"{kind}s"):
            fix = suggest(name, self.names[kind], f"the {kind}s are")
            yield Row(path, f"there is no {kind} {quote(name)}", fix)

    # -- networks ---------------------------------------------------------------------------

    def _subnets(self) -> Iterator[Row]:
        # CIDR blocks contain each other or have nothing in common: sorted by where they begin,
        # those that a subnet lies in are a stack.
        order = {name: place for place, name in enumerate(self.spec.networks)}
        subnets = [(network.subnet, name) for name, network in self.spec.networks.items()]
        around: list[tuple[IPv4Network, str]] = []
        for subnet, name in sorted(subnets, key=lambda s: (s[0].network_address, s[0].prefixlen)):
            while around and not around[-1][0].overlaps(subnet):
                around.pop()
            for outer in around:
                (one, first), (two, second) = sorted(
                    ((subnet, name), outer), key=lambda pair: order[pair[1]]
                )
                yield Row(
                    ("networks", second, "subnet"),
                    f"{two} overlaps {one} of the network {quote(first)}",
                    "give each network addresses of its own",
                )
            around.append((subnet, name))

    def _addresses(self) -> Iterator[Row]:
        owners: dict[tuple[str, IPv4Address], str] = {}
        for name, host in self.spec.hosts.items():
            for adapter, spec in host.adapters.items():
                network = network_of(self.spec, name, adapter)
                if spec.address is None or network not in self.spec.networks:
                    continue
                path: Path = ("hosts", name, "adapters", adapter, "address")
                yield from self._inside(path, spec.address, network)
                owner = owners.setdefault((network, spec.address), f"{name}/{adapter}")
                if owner != f"{name}/{adapter}":
                    yield Row(
                        path,
                        f"{spec.address} is the address of {owner} already",
                        self._free_address(network),
                    )

    def _inside(self, path: Path, address: IPv4Address, network: str) -> Iterator[Row]:
        subnet = self.spec.networks[network].subnet
        if address not in subnet:
            message = f"{address} is outside {subnet}, the network {quote(network)}"
        elif address == subnet.network_address:
            message = f"{address} is the address of the network {quote(network)} itself"
        elif address == subnet.broadcast_address:
            message = f"{address} is the broadcast address of the network {quote(network)}"
        else:
            return
        yield Row(path, message, self._free_address(network))

    def _free_address(self, network: str) -> str:
        if not self.taken:
            for name, host in self.spec.hosts.items():
                for adapter, spec in host.adapters.items():
                    if spec.address is not None:
                        reached = network_of(self.spec, name, adapter) or ""
                        self.taken.setdefault(reached, set()).add(spec.address)
        taken = self.taken.get(network, set())
        # At most len(taken) addresses can be in the way: a /8 is not walked to its end.
        candidates = islice(self.spec.networks[network].subnet.hosts(), len(taken) + 1)
        free = next((address for address in candidates if address not in taken), None)
        return f"{free} is free" if free else "the network is full: widen its subnet"

    def _ports(self) -> Iterator[Row]:
        """Complain where a bridge would need more ports than Linux gives it."""
        used: dict[str, int] = {}
        for name, host in self.spec.hosts.items():
            for adapter, spec in host.adapters.items():
                if spec.bridged is not None and host.on is not None:
                    # The bridge inside the parent spends one port on the parent's own wire.
                    bridge, limit = f"{host.on}/{spec.bridged}", BRIDGE_PORTS - 1
                elif spec.network is not None:
                    bridge, limit = spec.network, BRIDGE_PORTS
                else:
                    continue
                used[bridge] = used.get(bridge, 0) + 1
                if used[bridge] == limit + 1:
                    yield Row(
                        ("hosts", name, "adapters", adapter),
                        f"more than {limit} adapters on {bridge}: "
                        f"a Linux bridge has {BRIDGE_PORTS} ports",
                        "spread the hosts over several networks",
                    )

    # -- hosts ------------------------------------------------------------------------------

    def _parent(self, name: str) -> Iterator[Row]:
        parent = self.spec.hosts[name].on
        if parent is None:
            return
        path: Path = ("hosts", name, "on")
        yield from self._unknown(path, "host", parent)
        if parent == name:
            yield Row(path, f"{quote(name)} lives on itself", "name another host, or remove `on`")
            return
        chain = [name]
        while parent is not None and parent in self.spec.hosts and parent not in chain:
            chain.append(parent)
            parent = self.spec.hosts[parent].on
            if len(chain) > MAX_NESTING:
                message = f"{quote(name)} lives more than {MAX_NESTING - 1} hosts deep"
                yield Row(path, message, "let guests live on a host that is nearer to the metal")
                return
        if parent == name and name == min(chain, key=list(self.spec.hosts).index):
            circle = " on ".join([*chain, name])
            yield Row(path, f"a circle: {circle}", "one of them must not be `on` another")

    def _image(self, path: Path, image: str) -> Iterator[Row]:
        images = self.known.images
        own = self._names("images", self.spec.images)
        if images is not None and image not in images and image not in own:
            fix = suggest(image, [*images, *own], "the images are")
            yield Row(path, f"there is no image {quote(image)}", fix)

    def _provider(self, path: Path, provider: str | None) -> Iterator[Row]:
        providers = self.known.providers
        if provider is not None and providers is not None and provider not in providers:
            fix = suggest(provider, providers, "the providers are")
            yield Row(path, f"there is no provider {quote(provider)}", fix)

    def _adapter(self, name: str, adapter: str) -> Iterator[Row]:
        spec = self.spec.hosts[name].adapters[adapter]
        path: Path = ("hosts", name, "adapters", adapter)

        def given(key: str) -> bool:
            return getattr(spec, key) is not None or (*path, key) in self.broken

        if spec.network is not None:
            yield from self._unknown((*path, "network"), "network", spec.network)
        if given("network") and given("bridged"):
            yield Row(
                (*path, "bridged"),
                "an adapter has one wire: both `network` and `bridged` are given",
                "remove one of them",
            )
        elif spec.bridged is not None:
            yield from self._bridged((*path, "bridged"), name, spec)
        plugged = given("network") or given("bridged")
        if spec.link is not None:
            yield from self._link((*path, "link"), spec.link)
            if not plugged:
                fix = "add `network: NAME` or `bridged: ADAPTER`, or remove the link"
                yield Row((*path, "link"), "conditions of a cable, but no cable", fix)
        if given("address") and not plugged:
            yield Row(
                (*path, "address"),
                "an address, but no wire",
                "add `network: NAME` or `bridged: ADAPTER`, or remove the address",
            )
        if plugged and not given("address"):
            network = network_of(self.spec, name, adapter)
            fix = "add `address: …`"
            if network in self.spec.networks:
                fix = f"add `address: …`; {self._free_address(network)}"
            yield Row(path, "an adapter with a wire, but no address", fix)

    def _link(self, path: Path, link: LinkSpec) -> Iterator[Row]:
        said = link.model_fields_set or any(broken[: len(path)] == path for broken in self.broken)
        if not said:
            fix = "add `rate_mbit: …`, `loss_percent: …` or `delay_ms: …`, or remove the link"
            yield Row(path, "a link without any condition", fix)

    def _bridged(self, path: Path, name: str, spec: AdapterSpec) -> Iterator[Row]:
        parent = self.spec.hosts[name].on
        if parent is None:
            if ("hosts", name, "on") not in self.broken:
                yield Row(
                    path,
                    f"{quote(name)} is bridged, but lives on no host",
                    "add `on: HOST`, or plug it in with `network: NAME`",
                )
            return
        if parent not in self.spec.hosts:
            return  # complained about at `on`
        wires = self.spec.hosts[parent].adapters
        at: Path = ("hosts", parent, "adapters")
        lost = {str(p[3]) for p in self.broken if p[:3] == at and len(p) > 3}  # noqa: PLR2004 - a name under `adapters`
        if spec.bridged in lost or at in self.broken:
            return
        wire = wires.get(str(spec.bridged))
        if wire is None:
            fix = suggest(str(spec.bridged), wires, f"the adapters of {parent} are")
            yield Row(path, f"{quote(parent)} has no adapter {quote(spec.bridged)}", fix)
        elif wire.network is None and wire.bridged is None:
            plugged = [n for n, w in wires.items() if w.network or w.bridged]
            fix = suggest("", plugged, f"the adapters of {parent} with a wire are")
            message = f"the adapter {quote(spec.bridged)} of {quote(parent)} has no wire to share"
            yield Row(path, message, fix)

    # -- roles and captures -----------------------------------------------------------------

    def _role(self, path: Path, role: str, parameters: Mapping[str, Any]) -> Iterator[Row]:
        for key, kind in ROLE_REFERENCES.items():
            value = parameters.get(key)
            for place, name in enumerate(value if isinstance(value, list) else [value]):
                if isinstance(name, str):
                    where: Path = (place,) if isinstance(value, list) else ()
                    yield from self._unknown((*path, key, *where), kind, name)
        if self.known.roles is None:
            return
        if role not in self.known.roles:
            fix = suggest(role, self.known.roles, "the roles are")
            yield Row(path, f"there is no role {quote(role)}", fix, at_key=True)
        elif (validate := self.known.roles[role]) is not None:
            for below, message, fix in validate(parameters):
                yield Row((*path, *below), message, fix)

    def _captures(self) -> Iterator[Row]:
        first: dict[str, int] = {}
        for place, capture in enumerate(self.spec.captures):
            path: Path = ("captures", place)
            if path in self.broken:
                continue
            if first.setdefault(capture, place) != place:
                yield Row(path, f"{quote(capture)} is listed twice", "remove one of the two")
                continue
            host, slash, adapter = capture.partition("/")
            if not (host and slash and adapter):
                message = f"{quote(capture)} is no place to listen at"
                yield Row(path, message, "write host/adapter, as peer/eth0")
                continue
            yield from self._listening(path, host, adapter)

    def _listening(self, path: Path, host: str, adapter: str) -> Iterator[Row]:
        yield from self._unknown(path, "host", host)
        owner = self.spec.hosts.get(host)
        at: Path = ("hosts", host, "adapters")
        if owner is None or any(p[:4] in (at, (*at, adapter)) for p in self.broken):
            return
        found = owner.adapters.get(adapter)
        if found is None:
            fix = suggest(adapter, owner.adapters, f"the adapters of {host} are")
            yield Row(path, f"{quote(host)} has no adapter {quote(adapter)}", fix)
        elif found.network is None and found.bridged is None:
            message = f"nothing passes {quote(f'{host}/{adapter}')}: it has no wire"
            yield Row(path, message, "listen at an adapter with `network` or `bridged`")
