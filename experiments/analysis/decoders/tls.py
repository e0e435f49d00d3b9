"""TLS (RFC 5246, RFC 8446): what its handshake tells in the clear, and with keys all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from experiments.analysis import tls_hello, tls_names
from experiments.analysis.model import Decoded, Exposure

if TYPE_CHECKING:
    from experiments.analysis.model import Layer, Passage, Stream
    from experiments.analysis.tls_hello import Hello, Message

_SIDES: Final = (True, False)
_TLS_1_3: Final = 0x0304
# How many certificates of a chain are read.
_CHAIN: Final = 16


class Tls:
    """Transport Layer Security, and SSL 3.0."""

    name = "tls"

    def recognises(self, stream: Stream) -> bool:
        """Whether a side begins with records of TLS: a hello, or several in a row."""
        return stream.protocol == "tcp" and any(
            _looks(stream.side(forward=forward)) for forward in _SIDES
        )

    def decode(self, stream: Stream) -> Decoded:
        """Read the hellos, certificates and alerts."""
        reader = _Reader()
        sides = {way: tls_hello.handshake(stream.side(forward=way), forward=way) for way in _SIDES}
        for forward, passage in sides.items():
            for message in tls_hello.messages(passage.content):
                reader.message(message, passage, forward=forward)
        reader.judge()
        for forward in _SIDES:
            reader.records(stream.side(forward=forward), forward=forward)
        sealed = reader.carried[True] + reader.carried[False]
        reader.facts["sealed"] = "yes"
        if sealed:
            there, back = reader.carried[True], reader.carried[False]
            reader.facts["encrypted"] = f"{there} bytes there, {back} back"
        return Decoded(
            "tls",
            (),
            tuple(reader.found),
            complete=reader.client is not None,
            facts=reader.facts,
            notes=tuple(reader.notes),
        )

    def open(self, stream: Stream, keys: bytes) -> Layer | None:
        """Decrypt what was said, with a key log."""
        from experiments.analysis import tls_keys  # noqa: PLC0415 (only those with keys need it)

        return tls_keys.open_stream(stream, keys)


def _looks(data: bytes) -> bool:
    for count, record in enumerate(tls_hello.records(data), 1):
        if record.kind == tls_hello.HANDSHAKE and count == 1:
            kind = data[record.start : record.start + 1]
            if kind in {b"\x01", b"\x02"} and data[record.start + 1 : record.start + 2] == b"\0":
                return True
        # A single record of encrypted data fills the side, or another follows it.
        if count == 2 or (record.whole and record.end == len(data)):  # noqa: PLR2004
            return record.end > record.start
    return False


class _Reader:
    def __init__(self) -> None:
        self.found: list[Exposure] = []
        self.facts: dict[str, str] = {}
        self.notes: list[str] = []
        self.client: Hello | None = None
        self.server: Hello | None = None
        self.carried = {True: 0, False: 0}
        self._certificates = 0

    def message(self, message: Message, passage: Passage, *, forward: bool) -> None:
        """Read a handshake message."""
        at = message.start
        place = passage.place(at, at + len(message.body))
        if message.kind == tls_hello.CLIENT_HELLO:
            hello = tls_hello.client_hello(message.body)
            if not hello or self.client:
                return
            self.client = hello
            if hello.name:
                name, start, end = hello.name
                there = passage.place(at + start, at + end)
                self.facts["server name"] = name
                self.found.append(Exposure("server_name", name, "TLS ClientHello", forward, *there))
            prints = (("JA3", tls_hello.ja3(hello)), ("JA4", tls_hello.ja4(hello)))
            for kind, text in prints:
                told = Exposure("fingerprint", text, f"TLS ClientHello, {kind}", forward, *place)
                self.found.append(told)
        elif message.kind == tls_hello.SERVER_HELLO:
            hello = tls_hello.server_hello(message.body)
            if hello and not hello.retry:
                self.server = self.server or hello
        elif message.kind == tls_hello.CERTIFICATE and self._before_1_3():
            chain = tls_hello.certificates(message.body)[:_CHAIN]
            for index, (der, start) in enumerate(chain):
                there = passage.place(at + start, at + start + len(der))
                self._certificate(der, index, there, forward=forward)

    def _before_1_3(self) -> bool:
        return not self.server or _TLS_1_3 not in self.server.versions

    def _certificate(
        self, der: bytes, index: int, place: tuple[int, int], *, forward: bool
    ) -> None:
        # Loaded only where there is a certificate: it takes longer than all decoders together.
        from experiments.analysis import certificates  # noqa: PLC0415 (as above)

        subject, about = certificates.read(der)
        about = {"chain": str(index), **about}
        self._certificates += 1
        self.found.append(
            Exposure("certificate", subject, "TLS Certificate", forward, *place, (), about)
        )

    def judge(self) -> None:
        """Tell what the two hellos agree on."""
        client, server = self.client, self.server
        if client:
            offered = sorted(set(client.versions))
            self.facts["versions offered"] = ", ".join(map(tls_names.version, offered))
            if client.protocols:
                self.facts["protocols offered"] = ", ".join(client.protocols)
        if server:
            self.facts["tls version"] = tls_names.version(max(server.versions))
            self.facts["cipher"] = tls_names.suite(server.ciphers[0])
            if server.protocols:
                self.facts["protocol"] = server.protocols[0]
        if client and server:
            same = bool(client.session) and client.session == server.session
            taken = server.presents_key
            resumed = taken if _TLS_1_3 in server.versions else same and not self._certificates
            self.facts["resumed"] = "yes" if resumed else "no"
        if not client and not server:
            self.notes.append("the capture begins in the middle of a TLS connection")

    def records(self, data: bytes, *, forward: bool) -> None:
        """Count what is encrypted, and read alerts that are not."""
        sealed = False
        for record in tls_hello.records(data):
            size = record.end - record.start
            if record.kind == tls_hello.CHANGE_CIPHER:
                sealed = True
            elif record.kind == tls_hello.APPLICATION:
                sealed = True
                self.carried[forward] += size
            elif record.kind == tls_hello.ALERT and record.whole:
                self._alert(data[record.start : record.end], record.start, forward, sealed=sealed)

    def _alert(self, body: bytes, start: int, forward: bool, *, sealed: bool) -> None:  # noqa: FBT001
        if len(body) == 2 and not sealed:  # noqa: PLR2004 (level, description)
            name = tls_names.ALERTS.get(body[1], f"alert {body[1]}")
            level = {1: "warning", 2: "fatal"}.get(body[0], str(body[0]))
            about = {"level": level}
            told = Exposure("alert", name, "TLS alert", forward, start, start + 2, (), about)
            self.found.append(told)


DECODER = Tls()
