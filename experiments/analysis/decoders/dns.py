"""DNS over UDP and TCP, mDNS, LLMNR and NetBIOS: the names that were asked for, and the answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from experiments.analysis import dnswire
from experiments.analysis.model import Decoded, Exposure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from experiments.analysis.model import Stream

# The groups that these are sent to say what they are (RFC 6762, RFC 4795).
_GROUPS: Final = {
    "224.0.0.251": "mDNS",
    "[ff02::fb]": "mDNS",
    "224.0.0.252": "LLMNR",
    "[ff02::1:3]": "LLMNR",
}
_SIDES: Final = (True, False)
# Names and answers beyond these are not told one by one.
_MOST: Final = 64


class Dns:
    """The Domain Name System."""

    name = "dns"

    def recognises(self, stream: Stream) -> bool:
        """Whether the first message of a side is one of DNS, to its last byte."""
        for forward in _SIDES:
            first = next(_messages(stream, forward=forward), None)
            if first and dnswire.read(first[0]):
                return True
        return False

    def decode(self, stream: Stream) -> Decoded:
        """Read all messages."""
        exposures: list[Exposure] = []
        complete = True
        kind = _GROUPS.get(stream.server.rpartition(":")[0], "DNS")
        for forward in _SIDES:
            for data, start in _messages(stream, forward=forward):
                message = dnswire.read(data)
                complete = complete and message is not None
                if message:
                    name = "NetBIOS" if message.netbios else kind
                    exposures += _told(message, start, name, forward=forward)
        return Decoded("dns", (), tuple(exposures), complete, facts={"kind": kind})


def _messages(stream: Stream, *, forward: bool) -> Iterator[tuple[bytes, int]]:
    """Yield each message and where it begins: a datagram, or after its length (RFC 7766)."""
    if stream.protocol == "udp":
        position = 0
        for chunk in stream.chunks:
            if chunk.forward is forward:
                yield chunk.data, position
                position += len(chunk.data)
        return
    data, position = stream.side(forward=forward), 0
    while position + 2 <= len(data):
        start = position + 2
        end = start + (data[position] << 8 | data[position + 1])
        if end > len(data):
            return
        yield data[start:end], start
        position = end


def _told(message: dnswire.Message, start: int, kind: str, *, forward: bool) -> Iterator[Exposure]:
    """Yield what is asked, or in a response what is answered to it."""
    answers = [row for row in message.records[:_MOST] if row.says]
    told = ", ".join(dict.fromkeys(row.says for row in answers))
    for row in message.questions[:_MOST]:
        what = "answer" if message.response else "question"
        # A question may name the answers that are known already (RFC 6762, 7.1).
        known = "answers" if message.response else "known"
        about = {"type": row.type, known: told, "result": message.result}
        about = {name: text for name, text in about.items() if text}
        place = (start + row.start, start + row.end)
        if row.name:
            yield Exposure("domain", row.name, f"{kind} {what}", forward, *place, (), about)
    if message.questions:
        return
    for row in answers:
        about = {"type": row.type, "answers": row.says}
        place = (start + row.start, start + row.end)
        if row.name:
            yield Exposure("domain", row.name, f"{kind} announcement", forward, *place, (), about)


DECODER = Dns()
