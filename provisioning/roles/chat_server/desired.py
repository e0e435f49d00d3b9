"""What the chat server wants of a host: files, services and the contents of its database."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shlex
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import bcrypt

from provisioning.files import File
from provisioning.state import Data, Desired, Folder, Service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.resources.abc import Traversable

    from lab.plan import Plan, PlannedAccount
    from provisioning.roles import RoleContext

PACKAGES = (
    "apache2",
    "libapache2-mod-php",
    "php-mysql",
    "php-mbstring",
    "mariadb-server",
    "phpmyadmin",
)
PARAMETERS = ("other", "accounts")
ROOT = "/srv/imlab-chat"
LOGIN_FILE = "/root/phpmyadmin-login"
MAX_NAME = 64  # characters, the width of accounts.name
MAX_PASSWORD = 72  # bytes; bcrypt looks at no more
COST = 10  # PHP's own default for password_hash()
APACHE = "/usr/sbin/apache2"
MARIADB = "/usr/sbin/mariadbd"


def faults(context: RoleContext) -> tuple[str, ...]:
    """Return what is wrong with the role's parameters, one sentence each; pure."""
    parameters, plan = context.parameters, context.plan
    found = [
        f"unknown key {key!r}: chat_server takes {' and '.join(PARAMETERS)}"
        for key in parameters
        if key not in PARAMETERS
    ]
    found += _other_faults(plan, context.host.name, parameters.get("other"))
    found += _account_faults(plan, parameters.get("accounts"))
    return tuple(found)


def _other_faults(plan: Plan, own: str, other: Any) -> Iterator[str]:  # noqa: ANN401 -- from YAML
    names = [host.name for host in plan.hosts]
    if other is None:
        yield "missing 'other': the host whose chat server the links of Home.php lead to"
    elif other not in names:
        yield f"other: {other!r} is no host; hosts are {', '.join(names)}"
    elif other == own:
        yield f"other: {other!r} is this host itself; name the other one"
    elif not any(adapter.address for adapter in plan.host(other).adapters):
        yield f"other: {other!r} has no address"


def _account_faults(plan: Plan, accounts: Any) -> Iterator[str]:  # noqa: ANN401 -- from YAML
    if not isinstance(accounts, list | tuple) or not accounts:
        yield "'accounts' must be a list of at least one name from the lab's accounts"
        return
    known = {account.name: account for account in plan.accounts}
    for position, name in enumerate(accounts):
        if name not in known:
            yield f"accounts: {name!r} is unknown; the lab's accounts are {', '.join(known)}"
        elif name in accounts[:position]:
            yield f"accounts: {name!r} is there twice"
        else:
            yield from _credential_faults(known[name])


def _credential_faults(account: PlannedAccount) -> Iterator[str]:
    if not account.name.strip() or len(account.name) > MAX_NAME or not account.name.isprintable():
        yield f"accounts: {account.name!r} must have 1 to {MAX_NAME} printable characters"
    if not 0 < len(account.password.encode()) <= MAX_PASSWORD or "\0" in account.password:
        yield f"accounts: the password of {account.name!r} must have 1 to {MAX_PASSWORD} bytes"


def desired(context: RoleContext) -> Desired:
    """Return the state that the host must have. The parameters are free of `faults`."""
    plan = context.plan
    names = set(context.parameters["accounts"])
    accounts = [account for account in plan.accounts if account.name in names]
    return Desired(
        programs=(APACHE, MARIADB, "mariadb", "start-stop-daemon"),
        folders=(
            Folder("/run/mysqld", owner="mysql:root"),
            Folder("/run/apache2"),
            Folder("/var/log/mysql", 0o750, "mysql:adm"),
            Folder("/var/log/apache2", 0o750, "root:adm"),
            Folder("/var/lib/imlab-chat"),
            Folder("/var/lib/imlab-chat/sessions", 0o700, "www-data:www-data"),
        ),
        files=(*_static_files(), _settings(context)),
        services=_services(),
        data=(_schema(), _accounts(plan.lab, accounts), _phpmyadmin_login()),
    )


@cache
def _static_files() -> tuple[File, ...]:
    here = resources.files(__package__)
    places = {
        "apache2.conf": "/etc/apache2/apache2.conf",
        "php.ini": "/etc/imlab-chat/php.ini",
        "mariadb.cnf": "/etc/mysql/mariadb.conf.d/60-imlab.cnf",
        "phpmyadmin.php": "/etc/phpmyadmin/conf.d/imlab.php",
    }
    files = [File(to, here.joinpath("files", name).read_bytes()) for name, to in places.items()]
    for folder in ("lib", "www"):
        files += [
            File(f"{ROOT}/{folder}/{name}", content)
            for name, content in _tree(here.joinpath(folder))
        ]
    return tuple(files)


def _tree(folder: Traversable) -> Iterator[tuple[str, bytes]]:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            for name, content in _tree(entry):
                yield f"{entry.name}/{name}", content
        else:
            yield entry.name, entry.read_bytes()


def _settings(context: RoleContext) -> File:
    other = context.parameters["other"]
    settings = {
        "name": context.host.name,
        "other": context.plan.address(other),
        "other_name": other,
    }
    # A JSON string is inert inside a PHP string in single quotes but for \ and '.
    text = json.dumps(settings).replace("\\", "\\\\").replace("'", "\\'")
    content = f"<?php\n// Written by the role chat_server.\nreturn json_decode('{text}', true);\n"
    return File(f"{ROOT}/settings.php", content.encode())


def _services() -> tuple[Service, ...]:
    def daemon(*action: str) -> tuple[str, ...]:
        return ("start-stop-daemon", *action, "--oknodo", "--quiet")

    where = ("--pidfile", "/run/mysqld/mysqld.pid", "--exec", MARIADB)
    start = (*daemon("--start"), "--background", *where, "--", "--user=mysql")
    stop = (*daemon("--stop"), "--retry", "TERM/20/KILL/5", *where)
    both = f"{shlex.join(stop)} && {shlex.join(start)}"
    return (
        Service(
            name="mariadb",
            start=start,
            restart=("/bin/sh", "-c", both),
            pid_file="/run/mysqld/mysqld.pid",
            socket="/run/mysqld/mysqld.sock",
            files=("/etc/mysql/mariadb.conf.d/60-imlab.cnf",),
        ),
        Service(
            name="apache2",
            start=(APACHE, "-k", "start"),
            restart=(APACHE, "-k", "graceful"),
            pid_file="/run/apache2/apache2.pid",
            socket=":80",
            files=("/etc/apache2/apache2.conf", "/etc/imlab-chat/php.ini"),
        ),
    )


def _sql(query: str) -> tuple[str, ...]:
    return ("mariadb", "--batch", "--skip-column-names", "--execute", query)


LOAD = ("mariadb", "--batch")


def _schema() -> Data:
    content = resources.files(__package__).joinpath("schema.sql").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    recorded = f"REPLACE INTO provisioned VALUES ('schema', '{digest}');\n"  # noqa: S608 -- a digest
    return Data(
        "database schema",
        _sql("SELECT value FROM imlab_chat.provisioned WHERE name = 'schema'"),
        digest,
        LOAD,
        content + recorded.encode(),
    )


def _accounts(lab: str, accounts: list[PlannedAccount]) -> Data:
    with ThreadPoolExecutor() as pool:  # bcrypt takes its time outside Python's lock
        hashes = list(pool.map(lambda account: password_hash(lab, account), accounts))
    rows = sorted(
        (account.name.encode().hex().upper(), hashed)
        for account, hashed in zip(accounts, hashes, strict=True)
    )
    # Names stand in SQL as hexadecimal literals: there is nothing to escape.
    values = ", ".join(f"(CONVERT(0x{name} USING utf8mb4), '{hashed}')" for name, hashed in rows)
    content = (
        "START TRANSACTION; DELETE FROM imlab_chat.accounts;\n"
        f"INSERT INTO imlab_chat.accounts (name, password_hash) VALUES {values};\nCOMMIT;\n"
    )
    return Data(
        "accounts " + ", ".join(account.name for account in accounts),
        _sql("SELECT HEX(name), password_hash FROM imlab_chat.accounts ORDER BY HEX(name)"),
        "\n".join("\t".join(row) for row in rows),
        LOAD,
        content.encode(),
    )


@cache
def password_hash(lab: str, account: PlannedAccount) -> str:
    """Return what PHP's password_verify() checks: bcrypt, cost 10.

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


def _phpmyadmin_login() -> Data:
    """Return the account 'repository' that may read; its password is made once a host."""
    password = secrets.token_urlsafe(15)
    script = (
        "set -e; umask 077; read -r password; "
        f"printf 'user: repository\\npassword: %s\\n' \"$password\" > {LOGIN_FILE}; "
        "printf '%s\\n' \"CREATE OR REPLACE USER 'repository'@'localhost'"
        " IDENTIFIED BY '$password';\""
        " \"GRANT SELECT ON imlab_chat.* TO 'repository'@'localhost';\" | mariadb --batch"
    )
    user = "SELECT 'kept' FROM mysql.user WHERE User = 'repository'"
    return Data(
        f"phpMyAdmin login ({LOGIN_FILE})",
        ("/bin/sh", "-c", f"[ -s {LOGIN_FILE} ] && {shlex.join(_sql(user))}"),
        "kept",
        ("/bin/sh", "-c", script),
        f"{password}\n".encode(),
    )
