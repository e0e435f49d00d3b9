"""Throw broken input at the scrambler's records and handshake.

    python tests/provisioning/scrambler_fuzz.py 1000000 [seed]

An input is what an attacker on the path may make of a conversation: bits turned, bytes put in,
taken out, repeated, moved, cut off, mixed with another conversation's, or made by chance; cut
into segments at random places. What comes out must be the beginning of what was sent, frame by
frame, or a refusal; anything else is a failure, and any other exception is a crash.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from provisioning.roles.scrambler.ends.frames import ABORT, CLOSE, DATA, Frame, Opener, Sealer
from provisioning.roles.scrambler.ends.handshake import ANSWERS, ASKS, PROOF, Initiator, Responder
from provisioning.roles.scrambler.ends.keys import Keyring
from provisioning.roles.scrambler.ends.refusal import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
TEXTS = (b"HI SIR, BLACKOUT!", b"", b"x" * 300, b"Kisumu-2016", bytes(1500))
ADDRESS, PORT = "192.168.1.10", 80


class FailureError(AssertionError):
    """Something came out that was not sent."""


def sent(key: bytes, end: int) -> tuple[list[Frame], list[bytes]]:
    """Return what a sender said, as frames and as records."""
    sealer = Sealer(key)
    frames = [Frame(DATA, text) for text in TEXTS] + [Frame(end)]
    return frames, [bytes(sealer.seal(frame.data, frame.kind)) for frame in frames]


@dataclass
class Fuzzer:
    """Makes inputs by chance, the same for the same seed, and counts what became of them."""

    seed: int
    outcomes: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        self._sent = {end: sent(KEY, end) for end in (CLOSE, ABORT)}
        self._foreign = b"".join(sent(OTHER, CLOSE)[1])
        self._keyring = Keyring(b"Bondo-2016", cost=2)
        self._mutations: tuple[Callable[[bytearray], None], ...] = (
            self._flip,
            self._insert,
            self._delete,
            self._repeat,
            self._move,
            self._cut,
            self._mix,
            self._header,
        )

    def run(self, inputs: int) -> Counter[str]:
        """Try that many inputs, a tenth of them at the handshake."""
        for number in range(inputs):
            if number % 10:
                self.outcomes["records: " + self.records()] += 1
            else:
                self.outcomes["handshake: " + self.handshake()] += 1
        return self.outcomes

    def records(self) -> str:
        """Try one input at the records; return how it went."""
        frames, records = self._sent[self._chance.choice((CLOSE, ABORT))]
        original = b"".join(records)
        stream = self._stream(records)
        opener = Opener(KEY)
        got: list[Frame] = []
        outcome = "whole" if stream == original else "beginning of it"
        try:
            for piece in self._pieces(stream):
                got.extend(opener.feed(piece))
            opener.finish()
        except RefusedError as error:
            outcome = error.reason
        if got != frames[: len(got)]:
            raise FailureError(f"seed {self.seed}: {stream.hex()} gave {got}")
        if outcome in {"whole", "beginning of it"} and got != frames:
            raise FailureError(f"seed {self.seed}: {stream.hex()} ended in order with {got}")
        return outcome

    def handshake(self) -> str:
        """Try one broken message of a handshake; return how it went."""
        initiator = Initiator(self._keyring, ADDRESS, PORT)
        responder = Responder(self._keyring, ADDRESS, (PORT,))
        hello = initiator.hello()
        broken = self._chance.randrange(3)
        given = self._changed(hello, ASKS) if broken == 0 else hello
        try:
            answer = responder.answer(given)
            given_answer = self._changed(answer, ANSWERS) if broken == 1 else answer
            proof, keys = initiator.answered(given_answer)
            given_proof = self._changed(proof, PROOF) if broken == 2 else proof
            theirs = responder.proved(given_proof)
        except RefusedError as error:
            return error.reason
        if (given, given_answer, given_proof) != (hello, answer, proof):
            raise FailureError(f"seed {self.seed}: a changed handshake was taken")
        if (keys.seal, keys.open) != (theirs.open, theirs.seal):
            raise FailureError(f"seed {self.seed}: the ends have different keys")
        return "whole"

    def _stream(self, records: list[bytes]) -> bytes:
        kind = self._chance.random()
        if kind < 0.1:
            return self._chance.randbytes(self._chance.randrange(400))
        if kind < 0.3:  # whole records, in another order, some missing, some twice
            return b"".join(self._chance.choices(records, k=len(records)))
        if kind < 0.35:
            return b"".join(records)
        stream = bytearray(b"".join(records))
        for _ in range(self._chance.choice((1, 1, 1, 2, 5))):
            self._chance.choice(self._mutations)(stream)
        return bytes(stream)

    def _pieces(self, stream: bytes) -> list[bytes]:
        cuts = sorted(self._chance.randrange(len(stream) + 1) for _ in range(3))
        return [stream[a:b] for a, b in zip((0, *cuts), (*cuts, len(stream)), strict=True)]

    def _changed(self, message: bytes, size: int) -> bytes:
        """Return another message of the same size: the shim reads exactly so many bytes."""
        stream = bytearray(message)
        self._chance.choice(self._mutations)(stream)
        return bytes(stream[:size]).ljust(size, b"\0")

    def _place(self, stream: bytearray) -> int:
        return self._chance.randrange(len(stream) + 1)

    def _flip(self, stream: bytearray) -> None:
        if stream:
            stream[self._chance.randrange(len(stream))] ^= 1 << self._chance.randrange(8)

    def _insert(self, stream: bytearray) -> None:
        place = self._place(stream)
        stream[place:place] = self._chance.randbytes(self._chance.randrange(1, 40))

    def _delete(self, stream: bytearray) -> None:
        place = self._place(stream)
        del stream[place : place + self._chance.randrange(1, 40)]

    def _repeat(self, stream: bytearray) -> None:
        place = self._place(stream)
        piece = stream[place : place + self._chance.randrange(1, 200)]
        stream[place:place] = piece

    def _move(self, stream: bytearray) -> None:
        place = self._place(stream)
        piece = stream[place : place + self._chance.randrange(1, 200)]
        del stream[place : place + len(piece)]
        to = self._place(stream)
        stream[to:to] = piece

    def _cut(self, stream: bytearray) -> None:
        del stream[self._place(stream) :]

    def _mix(self, stream: bytearray) -> None:
        place, there = self._place(stream), self._chance.randrange(len(self._foreign))
        piece = self._foreign[there : there + self._chance.randrange(1, 400)]
        stream[place : place + len(piece)] = piece

    def _header(self, stream: bytearray) -> None:
        size = self._chance.choice((0, 1, 0xFFFF, 0x10000, 0x10001, 0xFFFFFF))
        stream[:4] = (self._chance.randrange(5) << 24 | size).to_bytes(4, "big")


def main(arguments: list[str]) -> None:
    """Try the number of inputs that was asked for and show what became of them."""
    inputs, seed = int(arguments[0]), int(arguments[1]) if len(arguments) > 1 else 1
    since = time.monotonic()
    outcomes = Fuzzer(seed).run(inputs)
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:>9}  {outcome}")
    print(f"{inputs:>9}  inputs in {time.monotonic() - since:.0f} s, seed {seed}: no crash,")
    print("           and nothing came out that was not the beginning of what was sent")


if __name__ == "__main__":
    main(sys.argv[1:])
