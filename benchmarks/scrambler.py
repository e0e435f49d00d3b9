"""What the scrambler costs: throughput and latency beside plain TCP between the same two hosts.

The same programs on the same hosts use the same port; nftables leads it through the scramblers or
does not. Two computers do not share a processor, but the hosts of a small machine do: measured
once with a processor a host, as two computers have, and once as the scheduler likes. In the
second case a plain message often wakes its receiver on the processor that it was sent from, which
is quicker than any wire is.
"""

from __future__ import annotations

import json
import os
import statistics
from typing import TYPE_CHECKING, Any

from benchmarks.rows import Row
from benchmarks.suite import images, state_folder, turns
from lab import lifecycle
from lab.planning import make_plan
from lab.spec import star
from provisioning.probing import wait_until
from provisioning.roles import scrambler
from provisioning.roles.scrambler.ends import shim
from provisioning.roles.scrambler.rules import TABLE, rules
from provisioning.sessions import Sessions

if TYPE_CHECKING:
    from provisioning.transport import Session

IMAGE, PORT = "debian-lamp", 7007
MEGABYTES, ROUNDS, CONNECTIONS = 256, 3000, 30
SERVER = f"""
import socket
listener = socket.create_server(("0.0.0.0", {PORT}), backlog=64)
while True:
    sock, _ = listener.accept()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    echo, total, buffer = sock.recv(1) == b"e", 0, bytearray(1 << 18)
    try:
        while size := sock.recv_into(buffer, 4096 if echo else 0):
            total += size
            if echo:
                sock.sendall(memoryview(buffer)[:size])
        if not echo:
            sock.sendall(b"%d" % total)
    except OSError:
        pass
    sock.close()
"""
CLIENT = f"""
import json, socket, statistics, sys, time
def opened(kind):
    sock = socket.create_connection((sys.argv[1], {PORT}), 30)
    sock.settimeout(None)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(kind)
    return sock
def trip(sock, message):
    before = time.perf_counter()
    sock.sendall(message)
    got = 0
    while got < len(message):
        got += len(sock.recv(4096))
    return time.perf_counter() - before
setups = []
for _ in range({CONNECTIONS}):
    before = time.perf_counter()
    sock = opened(b"e")
    trip(sock, b"x")
    setups.append(time.perf_counter() - before)
    sock.close()
sock = opened(b"e")
trips = sorted(trip(sock, b"x" * 64) for _ in range({ROUNDS}))
sock.close()
sock, chunk = opened(b"t"), bytes(1 << 18)
before = time.perf_counter()
for _ in range({MEGABYTES} << 2):
    sock.sendall(chunk)
sock.shutdown(socket.SHUT_WR)
assert int(sock.recv(100)) == {MEGABYTES} << 20
took = time.perf_counter() - before
print(json.dumps({{"setup": statistics.median(setups), "trip": statistics.median(trips),
    "late": trips[len(trips) * 95 // 100], "rate": ({MEGABYTES} << 20) / took}}))
"""
CPU = 'cpu=$1; shift; exec taskset -c $cpu "$@"'


def measure(runs: int) -> list[Row]:
    """Measure on two hosts; the rows of both ways to share the processors."""
    images("rootfs", {IMAGE})
    processors = sorted(os.sched_getaffinity(0))
    everything = ",".join(map(str, processors))
    rows: list[Row] = []
    with state_folder() as root:
        plan = make_plan(star(2, name="scrambler", image=IMAGE, disk=256))
        lab, _ = lifecycle.up(plan, images, root=root)
        with Sessions(lab) as sessions:
            user, service = sessions["h1"], sessions["h2"]
            for session in (user, service):
                scrambler.set_up(session, [PORT], "as good as any")
            address = plan.address("h2")
            if len(processors) > 1:
                cpus = (str(processors[0]), str(processors[1]))
                rows += _rows(user, service, address, cpus, runs, "a processor a host")
            cpus = (everything, everything)
            rows += _rows(user, service, address, cpus, runs, "shared processors")
    return rows


def _rows(  # noqa: PLR0913, PLR0917 - what is measured, where and how often
    user: Session, service: Session, address: str, cpus: tuple[str, str], runs: int, how: str
) -> list[Row]:
    for session, cpu in zip((user, service), cpus, strict=True):
        session.run(["/bin/sh", "-c", f"taskset -acp {cpu} $(cat {shim.PID})"])

    def once(*, sealed: bool) -> dict[str, float]:
        for session in (user, service):
            text = rules([PORT]) if sealed else f"delete table inet {TABLE}\n"
            session.run(["nft", "-f", "-"], stdin=text.encode())
        argv = ["/usr/bin/python3", "-c", CLIENT, address]
        result = user.run(["/bin/sh", "-c", CPU, "sh", cpus[0], *argv], deadline=120.0)
        figures: dict[str, float] = json.loads(result.stdout)
        return figures

    argv = ["/usr/bin/python3", "-c", SERVER]
    with service.stream(["/bin/sh", "-c", CPU, "sh", cpus[1], *argv]) as server:
        _wait(service)
        pairs = turns(runs, lambda: once(sealed=True), lambda: once(sealed=False))
        service.run(["pkill", "-f", f"create_server.*{PORT}"])  # on the host, its own processes
        server.wait(10.0)
        for session in (user, service):
            session.run(["nft", "-f", "-"], stdin=rules([PORT]).encode())

    def row(what: str, key: str, factor: float, unit: str, aim: str = "") -> Row:
        ours, plain = (float(statistics.median(pair[n][key] for pair in pairs)) for n in (0, 1))
        return Row(f"{what}, {how}", ours * factor, "plain", plain * factor, unit, runs, aim)

    return [
        row("scrambled: throughput", "rate", 1e-6, "MB/s", "ratio ≥ 0.33"),
        row("scrambled: 64 bytes there and back", "trip", 1e6, "µs", "ratio ≤ 3"),
        row("scrambled: the same, 95th percentile", "late", 1e6, "µs"),
        row("scrambled: new connection to first answer", "setup", 1e3, "ms"),
    ]


def _wait(service: Session) -> None:
    """Return when the server listens."""

    def why_not() -> str:
        script = f"grep -qE '^ *[0-9]+: [0-9A-F]+:{PORT:04X} [0-9A-F:]+ 0A' /proc/net/tcp"
        listens: Any = service.run(["/bin/sh", "-c", script], check=False).exit_code == 0
        return "" if listens else f"nothing listens at {PORT}"

    wait_until(service, "the server", why_not, 10.0, "see whether Python is there")


BENCHMARKS = {"scrambler": measure}
