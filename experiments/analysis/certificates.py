"""What a certificate says (RFC 5280): whose it is, who vouches for it, how long, which names."""

from __future__ import annotations

import hashlib
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

_BROKEN: Final = (
    ValueError,
    TypeError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
)
_TIME: Final = "%Y-%m-%d %H:%M:%S UTC"


def read(der: bytes) -> tuple[str, dict[str, str]]:
    """Return the subject of a certificate and what it says besides; never raises for its bytes."""
    about = {"sha256": hashlib.sha256(der).hexdigest()}
    try:
        certificate = x509.load_der_x509_certificate(der)
        subject = certificate.subject.rfc4514_string()
        about["issuer"] = certificate.issuer.rfc4514_string()
        about["not_before"] = certificate.not_valid_before_utc.strftime(_TIME)
        about["not_after"] = certificate.not_valid_after_utc.strftime(_TIME)
        names = ", ".join(_names(certificate))
    except _BROKEN:
        return "a certificate that cannot be read", about
    if names:
        about["names"] = names
    return subject or names or "no subject", about


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        kind = x509.SubjectAlternativeName
        names = certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return []
    kept = [*names.get_values_for_type(x509.DNSName)]
    kept += [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return [*kept, *names.get_values_for_type(x509.RFC822Name)]
