"""Opening the first packets of QUIC, whose keys follow from what stands in them (RFC 9001, 5)."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from experiments.analysis.tls_keys import expand


@dataclass(frozen=True, slots=True)
class Keys:
    """What a client protects its first packets with."""

    key: bytes
    iv: bytes
    guard: bytes


def client(salt: bytes, prefix: bytes, destination: bytes) -> Keys:
    """Derive the keys from the connection id that the client made up (RFC 9001, 5.2)."""
    shared = hmac.new(salt, destination, hashlib.sha256).digest()
    secret = expand(shared, b"client in", 32, hashes.SHA256)
    key, iv, guard = (
        expand(secret, prefix + label, length, hashes.SHA256)
        for label, length in ((b"key", 16), (b"iv", 12), (b"hp", 16))
    )
    return Keys(key, iv, guard)


def opened(
    data: bytes, start: int, number_at: int, end: int, keys: Keys
) -> tuple[bytes, int] | None:
    """Return the frames of a packet and their place in the datagram; None if it is not authentic.

    start, number_at, end -- where the packet, its number and what comes after it begin.
    """
    sample = data[number_at + 4 : number_at + 20]
    guard = Cipher(algorithms.AES(keys.guard), modes.ECB())  # noqa: S305 (one block, as the RFC has)
    mask = guard.encryptor().update(sample)
    head = bytearray(data[start : number_at + 4])
    head[0] ^= mask[0] & 0x0F
    width = (head[0] & 3) + 1
    head = head[: len(head) - 4 + width]
    for index in range(width):
        head[len(head) - width + index] ^= mask[1 + index]
    number = int.from_bytes(head[-width:], "big")
    nonce = (int.from_bytes(keys.iv, "big") ^ number).to_bytes(12, "big")
    begin = number_at + width
    try:
        return AESGCM(keys.key).decrypt(nonce, data[begin:end], bytes(head)), begin
    except InvalidTag:
        return None
