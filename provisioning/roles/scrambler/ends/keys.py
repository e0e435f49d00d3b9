"""From what a user enters to the keys of one connection. No input or output here.

    master = scrypt(passphrase, the responder's salt)                   once a salt: slow
    key    = HKDF-SHA-256(master, salt = both randoms,                  once a connection: quick
                          info = label | port | SHA-256(both hellos))

scrypt is RFC 7914's, HKDF RFC 5869's. Argon2id (RFC 9106) would be the first choice today; the
`cryptography` of Debian 12 does not have it.
"""

from __future__ import annotations

import secrets
import threading
import unicodedata
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.hashes import SHA256, Hash
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from .aead import KEY

# N = 2^17, r = 8, p = 1: 128 MiB and some 0.4 s a guess, the first choice of OWASP's Password
# Storage Cheat Sheet for scrypt. RFC 7914, 2, wants N "as large as can be borne".
COST = 1 << 17
BLOCK, PARALLEL = 8, 1
SALT = 16  # bytes, as RFC 9106, 3.1, has them for password hashing
RANDOM = 32  # bytes
LONGEST = 1024  # bytes of a passphrase
KEPT = 64  # master keys by salt that are remembered: a lab has fewer peers
_NAME = b"imlab port-scrambler 1"

TO_RESPONDER = b"data from initiator to responder"
TO_INITIATOR = b"data from responder to initiator"
OF_INITIATOR = b"proof of the initiator"
OF_RESPONDER = b"proof of the responder"


@dataclass(slots=True)
class Keyring:
    """What a user entered at this end, and the master keys made of it so far.

    salt -- this end's own, by chance, new for each entry: no table made beforehand fits it.
    cost -- scrypt's N; another one than COST is for tests of what does not depend on it.
    """

    passphrase: bytes = field(repr=False)
    salt: bytes = field(default_factory=lambda: secrets.token_bytes(SALT))
    cost: int = COST
    _masters: dict[bytes, bytes] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def master(self, salt: bytes) -> bytes:
        """Return the master key for a salt. Slow the first time, one at a time."""
        known = self._masters.get(salt)
        if known is not None:  # whoever waits for a new salt's key keeps nobody else waiting
            return known
        with self._lock:
            if salt not in self._masters:
                kdf = Scrypt(salt=salt, length=KEY, n=self.cost, r=BLOCK, p=PARALLEL)
                self._masters[salt] = kdf.derive(self.passphrase)
                if len(self._masters) > KEPT:
                    del self._masters[next(key for key in self._masters if key != self.salt)]
            return self._masters[salt]


def entered(text: str) -> bytes:
    """Return what a user typed as the bytes of a passphrase (RFC 8265, 4.2: NFC, UTF-8).

    Raises ValueError for nothing, for too much and for control characters.
    """
    passphrase = unicodedata.normalize("NFC", text).encode()
    if not 0 < len(passphrase) <= LONGEST or any(unicodedata.category(c) == "Cc" for c in text):
        raise ValueError(f"a passphrase has 1 to {LONGEST} bytes and no control characters")
    return passphrase


def derive(master: bytes, randoms: bytes, label: bytes, port: int, hellos: bytes) -> bytes:
    """Return one key of a connection, or one end's proof that it knows the master key.

    A proof is HKDF's output itself: HMAC binds it to one key, which an AEAD's tag would not do
    (there are ciphertexts that open under many keys; "partitioning oracles").
    """
    transcript = Hash(SHA256())
    transcript.update(hellos)
    info = b"|".join((_NAME, label, port.to_bytes(2, "big"), transcript.finalize()))
    return HKDF(SHA256(), KEY, salt=randoms, info=info).derive(master)
