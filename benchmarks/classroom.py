"""What a class costs a machine, and what one student's worst does to the next one's ping.

    python -m benchmarks.classroom hold 2 300 600   labs of exercise 2, at most 300, within 600 s
    python -m benchmarks.classroom storms           medians of a neighbour's ping, before and during

Prints JSON. Labs are in a state folder of its own, and go at the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from commands import classroom
from commands.classes import Class
from lab import lifecycle
from lab.errors import LabError
from provisioning.sessions import Sessions
from teaching import exercise
from teaching.course import of_text
from teaching.roster import Student

if TYPE_CHECKING:
    from provisioning.transport import Session

EVE, BEN = Student("eve", "Eve"), Student("ben", "Ben")
ATTACK_S: Final = 12
PINGS: Final = ["ping", "-c", "250", "-i", "0.02", "-W", "1", "192.168.1.10"]
#: Each is bounded: by ATTACK_S, by what a host may have, and by the end of the lab after it.
ATTACKS: Final = {
    "fork bomb": "f() { f | f & }; f; sleep 12",
    "busy processes": "for i in $(seq 100); do timeout 12 sh -c 'while :; do :; done' & done; wait",
    "full disk": "for i in $(seq 40); do head -c 100000000 /dev/zero > /root/full; done; sleep 6",
    "traffic storm": "for i in 1 2 3 4; do ping -f -q -s 1400 -w 12 192.168.1.10 & done; wait",
}


def main(words: list[str]) -> None:
    """Measure, print, clean up."""
    with tempfile.TemporaryDirectory(prefix="imlab-classroom-") as folder:
        os.environ["IMLAB_STATE"] = str(Path(folder) / "state")
        course = Path(folder) / "course"
        course.mkdir(mode=0o700)
        if words[0] == "storms":
            klass = Class((EVE, BEN), exercise.find("3"), of_text("for measuring only"), course)
            result = storms(klass)
        else:
            number, most, seconds = words[1], int(words[2]), float(words[3])
            students = tuple(Student(f"s{n}", f"S {n}") for n in range(most))
            klass = Class(students, exercise.find(number), of_text("for measuring only"), course)
            result = hold(klass, seconds)
    print(json.dumps(result, indent=1))  # noqa: T201 - the script's output


def hold(klass: Class, seconds: float) -> dict[str, Any]:
    """Put up lab after lab while memory and time last."""
    since, after, why = time.monotonic(), list[float](), "as many as were asked for"
    before = classroom.available()
    costs: list[classroom.Seat] = []
    wanted = 0
    try:
        for student in klass.students:
            if len(after) % 10 == 1:
                costs = classroom.seats(klass)
                wanted = max(seat.memory or 0 for seat in costs)
            if classroom.available() < wanted:
                why = "no memory for one more"
                break
            if time.monotonic() - since > seconds:
                why = f"{seconds:g} s were over"
                break
            classroom.bring_up(klass, student)
            after.append(time.monotonic() - since)
        costs = classroom.seats(klass)
        taken = before - classroom.available()
        answering = sum(_answers(seat.lab) for seat in costs[:: max(len(costs) // 20, 1)])
        asked = len(costs[:: max(len(costs) // 20, 1)])
    finally:
        classroom.down_all(klass, [], keep=False)
    memory = sorted((seat.memory or 0) >> 20 for seat in costs)
    return {
        "exercise": klass.exercise.name,
        "labs": len(after),
        "ended": why,
        "seconds to the": {
            str(n): round(after[n - 1], 1) for n in (1, 10, 50, 100, 200) if n <= len(after)
        }
        | {"last": round(after[-1], 1)},
        "MiB a lab by its group": {"median": statistics.median(memory), "most": memory[-1]},
        "MiB a lab of the machine": round(taken / len(after) / (1 << 20), 1),
        "processes a lab": statistics.median(seat.processes or 0 for seat in costs),
        "of a sample, answering": f"{answering} of {asked}",
    }  # fmt: skip


def _answers(name: str) -> bool:
    with contextlib.suppress(LabError), Sessions(lifecycle.attach(name), ["peer"]) as at:
        return at["peer"].run(["ping", "-c", "1", "192.168.1.10"], check=False).exit_code == 0
    return False


def storms(klass: Class) -> dict[str, Any]:
    """Return the median of a neighbour's ping in ms: at rest, and during each attack."""
    result: dict[str, Any] = {}
    classroom.bring_up(klass, BEN)
    try:
        with Sessions(lifecycle.attach("3-ben"), ["peer"]) as neighbour:
            for name, attack in ATTACKS.items():
                classroom.bring_up(klass, EVE)
                with Sessions(lifecycle.attach("3-eve"), ["guest", "peer"]) as evil:
                    where = evil["peer" if name == "traffic storm" else "guest"]
                    result[name] = _beside(where, attack, neighbour["peer"])
                lifecycle.down("3-eve")
    finally:
        classroom.down_all(klass, [], keep=False)
    return result


def _beside(where: Session, attack: str, neighbour: Session) -> dict[str, Any]:
    def work() -> None:
        with contextlib.suppress(LabError):
            where.run(["/bin/sh", "-c", attack], check=False, deadline=ATTACK_S + 10)

    before, sent = _ping(neighbour), _sent(where)
    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(2)  # the attack shall be in full swing: what is measured is its middle
    during = _ping(neighbour)
    processes = next(seat.processes for seat in classroom.seats() if seat.student == EVE.id)
    thread.join()
    return {
        "attacker": {"processes": processes, "packets sent": _sent(where) - sent},
        "before_ms": before,
        "during_ms": during,
        "times": round(during["median"] / before["median"], 2),
    }


def _sent(where: Session) -> int:
    with contextlib.suppress(LabError):  # a host that is full of processes starts no more
        return int(where.get("/sys/class/net/eth0/statistics/tx_packets"))
    return 0


def _ping(at: Session) -> dict[str, float]:
    said = at.run(PINGS, check=False, deadline=60).stdout.decode()
    times = [float(found) for found in re.findall(r"time=([0-9.]+) ms", said)]
    return {
        "median": statistics.median(times),
        "p95": sorted(times)[int(len(times) * 0.95)],
        "replies": len(times),
    }


if __name__ == "__main__":
    main(sys.argv[1:])
