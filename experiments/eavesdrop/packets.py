"""The packet list of captures, packed for a page: numbers straight from the engine's table.

What a row says is mostly made by the page's script from numbers (ports, flags, sequence numbers).
Texts are put in for what numbers do not tell: the first line of what a readable protocol says,
questions to name servers, ARP and the like.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from experiments import columns
from experiments.analysis.capture import layout, words
from experiments.eavesdrop.plain import plain

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from experiments.analysis.model import Packet
    from experiments.eavesdrop.heard import Heard

# Packets that a page has; and of those, how many have a text of their own.
MOST_ROWS: Final = 2_000_000
MOST_TEXTS: Final = 200_000
_WINDOW: Final = 1 << 17
_LONGEST: Final = 160
# Protocols that are read in lines, the others are named with what a packet's first bytes say.
_LINES: Final = frozenset(
    {"http", "irc", "xmpp", "smtp", "pop3", "imap", "ftp", "telnet", "websocket"}
)
_TOLD: Final = frozenset({"dns", "tls", "quic"})
_TEXT_SHARE: Final = 0.9


def pack(heard: Heard) -> dict[str, Any]:
    """Return the list as `columns.pack` packs it, with its name and what its script needs."""
    made = _Made(heard)
    count = min(len(heard.reading), MOST_ROWS)
    for start in range(0, count, _WINDOW):
        made.take(start, min(start + _WINDOW, count))
        heard.reading.forget()
    flows = heard.reading.flows
    kinds = np.where(flows["protocol"] == layout.TCP, "tcp:", "udp:")
    names = [
        f"{kind}{number}" for kind, number in zip(kinds, flows["number"].tolist(), strict=True)
    ]
    shown = words.shown_status()
    return {
        "name": "packets",
        "total": len(heard.reading),
        "flows": names[: made.flows],
        "words": {str(bit): word for bit, word in shown.items()},
        **columns.pack(made.whole(), made.tables()),
    }


class _Made:
    """The columns while they grow."""

    def __init__(self, heard: Heard) -> None:
        self.heard = heard
        self.flows = 0
        self._names = columns.Texts()
        self._protocols = columns.Texts()
        self._infos = columns.Texts()
        self._parts: list[dict[str, NDArray[Any]]] = []
        self._texts = MOST_TEXTS
        flows = heard.reading.flows
        self._addresses = self._ends(flows)
        # By flow: the number of its protocol's name, and whether its packets get texts.
        upper = [name.partition("/")[0].upper() for name in heard.names]
        self._named = np.array([self._protocols.number(name) for name in upper], np.uint16)
        firsts = [name.partition("/")[0] for name in heard.names]
        self._lined = np.array([name in _LINES for name in firsts])
        self._worded = np.array([name in _TOLD for name in firsts])
        self._known = np.array([name not in {"", "unknown"} for name in firsts])
        self._next: dict[int, tuple[int, int]] = {}

    def _ends(self, flows: NDArray[Any]) -> NDArray[np.uint32]:
        """Return the numbers of the addresses of each flow's two ends."""
        out = np.zeros((len(flows), 2), np.uint32)
        if not len(flows):
            return out
        size = np.where(flows["version"] == 4, 4, 16)  # noqa: PLR2004 - IPv4
        for side in (0, 1):
            raw = flows["address"][:, side]
            keys = np.concatenate([raw, size[:, None].astype(np.uint8)], axis=1)
            different, which = np.unique(keys, axis=0, return_inverse=True)
            numbers = [
                self._names.number(words.address(key[: key[16]].tobytes())) for key in different
            ]
            out[:, side] = np.array(numbers, np.uint32)[which.reshape(-1)]
        return out

    def take(self, start: int, end: int) -> None:
        """Take packets start (included) to end (not), counted from 0."""
        heard = self.heard
        rows = heard.reading.packets[start:end]
        flow, side = rows["flow"].astype(np.int64), rows["direction"].astype(np.int64)
        in_flow = (flow != layout.NONE) & ((rows["status"] & layout.QUOTED) == 0)
        flow = np.where(in_flow, flow, 0)
        if in_flow.any():
            self.flows = max(self.flows, int(flow.max()) + 1)
        tcp = in_flow & (rows["protocol"] == layout.TCP)
        seconds, micros = columns.times((rows["time"] - heard.reading.start) // 1000)
        ends, ports, of = self._addresses, heard.reading.flows["port"], heard.protocols
        made: dict[str, NDArray[Any]] = {
            "seconds": seconds,
            "micros": micros,
            "length": rows["length"].astype(np.uint32),
            "flow": np.where(in_flow, flow, columns.MADE).astype(np.uint32),
            "side": rows["direction"].astype(np.uint8),
            "payload": rows["payload_length"].astype(np.uint32),
            "status": rows["status"].astype(np.uint32),
            "tcp": np.where(tcp, rows["tcp_flags"], 0).astype(np.uint16),
            "info": np.full(len(rows), columns.MADE, np.uint32),
        }
        if len(ends):
            carries = in_flow & (rows["payload_captured"] > 0)
            known = carries & self._known[of[flow]]
            base = np.where(tcp, self._protocols.number("TCP"), self._protocols.number("UDP"))
            made |= {
                "source": ends[flow, side],
                "destination": ends[flow, 1 - side],
                "from": ports[flow, side],
                "to": ports[flow, 1 - side],
                "protocol": np.where(known, self._named[of[flow]], base).astype(np.uint16),
                "window": self._windows(rows, flow, side),
            }
            lined, worded = carries & self._lined[of[flow]], carries & self._worded[of[flow]]
        else:
            nothing = np.zeros(len(rows), np.uint32)
            made |= dict.fromkeys(("source", "destination", "window"), nothing)
            made |= {name: nothing.astype(np.uint16) for name in ("from", "to", "protocol")}
            lined = worded = np.zeros(len(rows), bool)
        made |= self._sequence(rows, made, tcp)
        self._say(start, rows, made, lined, worded | ~in_flow)
        self._parts.append(made)

    def _windows(
        self, rows: NDArray[Any], flow: NDArray[np.int64], side: NDArray[np.int64]
    ) -> NDArray[np.uint32]:
        scale = self.heard.reading.flows["side"]["scale"][flow, side]
        scaled = np.where((scale > 0) & ((rows["tcp_flags"] & layout.SYN) == 0), scale, 0)
        return (rows["window"].astype(np.uint32) << scaled.astype(np.uint32)).astype(np.uint32)

    def _sequence(
        self, rows: NDArray[Any], made: dict[str, NDArray[Any]], tcp: NDArray[np.bool_]
    ) -> dict[str, NDArray[Any]]:
        """Return seq and ack as differences from what the same sender's last packet led to expect.

        They are nearly all 0 then, which packs to almost nothing.
        """
        key = made["flow"].astype(np.int64) * 2 + made["side"]
        seq, ack = rows["seq"].astype(np.int64), rows["ack"].astype(np.int64)
        end = seq + made["payload"]
        seq_out, ack_out = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
        places = np.flatnonzero(tcp)
        order = places[np.argsort(key[places], kind="stable")]
        if len(order):
            same = np.concatenate([[False], key[order][1:] == key[order][:-1]])
            before = np.concatenate([[0], order[:-1]])
            expected_seq = np.where(same, end[before], 0)
            expected_ack = np.where(same, ack[before], 0)
            for place in np.flatnonzero(~same).tolist():  # the first of each sender in this window
                sender = int(key[order[place]])
                expected_seq[place], expected_ack[place] = self._next.get(sender, (0, 0))
            seq_out[order] = seq[order] - expected_seq
            ack_out[order] = ack[order] - expected_ack
            last = np.concatenate([np.flatnonzero(~same)[1:] - 1, [len(order) - 1]])
            for place in order[last].tolist():
                self._next[int(key[place])] = (int(end[place]), int(ack[place]))
        return {"seq": seq_out.astype(np.int32), "ack": ack_out.astype(np.int32)}

    def _say(
        self,
        start: int,
        rows: NDArray[Any],
        made: dict[str, NDArray[Any]],
        lined: NDArray[np.bool_],
        worded: NDArray[np.bool_],
    ) -> None:
        """Put in texts, while there is room for them."""
        reading = self.heard.reading
        for place in np.flatnonzero(lined | worded).tolist():
            outside = made["flow"][place] == columns.MADE
            if self._texts <= 0 and not outside:
                continue
            if outside or worded[place]:
                packet = reading.packet(start + place + 1) if self._texts > 0 else None
                if outside:
                    self._outside(place, rows[place], packet, made)
                elif packet is not None:
                    made["info"][place] = self._infos.number(plain(packet.info, _LONGEST))
                self._texts -= 1
            else:
                text = self._line(rows[place], reading.frame(start + place + 1))
                if text:
                    made["info"][place] = self._infos.number(text)
                    self._texts -= 1

    def _outside(
        self,
        place: int,
        row: np.void,
        packet: Packet | None,
        made: dict[str, NDArray[Any]],
    ) -> None:
        """Tell of a packet that is in no flow."""
        name = words.network(int(row["net"]), int(row["protocol"]), int(row["link"]))
        made["protocol"][place] = self._protocols.number(packet.protocol if packet else name)
        made["source"][place] = self._names.number(plain(packet.source) if packet else "")
        made["destination"][place] = self._names.number(plain(packet.destination) if packet else "")
        made["info"][place] = self._infos.number(plain(packet.info, _LONGEST) if packet else "")

    @staticmethod
    def _line(row: np.void, frame: bytes) -> str:
        """Return the first line of what a packet carries, "" where it is no text."""
        begin = int(row["payload"]) - int(row["address"])
        if not 0 <= begin < len(frame):
            return ""
        data = frame[begin : begin + min(int(row["payload_captured"]), _LONGEST)]
        line = data.split(b"\n", 1)[0].rstrip(b"\r")
        text = line.decode("utf-8", "replace")
        share = sum(char.isprintable() and char != "\ufffd" for char in text)
        return plain(text) if text and share >= _TEXT_SHARE * len(text) else ""

    def whole(self) -> dict[str, NDArray[Any]]:
        """Return the whole columns."""
        if not self._parts:
            return {}
        return {
            name: np.concatenate([part[name] for part in self._parts]) for name in self._parts[0]
        }

    def tables(self) -> dict[str, columns.Texts]:
        """Return the tables of texts."""
        return {"names": self._names, "protocols": self._protocols, "infos": self._infos}
