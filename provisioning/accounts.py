"""The accounts of a server: which they are, and their passwords as servers keep them.

Passwords are hashed with bcrypt, in the background, and alike whenever the plan is.
"""

from __future__ import annotations

import hashlib
import re
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any

import bcrypt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from lab.plan import Plan, PlannedAccount

MAX_PASSWORD = 72  # bytes; bcrypt looks at no more
COST = 10  # PHP's own default for password_hash()


def faults(
    plan: Plan,
    names: Any,  # noqa: ANN401 -- from YAML
    name_fault: Callable[[str], str],
) -> Iterator[str]:
    """Say what is wrong with a role's parameter `accounts`, a sentence each; pure.

    name_fault -- says what is wrong with a name for this server, "" if nothing.
    """
    if not isinstance(names, list | tuple) or not names:
        yield "'accounts' must be a list of at least one name from the lab's accounts"
        return
    known = {account.name: account for account in plan.accounts}
    for position, name in enumerate(names):
        if not isinstance(name, str) or name not in known:
            yield f"accounts: {name!r} is unknown; the lab's accounts are {', '.join(known)}"
        elif name in names[:position]:
            yield f"accounts: {name!r} is there twice"
        elif fault := name_fault(name):
            yield f"accounts: {name!r} {fault}"
        elif not _fits(known[name].password):
            yield f"accounts: the password of {name!r} must have 1 to {MAX_PASSWORD} bytes"


def _fits(password: str) -> bool:
    return 0 < len(password.encode()) <= MAX_PASSWORD and "\0" not in password


@dataclass(slots=True)
class _Hashes:
    """Hashes that were asked for, each made once: bcrypt takes 50 ms outside Python's lock."""

    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(4, "bcrypt"))
    lock: Lock = field(default_factory=Lock)
    made: dict[tuple[str, PlannedAccount], Future[str]] = field(default_factory=dict)

    def get(self, lab: str, account: PlannedAccount) -> Future[str]:
        with self.lock:
            key = (lab, account)
            if key not in self.made:
                self.made[key] = self.pool.submit(password_hash, lab, account)
            return self.made[key]


_HASHES = _Hashes()


def begin(plan: Plan, names: Iterable[str]) -> dict[str, Future[str]]:
    """Begin to hash the passwords of accounts; return what will hold the results, by name."""
    wanted = set(names)
    return {a.name: _HASHES.get(plan.lab, a) for a in plan.accounts if a.name in wanted}


def password_hash(lab: str, account: PlannedAccount) -> str:
    """Return what crypt(3) and PHP's password_verify() check: bcrypt, cost 10.

    The salt is made from the names of lab and account, not from chance: it need only differ
    between accounts, and so the same plan wants the same state.
    """
    digest = hashlib.sha256(f"{lab}\0{account.name}".encode()).digest()[:16]
    salt = f"$2b${COST:02d}$".encode() + _bcrypt_base64(digest)
    hashed = bcrypt.hashpw(account.password.encode(), salt).decode()
    return re.sub(r"^\$2b\$", "$2y$", hashed)  # the same algorithm by the name PHP has for it


def _bcrypt_base64(digest: bytes) -> bytes:
    """Return 16 bytes as bcrypt writes a salt: 22 characters of its own alphabet."""
    alphabet = b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    bits = int.from_bytes(digest) << 4  # 128 bits, filled up to 22 times 6
    return bytes(alphabet[bits >> shift & 63] for shift in range(126, -1, -6))
