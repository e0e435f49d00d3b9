"""A virtual machine under QEMU, in software, for tests: started, watched, turned off."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any, Self

from lab.errors import LabError
from provisioning.transport import Session

if TYPE_CHECKING:
    from pathlib import Path

    from lab.hosts import Host

BOOT_DEADLINE = 600.0  # seconds; 20 to 40 where nothing else runs
MANAGED = "10.0.2.15"  # what the DHCP server of QEMU's user network gives first
CONSOLE_SHOWN = 3000  # characters at the end of what the console said


class Machine:
    """A machine with this disk and CD, one management adapter and others by MAC.

    disk -- written to. lan -- (MAC, address to forward SSH to or "") of further adapters.
    """

    def __init__(  # noqa: PLR0913 - what a machine consists of, most of it by keyword
        self,
        folder: Path,
        disk: Path,
        seed: bytes,
        *,
        management: str,
        lan: list[tuple[str, str]],
        hardware: str = "pc",
    ) -> None:
        cd, self._console, self._socket = folder / "seed.iso", folder / "console", folder / "qmp"
        cd.touch(mode=0o600)
        cd.write_bytes(seed)
        command = [
            "setpriv", "--pdeathsig", "KILL",
            "qemu-system-x86_64", "-accel", "tcg", "-machine", hardware, "-m", "512",
            "-nodefaults", "-display", "none", "-serial", f"file:{self._console}",
            "-qmp", f"unix:{self._socket},server=on,wait=off",
            "-drive", f"file={disk},format=qcow2,media=disk",
            "-drive", f"file={cd},format=raw,media=cdrom,readonly=on",
        ]  # fmt: skip
        for number, (mac, address) in enumerate([(management, MANAGED), *lan]):
            user = f"user,id=net{number},restrict=on"
            if address:
                net = address.rpartition(".")[0] + ".0/24"
                user += f",net={net},hostfwd=tcp:127.0.0.1:0-{address}:22"
            command += ["-netdev", user, "-device", f"e1000,netdev=net{number},mac={mac}"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stderr:
            self._process.stderr.close()
        self._socket.unlink(missing_ok=True)

    @property
    def console(self) -> str:
        """What the machine has said on its serial line."""
        if not self._console.exists():
            return ""
        return self._console.read_text(errors="replace").replace("\r", "")

    def log_in(self, host: Host, address: str = MANAGED) -> Session:
        """Return a session once SSH answers at this address of the machine."""
        until, why = time.monotonic() + BOOT_DEADLINE, ""
        while time.monotonic() < until and self._process.poll() is None:
            try:
                port = self._forwarded(address)
                _probe(port)
                return Session.open(
                    host,
                    lambda _: socket.create_connection(("127.0.0.1", port), 5),  # noqa: B023 - called at once
                )
            except (LabError, OSError) as error:
                why = str(error)
                time.sleep(0.2)  # the interval of a probe
        self._give_up(f"no login: {why}")
        raise AssertionError

    def press_power_button(self) -> None:
        """Ask the system to shut down (ACPI), and wait until the machine is off."""
        self._ask("system_powerdown")
        try:
            self._process.wait(BOOT_DEADLINE)
        except subprocess.TimeoutExpired:
            self._give_up("it does not shut down")
        assert self._process.returncode == 0

    def _forwarded(self, address: str) -> int:
        """Return the port of this machine that leads to SSH at an address of the guest."""
        said = self._ask("human-monitor-command", {"command-line": "info usernet"})
        found = re.search(rf"127\.0\.0\.1\s+(\d+)\s+{re.escape(address)}\s+22\b", said)
        assert found, said
        return int(found[1])

    def _ask(self, command: str, arguments: dict[str, str] | None = None) -> Any:  # noqa: ANN401 - as JSON has it
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(30)
            channel.connect(str(self._socket))
            with channel.makefile("rwb") as stream:
                for ask in ("qmp_capabilities", command):
                    request = {"execute": ask, "arguments": arguments if ask == command else None}
                    stream.write(json.dumps({k: v for k, v in request.items() if v}).encode())
                    stream.flush()
                    answer: dict[str, Any] = {}
                    while "return" not in answer and "error" not in answer:
                        answer = json.loads(stream.readline())
        assert "return" in answer, answer
        return answer["return"]

    def _give_up(self, why: str) -> None:
        self._process.kill()
        said = self._process.stderr.read().decode(errors="replace") if self._process.stderr else ""
        raise AssertionError(f"{why}\n{said}\n{self.console[-CONSOLE_SHOWN:]}")


def _probe(port: int) -> None:
    """Raise OSError unless an SSH server answers; QEMU takes connections from the start."""
    with socket.create_connection(("127.0.0.1", port), 5) as probe:
        if not probe.recv(4).startswith(b"SSH-"):
            raise ConnectionError("no SSH server yet")
