"""The wires of a lab as data: what wiring.py decides and supervisor.py makes.

Named tuples and no further import, since they travel to the keeper as JSON.
"""

from __future__ import annotations

from typing import Any, NamedTuple

#: where = SWITCHES stands for the lab's own namespace, in which the switches live;
#: any other value is an index into plan.hosts.
SWITCHES = -1

# Interface indexes. 1 is lo, and a new namespace may have a dozen devices that the kernel puts
# there (tunl0, sit0 …); adapters, bridges and ports have a range each, which no spec fills.
FIRST_ADAPTER = 100
FIRST_BRIDGE = 10_000
FIRST_PORT = 100_000
FIRST_PATCH = 1_000_000
FIRST_LINK = 2_000_000


class Bridge(NamedTuple):
    """A bridge in the namespace `where`."""

    where: int
    name: str
    ifindex: int
    mac: str


class Port(NamedTuple):
    """One end of a cable; master is a bridge index in the same namespace, or 0."""

    where: int
    name: str
    ifindex: int
    mac: str
    alias: str
    master: int


class Cable(NamedTuple):
    """A veth pair from a bridge port (near) to a host's adapter (far); `up` if it is plugged in."""

    near: Port
    far: Port
    up: bool


class Address(NamedTuple):
    """An IPv4 address with prefix on the interface `index` of the namespace `where`."""

    where: int
    ifindex: int
    address: str


class Link(NamedTuple):
    """A cable with conditions: two cables, and shaper.py between them.

    near, far -- the interfaces in the switches' namespace that it relays between: towards what the
                 adapter is plugged into, and towards the adapter.
    port      -- (where, name) of what the adapter is plugged into; place: where the adapter is.
    rate_mbit -- 0: as fast as it goes.
    """

    host: str
    adapter: str
    place: int
    port: tuple[int, str]
    near: str
    far: str
    rate_mbit: float
    loss_percent: float
    delay_ms: float
    given: tuple[str, ...]

    @classmethod
    def from_json(cls, row: list[Any]) -> Link:
        """Rebuild a link from its JSON form."""
        made = cls(*row)
        return made._replace(port=(made.port[0], made.port[1]), given=tuple(made.given))

    def declared(self) -> dict[str, float]:
        """Return the conditions that the spec has."""
        return {key: getattr(self, key) for key in self.given}


class Wiring(NamedTuple):
    """All wires of a lab, in the order in which they can be made.

    patches -- the interface in the switches' namespace at which each patch ends, in their order.
    links   -- the cables that have conditions.
    """

    bridges: tuple[Bridge, ...]
    cables: tuple[Cable, ...]
    addresses: tuple[Address, ...]
    patches: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()

    @classmethod
    def from_json(cls, data: list[list[Any]]) -> Wiring:
        """Rebuild a wiring from its JSON form (tuples are lists there)."""
        bridges, cables, addresses, patches, links = data
        return cls(
            tuple(Bridge(*row) for row in bridges),
            tuple(Cable(Port(*near), Port(*far), up) for near, far, up in cables),
            tuple(Address(*row) for row in addresses),
            tuple(str(name) for name in patches),
            tuple(Link.from_json(row) for row in links),
        )
