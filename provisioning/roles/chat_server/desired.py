"""What the chat server wants of a host: files, services and the contents of its database."""

from __future__ import annotations

import hashlib
import json
import shlex
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from provisioning import accounts
from provisioning.files import File, Folder
from provisioning.state import Data, Desired, Service

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from concurrent.futures import Future
    from importlib.resources.abc import Traversable

    from lab.plan import Plan
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
APACHE = "/usr/sbin/apache2"
MARIADB = "/usr/sbin/mariadbd"
SOCKET = "/run/mysqld/mysqld.sock"
TLS_SETTINGS, CERTIFICATE, KEY = (
    f"/etc/imlab-chat/{name}" for name in ("tls.conf", "server.pem", "server.key")
)
QUESTION = (
    "SELECT value FROM imlab_chat.provisioned WHERE name = 'schema';"
    " SELECT HEX(name), password_hash FROM imlab_chat.accounts ORDER BY HEX(name);"
    " SELECT User FROM mysql.user WHERE User = 'repository'"
)
# The account that may read through phpMyAdmin: its password is made on the host, and stays.
LOAD = f"""set -e
umask 077
if [ ! -s {LOGIN_FILE} ]; then
  read -r password < /proc/sys/kernel/random/uuid
  printf 'user: repository\\npassword: %s\\n' "$password" > {LOGIN_FILE}
fi
password=$(sed -n 's/^password: //p' {LOGIN_FILE})
{{
  cat
  printf "CREATE OR REPLACE USER 'repository'@'localhost' IDENTIFIED BY '%s';\\n" "$password"
  printf "GRANT SELECT ON imlab_chat.* TO 'repository'@'localhost';\\n"
}} | mariadb --batch
"""


def faults(context: RoleContext) -> tuple[str, ...]:
    """Return what is wrong with the role's parameters, one sentence each; pure."""
    parameters, plan = context.parameters, context.plan
    found = [
        f"unknown key {key!r}: chat_server takes {' and '.join(PARAMETERS)}"
        for key in parameters
        if key not in PARAMETERS
    ]
    found += _other_faults(plan, context.host.name, parameters.get("other"))
    found += accounts.faults(plan, parameters.get("accounts"), _name_fault)
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


def _name_fault(name: str) -> str:
    if name.strip() and len(name) <= MAX_NAME and name.isprintable():
        return ""
    return f"must have 1 to {MAX_NAME} printable characters"


def desired(context: RoleContext, hashes: Mapping[str, str]) -> Desired:
    """Return the state that the host must have; the parameters are free of `faults`.

    hashes -- account -> what `accounts.password_hash` returned for it.
    """
    return Desired(
        programs=(APACHE, MARIADB, "mariadb", "start-stop-daemon"),
        folders=(
            Folder("/run/mysqld", owner="mysql:root"),
            Folder("/run/apache2"),
            Folder("/var/log/mysql", 0o750, "mysql:adm"),
            Folder("/var/log/apache2", 0o750, "root:adm"),
            Folder("/var/lib/imlab-chat"),
            Folder("/var/lib/imlab-chat/sessions", 0o700, "www-data:www-data"),
            Folder("/var/lib/imlab-chat/phpmyadmin", 0o700, "www-data:www-data"),
        ),
        files=(*_static_files(), _settings(context), *_tls(context)),
        services=_services(":443" if context.certificate else ":80"),
        data=(_database(hashes),),
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


def _tls(context: RoleContext) -> tuple[File, ...]:
    """Return what Apache needs for TLS; without a certificate, settings that say nothing."""
    certificate = context.certificate
    if certificate is None:
        return (File(TLS_SETTINGS, b""),)
    return (
        File(TLS_SETTINGS, resources.files(__package__).joinpath("files", "tls.conf").read_bytes()),
        File(CERTIFICATE, certificate.certificate),
        File(KEY, certificate.key, 0o600),
    )


def _services(socket: str) -> tuple[Service, ...]:
    """Return the daemons; socket -- where Apache listens last."""

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
            socket=SOCKET,
            files=("/etc/mysql/mariadb.conf.d/60-imlab.cnf",),
        ),
        Service(
            name="apache2",
            start=(APACHE, "-k", "start"),
            restart=(APACHE, "-k", "graceful"),
            pid_file="/run/apache2/apache2.pid",
            socket=socket,
            files=(
                "/etc/apache2/apache2.conf",
                "/etc/imlab-chat/php.ini",
                *(TLS_SETTINGS, CERTIFICATE, KEY),
            ),
        ),
    )


def _database(hashes: Mapping[str, str]) -> Data:
    """Return schema, accounts and the phpMyAdmin login: one question, one answer, one load."""
    schema = resources.files(__package__).joinpath("schema.sql").read_text()
    digest = hashlib.sha256(schema.encode()).hexdigest()
    # Names stand in SQL as hexadecimal literals: there is nothing to escape.
    rows = sorted((name.encode().hex().upper(), hashed) for name, hashed in hashes.items())
    values = ", ".join(f"(CONVERT(0x{name} USING utf8mb4), '{hashed}')" for name, hashed in rows)
    sql = (
        f"{schema}\nREPLACE INTO provisioned VALUES ('schema', '{digest}');\n"
        "START TRANSACTION;\nDELETE FROM accounts;\n"
        f"INSERT INTO accounts (name, password_hash) VALUES {values};\nCOMMIT;\n"
    )
    ask = shlex.join(("mariadb", "--batch", "--skip-column-names", "--execute", QUESTION))
    return Data(
        f"database: schema, accounts, phpMyAdmin login in {LOGIN_FILE}",
        ("/bin/sh", "-c", f"[ -S {SOCKET} ] && [ -s {LOGIN_FILE} ] && {ask}"),
        "\n".join([digest, *("\t".join(row) for row in rows), "repository"]),
        ("/bin/sh", "-c", LOAD),
        sql.encode(),
    )


def begin(context: RoleContext) -> dict[str, Future[str]]:
    """Begin to hash the accounts' passwords; desired() waits for the results."""
    return accounts.begin(context.plan, context.parameters["accounts"])
