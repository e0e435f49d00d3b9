"""How two ends agree on fresh keys and prove to know the same passphrase; no input or output.

    initiator  "imsc" | version | IPv4 address | port | random (32)          43 bytes
    responder  "imsc" | version | salt (16) | random (32) | proof (32)       85 bytes
    initiator  proof (32)

Address and port are where the user's connection leads. Both proofs depend on every byte of both
hellos but the proof itself. No record is made or taken before the other end's proof was right.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .aead import KEY
from .keys import (
    OF_INITIATOR,
    OF_RESPONDER,
    RANDOM,
    SALT,
    TO_INITIATOR,
    TO_RESPONDER,
    Keyring,
    derive,
)
from .refusal import ELSEWHERE, NO_SCRAMBLER, VERSION, WRONG_KEY, RefusedError

if TYPE_CHECKING:
    from collections.abc import Collection

MAGIC = b"imsc"
VERSION_1 = 1
_ASKS = struct.Struct(f">4sB4sH{RANDOM}s")
_ANSWERS = struct.Struct(f">4sB{SALT}s{RANDOM}s{KEY}s")
ASKS, ANSWERS, PROOF = _ASKS.size, _ANSWERS.size, KEY  # bytes of the three messages


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one connection, by what this end does with them."""

    seal: bytes = field(repr=False)
    open: bytes = field(repr=False)


@dataclass(slots=True)
class Initiator:
    """The end from which a connection starts. address, port -- where its user wanted to go."""

    keyring: Keyring = field(repr=False)
    address: str
    port: int
    _hello: bytes = field(default=b"", repr=False)
    _random: bytes = field(default=b"", repr=False)

    def hello(self) -> bytes:
        """Return the first message; each call makes another one."""
        self._random = secrets.token_bytes(RANDOM)
        where = ipaddress.IPv4Address(self.address).packed
        self._hello = _ASKS.pack(MAGIC, VERSION_1, where, self.port, self._random)
        return self._hello

    def answered(self, answer: bytes) -> tuple[bytes, Keys]:
        """Return the last message and the keys, given the responder's. Raises RefusedError."""
        magic, version, salt, random, proof = _ANSWERS.unpack(answer)
        _check(magic, version)
        master = self.keyring.master(salt)
        randoms = self._random + random
        hellos = self._hello + answer[:-KEY]

        def key(label: bytes) -> bytes:
            return derive(master, randoms, label, self.port, hellos)

        _prove(proof, key(OF_RESPONDER))
        return key(OF_INITIATOR), Keys(key(TO_RESPONDER), key(TO_INITIATOR))


@dataclass(slots=True)
class Responder:
    """The end that a connection arrives at.

    address -- where it arrived; ports -- those that are scrambled here.
    """

    keyring: Keyring = field(repr=False)
    address: str
    ports: Collection[int]
    port: int = 0
    _expected: bytes = field(default=b"", repr=False)
    _keys: Keys | None = field(default=None, repr=False)

    def answer(self, hello: bytes) -> bytes:
        """Return the answer to the first message. Raises RefusedError."""
        magic, version, where, self.port, theirs = _ASKS.unpack(hello)
        _check(magic, version)
        address = str(ipaddress.IPv4Address(where))
        # Without this an attacker could lead what was meant for one end to another one that has
        # the same key, even back to its sender.
        if address != self.address or self.port not in self.ports:
            raise RefusedError(
                ELSEWHERE, f"it wants {address}:{self.port}, which is not scrambled here"
            )
        ours = secrets.token_bytes(RANDOM)
        randoms = theirs + ours
        master = self.keyring.master(self.keyring.salt)
        unproven = _ANSWERS.pack(MAGIC, VERSION_1, self.keyring.salt, ours, b"")[:-KEY]
        hellos = hello + unproven

        def key(label: bytes) -> bytes:
            return derive(master, randoms, label, self.port, hellos)

        self._expected = key(OF_INITIATOR)
        self._keys = Keys(key(TO_INITIATOR), key(TO_RESPONDER))
        return unproven + key(OF_RESPONDER)

    def proved(self, proof: bytes) -> Keys:
        """Return the keys, given the initiator's proof. Raises RefusedError."""
        _prove(proof, self._expected)
        if self._keys is None:  # compare_digest has refused already: nothing is expected yet
            raise RefusedError(WRONG_KEY, "a proof came before its hello")
        return self._keys


def _check(magic: bytes, version: int) -> None:
    if magic != MAGIC:
        raise RefusedError(NO_SCRAMBLER, "the other end does not speak the scrambler's protocol")
    if version != VERSION_1:
        raise RefusedError(VERSION, f"the other end speaks version {version}, this one version 1")


def _prove(proof: bytes, expected: bytes) -> None:
    if not expected or not hmac.compare_digest(proof, expected):
        raise RefusedError(
            WRONG_KEY, "the other end has another key, or somebody changed the handshake"
        )
