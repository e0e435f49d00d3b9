"""Opening TLS with its keys: 1.2 (RFC 5246, RFC 5288, RFC 7905) and 1.3 (RFC 8446).

For the suites with AES-GCM, AES-CCM, ChaCha20-Poly1305 and, in TLS 1.2, AES-CBC. All of these keep
the order of bytes, so every plain byte has the place of its encrypted one, and the frames of a text
are exact. A record that does not authenticate ends the reading of its side: nothing is guessed.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import ciphers, hashes, hmac
from cryptography.hazmat.primitives.ciphers import modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from experiments.analysis import tls_hello
from experiments.analysis.model import Layer, Passage, Span

if TYPE_CHECKING:
    from experiments.analysis.model import Stream
    from experiments.analysis.tls_hello import Hello, Record

Cipher = AESGCM | AESCCM | ChaCha20Poly1305
Hash = type[hashes.SHA256] | type[hashes.SHA384]
Mac = type[hashes.SHA1] | Hash

# A line of a key log: a label, the client's random, the secret (NSS's format, SSLKEYLOGFILE).
_LINE: Final = re.compile(
    rb"^([A-Z0-9_]{1,64}) ([0-9A-Fa-f]{64}) ([0-9A-Fa-f]{64,96})\s*$", re.MULTILINE
)
_TLS_1_2: Final = 0x0303
_TLS_1_3: Final = 0x0304
_FINISHED, _END_OF_EARLY, _KEY_UPDATE = 20, 5, 24
_MASTER: Final = 48
_BLOCK: Final = 16
_ENCRYPT_THEN_MAC: Final = 22


@dataclass(frozen=True, slots=True)
class _Suite:
    cipher: str
    key: int
    hash: Hash = hashes.SHA256
    tag: int = 16
    mac: Mac = hashes.SHA1


_SUITES: Final = {
    **dict.fromkeys((0x1301, 0x009C, 0x009E, 0xC02B, 0xC02F), _Suite("gcm", 16)),
    **dict.fromkeys((0x1302, 0x009D, 0x009F, 0xC02C, 0xC030), _Suite("gcm", 32, hashes.SHA384)),
    **dict.fromkeys((0x1303, 0xCCA8, 0xCCA9, 0xCCAA), _Suite("chacha", 32)),
    **dict.fromkeys((0x1304, 0xC09C, 0xC09E, 0xC0AC), _Suite("ccm", 16)),
    **dict.fromkeys((0xC09D, 0xC09F, 0xC0AD), _Suite("ccm", 32)),
    **dict.fromkeys((0x1305, 0xC0AE), _Suite("ccm", 16, tag=8)),
    0xC0AF: _Suite("ccm", 32, tag=8),
    **dict.fromkeys((0x002F, 0x0033, 0xC009, 0xC013), _Suite("cbc", 16)),
    **dict.fromkeys((0x0035, 0x0039, 0xC00A, 0xC014), _Suite("cbc", 32)),
    **dict.fromkeys((0x003C, 0x0067, 0xC023, 0xC027), _Suite("cbc", 16, mac=hashes.SHA256)),
    **dict.fromkeys((0x003D, 0x006B), _Suite("cbc", 32, mac=hashes.SHA256)),
    **dict.fromkeys((0xC024, 0xC028), _Suite("cbc", 32, hashes.SHA384, mac=hashes.SHA384)),
}


@functools.lru_cache(maxsize=4)
def read_log(keys: bytes) -> dict[tuple[str, bytes], bytes]:
    """Return the secrets of a key log by (label, client random)."""
    return {
        (match[1].decode(), bytes.fromhex(match[2].decode())): bytes.fromhex(match[3].decode())
        for match in _LINE.finditer(keys)
        if len(match[3]) % 2 == 0
    }


def open_stream(stream: Stream, keys: bytes) -> Layer | None:
    """Return the application data of a TLS stream; None where the keys do not open it."""
    hellos = {way: _hello(stream.side(forward=way)) for way in (True, False)}
    client_way = next((way for way, (client, _) in hellos.items() if client), None)
    if client_way is None:
        return None
    client, server = hellos[client_way][0], hellos[not client_way][1]
    if not client or not server:
        return None
    log, suite = read_log(keys), _SUITES.get(server.ciphers[0])
    if not suite:
        return None
    version = max(server.versions)
    passages: dict[bool, Passage | None] = {True: None, False: None}
    for way in (True, False):
        sender = "CLIENT" if way is client_way else "SERVER"
        opener: _Opener | None = None
        if version == _TLS_1_3 and suite.cipher != "cbc":
            opener = _Opener13.of(log, client.random, sender, suite)
        elif version == _TLS_1_2 and suite.cipher == "cbc":
            late = server.extension(_ENCRYPT_THEN_MAC) is not None
            opener = _OpenerCbc.made(log, client.random, server.random, sender, suite, late=late)
        elif version == _TLS_1_2:
            opener = _Opener12.of(log, client.random, server.random, sender, suite)
        if opener:
            passages[way] = _open_side(stream.side(forward=way), opener, forward=way)
    if not passages[True] and not passages[False]:
        return None
    return Layer(passages[True], passages[False])


def _hello(data: bytes) -> tuple[Hello | None, Hello | None]:
    """Return the ClientHello and the ServerHello of a side; a side has one of them."""
    client = server = None
    for message in tls_hello.messages(tls_hello.handshake(data, forward=True).content):
        if message.kind == tls_hello.CLIENT_HELLO and not client:
            client = tls_hello.client_hello(message.body)
        elif message.kind == tls_hello.SERVER_HELLO and not server:
            hello = tls_hello.server_hello(message.body)
            server = hello if hello and not hello.retry else None
    return client, server


class _Opener:
    """Decrypts the records of one side, in order."""

    def opened(self, record: Record, body: bytes) -> tuple[int, bytes, int] | None:
        """Return (type, plain text, where in the body it begins), None if it does not open."""
        raise NotImplementedError

    def changed(self) -> None:
        """Take a ChangeCipherSpec."""

    def ready(self, record: Record) -> bool:
        """Whether the record is an encrypted one."""
        raise NotImplementedError


def _open_side(data: bytes, opener: _Opener, *, forward: bool) -> Passage | None:
    content, spans, end = bytearray(), [], 0
    for record in tls_hello.records(data):
        if record.kind == tls_hello.CHANGE_CIPHER:
            opener.changed()
            continue
        if not record.whole or not opener.ready(record):
            if not record.whole:
                break
            continue
        opened = opener.opened(record, data[record.start : record.end])
        if opened is None:
            break
        kind, plain, offset = opened
        if kind == tls_hello.APPLICATION and plain:
            spans.append(Span(len(content), record.start + offset, len(plain)))
            content += plain
            end = record.end
    if not content:
        return None
    start = spans[0].stream
    return Passage("TLS", forward, bytes(content), start, end, ("tls",), tuple(spans))


class _Opener12(_Opener):
    """TLS 1.2: one key a side, in force from its ChangeCipherSpec on."""

    def __init__(self, suite: _Suite, key: bytes, iv: bytes) -> None:
        self._suite, self._iv = suite, iv
        self._cipher = _cipher(suite, key)
        self._sequence = 0
        self._on = False

    @classmethod
    def of(
        cls,
        log: dict[tuple[str, bytes], bytes],
        client_random: bytes,
        server_random: bytes,
        sender: str,
        suite: _Suite,
    ) -> _Opener12 | None:
        """Derive a side's key from the master secret (RFC 5246, 6.3)."""
        master = log.get(("CLIENT_RANDOM", client_random))
        if not master or len(master) != _MASTER:
            return None
        iv = 12 if suite.cipher == "chacha" else 4
        seed = b"key expansion" + server_random + client_random
        block = _prf(master, seed, 2 * (suite.key + iv), suite.hash)
        which = 0 if sender == "CLIENT" else 1
        key = block[which * suite.key :][: suite.key]
        return cls(suite, key, block[2 * suite.key + which * iv :][:iv])

    def changed(self) -> None:
        self._on, self._sequence = True, 0

    def ready(self, record: Record) -> bool:
        del record
        return self._on

    def opened(self, record: Record, body: bytes) -> tuple[int, bytes, int] | None:
        chacha = self._suite.cipher == "chacha"
        offset = 0 if chacha else 8
        size = len(body) - offset - self._suite.tag
        if size < 0:
            return None
        nonce = _mixed(self._iv, self._sequence) if chacha else self._iv + body[:8]
        head = self._sequence.to_bytes(8, "big") + bytes([record.kind])
        head += record.version.to_bytes(2, "big") + size.to_bytes(2, "big")
        try:
            plain = self._cipher.decrypt(nonce, body[offset:], head)
        except InvalidTag:
            return None
        self._sequence += 1
        return record.kind, plain, offset


class _OpenerCbc(_Opener):
    """TLS 1.2 with AES-CBC: a code inside what is encrypted, or around it (RFC 7366)."""

    def __init__(self, suite: _Suite, key: bytes, mac: bytes, *, late: bool) -> None:
        self._suite, self._key, self._mac, self._late = suite, key, mac, late
        self._sequence = 0
        self._on = False

    @classmethod
    def made(  # noqa: PLR0913 (what a key follows from)
        cls,
        log: dict[tuple[str, bytes], bytes],
        client_random: bytes,
        server_random: bytes,
        sender: str,
        suite: _Suite,
        *,
        late: bool,
    ) -> _OpenerCbc | None:
        """Derive a side's keys from the master secret; late: the code is around."""
        master = log.get(("CLIENT_RANDOM", client_random))
        if not master or len(master) != _MASTER:
            return None
        size, key = suite.mac.digest_size, suite.key
        seed = b"key expansion" + server_random + client_random
        block = _prf(master, seed, 2 * (size + key), suite.hash)
        which = 0 if sender == "CLIENT" else 1
        mac, rest = block[which * size :][:size], block[2 * size :]
        return cls(suite, rest[which * key :][:key], mac, late=late)

    def changed(self) -> None:
        self._on, self._sequence = True, 0

    def ready(self, record: Record) -> bool:
        del record
        return self._on

    def opened(self, record: Record, body: bytes) -> tuple[int, bytes, int] | None:
        size = self._suite.mac.digest_size
        code = b""
        if self._late:
            body, code = body[:-size], body[-size:]
            if not self._authentic(record, body, code):
                return None
        if len(body) < 2 * _BLOCK or len(body) % _BLOCK:
            return None
        unpacker = ciphers.Cipher(ciphers.algorithms.AES(self._key), modes.CBC(body[:_BLOCK]))
        plain = unpacker.decryptor().update(body[_BLOCK:])
        plain = plain[: max(len(plain) - plain[-1] - 1, 0)]
        if not self._late:
            plain, code = plain[:-size], plain[-size:]
            if not self._authentic(record, plain, code):
                return None
        self._sequence += 1
        return record.kind, plain, _BLOCK

    def _authentic(self, record: Record, data: bytes, code: bytes) -> bool:
        head = self._sequence.to_bytes(8, "big") + bytes([record.kind])
        head += record.version.to_bytes(2, "big") + len(data).to_bytes(2, "big")
        return _mac(self._mac, head + data, self._suite.mac) == code


class _Opener13(_Opener):
    """TLS 1.3: a side's keys for early data, the handshake and the application, one after another.

    Which one is in force shows in which of them opens a record, and by the messages that end the
    use of one.
    """

    def __init__(self, suite: _Suite, secrets: list[bytes]) -> None:
        self._suite, self._secrets = suite, secrets
        self._key(secrets[0])

    @classmethod
    def of(
        cls,
        log: dict[tuple[str, bytes], bytes],
        client_random: bytes,
        sender: str,
        suite: _Suite,
    ) -> _Opener13 | None:
        """Take a side's secrets out of the log."""
        labels = [f"{sender}_HANDSHAKE_TRAFFIC_SECRET", f"{sender}_TRAFFIC_SECRET_0"]
        if sender == "CLIENT":
            labels.insert(0, "CLIENT_EARLY_TRAFFIC_SECRET")
        size = suite.hash.digest_size
        known = [log.get((label, client_random), b"") for label in labels]
        secrets = [secret for secret in known if len(secret) == size]
        return cls(suite, secrets) if secrets else None

    def ready(self, record: Record) -> bool:
        return record.kind == tls_hello.APPLICATION

    def _key(self, secret: bytes) -> None:
        self._secret = secret
        hash_ = self._suite.hash
        self._cipher = _cipher(self._suite, expand(secret, b"key", self._suite.key, hash_))
        self._iv = expand(secret, b"iv", 12, hash_)
        self._sequence = 0

    def opened(self, record: Record, body: bytes) -> tuple[int, bytes, int] | None:
        head = bytes([record.kind]) + record.version.to_bytes(2, "big")
        head += len(body).to_bytes(2, "big")
        if len(body) < self._suite.tag:
            return None
        while True:
            try:
                nonce = _mixed(self._iv, self._sequence)
                inner = self._cipher.decrypt(nonce, body, head).rstrip(b"\0")
                break
            except InvalidTag:
                if len(self._secrets) < 2:  # noqa: PLR2004 (there is no other key)
                    return None
                del self._secrets[0]
                self._key(self._secrets[0])
        self._sequence += 1
        if not inner:
            return None
        kind, plain = inner[-1], inner[:-1]
        if kind == tls_hello.HANDSHAKE and plain[:1] == bytes([_KEY_UPDATE]):
            self._key(
                expand(self._secret, b"traffic upd", self._suite.hash.digest_size, self._suite.hash)
            )
        return kind, plain, 0


def expand(secret: bytes, label: bytes, length: int, hash_: Hash) -> bytes:
    """HKDF-Expand-Label with an empty context (RFC 8446, 7.1)."""
    name = b"tls13 " + label
    info = length.to_bytes(2, "big") + bytes([len(name)]) + name + b"\0"
    return HKDFExpand(hash_(), length, info).derive(secret)


def _prf(secret: bytes, seed: bytes, length: int, hash_: Hash) -> bytes:
    """P_hash (RFC 5246, 5)."""
    out, chain = b"", seed
    while len(out) < length:
        chain = _mac(secret, chain, hash_)
        out += _mac(secret, chain + seed, hash_)
    return out[:length]


def _mac(secret: bytes, data: bytes, hash_: Mac) -> bytes:
    made = hmac.HMAC(secret, hash_())
    made.update(data)
    return made.finalize()


def _mixed(iv: bytes, sequence: int) -> bytes:
    return (int.from_bytes(iv, "big") ^ sequence).to_bytes(len(iv), "big")


def _cipher(suite: _Suite, key: bytes) -> Cipher:
    if suite.cipher == "gcm":
        return AESGCM(key)
    return ChaCha20Poly1305(key) if suite.cipher == "chacha" else AESCCM(key, suite.tag)
