"""Real TLS conversations, made in memory by the ssl module."""

from __future__ import annotations

import contextlib
import functools
import ssl
import tempfile
from pathlib import Path

# SSL_OP_NO_ENCRYPT_THEN_MAC, for which the ssl module has no name.
NO_ENCRYPT_THEN_MAC = 1 << 19
Turn = tuple[bool, bytes]
C, S = True, False


@functools.cache
def certificate() -> tuple[bytes, bytes]:
    """Return a certificate for chat.example and its key, both as PEM."""
    import datetime as dt

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "chat.example")])
    begin = dt.datetime(2016, 1, 1, tzinfo=dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(begin)
        .not_valid_after(begin + dt.timedelta(days=36500))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("chat.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def contexts(path: Path, version: str, ciphers: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return how client and server speak TLS; the keys are logged below a path."""
    pem, key = certificate()
    (path / "pem").write_bytes(pem + key)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path / "pem")
    client = ssl.create_default_context(cadata=pem.decode())
    for context in (server, client):
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
        context.set_alpn_protocols(["xmpp-client"])
        if ciphers:
            context.set_ciphers(ciphers.removeprefix("old "))
        if ciphers.startswith("old "):
            context.options |= NO_ENCRYPT_THEN_MAC
    client.keylog_filename = str(path / "keys")
    return client, server


@functools.cache
def tls(
    version: str = "TLSv1_3",
    ciphers: str = "",
    before: tuple[Turn, ...] = (),
    talk: tuple[Turn, ...] = (),
) -> tuple[tuple[Turn, ...], bytes]:
    """Return a real TLS conversation, made in memory by the ssl module, and its key log.

    talk -- what is said inside; before -- what is said in the clear first. ciphers with "old "
    before them have the code inside of what is encrypted, as before RFC 7366.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        client_context, server_context = contexts(path, version, ciphers)
        ins = {way: ssl.MemoryBIO() for way in (C, S)}
        outs = {way: ssl.MemoryBIO() for way in (C, S)}
        ends = {
            C: client_context.wrap_bio(ins[C], outs[C], server_hostname="chat.example"),
            S: server_context.wrap_bio(ins[S], outs[S], server_side=True),
        }
        turns = list(before)

        def pass_on() -> None:
            for way in (C, S):
                data = outs[way].read()
                if data:
                    turns.append((way, data))
                    ins[not way].write(data)

        for _ in range(6):
            for way in (C, S):
                with contextlib.suppress(ssl.SSLWantReadError):
                    ends[way].do_handshake()
                pass_on()
        for way, data in talk or ((C, b"PRIVMSG bob :sealed words\r\n"),):
            ends[way].write(data)
            pass_on()
            heard = b""
            while len(heard) < len(data):
                heard += ends[not way].read(1 << 20)
            assert heard == data
        return tuple(turns), (path / "keys").read_bytes()
