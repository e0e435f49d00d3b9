"""The records that carry a connection: bytes in, frames out; no input or output here.

    record = kind (1 byte) | length (3 bytes) | ciphertext (length bytes) | tag (16 bytes)

`length` is that of the plaintext. Kind and length are authenticated with the ciphertext
(AES-256-GCM's associated data) and the record's number in its direction is the nonce: a record
that was changed, repeated, left out or moved does not open. The end of a direction is a record
of its own, so that a connection that was cut is told from one that ended. docs/scrambler.md
says what that protects.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from cryptography.exceptions import InvalidTag

from .aead import HEADER, TAG, ciphers
from .refusal import EXHAUSTED, MALFORMED, TAMPERED, TRUNCATED, RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA, CLOSE, ABORT = 1, 2, 3
KINDS = (DATA, CLOSE, ABORT)
_HEADER = struct.Struct(">I")
LARGEST = 65536  # bytes of plaintext in a record
# One key seals 2^38 bytes at most: 2^34 blocks, of which an attacker learns less than 2^-60
# (RFC 8446, 5.5, has the same bound for smaller records), and 2^32 records (SP 800-38D, 8.3).
MOST_BYTES = 1 << 38
MOST_RECORDS = 1 << 32


class Frame(NamedTuple):
    """What came out of a record: DATA with its bytes, CLOSE or ABORT.

    data is valid until the next frame is asked for.
    """

    kind: int
    data: bytes | memoryview = b""


class _Budget:
    """How much a key may still be used."""

    def __init__(self, most_bytes: int, most_records: int) -> None:
        self.number = 0
        self._bytes, self._records = most_bytes, most_records

    def spend(self, size: int) -> int:
        """Return the number of the next record. Raises RefusedError when the key is used up."""
        self._bytes -= size
        number = self.number
        if self._bytes < 0 or number >= self._records:
            raise RefusedError(EXHAUSTED, "this connection has carried all that its keys may")
        self.number = number + 1
        return number


class Sealer:
    """Makes the records of one direction. After CLOSE or ABORT it makes no more."""

    def __init__(
        self, key: bytes, *, most_bytes: int = MOST_BYTES, most_records: int = MOST_RECORDS
    ) -> None:
        self._cipher = ciphers(key, LARGEST)[0]()
        self._budget = _Budget(most_bytes, most_records)
        self._ended = False

    def seal(self, data: bytes | bytearray | memoryview, kind: int = DATA) -> bytes | memoryview:
        """Return one record; it is valid until the next call.

        Raises ValueError for more than LARGEST bytes, for an unknown kind, for an end that
        carries data and for anything after the end; RefusedError when the key is used up.
        """
        size = len(data)
        if kind != DATA or size > LARGEST or self._ended:  # data goes on at once: it is waited for
            if kind not in KINDS or size > (LARGEST if kind == DATA else 0) or self._ended:
                raise ValueError(f"no record of kind {kind} with {size} bytes can be made here")
            self._ended = True
        number = self._budget.spend(size)
        return self._cipher.seal(number, kind << 24 | size, memoryview(data))


class Opener:
    """Takes in what arrives of one direction, in pieces of any size; gives out its frames.

    Once it has refused anything it gives out nothing any more.
    """

    def __init__(
        self, key: bytes, *, most_bytes: int = MOST_BYTES, most_records: int = MOST_RECORDS
    ) -> None:
        self._cipher = ciphers(key, LARGEST)[1]()
        self._budget = _Budget(most_bytes, most_records)
        self._buffer = bytearray(2 * (HEADER + LARGEST + TAG))
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        self._ended = self._refused = False

    @property
    def ended(self) -> bool:
        """Say whether the direction was ended by its sender: a CLOSE or ABORT was seen."""
        return self._ended

    def space(self) -> memoryview:
        """Return where the next bytes belong; never empty if all frames were taken out."""
        return self._view[self._end :]

    def filled(self, size: int) -> Iterator[Frame]:
        """Give out the frames that are complete now that `size` bytes were put into `space()`.

        Each must be used up before the next is asked for. Raises RefusedError.
        """
        self._end += size
        try:
            while self._start < self._end:
                frame = self._next()
                if frame is None:
                    break
                yield frame
        except RefusedError:
            self._refused = True
            self._start = self._end = 0
            raise
        self._move_up()

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[Frame]:
        """Take in bytes of any number and give out the frames, each with bytes of its own."""
        rest = memoryview(data)
        while rest:
            piece = rest[: len(self.space())]
            self._view[self._end : self._end + len(piece)] = piece
            rest = rest[len(piece) :]
            for frame in self.filled(len(piece)):
                yield Frame(frame.kind, bytes(frame.data))

    def finish(self) -> None:
        """Take note that no more bytes come. Raises RefusedError unless the sender said so."""
        if not self._ended:
            self._refused = True
            raise RefusedError(TRUNCATED, "the connection was cut before its sender ended it")

    def _next(self) -> Frame | None:
        if self._refused or self._ended:
            raise RefusedError(MALFORMED, "bytes arrived after the end")
        view, start = self._view, self._start
        here = self._end - start
        if here < HEADER:
            return None
        (header,) = _HEADER.unpack_from(view, start)
        kind, size = header >> 24, header & 0xFFFFFF
        # Both are checked before they are waited for: nobody makes us hold more than a record.
        if kind not in KINDS or size > LARGEST or (size and kind != DATA):
            raise RefusedError(MALFORMED, "what arrived is no record")
        whole = HEADER + size + TAG
        if here < whole:
            return None
        number = self._budget.spend(size)
        try:
            data = self._cipher.open(number, header, view[start + HEADER : start + whole])
        except InvalidTag:
            raise RefusedError(
                TAMPERED, f"record {number} was changed, repeated, left out or moved"
            ) from None
        self._start = start + whole
        self._ended = kind != DATA
        return Frame(kind, data)

    def _move_up(self) -> None:
        left = self._end - self._start
        if left and self._start:
            self._view[:left] = bytes(self._view[self._start : self._end])
        self._start, self._end = 0, left
