"""Credentials in SASL responses (RFC 4422), the same in IRC, XMPP, SMTP, POP3 and IMAP."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

# What is told: kind, text, and what was told with it.
Credential = tuple[str, str, dict[str, str]]
_PLAIN_PARTS: Final = 3
_USERNAME: Final = re.compile(r'username="((?:[^"\\]|\\.){0,1024})"')
_SCRAM_USER: Final = re.compile(r"(?:^|,)n=([^,]{1,1024})")
_DIGEST: Final = re.compile(r"[0-9a-f]{32,128}", re.IGNORECASE)
_OAUTH_USER: Final = re.compile(r"(?:user|a)=([^\x01,]{1,1024})")
_BEARER: Final = re.compile(r"auth=Bearer ([^\x01]{1,65536})", re.IGNORECASE)


def unpack(word: bytes) -> bytes | None:
    """Undo base64, strictly; None for anything else. "=" alone stands for nothing (RFC 4954)."""
    if word == b"=":
        return b""
    try:
        return base64.b64decode(word, validate=True)
    except (binascii.Error, ValueError):
        return None


def read(mechanism: str, response: bytes) -> list[Credential]:
    """Return what a client's response gives away, users first. [] for what does not fit."""
    name = mechanism.upper()
    if name in {"NTLM", "GSS-SPNEGO"}:
        return ntlm(response)
    reader = _READERS.get("SCRAM" if name.startswith("SCRAM-") else name)
    found = reader(response.decode("utf-8", "replace"), name) if reader else []
    return [row for row in found if row[1]]  # a password may be left empty


def _cram(said: str, name: str) -> list[Credential]:
    user, _, digest = said.rpartition(" ")
    fits = user and _DIGEST.fullmatch(digest)
    return [("user", user, {}), ("hash", digest, _about(user, name))] if fits else []


def _digest(said: str, _: str) -> list[Credential]:
    match = _USERNAME.search(said)
    return [("user", match[1], {})] if match else []


def _scram(said: str, name: str) -> list[Credential]:
    match = _SCRAM_USER.search(said)
    user = match[1].replace("=2C", ",").replace("=3D", "=") if match else ""
    return [("user", user, {"mechanism": name})] if user else []


def _oauth(said: str, name: str) -> list[Credential]:
    user, token = _OAUTH_USER.search(said), _BEARER.search(said)
    found: list[Credential] = [("user", user[1], {})] if user else []
    return [*found, ("token", token[1], {"mechanism": name})] if token else found


def _named(said: str, name: str) -> list[Credential]:
    return [("user", said, {"mechanism": name})] if said.strip() else []


def ntlm(message: bytes) -> list[Credential]:
    """Return who signs in with NTLM, and the answer made from the password ([MS-NLMP], 2.2.1.3)."""
    if message[:12] != b"NTLMSSP\0\x03\0\0\0":
        return []
    wide = bool(int.from_bytes(message[60:64], "little") & 1)
    domain, user, host = (
        _field(message, at).decode("utf-16-le" if wide else "latin-1", "replace")
        for at in (28, 36, 44)
    )
    if not user:
        return []
    name = f"{domain}\\{user}" if domain else user
    about = {"host": host} if host else {}
    answer = _field(message, 20).hex()
    found: list[Credential] = [("user", name, about)]
    return [*found, ("hash", answer, _about(name, "NTLM"))] if answer else found


def _field(message: bytes, at: int) -> bytes:
    length = int.from_bytes(message[at : at + 2], "little")
    start = int.from_bytes(message[at + 4 : at + 8], "little")
    piece = message[start : start + length]
    return piece if len(piece) == length else b""


def _about(user: str, mechanism: str) -> dict[str, str]:
    return {"user": user, "mechanism": mechanism}


def _plain(said: str, name: str) -> list[Credential]:
    """Return the credentials of PLAIN: who to act as, who signs in, and the password (RFC 4616)."""
    parts = said.split("\0")
    if len(parts) != _PLAIN_PARTS or not parts[1]:
        return []
    role, user, password = parts
    about = {"acts as": role} if role and role != user else {}
    return [("user", user, about), ("password", password, _about(user, name))]


_READERS: Final = {
    "PLAIN": _plain,
    "CRAM-MD5": _cram,
    "DIGEST-MD5": _digest,
    "SCRAM": _scram,
    "XOAUTH2": _oauth,
    "OAUTHBEARER": _oauth,
    "EXTERNAL": _named,
    "ANONYMOUS": _named,
}
