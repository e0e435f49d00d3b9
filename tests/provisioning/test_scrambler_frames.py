"""The scrambler's records, keys and handshake, as bytes: no host, no socket."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scrambler_fuzz import Fuzzer

from provisioning.roles.scrambler.ends import aead, frames, keys
from provisioning.roles.scrambler.ends.frames import ABORT, CLOSE, DATA, Frame, Opener, Sealer
from provisioning.roles.scrambler.ends.handshake import ANSWERS, ASKS, Initiator, Responder
from provisioning.roles.scrambler.ends.keys import Keyring, derive, entered
from provisioning.roles.scrambler.ends.refusal import (
    ELSEWHERE,
    EXHAUSTED,
    MALFORMED,
    NO_SCRAMBLER,
    REASONS,
    TAMPERED,
    TRUNCATED,
    VERSION,
    WRONG_KEY,
    RefusedError,
)

KEY = bytes(range(32))
QUICK = 2  # scrypt's N where its cost is not the matter
PASSPHRASE = "Bondo-2016"
GUEST, PEER = "192.168.1.10", "192.168.1.20"
texts = st.lists(st.binary(max_size=300), max_size=6)


def sealed(messages: list[bytes], end: int | None = CLOSE, key: bytes = KEY) -> list[bytes]:
    """Return the records of a direction."""
    sealer = Sealer(key)
    records = [bytes(sealer.seal(message)) for message in messages]
    return records if end is None else [*records, bytes(sealer.seal(b"", end))]


def refused(stream: bytes, key: bytes = KEY) -> tuple[str, list[Frame]]:
    """Return why a stream is refused, and what came out before."""
    opener = Opener(key)
    out: list[Frame] = []

    def take_all() -> None:
        for byte in range(0, len(stream), 97):
            out.extend(opener.feed(stream[byte : byte + 97]))
        opener.finish()

    with pytest.raises(RefusedError) as caught:
        take_all()
    with pytest.raises(RefusedError):  # and nothing comes out any more
        list(opener.feed(b"\1"))
    return caught.value.reason, out


@given(texts, st.sampled_from([CLOSE, ABORT]), st.data())
def test_what_was_sealed_comes_out(messages: list[bytes], end: int, data: st.DataObject) -> None:
    """Whatever the segments that a stream arrives in, its frames come out, and its end."""
    stream = b"".join(sealed(messages, end))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    opener = Opener(KEY)
    out: list[Frame] = []
    for start, stop in zip((0, *cuts), (*cuts, len(stream)), strict=True):
        out.extend(opener.feed(stream[start:stop]))
    assert out == [*(Frame(DATA, message) for message in messages), Frame(end)]
    opener.finish()
    assert opener.ended


def test_the_largest_records_one_after_another() -> None:
    """Records of 64 KiB come out whole when they arrive in pieces of any size."""
    messages = [bytes([n]) * frames.LARGEST for n in range(5)]
    stream = b"".join(sealed(messages))
    for piece in (len(stream), frames.LARGEST, 50001):
        opener = Opener(KEY)
        out = [
            f for at in range(0, len(stream), piece) for f in opener.feed(stream[at : at + piece])
        ]
        assert [bytes(frame.data) for frame in out[:-1]] == messages
        assert opener.ended


@given(texts, st.data())
def test_no_changed_bit_gets_through(messages: list[bytes], data: st.DataObject) -> None:
    """One bit turned anywhere: what was before it comes out, and nothing after."""
    records = sealed(messages)
    stream = bytearray(b"".join(records))
    place = data.draw(st.integers(0, len(stream) - 1))
    stream[place] ^= 1 << data.draw(st.integers(0, 7))
    reason, out = refused(bytes(stream))
    # A length that was made larger waits for bytes that never come: that is a truncation.
    assert reason in {TAMPERED, MALFORMED, TRUNCATED}
    untouched, end = 0, 0
    for record in records:
        end += len(record)
        untouched += end <= place
    assert out == [Frame(DATA, message) for message in messages[:untouched]]


@given(st.lists(st.binary(min_size=1, max_size=50), min_size=2, max_size=5), st.data())
def test_replay_and_reordering_are_refused(messages: list[bytes], data: st.DataObject) -> None:
    """A record that is repeated, left out or moved is refused, whole and valid as it is."""
    records = sealed(messages)
    order = data.draw(
        st.lists(st.sampled_from(range(len(records))), min_size=1, max_size=8).filter(
            lambda order: order != list(range(len(order)))
        )
    )
    right = next(n for n, number in enumerate(order) if number != n)
    reason, out = refused(b"".join(records[number] for number in order))
    assert reason in {TAMPERED, MALFORMED}
    assert [frame.data for frame in out if frame.kind == DATA] == messages[:right]


@given(texts, st.data())
def test_a_cut_is_told_from_an_end(messages: list[bytes], data: st.DataObject) -> None:
    """A stream that stops before its sender's end is refused as truncated, wherever it stops."""
    records = sealed(messages)
    stream = b"".join(records)
    cut = data.draw(st.integers(0, len(stream) - 1))
    assert refused(stream[:cut])[0] == TRUNCATED


def test_nothing_follows_the_end() -> None:
    """Bytes after CLOSE are refused, valid or not; and no sealer makes such."""
    assert refused(b"".join(sealed([b"x"])) + b"\0")[0] == MALFORMED
    sealer = Sealer(KEY)
    sealer.seal(b"", CLOSE)
    with pytest.raises(ValueError, match="no record of kind 1"):
        sealer.seal(b"late")


@pytest.mark.parametrize(
    ("data", "kind"), [(b"x" * 65537, DATA), (b"x", CLOSE), (b"x", ABORT), (b"", 0), (b"", 9)]
)
def test_no_other_records_are_made(data: bytes, kind: int) -> None:
    """A sealer refuses too much, an end with data and unknown kinds."""
    with pytest.raises(ValueError, match="no record of kind"):
        Sealer(KEY).seal(data, kind)


@pytest.mark.parametrize("header", ["00000001", "04000000", "01010001", "01ffffff", "02000001"])
def test_a_header_is_judged_before_its_record_is_awaited(header: str) -> None:
    """An unknown kind or a length beyond the largest is refused by its four bytes alone."""
    assert refused(bytes.fromhex(header))[0] == MALFORMED


def test_the_length_is_authenticated() -> None:
    """A record split in two by somebody who changes its length does not open."""
    (record,) = sealed([b"pay 100"], end=None)
    assert refused(b"\1\0\0\3" + record[4:])[0] == TAMPERED


def test_another_key_opens_nothing() -> None:
    """What was sealed under one key does not open under another."""
    assert refused(b"".join(sealed([b"text"])), bytes(32)) == (TAMPERED, [])


def test_a_key_is_given_up_in_time() -> None:
    """Neither end uses a key for more records or bytes than it may."""
    for most in ({"most_records": 2}, {"most_bytes": 10}):
        sealer = Sealer(KEY, **most)
        sealer.seal(b"12345")
        sealer.seal(b"12345")
        with pytest.raises(RefusedError, match=EXHAUSTED):
            sealer.seal(b"1")
        opener = Opener(KEY, **most)
        with pytest.raises(RefusedError, match=EXHAUSTED):
            list(opener.feed(b"".join(sealed([b"12345", b"12345", b"1"]))))


def test_no_text_shows_in_records() -> None:
    """A record has nothing of its text, and the same text never looks the same."""
    records = sealed([b"HI SIR, BLACKOUT!"] * 3, end=None)
    assert len({record[4:] for record in records}) == 3
    assert all(b"BLACKOUT" not in record for record in records)


def test_the_record_format_stays() -> None:
    """A record of version 1 is these bytes: AES-256-GCM, nonce = number, header authenticated."""
    cipher = aead.PlainCipher(KEY)
    for number, record in enumerate(sealed([b"", b"abc"])):
        kind, size = record[0], int.from_bytes(record[1:4], "big")
        data = cipher.open(number, kind << 24 | size, memoryview(record)[4:])
        assert (kind, len(data)) == ((DATA, size) if number < 2 else (CLOSE, 0))
    assert sealed([b"abc"])[0].hex() == "010000036fded636f2e92c0574d9e44af21e6edb7d62e2"


# The handshake -----------------------------------------------------------------------------


def ring(passphrase: str = PASSPHRASE) -> Keyring:
    """Return a keyring that costs nothing."""
    return Keyring(entered(passphrase), cost=QUICK)


def ends(there: str = PASSPHRASE, port: int = 80) -> tuple[Initiator, Responder]:
    """Return both ends of a connection, the responder with another passphrase on request."""
    return Initiator(ring(), GUEST, port), Responder(ring(there), GUEST, (80, 5222))


def test_both_ends_get_the_same_fresh_keys() -> None:
    """Each connection has keys of its own, one a direction, the same at both ends."""
    seen = set()
    initiator, responder = ends()
    for _ in range(3):
        proof, ours = initiator.answered(responder.answer(initiator.hello()))
        theirs = responder.proved(proof)
        assert (ours.seal, ours.open) == (theirs.open, theirs.seal)
        seen |= {ours.seal, ours.open}
    assert len(seen) == 6


def test_the_responder_proves_itself_first() -> None:
    """With another key at the other end the initiator says nothing more, not even its proof."""
    initiator, responder = ends(there="Kisumu-2016")
    with pytest.raises(RefusedError, match=WRONG_KEY):
        initiator.answered(responder.answer(initiator.hello()))


def test_the_initiator_must_prove_itself() -> None:
    """Whoever has not the key gets no keys out of a responder, not with any of its own bytes."""
    initiator, responder = ends()
    answer = responder.answer(initiator.hello())
    for proof in (bytes(32), answer[-32:], b""):
        with pytest.raises(RefusedError, match=WRONG_KEY):
            responder.proved(proof)
    with pytest.raises(RefusedError, match=WRONG_KEY):
        ends()[1].proved(bytes(32))  # before any hello


def test_a_recorded_handshake_is_no_use() -> None:
    """What was recorded of one handshake is refused in the next, by either end."""
    initiator, responder = ends()
    hello = initiator.hello()
    answer = responder.answer(hello)
    proof, _ = initiator.answered(answer)
    responder.answer(hello)  # the same hello again ...
    with pytest.raises(RefusedError, match=WRONG_KEY):
        responder.proved(proof)  # ... wants another proof
    initiator.hello()
    with pytest.raises(RefusedError, match=WRONG_KEY):
        initiator.answered(answer)


def test_who_learns_the_key_later_reads_what_was_recorded() -> None:
    """There is no forward secrecy: the wire's bytes and the passphrase are enough."""
    initiator, responder = ends()
    hello = initiator.hello()
    answer = responder.answer(hello)
    _, ours = initiator.answered(answer)
    wire = b"".join(sealed([b"HI SIR, BLACKOUT!"], key=ours.seal))
    salt, randoms = answer[5:21], hello[-32:] + answer[21:53]
    master = ring().master(salt)
    key = derive(master, randoms, keys.TO_RESPONDER, 80, hello + answer[:53])
    assert next(Opener(key).feed(wire)).data == b"HI SIR, BLACKOUT!"


def test_what_leads_elsewhere_is_refused() -> None:
    """A hello for another address or port is refused: nobody turns it to whom it was not for."""
    for address, port in ((PEER, 80), (GUEST, 22)):
        _, responder = ends()
        with pytest.raises(RefusedError, match=ELSEWHERE):
            responder.answer(Initiator(ring(), address, port).hello())


@given(st.integers(0, ASKS + ANSWERS - 1), st.integers(0, 7))
def test_no_changed_bit_of_a_handshake_passes(place: int, bit: int) -> None:
    """Whichever bit of the hellos is turned, no keys come of it."""
    initiator, responder = ends()
    hello = bytearray(initiator.hello())
    if place < ASKS:
        hello[place] ^= 1 << bit

    def converse() -> None:
        answer = bytearray(responder.answer(bytes(hello)))
        if place >= ASKS:
            answer[place - ASKS] ^= 1 << bit
        initiator.answered(bytes(answer))

    with pytest.raises(RefusedError) as caught:
        converse()
    assert caught.value.reason in {WRONG_KEY, NO_SCRAMBLER, VERSION, ELSEWHERE}


def test_what_does_not_speak_it_is_told() -> None:
    """A web server's answer is 'no scrambler', another version is told by its number."""
    initiator, responder = ends()
    hello = bytearray(initiator.hello())
    with pytest.raises(RefusedError, match=NO_SCRAMBLER):
        initiator.answered(b"HTTP/1.1 400 Bad Request\r\n".ljust(ANSWERS, b"."))
    hello[4] = 2
    with pytest.raises(RefusedError, match="the other end speaks version 2, this one version 1"):
        responder.answer(bytes(hello))


# Keys ----------------------------------------------------------------------------------------


def test_ports_and_directions_have_keys_of_their_own() -> None:
    """From one passphrase and the same randoms, no two ports, directions or proofs share a key."""
    labels = (keys.TO_RESPONDER, keys.TO_INITIATOR, keys.OF_INITIATOR, keys.OF_RESPONDER)
    made = {derive(KEY, bytes(64), label, port, b"") for label in labels for port in (80, 5222)}
    assert len(made) == 8


def test_the_key_schedule_is_what_the_documentation_says() -> None:
    """scrypt with N = 2^17, r = 8, p = 1 over the passphrase and a salt of 16 bytes by chance."""
    import hashlib
    import hmac

    own = Keyring(entered("Bondo-2016"))
    assert own.cost == 1 << 17
    assert len(own.salt) == 16
    assert own.salt != Keyring(entered("Bondo-2016")).salt
    made = hashlib.scrypt(
        b"Bondo-2016", salt=own.salt, n=1 << 17, r=8, p=1, maxmem=1 << 28, dklen=32
    )
    assert own.master(own.salt) == made
    # HKDF by hand, RFC 5869, 2.2 and 2.3: one block of output.
    randoms, hellos = b"r" * 64, b"hellos"
    info = b"imlab port-scrambler 1|%b|\0P|%b" % (
        keys.TO_RESPONDER,
        hashlib.sha256(hellos).digest(),
    )
    extracted = hmac.digest(randoms, made, "sha256")
    expected = hmac.digest(extracted, info + b"\1", "sha256")
    assert derive(made, randoms, keys.TO_RESPONDER, 80, hellos) == expected


def test_master_keys_are_kept_but_not_without_bound() -> None:
    """A salt costs once; whoever sends ever new ones does not fill the memory."""
    own = ring()
    first = own.master(own.salt)
    for number in range(200):
        own.master(number.to_bytes(16, "big"))
    assert len(own._masters) == keys.KEPT
    assert own._masters[own.salt] == first


def test_what_users_type() -> None:
    """A letter typed as two characters is the same key; nothing and control characters are not."""
    assert entered("é") == entered("e\u0301") == "é".encode()
    for bad in ("", "a\nb", "x" * 1025):
        with pytest.raises(ValueError, match="1 to 1024 bytes"):
            entered(bad)


def test_no_repr_shows_a_secret() -> None:
    """Nothing that holds a key or a passphrase prints it."""
    initiator, responder = ends()
    proof, made = initiator.answered(responder.answer(initiator.hello()))
    text = repr((initiator, responder, made, responder.proved(proof)))
    assert "Bondo" not in text
    for secret in (made.seal, made.open, proof):
        assert repr(secret) not in text


# Fuzzing -------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1 << 32))
def test_a_thousand_broken_inputs_at_a_time(seed: int) -> None:
    """Of broken streams and handshakes only the intact beginning comes out; nothing crashes."""
    outcomes = Fuzzer(seed).run(1000)
    assert sum(outcomes.values()) == 1000
    reasons = {outcome.partition(": ")[2] for outcome in outcomes}
    assert reasons <= {*REASONS, "whole", "beginning of it"}
    assert {TAMPERED, TRUNCATED, WRONG_KEY, "whole"} <= reasons
