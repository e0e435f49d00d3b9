"""A certificate authority of the lab's own: made anew whenever one is needed, kept nowhere.

Clients trust this authority alone and check names against certificates (RFC 9525). The private
keys exist in this process and on the server that they are for.
"""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

LIFE = timedelta(days=30)
SLACK = timedelta(days=1)  # the clocks of a lab's machines may differ


@dataclass(frozen=True, slots=True)
class Certificate:
    """A server's certificate, its private key, and the authority's certificate; all PEM."""

    certificate: bytes
    authority: bytes
    key: bytes = field(repr=False)

    def context(self) -> ssl.SSLContext:
        """Return what a client needs that trusts the authority of this certificate alone."""
        return trust(self.authority)


def trust(authority: bytes, key_log: Path | None = None) -> ssl.SSLContext:
    """Return a client's context that trusts one authority and checks names.

    key_log -- a file that gets the sessions' keys, for Wireshark.
    """
    context = ssl.create_default_context(cadata=authority.decode("ascii"))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if key_log is not None:
        context.keylog_filename = str(key_log)
    return context


class Authority:
    """A certificate authority; `certificate` is its own, PEM."""

    def __init__(self, lab: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"imlab {lab}"[:64])])
        made = (
            _builder(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate = made.public_bytes(serialization.Encoding.PEM)

    def issue(self, names: Iterable[str]) -> Certificate:
        """Return a certificate for a server's host names and addresses; the first names it."""
        wanted = list(names)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, wanted[0][:64])])
        own = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        made = (
            _builder(subject, self._name, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.SubjectAlternativeName([_general(name) for name in wanted]), critical=False
            )
            .add_extension(own, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return Certificate(
            made.public_bytes(serialization.Encoding.PEM),
            self.certificate,
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SLACK)
        .not_valid_after(now + LIFE)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
