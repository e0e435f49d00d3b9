"""The exercises in real labs: what a student does there is what the grading takes for right."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import simulated
import yaml

from commands import classroom, playing
from commands.classes import Class
from lab import lifecycle
from lab.lifecycle import State
from provisioning.sessions import Sessions
from teaching import captures, exercise, gradebook
from teaching.roster import Student

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.lifecycle import Lab
    from provisioning.transport import Session
    from teaching.exercise import Assignment

pytestmark = [pytest.mark.lab, pytest.mark.slow]
AMINA, BEN = Student("amina", "Amina"), Student("ben", "Ben")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a state folder of the test's own."""
    monkeypatch.setenv("IMLAB_STATE", str(tmp_path / "state"))
    return tmp_path


def taught(folder: Path, number: str) -> Class:
    """Return a class of two."""
    course = folder / "course"
    course.mkdir(mode=0o700, exist_ok=True)
    return Class((AMINA, BEN), exercise.find(number), simulated.COURSE, course)


@contextmanager
def lab_of(klass: Class, student: Student) -> Iterator[tuple[Lab, Assignment]]:
    """Put a student's lab up for as long as the block lasts."""
    work = exercise.assign(klass.exercise, student, klass.course)
    try:
        yield classroom.bring_up(klass, student), work
    finally:
        lifecycle.down(work.plan.lab)


@contextmanager
def tcpdump(session: Session, target: Path) -> Iterator[None]:
    """Capture as the hand-out says, and fetch the file at the end of the block."""
    with session.stream(
        ["tcpdump", "--immediate-mode", "-U", "-i", "eth0", "-w", "/root/a.pcap"]
    ) as dump:
        said = b""
        while b"listening on" not in said:
            piece = dump.stderr.read1(1000)
            assert piece, said
            said += piece
        yield
        size, until = -1, time.monotonic() + 10
        while time.monotonic() < until:  # until no more packets come
            before, size = size, len(session.get("/root/a.pcap"))
            if size == before > 24:
                break
            time.sleep(0.3)
    target.write_bytes(session.get("/root/a.pcap"))


def shares(work: Assignment, path: Path) -> dict[str, tuple[float, str]]:
    """Return what each rule makes of a capture that is known to be of the student's lab."""
    needs = {rule.id: work.need(rule) for rule in work.exercise.rules}
    seen = captures.look(path, "a.pcap", [t for n in needs.values() for t in captures.texts_of(n)])
    own = frozenset(a.mac for host in work.plan.hosts for a in host.adapters)
    assert captures.whose(seen, own, {}).own
    return {name: captures.share(seen, need) for name, need in needs.items()}


def test_wiring_the_lab_by_hand(state: Path) -> None:
    """At first nobody answers; four commands later the host's capture has all three pings."""
    klass = taught(state, "1")
    with lab_of(klass, AMINA) as (lab, work), Sessions(lab) as at:
        ping = ["ping", "-c", "2", "-i", "0.2", "-W", "1", "-p", str(work.values["pattern"])]
        assert at["peer"].run([*ping, "192.168.1.10"], check=False).exit_code != 0
        for host, address in (("guest", "192.168.1.10/24"), ("peer", "192.168.1.20/24")):
            at[host].run(["ip", "link", "set", "eth0", "up"])
            at[host].run(["ip", "address", "add", address, "dev", "eth0"])
        assert at["peer"].run([*ping, "192.168.1.10"], check=False).exit_code != 0
        at["host"].run(["ip", "link", "set", "eth0", "master", "br-eth0"])
        with tcpdump(at["host"], state / "a.pcap"):
            said = at["peer"].run([*ping, "192.168.1.10"]).stdout
            at["peer"].run([*ping, "192.168.1.30"])
            at["guest"].run([*ping, "192.168.1.20"])
        assert b"ttl=128" in said
        neighbours = at["peer"].run(["ip", "neighbour"]).stdout.decode()
    assert str(work.right["guest_mac"]) in neighbours
    assert not [row for row in shares(work, state / "a.pcap").items() if row[1][0] < 1]


def test_reading_the_capture(state: Path) -> None:
    """A capture on the host's adapter has the handshake, the password and all messages."""
    klass = taught(state, "2")
    with lab_of(klass, AMINA) as (lab, work), Sessions(lab) as at:
        with tcpdump(at["host"], state / "a.pcap"):
            playing.play(klass, AMINA, lab, "talk", lambda _: None)
        hashes = (
            at["guest"]
            .run(["mariadb", "-N", "-e", "SELECT password_hash FROM imlab_chat.accounts"])
            .stdout.decode()
        )
    assert str(work.values["alice_password"]) not in hashes
    given = yaml.safe_dump(simulated.right_answers(work))
    (state / "in" / "amina").mkdir(parents=True)
    (state / "in" / "amina" / "answers.yaml").write_text(given)
    (state / "in" / "amina" / "host.pcap").write_bytes((state / "a.pcap").read_bytes())
    book = gradebook.grade_class(state / "in", klass.students, klass.exercise, klass.course)
    assert [grade.points for grade in book.grades] == [20, 0]
    assert not [row for row in shares(work, state / "a.pcap").items() if row[1][0] < 1]


def test_who_talks_with_whom(state: Path) -> None:
    """The sealed lines that cross the wire are as many, from whom to whom, as the answers say."""
    klass = taught(state, "3")
    with (
        lab_of(klass, AMINA) as (lab, work),
        Sessions(lab) as at,
        tcpdump(at["guest"], state / "a.pcap"),
    ):
        playing.play(klass, AMINA, lab, "talk", lambda _: None)
    assert not [row for row in shares(work, state / "a.pcap").items() if row[1][0] < 1]
    counted = private_messages(state / "a.pcap")
    v = {name: str(value) for name, value in work.values.items()}
    assert {to: len(sizes) for (by, to), sizes in counted.items() if by == v["alice"]} == {
        v["bob"]: int(v["alice_to_bob"]),
        v["carol"]: int(v["alice_to_carol"]),
    }
    assert len(counted[v["carol"], v["alice"]]) == int(work.right["other"])
    assert (v["bob"], v["carol"]) not in counted
    longest = max((max(sizes), by) for (by, _), sizes in counted.items())
    assert longest[1] == work.right["long"]


def private_messages(path: Path) -> dict[tuple[str, str], list[int]]:
    """Return the sizes of the PRIVMSG lines from clients to the server, by who and to whom."""
    from experiments.analysis import capture

    found: dict[tuple[str, str], list[int]] = {}
    with capture.read([path]) as reading:
        for stream in reading.followed():
            lines = stream.side(forward=True).decode().split("\r\n")
            nick = next((line.split()[1] for line in lines if line.startswith("NICK ")), "")
            for line in lines:
                if line.startswith("PRIVMSG "):
                    found.setdefault((nick, line.split()[1]), []).append(len(line))
    return found


def test_three_protections(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each protection leaves at the wire and the server what the answers say; a wrong key, none."""
    klass = taught(state, "4")
    with lab_of(klass, AMINA) as (lab, work), Sessions(lab) as at:
        key, v = str(work.values["key"]), work.values
        entered = iter(("another", key, key, key))
        monkeypatch.setattr(playing.getpass, "getpass", lambda _: next(entered))
        with pytest.raises(Exception, match="different keys"):
            playing.play(klass, AMINA, lab, "scrambled", lambda _: None)
        stored = str(v["scrambled"]).encode()
        archive = ["grep", "-rh", "-B", "2", '= "body"', "/var/lib/prosody/guest/archive"]
        assert stored not in at["guest"].run(archive, check=False).stdout
        for act in klass.exercise.acts:
            with tcpdump(at["guest"], state / f"{act}.pcap"):
                playing.play(klass, AMINA, lab, act, lambda _: None)
        rests = at["guest"].run(archive).stdout
    for act in klass.exercise.acts:
        part, why = shares(work, state / f"{act}.pcap")[act]
        assert (act, part) == (act, 1), why
    assert stored in rests
    assert str(v["over_tls"]).encode() in rests
    assert str(v["sealed"]).encode() not in rests


def test_labs_come_and_go_with_what_students_have(state: Path) -> None:
    """Two labs side by side; put to sleep and entered again, a student's files are there."""
    klass = taught(state, "1")
    try:
        seats = classroom.up_all(klass, [AMINA, BEN], lambda *_: None)
        assert [seat.state for seat in seats] == ["ready", "ready"]
        assert all(seat.memory and seat.processes for seat in seats)
        with Sessions(lifecycle.attach("1-amina")) as at:
            at["peer"].run(["/bin/sh", "-c", "echo mine > /root/notes"])
        assert classroom.down_all(klass, ["amina"], keep=True) == ["1-amina"]
        assert lifecycle.status("1-amina").state is State.ABSENT
        with classroom.entered(klass, AMINA, lambda _: None) as lab, Sessions(lab) as at:
            assert at["peer"].get("/root/notes") == b"mine\n"
            keys = at["peer"].get("/root/.ssh/authorized_keys").decode()
            assert len(keys.splitlines()) == 2
        classroom.forget(klass, "1-amina")
        with classroom.entered(klass, AMINA, lambda _: None) as lab, Sessions(lab) as at:
            assert at["peer"].run(["ls", "/root"]).stdout == b""
    finally:
        classroom.down_all(klass, [], keep=False)
    assert not classroom.seats()
    assert not list(Path("/sys/fs/cgroup").rglob("imlab-1-*"))


def test_a_host_that_never_stops_answering_holds_nobody_up(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a student has put something else in tar's place, nothing is kept, and the lab goes."""
    klass = taught(state, "1")
    monkeypatch.setattr(classroom, "KEEP_DEADLINE", 2.0)
    classroom.bring_up(klass, AMINA)
    with Sessions(lifecycle.attach("1-amina")) as at:
        for host, line in (("peer", "cat /dev/zero"), ("guest", "sleep 600")):
            at[host].run(["rm", "/usr/bin/tar"])
            at[host].put(f"#!/bin/sh\nexec {line}\n".encode(), "/usr/bin/tar", 0o755)
    assert classroom.down_all(klass, [], keep=True) == ["1-amina"]
    kept = {path.name for path in (klass.folder / "kept" / "1-amina").iterdir()}
    assert kept == {"host.tar.gz"}


def test_a_lab_that_nobody_is_in_makes_room(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no memory left, the lab longest unused is put to sleep, and never one that is in use."""
    klass = taught(state, "1")
    try:
        with classroom.entered(klass, BEN, lambda _: None):
            monkeypatch.setattr(classroom, "available", lambda: 0)
            with (
                pytest.raises(Exception, match="in use"),
                classroom.entered(klass, AMINA, lambda _: None),
            ):
                pass
            assert lifecycle.status("1-ben").state is State.READY
        room = iter((0, 1 << 40))
        monkeypatch.setattr(classroom, "available", lambda: next(room, 1 << 40))
        with classroom.entered(klass, AMINA, lambda _: None):
            pass
        assert lifecycle.status("1-amina").state is State.READY
    finally:
        classroom.down_all(klass, [], keep=False)
