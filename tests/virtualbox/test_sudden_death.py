"""Killed at any moment, a lab can be taken away, and VirtualBox's lists are what they were."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from real_labs import PROJECT

from lab.errors import LabError
from lab.ledger import Ledger
from lab.making import unmake

if TYPE_CHECKING:
    from pathlib import Path

    from virtualbox_labs import Box, Labs

pytestmark = [pytest.mark.lab, pytest.mark.virtualbox, pytest.mark.slow]

#: Puts a lab up or takes it down in a process of its own: argv is VERB ROOT BASE.
WORK = (
    "import sys; from pathlib import Path; sys.path[:0] = sys.argv[4:]\n"
    "from virtualbox_labs import Box, Labs\n"
    "from lab.ledger import Ledger\n"
    "from lab.making import unmake\n"
    "verb, root, base = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])\n"
    "box = Box(None, base.parent, base)\n"
    "print('begun', flush=True)\n"
    "if verb == 'up': Labs(box, root).make(box.plan())\n"
    "else: unmake(Ledger.find(root, 'small'))\n"
)
TESTS = PROJECT / "tests"


def work(box: Box, verb: str, root: Path) -> subprocess.Popen[str]:
    """Begin; return when its imports are done."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORK, verb, str(root), str(box.base),
         str(PROJECT), str(TESTS), str(TESTS / "virtualbox")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout
    assert process.stdout.readline() == "begun\n", process.communicate()
    return process


def kill(process: subprocess.Popen[str], after: float) -> bool:
    """Kill it then; tell whether it had not ended by itself, which is to be with success."""
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    said = process.communicate()
    assert process.returncode in {0, -signal.SIGKILL}, said[1]
    return process.returncode != 0


def take_away(root: Path) -> None:
    """Take down what there is, as lab-down does."""
    for ledger in Ledger.all_labs(root):
        unmake(ledger)
    assert Ledger.all_labs(root) == []


@pytest.fixture(scope="module")
def usual(box: Box, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Return how many seconds `up` and `down` take when nobody kills them."""
    root, took = tmp_path_factory.mktemp("usual") / "state", {}
    for verb in ("up", "down"):
        process = work(box, verb, root)
        began = time.monotonic()
        said = process.communicate()
        assert process.returncode == 0, said
        took[verb] = time.monotonic() - began
    return took


@pytest.mark.parametrize("seed", range(5))
def test_kills_at_random_moments_leave_nothing(
    box: Box, labs: Labs, usual: dict[str, float], seed: int
) -> None:
    """Of `up` and of `down`, three each: whatever was going on inside VirtualBox goes, too."""
    before, dice = box.lists(), random.Random(seed)
    kills = {"up": 0, "down": 0}
    for _ in range(30):
        for verb in kills:
            if verb == "up" or Ledger.all_labs(labs.root):
                # Late ones let a whole lab come to be, which `down` then has to do with.
                after = dice.uniform(0.0, 1.2 * usual[verb])
                kills[verb] += kill(work(box, verb, labs.root), after)
        take_away(labs.root)
        assert box.lists() == before
        assert list((labs.root / "labs").glob("[!.]*")) == []
        if min(kills.values()) >= 3:
            break
    assert min(kills.values()) >= 3, kills


@pytest.mark.parametrize("calls", [1, 2, 9, 18, 23, 30, 41, 47, 58, 64, 71, 75, 79, 83, 87, 92, 96])
def test_an_agent_that_dies_between_two_calls_leaves_nothing(
    box: Box, labs: Labs, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    """The error says so; once agents live again, all that was made goes."""
    before = box.lists()
    with monkeypatch.context() as patch:
        patch.setenv("IMLAB_VBOX_DIE_AFTER", str(calls))
        with pytest.raises(LabError, match="ended"):
            labs.make(box.plan(hosts=1))
    take_away(labs.root)
    assert box.lists() == before


def test_what_is_taken_down_while_it_is_made_is_gone_in_the_end(box: Box, labs: Labs) -> None:
    """A lab-up that was killed has an agent left for a moment: lab-down waits for it."""
    before = box.lists()
    maker = work(box, "up", labs.root)
    end = time.monotonic() + 60
    while not list(labs.root.glob("labs/small/virtualbox/m1/*.vbox")):
        assert time.monotonic() < end
        time.sleep(0.001)
    os.kill(maker.pid, signal.SIGKILL)
    take_away(labs.root)
    maker.communicate()
    assert box.lists() == before


@pytest.mark.parametrize("calls", [3, 20, 45, 70, 95])
def test_an_agent_that_dies_while_it_removes_can_be_followed_by_another(
    box: Box, labs: Labs, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    """The error says so, the record stays, and the next one does the rest."""
    before = box.lists()
    ledger = labs.make(box.plan(hosts=1))
    with monkeypatch.context() as patch:
        patch.setenv("IMLAB_VBOX_DIE_AFTER", str(calls))
        with pytest.raises(LabError, match="ended"):
            unmake(ledger)
    take_away(labs.root)
    assert box.lists() == before
