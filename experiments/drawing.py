"""Where things lie in the report's pictures: coordinates from a plan, in user units of the SVG.

Pure layout, no markup: a switch for each network on top, the hosts below it from left to right, a
guest inside the host that it lives on, hung on a bridge at the adapter whose wire it shares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from lab.plan import Plan, PlannedAdapter, PlannedHost

BOX_WIDTH: Final = 236
GUEST_WIDTH: Final = 204
GAP: Final = 28
MARGIN: Final = 14
SWITCH_HEIGHT: Final = 44
SWITCH_GAP: Final = 16
WIRE: Final = 62
LINE: Final = 19
PORT_WIDTH: Final = 96
PORT_HEIGHT: Final = 28
_HEAD: Final = 34


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle with lines of text in it."""

    x: float
    y: float
    width: float
    height: float
    title: str
    lines: tuple[str, ...] = ()
    kind: str = "host"


@dataclass(frozen=True, slots=True)
class Port:
    """An adapter; `watched` if it is a capture point."""

    x: float
    y: float
    name: str
    watched: bool
    wired: bool


@dataclass(frozen=True, slots=True)
class Wire:
    """A cable, as the points that it runs through."""

    points: tuple[tuple[float, float], ...]

    @property
    def path(self) -> str:
        """The points as SVG's polyline wants them."""
        return " ".join(f"{x:g},{y:g}" for x, y in self.points)


@dataclass(frozen=True, slots=True)
class Drawing:
    """A whole picture."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    ports: tuple[Port, ...]
    wires: tuple[Wire, ...]
    alternative: str


class _Sheet:
    """The picture while it grows."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.watched = {(point.host, point.adapter) for point in plan.captures}
        self.boxes: list[Box] = []
        self.ports: list[Port] = []
        self.wires: list[Wire] = []
        self.bottom: float = 0

    def guests(self, host: PlannedHost) -> list[PlannedHost]:
        return [guest for guest in self.plan.hosts if guest.on == host.name]

    def width(self, host: PlannedHost) -> float:
        inner = sum(self.width(guest) + GAP for guest in self.guests(host)) - GAP
        own = BOX_WIDTH if host.on is None else GUEST_WIDTH
        ports = len(host.adapters) * (PORT_WIDTH + 12) + 20
        return max(own, ports, inner + 2 * MARGIN if inner > 0 else 0)

    def place(self, host: PlannedHost, x: float, y: float) -> tuple[float, dict[str, Port]]:
        """Draw a host with its top left corner there; return its bottom and its ports."""
        width = self.width(host)
        index = len(self.boxes)
        ports = {}
        for number, adapter in enumerate(host.adapters):
            left = x + MARGIN + number * (PORT_WIDTH + 12)
            port = Port(
                left,
                y - PORT_HEIGHT / 2,
                adapter.name,
                (host.name, adapter.name) in self.watched,
                bool(adapter.network or adapter.bridged),
            )
            ports[adapter.name] = port
            self.ports.append(port)
        lines = _lines(host)
        bottom = y + _HEAD + 22 + LINE * len(lines)
        children = self.guests(host)
        if children:
            bottom = self._inside(children, x + MARGIN, bottom + 8, ports)
        self.boxes.insert(
            index,
            Box(
                x,
                y,
                width,
                bottom - y,
                host.name,
                lines,
                "guest" if host.on else "host",
            ),
        )
        self.bottom = max(self.bottom, bottom)
        return bottom, ports

    def _inside(
        self, guests: list[PlannedHost], x: float, y: float, ports: dict[str, Port]
    ) -> float:
        """Draw guests under the bridge that they hang on; return where their host ends."""
        bottom = y
        for guest in guests:
            top = y + 92
            end, own = self.place(guest, x, top)
            for adapter in guest.adapters:
                uplink = ports.get(adapter.bridged or "")
                if uplink:
                    self._bridge(x, y, guest, own[adapter.name], uplink)
            x += self.width(guest) + GAP
            bottom = max(bottom, end)
        return bottom + MARGIN

    def _bridge(self, x: float, y: float, guest: PlannedHost, port: Port, uplink: Port) -> None:
        width = self.width(guest)
        self.boxes.append(Box(x, y, width, 34, f"bridge at {uplink.name}", (), "bridge"))
        edge = x + width - 14
        self.wires.append(
            Wire(((edge, y), (edge, uplink.y + PORT_HEIGHT + 14), (uplink.x + PORT_WIDTH / 2 + 26,
                  uplink.y + PORT_HEIGHT + 14), (uplink.x + PORT_WIDTH / 2 + 26,
                  uplink.y + PORT_HEIGHT)))
        )  # fmt: skip
        middle = port.x + PORT_WIDTH / 2
        self.wires.append(Wire(((middle, y + 34), (middle, port.y))))


def _lines(host: PlannedHost) -> tuple[str, ...]:
    addresses = [adapter.address for adapter in host.adapters if adapter.address]
    return (*addresses, f"TTL {host.ttl} · {host.os}")


def topology(plan: Plan) -> Drawing:
    """Lay out a lab: its switches, hosts, guests inside hosts, bridges and capture points."""
    sheet = _Sheet(plan)
    roots = [host for host in plan.hosts if host.on is None]
    width = 2 * MARGIN + sum(sheet.width(host) + GAP for host in roots) - GAP
    bars = {
        network.name: MARGIN + number * (SWITCH_HEIGHT + SWITCH_GAP)
        for number, network in enumerate(plan.networks)
    }
    for network in plan.networks:
        title = f"switch {network.name}"
        lines = (network.subnet,)
        y = bars[network.name]
        sheet.boxes.append(
            Box(MARGIN, y, width - 2 * MARGIN, SWITCH_HEIGHT, title, lines, "switch")
        )
    top = MARGIN + len(bars) * (SWITCH_HEIGHT + SWITCH_GAP) - SWITCH_GAP + WIRE
    x: float = MARGIN
    for host in roots:
        _, ports = sheet.place(host, x, top)
        for adapter in host.adapters:
            if adapter.network in bars:
                port = ports[adapter.name]
                middle = port.x + PORT_WIDTH / 2
                edge = bars[adapter.network] + SWITCH_HEIGHT
                sheet.wires.append(Wire(((middle, edge), (middle, port.y))))
        x += sheet.width(host) + GAP
    return Drawing(
        width,
        sheet.bottom + MARGIN,
        tuple(sheet.boxes),
        tuple(sheet.ports),
        tuple(sheet.wires),
        _alternative(plan),
    )


def _alternative(plan: Plan) -> str:
    """Return the picture in words, for those who do not see it."""
    words = []
    for host in plan.hosts:
        where = f" (a guest of {host.on})" if host.on else ""
        words.append(f"{host.name}{where}: " + ", ".join(_adapter(a) for a in host.adapters))
    points = ", ".join(f"{point.host}/{point.adapter}" for point in plan.captures)
    return f"{'; '.join(words)}. Captures are taken at {points or 'no adapter'}."


def _adapter(adapter: PlannedAdapter) -> str:
    if adapter.network:
        return f"{adapter.name} on switch {adapter.network}, {adapter.address or 'no address'}"
    if adapter.bridged:
        return f"{adapter.name} bridged to {adapter.bridged}, {adapter.address or 'no address'}"
    return f"{adapter.name} not connected"


def ping_scale(rows: list[dict[str, Any]]) -> float:
    """Return the right end of the ping picture in ms: a round number above every reply.

    1.0 when nothing answered.
    """
    longest = max((row["max_ms"] for row in rows if row["max_ms"] is not None), default=0)
    scale = 0.001
    while longest > 0:
        for step in (1, 2, 5):
            if step * scale >= longest:
                return round(step * scale, 6)
        scale *= 10
    return 1.0
