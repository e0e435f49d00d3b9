"""The gate: real sshd, ssh and labs. Who has a key gets into the own lab and nowhere else."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from commands import classes, classroom, gate, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.lab, pytest.mark.slow]


@dataclass
class Gate:
    """A gate that is open."""

    folder: Path
    port: int

    def ssh(self, who: str, *words: str, **options: object) -> subprocess.CompletedProcess[bytes]:
        """Run ssh as a student does, in the folder of the hand-out."""
        return subprocess.run(
            ["ssh", "-F", "ssh_config", "-o", "BatchMode=yes", *words],
            cwd=self.folder / "handouts" / who, capture_output=True, timeout=120, check=False,
            **{"stdin": subprocess.DEVNULL, **options},
        )  # type: ignore[call-overload] # options of subprocess.run  # fmt: skip


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """Open the gate of a class of two for this module."""
    root = tmp_path_factory.mktemp("gate")
    before = os.environ.get("IMLAB_STATE")
    os.environ["IMLAB_STATE"] = str(root / "state")
    roster = root / "roster.csv"
    roster.write_text("id,name\namina,Amina\nben,Ben\n")
    taught = classes.of(str(roster), "1", str(root / "course"), typed=False, new=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    door = classes.door_at(taught, f"127.0.0.1:{port}", os.environ.get("USER", "root"))
    classes.write_handouts(
        taught, door, root / "course" / "handouts", pdf=False, note=lambda *_: None
    )
    sshd = subprocess.Popen(serving.prepare(taught, str(roster), "127.0.0.1", port))
    try:
        until = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert time.monotonic() < until
            time.sleep(0.05)
        yield Gate(root / "course", port)
    finally:
        sshd.send_signal(signal.SIGTERM)
        sshd.wait(10)
        classroom.down_all(taught, [], keep=False)
        os.environ.pop("IMLAB_STATE")
        if before is not None:
            os.environ["IMLAB_STATE"] = before


def test_a_student_gets_into_each_host_of_the_own_lab(opened: Gate) -> None:
    """Root on each; the other student's lab has the same addresses and is another one."""
    macs = set()
    for who in ("amina", "ben"):
        for host in ("host", "guest", "peer"):
            done = opened.ssh(who, host, "id -un; hostname; cat /sys/class/net/eth0/address")
            user, name, mac = done.stdout.decode().split()
            assert (user, name) == ("root", host), done.stderr
            macs.add(mac)
    assert len(macs) == 6


def test_files_come_by_scp_and_by_get(opened: Gate) -> None:
    """Bytes of a capture's kind arrive as they are."""
    made = opened.ssh("amina", "peer", "head -c 300000 /dev/urandom | tee /root/a.pcap | sha256sum")
    hashed = made.stdout.split()[0].decode()
    folder = opened.folder / "handouts" / "amina"
    subprocess.run(
        ["scp", "-q", "-F", "ssh_config", "peer:/root/a.pcap", "a.pcap"],
        cwd=folder, check=True, timeout=60,
    )  # fmt: skip
    import hashlib

    assert hashlib.sha256((folder / "a.pcap").read_bytes()).hexdigest() == hashed
    got = opened.ssh("amina", "lab", "get peer /root/a.pcap")
    assert hashlib.sha256(got.stdout).hexdigest() == hashed
    assert opened.ssh("amina", "lab", "get peer /nothing").returncode == 1
    assert opened.ssh("ben", "lab", "get peer /root/a.pcap").returncode == 1


def test_the_gate_runs_nothing_but_its_words(opened: Gate, tmp_path: Path) -> None:
    """No command, path or shell word reaches this machine."""
    trap = tmp_path / "was-here"
    for asked in (
        f"touch {trap}", f"status; touch {trap}", f"status $(touch {trap})", f"dial `touch {trap}`",
        f"dial ../../{trap}", "dial", "dial host host", "get", f"shell host\ntouch {trap}",
        "/bin/sh", "sftp", "internal-sftp", "'", "a" * 5000, "play ../../x", "capture nobody",
        "dial ben", "dial 1-ben",
    ):  # fmt: skip
        done = opened.ssh("amina", "lab", asked)
        if not asked.startswith("status;") and not asked.startswith("status $"):
            assert done.returncode != 0, asked
        assert b"Traceback" not in done.stderr
        assert not trap.exists(), asked


def test_the_gate_forwards_nothing(opened: Gate) -> None:
    """Neither TCP nor sockets nor an agent: sshd refuses what is asked for beside the command."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for words in (
        ("-W", "127.0.0.1:22", "lab"),
        ("-o", "ExitOnForwardFailure=yes", "-R", f"{port}:127.0.0.1:22", "lab", "status"),
        ("-s", "lab", "sftp"),
    ):
        assert opened.ssh("amina", *words).returncode != 0, words
    folder = opened.folder / "handouts" / "amina"
    forward = subprocess.Popen(
        ["ssh", "-F", "ssh_config", "-N", "-L", f"{port}:127.0.0.1:{opened.port}", "lab"],
        cwd=folder, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until, said = time.monotonic() + 20, b"?"
        while time.monotonic() < until:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", port), 5) as link,
            ):
                said = link.recv(10)
                break
            time.sleep(0.1)
        assert said == b""  # closed at once; an sshd would have said SSH-
    finally:
        forward.kill()
        forward.wait()


def test_another_key_is_refused(opened: Gate, tmp_path: Path) -> None:
    """Who is not in the roster does not get in, nor does a password help."""
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    done = opened.ssh("amina", "-o", f"IdentityFile={key}", "-i", str(key), "-o",
                      "IdentitiesOnly=yes", "-F", "/dev/null", "-o", "StrictHostKeyChecking=no",
                      "-o", "UserKnownHostsFile=/dev/null", "-p", str(opened.port),
                      f"{os.environ.get('USER', 'root')}@127.0.0.1", "status")  # fmt: skip
    assert done.returncode == 255
    assert b"Permission denied (publickey)" in done.stderr


def test_a_page_of_the_lab_comes_by_forwarding(opened: Gate) -> None:
    """`ssh -L` through the gate leads into the host of the own lab: to its sshd, for instance."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    forward = subprocess.Popen(
        ["ssh", "-F", "ssh_config", "-N", "-L", f"{port}:127.0.0.1:22", "guest"],
        cwd=opened.folder / "handouts" / "amina", stdin=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until, said = time.monotonic() + 40, b""
        while not said and time.monotonic() < until:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", port), 5) as link,
            ):
                said = link.recv(4)
            time.sleep(0.1)
        assert said == b"SSH-"
    finally:
        forward.terminate()
        forward.wait()


def test_reset_gives_a_new_lab(opened: Gate) -> None:
    """What a student has broken is mended by the student alone."""
    assert opened.ssh("ben", "peer", "rm -rf /etc /usr/sbin; touch /root/x").returncode >= 0
    assert opened.ssh("ben", "lab", "reset").returncode == 0
    done = opened.ssh("ben", "peer", "ls /root; ls -d /etc")
    assert done.stdout == b"/etc\n"


def test_a_student_has_few_of_the_gates_processes(opened: Gate) -> None:
    """Connections are not the lab's but the machine's: a student's thirteenth is refused."""
    folder = opened.folder / "handouts" / "amina"
    opened.ssh("amina", "lab", "status")
    many = [
        subprocess.Popen(
            ["ssh", "-F", "ssh_config", "lab", "dial peer"],
            cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )
        for _ in range(gate.SLOTS)
    ]  # fmt: skip
    try:
        for each in many:
            assert each.stdout is not None
            assert each.stdout.read(4) == b"SSH-"
        done = opened.ssh("amina", "lab", "status")
        assert done.returncode == 1
        assert b"connections already" in done.stderr
        assert opened.ssh("ben", "lab", "status").returncode == 0
    finally:
        for each in many:
            each.kill()
            each.communicate()


def test_every_request_is_one_of_few_words() -> None:
    """The help names every word that there is but the one for programs."""
    assert {word for word in gate.VERBS if word not in {"dial", "help"}} == {
        line.split()[0] for line in gate.HELP.splitlines()
    }
    assert sys.executable
