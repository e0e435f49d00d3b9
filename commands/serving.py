"""The gate's sshd: one for a class, in the foreground, which runs gate.py and nothing else.

It lets in the students' keys alone, each with its own forced command (sshd(8), AUTHORIZED_KEYS FILE
FORMAT), and refuses forwarding of any kind: what a student forwards goes through the gate into the
student's own lab, where the host's own sshd does it.
"""

from __future__ import annotations

import getpass
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from commands.classes import gate_key
from lab.errors import Fault, LabError
from teaching import handout

if TYPE_CHECKING:
    from commands.classes import Class

PROJECT: Final = Path(__file__).resolve().parent.parent
#: What privilege separation of a root's sshd chroots into (sshd(8)); systemd makes it elsewhere.
EMPTY: Final = Path("/run/sshd")
CONFIG: Final = """\
Port {port}
ListenAddress {address}
HostKey {key}
PidFile none
AuthorizedKeysFile {keys}
AllowUsers {user}
AuthenticationMethods publickey
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin forced-commands-only
PermitEmptyPasswords no
StrictModes no
UsePAM no
PermitUserRC no
PermitUserEnvironment no
DisableForwarding yes
PermitTunnel no
X11Forwarding no
PrintMotd no
Compression no
LoginGraceTime 20
MaxAuthTries 3
MaxStartups 60:30:300
ClientAliveInterval 30
ClientAliveCountMax 4
LogLevel INFO
"""


def prepare(taught: Class, roster: str, address: str, port: int) -> list[str]:
    """Write what the gate needs into the course's folder; return sshd's command line.

    Raises LabError.
    """
    sshd = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if sshd is None:
        raise LabError(
            "opening the gate",
            "no sshd is installed",
            fault=Fault.MACHINE,
            todo="sudo apt-get install openssh-server",
        )
    folder = taught.folder.absolute()
    if folder.stat().st_mode & 0o077:
        raise LabError(
            "opening the gate",
            f"others of this machine can look into {folder}",
            fault=Fault.USER,
            todo=f"chmod 700 {folder}",
        )
    run = folder / "run"
    run.mkdir(mode=0o700, exist_ok=True)
    served = {
        "roster": str(Path(roster).absolute()),
        "exercise": str(taught.exercise.folder),
        "state": os.environ.get("IMLAB_STATE", ""),
    }
    _write(run / "class.json", json.dumps(served))
    _write(run / "authorized_keys", authorized_keys(taught, folder))
    text = CONFIG.format(
        port=port, address=address, key=gate_key(folder)[0], keys=run / "authorized_keys",
        user=getpass.getuser(),
    )  # fmt: skip
    _write(run / "sshd_config", text)
    if os.geteuid() == 0:
        EMPTY.mkdir(mode=0o755, exist_ok=True)
    return [sshd, "-D", "-e", "-f", str(run / "sshd_config")]


def authorized_keys(taught: Class, folder: Path) -> str:
    """Return a line a student: whose key may ask the gate for what is that student's."""
    lines = []
    for student in taught.students:
        key = student.key or handout.key_of(taught.course, student)[1]
        command = shlex.join(
            [sys.executable, str(PROJECT / "commands" / "gate.py"), str(folder), student.id]
        )
        quoted = command.replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'restrict,pty,command="{quoted}" {key}')
    return "\n".join(lines) + "\n"


def serve(command: list[str]) -> int:
    """Run the gate until Ctrl-C; return sshd's exit code."""
    with subprocess.Popen(command) as sshd:
        try:
            return sshd.wait()
        finally:
            sshd.send_signal(signal.SIGTERM)


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")
