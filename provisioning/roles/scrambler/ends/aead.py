"""AES-256-GCM (NIST SP 800-38D), one record at a time, as `cryptography` has it.

Records are numbered and the number is the nonce: a key belongs to one direction of one
connection, so no nonce is ever used twice with it.

Since its version 42 `cryptography` keeps what it needs of OpenSSL in Rust, and a call of its
AESGCM costs about 1 µs. In Debian 12's version 38 it sets up a cipher context anew for every
record, 15 µs each time and four times a round trip: there the same library's own binding of
OpenSSL is used with one context a direction that is kept. Both are tried against each other.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = 32  # bytes
TAG = 16  # bytes
_GET_TAG, _SET_TAG = 0x10, 0x11  # EVP_CTRL_AEAD_GET_TAG, EVP_CTRL_AEAD_SET_TAG of openssl/evp.h
_NONCE = struct.Struct(">4xQ")  # 96 bits: four zero bytes, then the record's number


class Cipher(Protocol):
    """One direction's cipher."""

    def seal(self, number: int, header: bytes, data: memoryview) -> bytes | memoryview:
        """Return header, ciphertext and tag; what is returned is valid until the next call."""

    def open(self, number: int, header: memoryview, sealed: memoryview) -> bytes | memoryview:
        """Return the plaintext, valid until the next call. Raises InvalidTag."""


class PlainCipher:
    """The cipher by the public interface of `cryptography`."""

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)

    def seal(self, number: int, header: bytes, data: memoryview) -> bytes:
        """Return header, ciphertext and tag."""
        return header + self._aead.encrypt(_NONCE.pack(number), _bytes(data), header)

    def open(self, number: int, header: memoryview, sealed: memoryview) -> bytes:
        """Return the plaintext. Raises InvalidTag."""
        return self._aead.decrypt(_NONCE.pack(number), _bytes(sealed), _bytes(header))


class KeptCipher:
    """The cipher by OpenSSL as older versions of `cryptography` bind it, one context kept.

    largest -- bytes of plaintext in a record at most.
    """

    def __init__(self, key: bytes, largest: int, *, sealing: bool) -> None:
        binding = _binding()
        if binding is None:
            raise NotImplementedError("this version of cryptography has no such binding")
        lib, ffi = self._lib, self._ffi = binding
        self._context = ffi.gc(lib.EVP_CIPHER_CTX_new(), lib.EVP_CIPHER_CTX_free)
        self._sealing = int(sealing)
        kind = lib.EVP_get_cipherbyname(b"aes-256-gcm")
        null = self._null = ffi.NULL
        self._done(
            lib.EVP_CipherInit_ex(self._context, kind, null, key, null, self._sealing),
        )
        self._nonce = bytearray(_NONCE.size)
        self._nonce_there = ffi.from_buffer(self._nonce)
        self._length = ffi.new("int *")
        self._buffer = bytearray(4 + largest + TAG)
        self._view = memoryview(self._buffer)
        self._there = ffi.from_buffer(self._buffer)

    def _done(self, returned: int) -> None:
        if returned != 1:
            self._lib.ERR_clear_error()
            raise InvalidTag

    def _start(self, number: int, header: Any) -> None:  # noqa: ANN401 -- a buffer of cffi's
        lib, null = self._lib, self._null
        _NONCE.pack_into(self._nonce, 0, number)
        self._done(
            lib.EVP_CipherInit_ex(self._context, null, null, null, self._nonce_there, self._sealing)
        )
        self._done(lib.EVP_CipherUpdate(self._context, null, self._length, header, 4))

    def seal(self, number: int, header: bytes, data: memoryview) -> memoryview:
        """Return header, ciphertext and tag, in a buffer that the next call uses again."""
        lib, context, length, there = self._lib, self._context, self._length, self._there
        size = len(data)
        self._start(number, header)
        self._buffer[:4] = header
        source = self._ffi.from_buffer(data)
        self._done(lib.EVP_CipherUpdate(context, there + 4, length, source, size))
        self._done(lib.EVP_CipherFinal_ex(context, there + 4 + size, length))
        self._done(lib.EVP_CIPHER_CTX_ctrl(context, _GET_TAG, TAG, there + 4 + size))
        return self._view[: 4 + size + TAG]

    def open(self, number: int, header: memoryview, sealed: memoryview) -> memoryview:
        """Return the plaintext, in a buffer that the next call uses again. Raises InvalidTag."""
        lib, context, length, there = self._lib, self._context, self._length, self._there
        size = len(sealed) - TAG
        source = self._ffi.from_buffer(sealed)
        self._start(number, self._ffi.from_buffer(header))
        self._done(lib.EVP_CIPHER_CTX_ctrl(context, _SET_TAG, TAG, source + size))
        self._done(lib.EVP_CipherUpdate(context, there, length, source, size))
        if lib.EVP_CipherFinal_ex(context, there + size, length) != 1:
            self._buffer[:size] = bytes(size)  # unverified plaintext: nobody gets to see it
            self._lib.ERR_clear_error()
            raise InvalidTag
        return self._view[:size]


def _bytes(view: memoryview) -> bytes | memoryview:
    return view if _binding() is None else bytes(view)  # older versions want bytes


@cache
def _binding() -> tuple[Any, Any] | None:
    """Return `cryptography`'s own (lib, ffi) if they have ciphers, as they had before 42."""
    from cryptography.hazmat.bindings.openssl.binding import (  # noqa: PLC0415 -- slow, used once
        Binding,
    )

    lib = Binding.lib
    if not all(hasattr(lib, name) for name in ("EVP_CipherUpdate", "EVP_CIPHER_CTX_ctrl")):
        return None
    return lib, Binding.ffi


def ciphers(key: bytes, largest: int) -> tuple[Callable[[], Cipher], Callable[[], Cipher]]:
    """Return what makes the sealing and the opening cipher of a key, whichever is faster here."""
    if _binding() is None:
        return (lambda: PlainCipher(key)), (lambda: PlainCipher(key))
    return (
        lambda: KeptCipher(key, largest, sealing=True),
        lambda: KeptCipher(key, largest, sealing=False),
    )
