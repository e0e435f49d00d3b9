"""Three computers that are there already: sshd processes on loopback."""

from __future__ import annotations

import getpass
import sys
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from real_labs import PROJECT, small_plan

from lab.plan import PlannedReach

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lab.plan import Plan
    from lab.providers.base import Image

if str(PROJECT / "tests" / "provisioning") not in sys.path:
    sys.path.append(str(PROJECT / "tests" / "provisioning"))

REACHES = "reaches"


class BENCH:
    """Three sshd; a bench of the same folder in another process uses the same ones."""

    blank = None

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "external"
        self._stack = ExitStack()
        if (self._folder / REACHES).exists():
            lines = (self._folder / REACHES).read_text().splitlines()
            self._reaches = [_reach(*line.split(maxsplit=2)) for line in lines]
        else:
            self._reaches = [self._start(name) for name in ("host", "guest", "peer")]
            lines = [f"{r.port} {r.key} {r.host_key}" for r in self._reaches]
            (self._folder / REACHES).write_text("\n".join(lines))

    def _start(self, name: str) -> PlannedReach:
        from loopback_sshd import running_sshd

        folder = self._folder / name
        folder.mkdir(parents=True)
        sshd = self._stack.enter_context(running_sshd(folder))
        key = folder / "key"
        key.write_text(sshd.host.private_key)
        return _reach(str(sshd.port), str(key), sshd.host.host_key)

    def plan(self, name: str = "small") -> Plan:
        """Three hosts as the paper has them, each an sshd of this machine."""
        plan = small_plan(name)
        pairs = zip(plan.hosts, self._reaches, strict=True)
        hosts = tuple(replace(h, provider="external", reach=reach) for h, reach in pairs)
        return replace(plan, hosts=hosts)

    def images(self, form: str, wanted: set[str]) -> Mapping[str, Image]:
        """Need none."""
        raise AssertionError(form, wanted)

    def unmakeable(self) -> Plan:
        """Return one of whose computers nobody answers."""
        from loopback_sshd import free_port

        plan = self.plan()
        silent = replace(self._reaches[2], port=free_port())
        return replace(plan, hosts=(*plan.hosts[:2], replace(plan.hosts[2], reach=silent)))

    def left(self) -> list[str]:
        """Nothing was made."""
        return []

    def close(self) -> None:
        """End the sshd that were started here."""
        self._stack.close()


def _reach(port: str, key: str, host_key: str) -> PlannedReach:
    return PlannedReach("127.0.0.1", int(port), getpass.getuser(), key, host_key)
