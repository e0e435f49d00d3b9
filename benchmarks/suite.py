"""What `./inv bench` measures: every figure beside a peer or a floor of the same run.

Runs of ours and of theirs take turns (A B A B …), so that a machine whose speed drifts treats
both alike; medians are shown, and the ratio of medians. Nothing here passes or fails.
"""

from __future__ import annotations

import http.client
import importlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import analysis
from benchmarks.rows import Row
from lab import lifecycle
from lab.errors import Fault, LabError
from lab.images import ensure_image
from lab.planning import make_plan
from lab.providers.base import Image
from lab.spec import star
from provisioning.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from lab.plan import Plan

PROJECT = Path(__file__).resolve().parent.parent
SIZES = (3, 30, 100)
MININET = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "/usr/bin/python3"]
COMMANDS = 200  # over one SSH session, for one figure


def run(only: str | None, runs: int, sizes: tuple[int, ...] = ()) -> list[Row]:
    """Run the benchmarks (or the one named) and return their rows. Raises LabError.

    sizes -- of the captures of `analysis`, in MB; without any it has its own.
    A file of this folder that exports BENCHMARKS is one more, and is run when it is named.
    """
    apart = [
        path.stem
        for path in Path(__file__).parent.glob("*.py")
        if "\nBENCHMARKS" in path.read_text()
    ]
    apart.remove("suite")
    table = dict(BENCHMARKS)
    if only in apart:
        table.update(importlib.import_module(f"benchmarks.{only}").BENCHMARKS)
    if only is not None and only not in table:
        raise LabError(
            f"choosing the benchmark {only!r}",
            f"there are: {', '.join([*BENCHMARKS, *sorted(apart)])}",
            fault=Fault.USER,
            todo="name one of these",
        )
    rows: list[Row] = []
    for name, measure in table.items():
        if only in {None, name}:
            print(f"  measuring {name}", file=sys.stderr, flush=True)  # noqa: T201 - progress
            rows += analysis.run(runs, sizes) if sizes and name == "analysis" else measure(runs)
    return rows


def bare(hosts: int) -> Plan:
    """Return `hosts` bare hosts on one switch."""
    return make_plan(star(hosts, name=f"bench{hosts}", image="debian-base", disk=64))


def images(_form: str, wanted: set[str]) -> Mapping[str, Image]:
    """Return base images, building what is missing."""
    refs = {name: ensure_image(name) for name in wanted}
    return {n: Image(ref.name, ref.key, ref.rootfs, ref.lock) for n, ref in refs.items()}


@contextmanager
def state_folder() -> Iterator[Path]:
    """Give a state folder of its own, and take down every lab in it at the end."""
    folder = Path(tempfile.mkdtemp(prefix="imlab-bench-"))
    try:
        yield folder
    finally:
        for status in lifecycle.all_status(folder):
            lifecycle.down(status.name, folder)
        shutil.rmtree(folder, ignore_errors=True)


def _timed(work: Callable[[], object]) -> float:
    since = time.monotonic()
    work()
    return time.monotonic() - since


def turns(runs: int, ours: Callable[[], Any], theirs: Callable[[], Any]) -> list[tuple[Any, Any]]:
    """Return pairs of results, after one uncounted pair."""
    return [(ours(), theirs()) for _ in range(runs + 1)][1:]


def hosts(runs: int) -> list[Row]:
    """Hosts wired and up, and their sshd answering, beside Mininet's hosts; and their memory."""
    images("rootfs", {"debian-base"})
    rows: list[Row] = []
    for size in SIZES:
        pairs = turns(runs, lambda n=size: _our_hosts(n), lambda n=size: _mininet(n))  # type: ignore[misc] # bound now

        def middle(which: int, key: str, of: list[tuple[Any, Any]] = pairs) -> float:
            return float(statistics.median(pair[which][key] for pair in of))

        peer = "Mininet start (no sshd)"
        rows += [
            Row(
                f"{size} hosts wired and up",
                middle(0, "create") * 1e3,
                peer,
                middle(1, "start_s") * 1e3,
                "ms",
                runs,
                "ratio < 1",
            ),
            Row(
                f"{size} hosts, every sshd answering",
                middle(0, "ssh") * 1e3,
                peer,
                middle(1, "start_s") * 1e3,
                "ms",
                runs,
                "≤ 500 ms at 3" if size == SIZES[0] else "",
            ),
            Row(
                f"{size} hosts down",
                middle(0, "down") * 1e3,
                "Mininet stop",
                middle(1, "stop_s") * 1e3,
                "ms",
                runs,
            ),
            Row(
                f"memory a host, {size} hosts",
                middle(0, "pss") / 1024,
                "Mininet's shell a host",
                middle(1, "pss_kib_per_host") / 1024,
                "MiB",
                runs,
            ),
        ]
    return rows


def _our_hosts(size: int) -> dict[str, float]:
    """Put hosts up and down once: seconds to created, to all sshd, and down; PSS KiB a host."""
    marks: dict[str, float] = {}
    with state_folder() as root:
        plan = bare(size)
        since = time.monotonic()
        lab, _ = lifecycle.up(
            plan,
            images,
            root=root,
            note=lambda text: marks.update({text: time.monotonic() - since}),
        )
        ssh = time.monotonic() - since
        memory = _pss_kib(int(lab.ledger.read()["keeper"])) / size
        down = _timed(lambda: lifecycle.down(lab.name, root))
    return {"create": marks["waiting for SSH"], "ssh": ssh, "down": down, "pss": memory}


def _mininet(size: int) -> dict[str, float]:
    script = str(PROJECT / "benchmarks" / "mininet_start.py")
    done = subprocess.run(
        [*MININET, script, str(size)], capture_output=True, text=True, check=False, timeout=300
    )
    if done.returncode or not done.stdout.strip():
        raise LabError(
            f"starting {size} hosts with Mininet, to compare with",
            done.stderr,
            fault=Fault.MACHINE,
            todo="it needs root and the packages mininet and bridge-utils: ./inv --yes bench",
        )
    figures: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def _pss_kib(pid: int) -> int:
    """Return the proportional memory of a process and all its descendants (proc(5))."""
    total, pending = 0, [pid]
    while pending:
        current = pending.pop()
        try:
            rollup = Path(f"/proc/{current}/smaps_rollup").read_text()
            children = Path(f"/proc/{current}/task/{current}/children").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(row.split()[1]) for row in rollup.splitlines() if row.startswith("Pss:"))
        pending += [int(child) for child in children.split()]
    return total


def command(runs: int) -> list[Row]:
    """Time a command over an open SSH session, beside starting the same program here."""
    images("rootfs", {"debian-base"})
    with state_folder() as root:
        lab, _ = lifecycle.up(bare(1), images, root=root)
        with Sessions(lab) as sessions:
            session = sessions["h1"]

            def over_ssh() -> float:
                return _timed(lambda: [session.run(["true"]) for _ in range(COMMANDS)])

            def here() -> float:
                return _timed(
                    lambda: [subprocess.run(["true"], check=True) for _ in range(COMMANDS)]
                )

            pairs = turns(runs, over_ssh, here)
    ours, floor = (statistics.median(pair[n] for pair in pairs) for n in (0, 1))
    return [
        Row(
            "a command over SSH",
            ours / COMMANDS * 1e3,
            "the same program started here",
            floor / COMMANDS * 1e3,
            "ms",
            runs * COMMANDS,
            "≤ 5 ms",
        )
    ]


def start(runs: int) -> list[Row]:
    """Time three bare hosts from process start to SSH, beside doing nothing at all."""
    images("rootfs", {"debian-base"})
    inv = str(PROJECT / "inv")
    with state_folder() as root:
        spec = root / "three.yaml"
        root.mkdir(exist_ok=True)
        spec.write_text(THREE)
        environment = {**os.environ, "IMLAB_STATE": str(root)}

        def ours() -> float:
            argv = [inv, "lab-up", "--json", "--spec", str(spec)]
            took = _timed(
                lambda: subprocess.run(argv, env=environment, check=True, capture_output=True)
            )
            lifecycle.down("three", root)
            return took

        def theirs() -> float:
            return _timed(
                lambda: subprocess.run([inv, "--version"], check=True, capture_output=True)
            )

        pairs = turns(runs, ours, theirs)
    whole, floor = (statistics.median(pair[n] for pair in pairs) for n in (0, 1))
    return [
        Row(
            "./inv lab-up, three bare hosts, process start to every sshd answering",
            whole * 1e3,
            "./inv --version",
            floor * 1e3,
            "ms",
            runs,
            "≤ 500 ms",
        )
    ]


THREE = """\
imlab: 1
name: three
networks: {lan: {subnet: 192.168.1.0/24}}
hosts:
  host: {adapters: {eth0: {network: lan, address: 192.168.1.30}}}
  guest: {on: host, adapters: {eth0: {bridged: eth0, address: 192.168.1.10}}}
  peer: {adapters: {eth0: {network: lan, address: 192.168.1.20}}}
"""


def chat(runs: int) -> list[Row]:
    """From process start to the provisioned chat answering, beside its parts started by hand."""
    with state_folder() as root:
        environment = {"IMLAB_STATE": str(root)}
        pairs = turns(runs, lambda: _chat_up(environment), lambda: _parts(root))
    ours, parts = (statistics.median(pair[n] for pair in pairs) for n in (0, 1))
    return [
        Row(
            "./inv lab-up, process start to chat answering",
            ours * 1e3,
            "hosts, MariaDB, Apache by hand",
            parts * 1e3,
            "ms",
            runs,
            "≤ 800 ms",
        )
    ]


def _chat_up(environment: dict[str, str]) -> float:
    """Time `./inv lab-up --json` from its start to a page from guest and peer; then down."""
    since = time.monotonic()
    subprocess.run(
        [str(PROJECT / "inv"), "lab-up", "--json"],
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
    )
    root = Path(environment["IMLAB_STATE"])
    lab = lifecycle.attach("paper", root)
    for host in ("guest", "peer"):
        _page(lab, host, "/client/Home.php")
    took = time.monotonic() - since
    lifecycle.down("paper", root)
    return took


def _parts(root: Path) -> float:
    """Sum up what cannot be avoided: the hosts, then MariaDB and Apache on one, started bare."""
    from commands.labs import plan_of, spec_path  # noqa: PLC0415 - the spec is read before the clock

    plan = plan_of(spec_path("paper"))
    have = images("rootfs", {host.image for host in plan.hosts})
    since = time.monotonic()
    lab, _ = lifecycle.up(plan, lambda _form, _wanted: have, root=root)
    made = time.monotonic() - since
    with Sessions(lab, ["guest"]) as sessions:
        guest = sessions["guest"]
        since = time.monotonic()
        guest.run(["/bin/sh", "-c", _BY_HAND])
        _page(lab, "guest", "/")
        served = time.monotonic() - since
    lifecycle.down(lab.name, root)
    return made + served


_BY_HAND = (
    "install -d -o mysql /run/mysqld; install -d /run/apache2 /run/lock/apache2;"
    "setsid mariadbd --user=mysql --skip-networking >/dev/null 2>&1 </dev/null &"
    "until mariadb-admin ping >/dev/null 2>&1; do sleep 0.005; done;"
    "apachectl start >/dev/null 2>&1"
)


def _page(lab: lifecycle.Lab, host: str, path: str, deadline: float = 20.0) -> None:
    """Fetch a page from a host's own loopback, again until it is there."""
    end = time.monotonic() + deadline
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", 80)
        try:
            connection.sock = lab.dial(host)(80)
            connection.request("GET", path)
            if connection.getresponse().status == http.HTTPStatus.OK:
                return
        except OSError:
            if time.monotonic() > end:
                raise
        finally:
            connection.close()
        time.sleep(0.002)


def reproduce(runs: int) -> list[Row]:
    """Time a whole run with a lab of its own, beside tshark decoding its three captures."""
    out = Path(tempfile.mkdtemp(prefix="imlab-bench-"))
    argv = [str(PROJECT / "inv"), "run", "paper", "--name", "bench", "--json", "--out", str(out)]

    def ours() -> float:
        return _timed(lambda: subprocess.run(argv, check=True, capture_output=True))

    def theirs() -> float:
        captures = sorted(out.glob("*/captures/*.pcapng"))[-3:]
        decode = ["tshark", "-V", "-r"]
        return _timed(
            lambda: [
                subprocess.run([*decode, str(capture)], check=True, capture_output=True)
                for capture in captures
            ]
        )

    try:
        pairs = turns(runs, ours, theirs)
    finally:
        shutil.rmtree(out, ignore_errors=True)
    whole, floor = (statistics.median(pair[n] for pair in pairs) for n in (0, 1))
    return [
        Row(
            "./inv run paper on a lab of its own",
            whole,
            "tshark -V over its captures",
            floor,
            "s",
            runs,
            "≤ 15 s",
        )
    ]


BENCHMARKS: dict[str, Callable[[int], list[Row]]] = {
    "hosts": hosts,
    "start": start,
    "command": command,
    "chat": chat,
    "reproduce": reproduce,
    "analysis": analysis.run,
}
