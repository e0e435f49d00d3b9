"""Kill lab-up at random moments and count what is left. Usage: kill_lab_up.py FOLDER KILLS.

This process is a child subreaper (prctl(2)): whatever a killed lab-up leaves behind becomes its
child, so 'no child' means 'no process is left', and nothing has to be found by name.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(PROJECT), str(PROJECT / "tests")]

from real_labs import images  # noqa: E402 - the path comes first

from lab import lifecycle  # noqa: E402 - as above

PR_SET_CHILD_SUBREAPER = 36
UP = (
    "import sys; sys.path[:0] = sys.argv[2:]\n"
    "from pathlib import Path\n"
    "from real_labs import images, small_plan\n"
    "from lab import lifecycle\n"
    "print('go', flush=True)\n"
    "lifecycle.up(small_plan(), images, root=Path(sys.argv[1]))\n"
    "print('up', flush=True)\n"
)


def main() -> None:
    """Kill, look, take down, look again."""
    root, kills = Path(sys.argv[1]) / "state", int(sys.argv[2])
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    images("rootfs", {"debian-base"})
    chance = random.Random(2016)
    span = _time_of_one(root)
    outcome = {"kills": 0, "before_commit": 0, "after_commit": 0, "left": [], "span_s": span}
    mounts, links = _mounts(), _links()
    for _ in range(kills):
        up = _start(root)
        time.sleep(chance.random() * span * 1.15)  # the random moment is what is tested
        up.send_signal(signal.SIGKILL)
        up.wait()
        outcome["kills"] += 1
        _settle(root)
        committed = lifecycle.status("small", root).state is not lifecycle.State.ABSENT
        outcome["after_commit" if committed else "before_commit"] += 1
        lifecycle.down("small", root)
        left = _left(root)
        left += ["mounts"] * (_mounts() != mounts) + ["links"] * (_links() != links)
        outcome["left"] += left
    print(json.dumps(outcome))


def _start(root: Path) -> subprocess.Popen[str]:
    up = subprocess.Popen(
        [sys.executable, "-c", UP, str(root), str(PROJECT), str(PROJECT / "tests")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert up.stdout
    up.stdout.readline()  # "go": the imports are done
    return up


def _time_of_one(root: Path) -> float:
    since = time.monotonic()
    up = _start(root)
    since = time.monotonic()
    assert up.stdout
    up.stdout.readline()
    span = time.monotonic() - since
    up.wait()
    lifecycle.down("small", root)
    _left(root)
    return span


def _settle(root: Path) -> None:
    """Wait until the lab is either committed or gone."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        _reap()
        state = lifecycle.status("small", root).state
        gone = state is lifecycle.State.ABSENT and not _children()
        if gone or state in {lifecycle.State.CREATED, lifecycle.State.DEGRADED}:
            return
        time.sleep(0.002)


def _left(root: Path) -> list[str]:
    """Return what is still there after a while: processes by command line, files by path."""
    end = time.monotonic() + 30
    while time.monotonic() < end and (_reap() or _children()):
        time.sleep(0.002)
    files = [str(p) for p in (root / "labs").rglob("*") if p.name != ".lock"]
    return [*(f"process {pid}" for pid in _children()), *files]


def _reap() -> bool:
    """Reap what has ended; True while children are left."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


def _mounts() -> str:
    return Path("/proc/self/mountinfo").read_text()


def _links() -> list[str]:
    return sorted(path.name for path in Path("/sys/class/net").iterdir())


if __name__ == "__main__":
    main()
