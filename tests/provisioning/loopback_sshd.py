"""A real sshd on loopback, started and ended by the tests that use it."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lab.hosts import Host
from provisioning.transport import Session

if TYPE_CHECKING:
    from collections.abc import Iterator

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/bin:/sbin")


def new_key() -> tuple[str, str]:
    """Return a private key in OpenSSH form and its public line."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return private.decode(), public.decode()


def free_port() -> int:
    """Return a TCP port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@dataclass(frozen=True)
class Sshd:
    """A running sshd and what one needs to log in to it."""

    host: Host
    port: int
    pid: int

    def dial(self, port: int) -> socket.socket:
        """Connect; 22 is where this sshd listens, as it is inside a lab host."""
        return socket.create_connection(("127.0.0.1", self.port if port == 22 else port))

    def open(self, **changes: str) -> Session:
        """Log in, with a changed host when asked."""
        return Session.open(replace(self.host, **changes), self.dial)


@contextmanager
def running_sshd(folder: Path, *options: str) -> Iterator[Sshd]:
    """Run an sshd of our own on a free port; end it by its process id."""
    assert SSHD
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd(8): its empty folder
    private, public = new_key()
    host_private, host_public = new_key()
    (folder / "host_key").write_text(host_private)
    (folder / "host_key").chmod(0o600)
    (folder / "authorized_keys").write_text(public + "\n")
    port = free_port()
    (folder / "sshd_config").write_text(
        "\n".join(
            (
                f"ListenAddress 127.0.0.1:{port}",
                f"HostKey {folder}/host_key",
                f"AuthorizedKeysFile {folder}/authorized_keys",
                f"PidFile {folder}/pid",
                "StrictModes no",
                "UsePAM no",
                "UseDNS no",
                "PasswordAuthentication no",
                "KbdInteractiveAuthentication no",
                "PermitRootLogin prohibit-password",
                "Subsystem sftp internal-sftp",
                *options,
            )
        )
    )
    process = subprocess.Popen(
        [SSHD, "-D", "-e", "-f", str(folder / "sshd_config"), "-p", str(port)],
        stderr=(folder / "log").open("wb"),
    )
    try:
        until = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < until, "sshd does not listen"
                time.sleep(0.005)  # between two probes
        yield Sshd(Host("box", getpass.getuser(), host_public, private), port, process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
