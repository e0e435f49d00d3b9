"""What the XMPP server wants of a host: its settings, its accounts, and to run with them."""

from __future__ import annotations

import hashlib
import hmac
import re
import shlex
from typing import TYPE_CHECKING

from provisioning import accounts
from provisioning.files import File, Folder
from provisioning.state import Desired, Service

if TYPE_CHECKING:
    from lab.plan import Plan, PlannedAccount
    from provisioning.roles import RoleContext

PORT = 5222  # RFC 6120, 14.7
LONGEST = 65_536  # bytes; the server takes stanzas of four times that, in XML
PROSODY, LUA = "/usr/bin/prosody", "/usr/bin/lua5.4"  # a script, and what runs it
SETTINGS = "/etc/prosody/prosody.cfg.lua"
CERTIFICATE, KEY = "/etc/prosody/server.pem", "/etc/prosody/server.key"
PID_FILE = "/run/prosody/prosody.pid"
DATA, LOGS = "/var/lib/prosody", "/var/log/prosody"
ITERATIONS = 10_000  # Prosody's own
MAX_NAME = 64
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def faults(context: RoleContext) -> tuple[str, ...]:
    """Return what is wrong with the role's parameters, one sentence each; pure."""
    given = context.parameters
    unknown = [
        f"unknown key {key!r}: xmpp_server takes accounts and strangers"
        for key in given
        if key not in {"accounts", "strangers"}
    ]
    found = [*unknown, *accounts.faults(context.plan, given.get("accounts"), _name_fault)]
    if not found:
        lower = [name.lower() for name in given["accounts"]]
        found += [
            f"accounts: {name!r} is another one's name: XMPP does not tell capitals from small ones"
            for name in given["accounts"]
            if lower.count(name.lower()) > 1
        ]
    if not found and "strangers" in given:
        strangers = given["strangers"]
        if not isinstance(strangers, list) or not all(n in given["accounts"] for n in strangers):
            found.append(f"strangers must be a list of some of {', '.join(given['accounts'])}")
    return tuple(found)


def _name_fault(name: str) -> str:
    if _NAME.fullmatch(name) and len(name) <= MAX_NAME:
        return ""
    return f"cannot be part of an address: 1 to {MAX_NAME} letters, digits, '.', '_' or '-'"


def desired(context: RoleContext) -> Desired:
    """Return the state that the host must have; the parameters are free of `faults`."""
    wanted = [a for a in context.plan.accounts if a.name in context.parameters["accounts"]]
    home = f"{DATA}/{_encoded(context.host.name)}"
    owner = "prosody:prosody"
    files = [File(SETTINGS, _settings(context).encode(), 0o640, "root:prosody")]
    for account in wanted:
        name = f"{_encoded(account.name.lower())}.dat"
        others = _known(account.name, context)
        content = {
            "accounts": _credentials(context.plan, account),
            "roster": _contacts(context.host.name, others),
        }
        files += [
            File(f"{home}/{folder}/{name}", text.encode(), 0o640, owner)
            for folder, text in content.items()
        ]
    if context.certificate:
        files += [
            File(CERTIFICATE, context.certificate.certificate),
            File(KEY, context.certificate.key, 0o640, "root:prosody"),
        ]
    return Desired(
        programs=(PROSODY, LUA, "start-stop-daemon"),
        folders=tuple(
            Folder(path, 0o750, owner)
            for path in ("/run/prosody", LOGS, DATA, home, f"{home}/accounts", f"{home}/roster")
        ),
        files=tuple(files),
        services=(_service(),),
    )


def _encoded(name: str) -> str:
    """Return a name as Prosody writes it in paths (util.datamanager)."""
    return re.sub(r"[^A-Za-z0-9]", lambda found: f"%{ord(found[0]):02x}", name)


def _credentials(plan: Plan, account: PlannedAccount) -> str:
    """Return an account's file: what SCRAM-SHA-1 needs (RFC 5802, 3), and not the password.

    The salt is made from the names, as in `accounts.password_hash`, and for the same reason.
    """
    salt = hashlib.sha256(f"xmpp\0{plan.lab}\0{account.name}".encode()).hexdigest()[:32]
    salted = hashlib.pbkdf2_hmac("sha1", account.password.encode(), salt.encode(), ITERATIONS)
    client, server = (hmac.digest(salted, name, "sha1") for name in (b"Client Key", b"Server Key"))
    stored = hashlib.sha1(client, usedforsecurity=False).hexdigest()  # as the standard has it
    return (
        f'return {{\n\t["iteration_count"] = {ITERATIONS};\n\t["salt"] = "{salt}";\n'
        f'\t["server_key"] = "{server.hex()}";\n\t["stored_key"] = "{stored}";\n}};\n'
    )


def _known(name: str, context: RoleContext) -> list[str]:
    """Return an account's contacts: all others, but strangers neither have any nor are any."""
    strangers = context.parameters.get("strangers", [])
    circle = [each for each in context.parameters["accounts"] if each not in strangers]
    return [each.lower() for each in circle if each != name] if name in circle else []


def _contacts(domain: str, others: list[str]) -> str:
    """Return an account's list of contacts, who see each other's presence."""
    rows = "".join(
        f'\t["{other}@{domain}"] = {{ ["subscription"] = "both"; ["groups"] = {{}}; }};\n'
        for other in others
    )
    return f'return {{\n\t[false] = {{ ["version"] = 1; ["pending"] = {{}}; }};\n{rows}}};\n'


def _settings(context: RoleContext) -> str:
    """Return Prosody's settings; with a certificate nobody gets in without TLS."""
    modules = ["roster", "saslauth", "disco", "pep", "mam", "blocklist", "posix"]
    tls = ""
    if context.certificate:
        modules.append("tls")
        tls = f'ssl = {{ certificate = "{CERTIFICATE}"; key = "{KEY}" }}\n'
    required = "true" if context.certificate else "false"
    listed = ", ".join(f'"{module}"' for module in modules)
    return f"""-- Written by the role xmpp_server.
modules_enabled = {{ {listed} }}
modules_disabled = {{ "s2s" }}
pidfile = "{PID_FILE}"
data_path = "{DATA}"
storage = "internal"
authentication = "internal_hashed"
default_archive_policy = true
interfaces = {{ "*" }}
log = {{ info = "{LOGS}/prosody.log" }}
c2s_require_encryption = {required}
allow_unencrypted_plain_auth = false
{tls}VirtualHost "{context.host.name}"
"""


def _service() -> Service:
    daemon = ("start-stop-daemon", "--oknodo", "--quiet", "--pidfile", PID_FILE, "--exec", LUA)
    start = (
        *(*daemon, "--start", "--background", "--chuid", "prosody"),
        *("--startas", PROSODY, "--", "-F"),
    )
    stop = (*daemon, "--stop", "--retry", "TERM/5/KILL/5")
    return Service(
        name="prosody",
        start=start,
        restart=("/bin/sh", "-c", f"{shlex.join(stop)} && {shlex.join(start)}"),
        pid_file=PID_FILE,
        socket=f":{PORT}",
        files=(SETTINGS, CERTIFICATE, KEY),
    )
