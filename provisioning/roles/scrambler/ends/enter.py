"""The command scrambler-key: a user enters the key at this end device."""

from __future__ import annotations

import getpass
import json
import socket
import sys

from .shim import CONTROL, LONGEST, STATUS

USAGE = """\
scrambler-key            ask for the key, without showing it, and use it from now on
scrambler-key --forget   drop the key: the ports are shut until one is entered
scrambler-key --status   say how it is; exit 0 if a key is entered, else 1
scrambler-key --stdin    read what to do from standard input, one line of JSON: for programs
"""
DEADLINE = 60.0  # seconds; a key takes 0.4 to derive, more on a busy machine


def main(arguments: list[str]) -> int:
    """Do what the command line asks for; return the exit code."""
    try:
        if arguments == ["--status"]:
            return _status()
        if arguments == ["--forget"]:
            return _ask(json.dumps({"do": "forget"}))
        if arguments == ["--stdin"]:
            return _ask(sys.stdin.readline(LONGEST).rstrip("\n"))
        if not arguments:
            passphrase = getpass.getpass("Key of this lab's scrambler: ")
            return _ask(json.dumps({"do": "enter", "passphrase": passphrase}))
    except (OSError, EOFError, ValueError) as error:
        _say(f"scrambler-key: no scrambler answers on this host, its ports are shut: {error}")
        return 1
    _say(USAGE.rstrip())
    return 2


def _ask(line: str) -> int:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(DEADLINE)
        sock.connect(str(CONTROL))
        with sock.makefile("rwb") as stream:
            stream.write(line.encode() + b"\n")
            stream.flush()
            error = json.loads(stream.readline(LONGEST))["error"]
    if error:
        _say(f"scrambler-key: {error}")
    return 1 if error else 0


def _status() -> int:
    status = json.loads(STATUS.read_text())
    with socket.socket(socket.AF_UNIX) as sock:  # the file may be older than the process's end
        sock.connect(str(CONTROL))
    sys.stdout.write(json.dumps(status, indent=2) + "\n")
    return 0 if status["state"] == "ready" else 1


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
