"""What the scrambler wants of an end device: its program, its rules, and the key."""

from __future__ import annotations

import hashlib
import hmac
import json
import shlex
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from provisioning.files import File
from provisioning.roles.scrambler.ends import shim
from provisioning.roles.scrambler.rules import TABLE, rules
from provisioning.state import Data, Desired, Service

if TYPE_CHECKING:
    from collections.abc import Iterable

PACKAGES = ("nftables", "python3", "python3-cryptography")
HOME = "/usr/local/lib/imlab-scrambler"
RUN, COMMAND = f"{HOME}/run", "/usr/local/bin/scrambler-key"
LOG = "/var/log/imlab-scrambler.log"
LISTED = "/run/imlab-scrambler.rules"
PYTHON = "/usr/bin/python3"
UNIT = "/etc/systemd/system/imlab-scrambler.service"
_LAUNCH = """\
#!/usr/bin/python3 -I
import sys

sys.path.insert(0, "{home}")
{body}
"""
_UNIT = f"""\
[Unit]
Description=port scrambler of the lab
[Service]
ExecStart={PYTHON} -I {RUN}
StandardError=append:{LOG}
"""
# What nft lists is its own wording: it is compared with what it was when the rules were loaded.
# The packets that counters have counted are not part of it (--stateless).
_LIST = f"nft --stateless list table inet {TABLE}"
_SAME = f'[ "$({_LIST} | sha256sum)" = "$(sed -n 2p {LISTED})" ] && sed -n 1p {LISTED}'
# Removing is the same for whatever was set up. The rules go last, and not before every socket of
# the scrambler is gone: its resets find their way back through the redirection alone, and without
# them a program would go on in the clear. Established is state 01 (proc(5)).
REMOVE = f"""\
if [ -d /run/systemd/system ]; then systemctl stop imlab-scrambler
else start-stop-daemon --stop --oknodo --quiet --retry TERM/5/KILL/5 \
  --pidfile {shim.PID} --exec {PYTHON}; fi
n=0
while grep -qE '^ *[0-9]+: [0-9A-F]+:{shim.AWAY:04X} [0-9A-F:]+ 01' /proc/net/tcp; do
  n=$((n+1)); [ $n -lt 1000 ] || exit 1; sleep 0.005
done
rm -rf {HOME} {COMMAND} {UNIT} {shim.SETTINGS} {shim.FOLDER} {shim.PID} {LISTED}
nft 'table inet {TABLE} {{}}; delete table inet {TABLE}'
"""


def desired(ports: Iterable[int], passphrase: str | None, secret: str) -> Desired:
    """Return the state of an end device: pure.

    passphrase -- what is entered here; None leaves it to a user, and the ports shut until then.
    secret     -- something that the host does not know; see `mark`.
    """
    named = sorted(set(ports))
    settings = File(str(shim.SETTINGS), (json.dumps({"ports": named}) + "\n").encode())
    files = (*_program(), settings)
    data = [_rules(named)]
    if passphrase is not None:
        data.append(_key(passphrase, secret))
    return Desired(
        programs=(PYTHON, "nft", "start-stop-daemon"),
        files=files,
        services=(_service(tuple(file.path for file in files)),),
        data=tuple(data),
    )


@cache
def _program() -> tuple[File, ...]:
    here = resources.files(__package__).joinpath("ends")
    modules = sorted(entry.name for entry in here.iterdir() if entry.name.endswith(".py"))
    run = _LAUNCH.format(home=HOME, body="from ends.shim import main\n\nmain()")
    key = _LAUNCH.format(
        home=HOME, body="from ends.enter import main\n\nsys.exit(main(sys.argv[1:]))"
    )
    return (
        *(File(f"{HOME}/ends/{name}", here.joinpath(name).read_bytes()) for name in modules),
        File(RUN, run.encode(), 0o755),
        File(COMMAND, key.encode(), 0o755),
        File(UNIT, _UNIT.encode()),
    )


def _service(files: tuple[str, ...]) -> Service:
    which = ("--quiet", "--pidfile", str(shim.PID), "--exec", PYTHON)
    start = ("start-stop-daemon", "--start", "--background", "--output", LOG, *which)
    stop = ("start-stop-daemon", "--stop", "--oknodo", "--retry", "TERM/5/KILL/5", *which)
    begin = (*start, "--", "-I", RUN)
    # Its socket is made anew: an old one must not be taken for an answer.
    clear = f"rm -f {shim.CONTROL}"
    return Service(
        name="imlab-scrambler",
        start=("/bin/sh", "-c", f"{clear}; {shlex.join(begin)}"),
        restart=("/bin/sh", "-c", f"{shlex.join(stop)} && {clear} && {shlex.join(begin)}"),
        pid_file=str(shim.PID),
        socket=str(shim.CONTROL),
        files=files,
    )


def _rules(ports: list[int]) -> Data:
    text = rules(ports).encode()
    digest = hashlib.sha256(text).hexdigest()
    load = f"nft -f - && {{ echo {digest}; {_LIST} | sha256sum; }} > {LISTED}"
    named = ", ".join(map(str, ports))
    return Data(
        f"rules: port {named} through the scrambler only",
        ("/bin/sh", "-c", _SAME),
        digest,
        ("/bin/sh", "-c", load),
        text,
    )


def _key(passphrase: str, secret: str) -> Data:
    wanted = mark(passphrase, secret)
    entry = {"do": "enter", "passphrase": passphrase, "mark": wanted}
    return Data(
        "the scrambler's key",
        ("cat", "--", str(shim.MARK)),
        wanted,
        (COMMAND, "--stdin"),
        json.dumps(entry).encode() + b"\n",
    )


def mark(passphrase: str, secret: str) -> str:
    """Return what tells that this passphrase was entered, and nothing about it: pure.

    The host keeps it. Without `secret`, which the host does not have, no guess at the passphrase
    can be tried against it.
    """
    key, text = secret.encode(), b"imlab scrambler mark|" + passphrase.encode()
    return hmac.new(key, text, hashlib.sha256).hexdigest()[:32]
