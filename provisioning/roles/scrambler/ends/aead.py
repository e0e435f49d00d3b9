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
HEADER = 4  # bytes, authenticated but not secret
_NONCE = struct.Struct(">4xQ")  # 96 bits: four zero bytes, then the record's number
_START = struct.Struct(">4xQI")  # nonce and header


class Cipher(Protocol):
    """One direction's cipher. A header is four bytes, given as a number."""

    def seal(self, number: int, header: int, data: memoryview) -> bytes | memoryview:
        """Return header, ciphertext and tag; what is returned is valid until the next call."""

    def open(self, number: int, header: int, sealed: memoryview) -> bytes | memoryview:
        """Return the plaintext, valid until the next call. Raises InvalidTag."""


class PlainCipher:
    """The cipher by the public interface of `cryptography`."""

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)

    def seal(self, number: int, header: int, data: memoryview) -> bytes:
        """Return header, ciphertext and tag."""
        start = header.to_bytes(HEADER, "big")
        return start + self._aead.encrypt(_NONCE.pack(number), _bytes(data), start)

    def open(self, number: int, header: int, sealed: memoryview) -> bytes:
        """Return the plaintext. Raises InvalidTag."""
        start = header.to_bytes(HEADER, "big")
        return self._aead.decrypt(_NONCE.pack(number), _bytes(sealed), start)


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
        self._largest = largest
        self._null = ffi.NULL
        kind = lib.EVP_get_cipherbyname(b"aes-256-gcm")
        if lib.EVP_CipherInit_ex(self._context, kind, ffi.NULL, key, ffi.NULL, self._sealing) != 1:
            raise InvalidTag
        # nonce (12 bytes), header (4), then data: one buffer, whose parts have fixed places
        self._buffer = bytearray(_START.size + largest + TAG)
        self._view = memoryview(self._buffer)
        self._nonce = ffi.from_buffer(self._buffer)
        self._header = self._nonce + _NONCE.size
        self._data = self._nonce + _START.size
        self._length = ffi.new("int *")

    def seal(self, number: int, header: int, data: memoryview) -> memoryview:
        """Return header, ciphertext and tag, in a buffer that the next call uses again."""
        lib, context, length, null = self._lib, self._context, self._length, self._null
        size = len(data)
        if size > self._largest:
            raise ValueError("more than the largest record")
        place = self._data
        tag = place + size
        _START.pack_into(self._buffer, 0, number, header)
        if not (
            lib.EVP_CipherInit_ex(context, null, null, null, self._nonce, 1) == 1
            and lib.EVP_CipherUpdate(context, null, length, self._header, HEADER) == 1
            and lib.EVP_CipherUpdate(context, place, length, self._ffi.from_buffer(data), size) == 1
            and lib.EVP_CipherFinal_ex(context, tag, length) == 1
            and lib.EVP_CIPHER_CTX_ctrl(context, _GET_TAG, TAG, tag) == 1
        ):
            raise self._failed(size)
        return self._view[_NONCE.size : _START.size + size + TAG]

    def open(self, number: int, header: int, sealed: memoryview) -> memoryview:
        """Return the plaintext, in a buffer that the next call uses again. Raises InvalidTag."""
        lib, context, length, null = self._lib, self._context, self._length, self._null
        size = len(sealed) - TAG
        if not 0 <= size <= self._largest:
            raise ValueError("more than the largest record, or less than a tag")
        place = self._data
        source = self._ffi.from_buffer(sealed)
        _START.pack_into(self._buffer, 0, number, header)
        if not (
            lib.EVP_CipherInit_ex(context, null, null, null, self._nonce, 0) == 1
            and lib.EVP_CipherUpdate(context, null, length, self._header, HEADER) == 1
            and lib.EVP_CIPHER_CTX_ctrl(context, _SET_TAG, TAG, source + size) == 1
            and lib.EVP_CipherUpdate(context, place, length, source, size) == 1
            and lib.EVP_CipherFinal_ex(context, place + size, length) == 1
        ):
            raise self._failed(size)
        return self._view[_START.size : _START.size + size]

    def _failed(self, size: int) -> InvalidTag:
        """Wipe what was not verified: nobody gets to see it."""
        self._view[_START.size : _START.size + size] = bytes(size)
        self._lib.ERR_clear_error()
        return InvalidTag()


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
