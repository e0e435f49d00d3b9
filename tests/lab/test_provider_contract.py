"""What every provider must do, whatever it makes hosts of: the same tests for each that there is.

A provider that is new in lab/providers/ is tested by being there.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import benches
import pytest
from real_labs import PROJECT

from lab import lifecycle, providers
from lab.errors import Fault, LabError
from lab.ledger import LEDGER, Ledger
from lab.lifecycle import State
from lab.making import make, unmake
from lab.providers.base import Order

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from lab.lifecycle import Lab

pytestmark = pytest.mark.lab

#: Puts a lab up in a process of its own, which says how far it is: argv is ROOT PROVIDER SSH, SSH
#: "ssh" or "blank" as in Bench.up.
UP = (
    "import sys; from pathlib import Path; sys.path[:0] = sys.argv[4:]\n"
    "import benches\n"
    "from lab import lifecycle\n"
    "from lab.making import make\n"
    "from lab.providers.base import Order\n"
    "root = Path(sys.argv[1])\n"
    "setup = benches.get(sys.argv[2], root.parent)\n"
    "plan, note = setup.plan(), lambda text, *_: print(text, flush=True)\n"
    "if sys.argv[3] == 'blank' and setup.blank:\n"
    "    make(plan, setup.blank, Order(root, plan, (), {}, {}, {}, note=note), ('', ''))\n"
    "else:\n"
    "    lifecycle.up(plan, setup.images, root=root, note=note)\n"
)


class Bench:
    """One provider under test, with a state folder of its own."""

    def __init__(self, provider: str, root: Path) -> None:
        self.provider, self.root = provider, root
        self.maker = providers.get(provider)
        self.setup = benches.get(provider, root.parent)

    def up(self, name: str = "small", *, ssh: bool = False) -> Lab:
        """Put a lab up; where booting takes long, hosts have nothing to boot, unless for `ssh`."""
        plan, blank = self.setup.plan(name), self.setup.blank
        if blank and not ssh and self.state(name) is State.ABSENT:
            make(plan, blank, Order(self.root, plan, (), {}, {}, {}), ("", ""))
            return lifecycle.attach(name, self.root)
        lab, new = lifecycle.up(plan, self.setup.images, root=self.root)
        assert new
        return lab

    def answers(self, lab: Lab, host: str) -> bool:
        """Tell whether a host lives; its sshd answers, too, where that needs no waiting."""
        if self.setup.blank:
            return self.maker.observe(lab.ledger)[host] is None
        return banner(lab, host) == b"SSH-"

    def state(self, name: str = "small") -> State:
        """Return a lab's state, with an eye on its provider."""
        return lifecycle.status(name, self.root).state

    def on_record(self) -> list[str]:
        """Return the labs that are on record, or half on it."""
        return [path.name for path in (self.root / "labs").glob("*") if path.name != ".lock"]

    def left(self) -> list[str]:
        """Return what is on record and what else there is of any lab."""
        return [*self.on_record(), *self.setup.left()]


@pytest.fixture(
    params=[pytest.param(name, marks=getattr(pytest.mark, name)) for name in providers.names()]
)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    """Give each provider in turn; whatever a test leaves up goes down."""
    bench = Bench(request.param, tmp_path / "state")
    yield bench
    for ledger in Ledger.all_labs(bench.root):
        if ledger.read().get("format", 1) == 1:
            lifecycle.down(ledger.name, bench.root)
    bench.setup.close()


def banner(lab: Lab, host: str) -> bytes:
    """Return the first bytes of what answers on a host's port 22."""
    with lab.dial(host)(22) as connection:
        connection.settimeout(5)
        return connection.recv(4)


def fails_saying(text: str) -> AbstractContextManager[object]:
    """Expect a LabError with that in it."""
    return pytest.raises(LabError, match=text)


def test_a_provider_says_its_own_name(bench: Bench) -> None:
    """It is what the ledger keeps, and by which it is found again."""
    assert bench.maker.name == bench.provider


def test_all_hosts_of_a_new_lab_live_and_can_be_dialled(bench: Bench) -> None:
    """Observe names every host of the plan and no other, and every sshd answers."""
    lab = bench.up(ssh=True)
    assert bench.maker.observe(lab.ledger) == dict.fromkeys(lab.hosts)
    assert [banner(lab, host) for host in lab.hosts] == [b"SSH-"] * 3
    assert bench.state() is State.CREATED


def test_a_name_that_is_taken_is_refused_and_its_lab_unharmed(bench: Bench) -> None:
    """Whoever comes second gets FileExistsError; the first lab does not notice."""
    lab = bench.up()
    with fails_saying("another lab-up"):
        make(lab.plan, bench.setup.images, Order(bench.root, lab.plan, (), {}, {}, {}), ("", ""))
    assert bench.answers(lab, "guest")
    assert lifecycle.attach("small", bench.root).hosts == lab.hosts


def test_names_that_begin_alike_are_different_labs(bench: Bench) -> None:
    """Taking one down leaves the others, whose hosts have the same names and addresses."""
    labs = {name: bench.up(name) for name in ("a", "a-1", "a1")}
    assert lifecycle.down("a", bench.root)
    assert all(bench.answers(labs[name], "peer") for name in ("a-1", "a1"))
    assert sorted(bench.on_record()) == ["a-1", "a1"]


def test_destroy_leaves_nothing_and_can_be_repeated(bench: Bench) -> None:
    """The second time there is nothing to do, and it says so by doing nothing."""
    lab = bench.up()
    unmake(lab.ledger)
    assert bench.left() == []
    assert bench.state() is State.ABSENT
    unmake(lab.ledger)
    bench.maker.destroy(lab.ledger, 10.0)
    assert not lifecycle.down("small", bench.root)


def test_destroy_spares_a_later_lab_of_the_same_name(bench: Bench) -> None:
    """Who holds on to the ledger of a lab that has gone does not reach the next one."""
    first = bench.up()
    lifecycle.down("small", bench.root)
    second = bench.up()
    unmake(first.ledger)
    with pytest.raises(LabError):
        first.ledger.update(state="ready")
    assert bench.state() is State.CREATED
    assert bench.answers(second, "host")


def test_destroy_needs_no_record(bench: Bench) -> None:
    """Of a lab whose record was cut short (a full disk, a power cut) all goes nevertheless."""
    bench.up()
    for broken in (b"", b'{"format": 1, "pl', b"[]", b"\xff\xfe"):
        (bench.root / "labs" / "small" / LEDGER).write_bytes(broken)
        assert lifecycle.status("small", bench.root).name == "small"
        assert lifecycle.down("small", bench.root)
        assert bench.left() == []
        bench.up()


def test_a_record_of_a_later_version_is_left_alone(bench: Bench) -> None:
    """Neither up nor down touches what this version cannot know."""
    lab = bench.up()
    path = bench.root / "labs" / "small" / LEDGER
    sound = path.read_bytes()
    path.write_text(json.dumps({**json.loads(sound), "format": 2, "plan": "another"}))
    assert bench.state() is State.FOREIGN
    for verb in (
        lambda: lifecycle.down("small", bench.root),
        bench.up,
        lambda: lifecycle.attach("small", bench.root),
    ):
        with fails_saying("later version"):
            verb()
    path.write_bytes(sound)
    assert bench.answers(lab, "peer")


def test_a_folder_that_is_no_lab_is_not_touched(bench: Bench) -> None:
    """What lies in the state folder and was not made by imlab stays there."""
    stranger = bench.root / "labs" / "small"
    stranger.mkdir(parents=True)
    (stranger / "letters").write_text("mine")
    assert bench.state() is State.ABSENT
    assert not lifecycle.down("small", bench.root)
    with pytest.raises(LabError):
        bench.up()
    assert (stranger / "letters").read_text() == "mine"


def test_what_cannot_be_dialled_is_said(bench: Bench) -> None:
    """A host that is not there and a lab that has gone are LabErrors, a closed port is OSError."""
    lab = bench.up()
    with fails_saying("nobody"):
        lab.dial("nobody")(22)
    with pytest.raises(OSError, match="refused"):
        lab.dial("peer")(9)
    lifecycle.down("small", bench.root)
    with pytest.raises(LabError) as caught:
        bench.maker.dial(lab.ledger, "peer")(22)
    assert caught.value.fault is Fault.GUEST


def test_a_dialled_connection_is_a_host_of_its_own(bench: Bench) -> None:
    """Each connection ends in the host that was named, and is a plain TCP socket."""
    lab = bench.up()
    with lab.dial("peer")(22) as connection:
        assert connection.type & socket.SOCK_STREAM
        assert connection.getpeername()[0] == "127.0.0.1"


def test_what_cannot_be_made_leaves_nothing(bench: Bench) -> None:
    """A lab is made whole or not at all."""
    with pytest.raises(LabError):
        lifecycle.up(bench.setup.unmakeable(), bench.setup.images, root=bench.root)
    assert bench.left() == []


@pytest.mark.parametrize("step", ["making hosts and wires", "waiting for SSH"])
def test_a_lab_whose_maker_was_killed_goes_down_and_up(bench: Bench, step: str) -> None:
    """kill -9 half-way: what is left is nothing, or a lab that goes down; then all is as new."""
    maker = subprocess.Popen(
        [sys.executable, "-c", UP, str(bench.root), bench.provider, "ssh", str(PROJECT),
         str(PROJECT / "tests")],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert maker.stdout
    assert any(step in line for line in maker.stdout)
    os.kill(maker.pid, signal.SIGKILL)
    maker.wait()
    maker.stdout.close()
    end = time.monotonic() + 10
    while bench.state() is State.CREATING:
        assert time.monotonic() < end
        time.sleep(0.01)
    lifecycle.down("small", bench.root)
    assert bench.left() == []
    assert bench.answers(bench.up(), "guest")


def test_two_at_once_make_one_lab(bench: Bench) -> None:
    """Of several lab-ups of one name at once one makes it; nobody else's fails in another way."""
    command = [sys.executable, "-c", UP, str(bench.root), bench.provider, "blank", str(PROJECT),
               str(PROJECT / "tests")]  # fmt: skip
    makers = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    said = [maker.communicate(timeout=300)[1] for maker in makers]
    losers = [text for maker, text in zip(makers, said, strict=True) if maker.returncode]
    assert len(losers) < 4
    assert all("another lab-up is making it" in text for text in losers), losers
    assert bench.answers(lifecycle.attach("small", bench.root), "host")


def test_an_unknown_provider_is_told_what_there_is() -> None:
    """The table of providers is the package's folder."""
    with fails_saying("netns"):
        providers.get("nonesuch")
