"""What the IRC server wants of a host: its settings, its accounts, and to run with them."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from provisioning import accounts
from provisioning.files import File, Folder
from provisioning.state import Desired, Service

if TYPE_CHECKING:
    from collections.abc import Mapping

    from provisioning.roles import RoleContext

PORT, TLS_PORT = 6667, 6697  # RFC 1459, 8.5; RFC 7194
NGIRCD = "/usr/sbin/ngircd"
MAX_NICK = 32  # characters; longer than RFC 2812's 9, as networks of today have it
# Of 512 bytes a line (RFC 2812, 2.3) the server needs as many for who sends it to whom:
# ":nick!user@address PRIVMSG nick :" and the line's end.
LONGEST = 512 - 2 * MAX_NICK - 20 - 15 - 16
SETTINGS, ACCOUNTS, PAM = "/etc/ngircd/ngircd.conf", "/etc/ngircd/accounts", "/etc/pam.d/ngircd"
CERTIFICATE, KEY = "/etc/ngircd/server.pem", "/etc/ngircd/server.key"
PID_FILE = "/run/ngircd/ngircd.pid"
FOLDERS = ("/etc/ngircd", "/run/ngircd", "/var/log")
# RFC 2812, 2.3.1, without the letters that IRC's own case rules make of others.
_NICK = re.compile(r"[A-Za-z_`^][A-Za-z0-9_`^-]*")
_RULES = f"auth required pam_pwdfile.so pwdfile={ACCOUNTS}\naccount required pam_permit.so\n"


def faults(context: RoleContext) -> tuple[str, ...]:
    """Return what is wrong with the role's parameters, one sentence each; pure."""
    given = context.parameters
    unknown = [
        f"unknown key {key!r}: irc_server takes accounts" for key in given if key != "accounts"
    ]
    return (*unknown, *accounts.faults(context.plan, given.get("accounts"), _name_fault))


def _name_fault(name: str) -> str:
    if _NICK.fullmatch(name) and len(name) <= MAX_NICK:
        return ""
    return f"is no nickname: 1 to {MAX_NICK} letters, digits, '-' or '_', a letter first"


def desired(context: RoleContext, hashes: Mapping[str, str]) -> Desired:
    """Return the state that the host must have; hashes -- account -> its password's hash."""
    lines = "".join(f"{name}:{hashed}\n" for name, hashed in sorted(hashes.items()))
    files = [
        File(SETTINGS, _settings(context).encode()),
        File(ACCOUNTS, lines.encode(), 0o640, "root:irc"),
        File(PAM, _RULES.encode()),
    ]
    if context.certificate:
        files += [
            File(CERTIFICATE, context.certificate.certificate),
            File(KEY, context.certificate.key, 0o640, "root:irc"),
        ]
    return Desired(
        programs=(NGIRCD, "start-stop-daemon"),
        folders=(Folder("/run/ngircd", owner="irc:irc"),),
        files=tuple(files),
        services=(_service(TLS_PORT if context.certificate else PORT),),
    )


def _settings(context: RoleContext) -> str:
    """Return ngircd.conf(5); with a certificate there is no port without TLS.

    No penalties: they would hold back for a second what somebody says who has just come.
    """
    tls = ""
    if context.certificate:
        tls = f"[SSL]\nCertFile = {CERTIFICATE}\nKeyFile = {KEY}\nPorts = {TLS_PORT}\n"
    return f"""# Written by the role irc_server.
[Global]
Name = {context.host.name}.lab
AdminInfo1 = imlab
Info = {context.host.name}
Listen = 0.0.0.0
Ports = {"" if context.certificate else PORT}
MotdPhrase = Welcome
PidFile = {PID_FILE}
ServerUID = irc
ServerGID = irc
[Limits]
MaxConnectionsIP = 0
MaxNickLength = {MAX_NICK}
MaxPenaltyTime = 0
[Options]
DNS = no
Ident = no
PAM = yes
SyslogFacility = daemon
{tls}"""


def _service(port: int) -> Service:
    where = ("--pidfile", PID_FILE, "--exec", NGIRCD)
    start = (NGIRCD, "-f", SETTINGS)
    stop = ("start-stop-daemon", "--stop", "--oknodo", "--quiet", "--retry", "TERM/5/KILL/5")
    both = f"{shlex.join((*stop, *where))} && {shlex.join(start)}"
    return Service(
        name="ngircd",
        start=start,
        restart=("/bin/sh", "-c", both),
        pid_file=PID_FILE,
        socket=f":{port}",
        files=(SETTINGS, ACCOUNTS, PAM, CERTIFICATE, KEY),
    )
