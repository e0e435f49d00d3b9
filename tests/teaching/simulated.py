"""A class that hands in exercise 2, simulated: who does what, and what each must get for it.

The truth is told here by hand from what was put into each submission; nothing of the grading is
asked. Captures are built frame by frame from what the student's lab sends (the requests of a real
lab's capture, in test_teaching_lab.py, have the same form), with that lab's hardware addresses.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zipfile
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

import yaml
from talks import Capture, http

from teaching import exercise as exercises
from teaching.course import of_text
from teaching.roster import Student

if TYPE_CHECKING:
    from pathlib import Path

    from teaching.exercise import Assignment

COURSE = of_text("a secret of the course, for tests")
EXERCISE = "2-read-the-capture"
KINDS = (
    "right", "partly", "wrong", "copied", "another's capture", "malformed", "hostile", "nothing",
)  # fmt: skip
DUE = 1_800_000_000.0
PEER, GUEST = "192.168.1.20", "192.168.1.10"


@dataclass
class LabCapture(Capture):
    """A capture of a lab: frames between two adapters."""

    peer: str = ""
    guest: str = ""

    def ip(self, source: str, target: str, protocol: int, data: bytes) -> None:
        """Add a frame with the lab's hardware addresses."""
        super().ip(source, target, protocol, data)
        macs = {PEER: self.peer, GUEST: self.guest}
        ends = bytes.fromhex((macs[target] + macs[source]).replace(":", ""))
        self.frames[-1] = ends + self.frames[-1][12:]


@dataclass(frozen=True)
class Truth:
    """What a student must get. of_items: points by item, where the whole is not enough."""

    kind: str
    status: str
    points: float
    flags: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    of_items: dict[str, float] = field(default_factory=dict)


def roster(count: int) -> tuple[Student, ...]:
    """Return students s001, s002 and so on."""
    return tuple(Student(f"s{n:03d}", f"Student {n}") for n in range(1, count + 1))


def assigned(student: Student) -> Assignment:
    """Return what exercise 2 is for a student."""
    return exercises.assign(exercises.find(EXERCISE), student, COURSE)


def form(path: str, fields: dict[str, str]) -> bytes:
    """Return a form that is sent, as browsers do."""
    body = "&".join(f"{name}={quote_plus(text)}" for name, text in fields.items()).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {GUEST}\r\n"
    head += "Content-Type: application/x-www-form-urlencoded\r\nUpgrade-Insecure-Requests: 1\r\n"
    return head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


def capture_of(work: Assignment) -> bytes:
    """Return what the peer's conversation looks like on the lab's wire."""
    v = {name: str(value) for name, value in work.values.items()}
    mac = work.context["mac"]
    capture = LabCapture(peer=mac["peer"]["eth0"], guest=mac["guest"]["eth0"])
    ends = iter(range(40001, 41000))

    def visit(*said: tuple[bytes, bytes]) -> None:
        talk = [line for request, page in said for line in http(request, page, b"text/html")]
        capture.tcp(talk, (PEER, next(ends)), (GUEST, 80))

    visit((form("/server/Post.php", {"username": v["alice"], "password": v["alice_password"]}),
           b"<html><body>Compose</body></html>"))  # fmt: skip
    for message in ("first", "second", "third"):
        visit((form("/server/Posted.php", {"content": v[message]}), b"<p>Posted</p>"))
    rows = "".join(f"<tr><td>{v['bob']}</td><td>{v[m]}</td></tr>" for m in ("reply", "last"))
    visit((f"GET /server/Incoming.php HTTP/1.1\r\nHost: {GUEST}\r\n\r\n".encode(),
           f"<table>{rows}</table>".encode()))  # fmt: skip
    return capture.pcap()


def right_answers(work: Assignment) -> dict[str, Any]:
    """Return answers that are all right."""
    v = work.values
    return {
        "who": [v["bob"], str(v["alice"]).lower()],
        "sender": f" {v['alice']} ",
        "password": v["alice_password"],
        "sent": [v["third"], v["first"], v["second"]],
        "received": [v["reply"], v["last"]],
        "port": 80,
        "stored": "no",
    }


def hand_in(folder: Path, student: Student, answers: object, captures: dict[str, bytes],
            random: Random) -> None:  # fmt: skip
    """Write a submission as a folder, a zip or a packed tar."""
    text = answers if isinstance(answers, bytes) else yaml.safe_dump({"answers": answers}).encode()
    files = {"answers.yaml": text, **captures}
    if answers is None:
        del files["answers.yaml"]
    way = random.choice(("folder", "zip", "tar.gz"))
    path = folder / (student.id if way == "folder" else f"{student.id}.{way}")
    if way == "folder":
        path.mkdir()
        for name, data in files.items():
            (path / name).write_bytes(data)
            os.utime(path / name, (DUE - 100, DUE - 100))
    elif way == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(f"{student.id}/{name}", data)
    else:
        with tarfile.open(path, "w:gz") as archive:
            for name, data in files.items():
                entry = tarfile.TarInfo(f"{student.id}/{name}")
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    os.utime(path, (DUE - 100, DUE - 100))


def make(
    folder: Path, count: int = 200, seed: int = 6
) -> tuple[tuple[Student, ...], dict[str, Truth]]:
    """Make the submissions of a class into a folder; return its students and the truth."""
    random = Random(seed)
    students = roster(count)
    truth = {}
    for number, student in enumerate(students):
        kind = KINDS[number % len(KINDS)]
        other = random.choice([each for each in students if each is not student])
        truth[student.id] = MAKERS[kind](folder, student, other, random)
    return students, truth


# -- the eight kinds -------------------------------------------------------------------------


def _right(folder: Path, student: Student, _: Student, random: Random) -> Truth:
    work = assigned(student)
    hand_in(folder, student, right_answers(work), {"chat.pcap": capture_of(work)}, random)
    return Truth("right", "graded", 20)


def _partly(folder: Path, student: Student, _: Student, random: Random) -> Truth:
    """Hand in two of three messages, one that is none, the password in small letters."""
    work = assigned(student)
    v = work.values
    answers = right_answers(work)
    answers["sent"] = [v["first"], v["second"], "something that nobody said"]
    answers["password"] = str(v["alice_password"]).lower()
    answers["stored"] = "yes"
    del answers["port"]
    hand_in(folder, student, answers, {}, random)
    parts = {
        "who": 2,
        "sender": 1,
        "password": 1.5,
        "sent": 1,
        "received": 2,
        "port": 0,
        "stored": 0,
    }
    return Truth("partly", "graded", 7.5, of_items=parts)


def _wrong(folder: Path, student: Student, _: Student, random: Random) -> Truth:
    answers = {
        "who": ["CLIENT", "SERVER"],
        "sender": "CLIENT",
        "password": "hunter2",
        "sent": ["HI", "Nightmare"],
        "received": "no idea",
        "port": 8080,
        "stored": "yes",
    }
    hand_in(folder, student, answers, {"chat.pcap": b"\xd4\xc3\xb2\xa1" + bytes(20)}, random)
    return Truth("wrong", "graded", 0)


def _copied(folder: Path, student: Student, other: Student, random: Random) -> Truth:
    """Hand in another's answers and no capture: only what is the same for all is right."""
    hand_in(folder, student, right_answers(assigned(other)), {}, random)
    return Truth("copied", "graded", 2, ("copied",), (other.id,), {"port": 1, "stored": 1})


def _anothers(folder: Path, student: Student, other: Student, random: Random) -> Truth:
    """Hand in right answers with another student's capture."""
    work = assigned(student)
    capture = {"chat.pcap": capture_of(assigned(other))}
    hand_in(folder, student, right_answers(work), capture, random)
    return Truth("another's capture", "graded", 13, ("another's",), (other.id,))


def _malformed(folder: Path, student: Student, _: Student, random: Random) -> Truth:
    """Hand in a right capture beside answers that are no YAML, or YAML that is meant to do harm."""
    bomb = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
        b"%c: &%c [%s]\n" % (98 + n, 98 + n, b",".join([b"*%c" % (97 + n)] * 9)) for n in range(9)
    )
    text = random.choice(
        (b"answers: [unclosed", b"\xff\xfe\x00", b"!!python/object/apply:os.system [id]", bomb,
         b"just a sentence", b"[" * 5000, b"answers:\n\tport: 80\n")
    )  # fmt: skip
    hand_in(folder, student, text, {"chat.pcap": capture_of(assigned(student))}, random)
    return Truth("malformed", "malformed", 7)


def _hostile(folder: Path, student: Student, _: Student, random: Random) -> Truth:
    """Hand in an archive that is meant to do harm."""
    maker = random.choice(HOSTILE)
    maker(folder, student)
    return Truth("hostile", "refused", 0)


def _nothing(folder: Path, student: Student, _: Student, random: Random) -> Truth:
    if random.random() < 0.5:
        (folder / student.id).mkdir()
        (folder / student.id / "notes.txt").write_text("I was ill")
    return Truth("nothing", "nothing", 0)


def zip_bomb(folder: Path, student: Student) -> None:
    """Write a few hundred kilobytes that say they are small and are 300 MiB of zeros."""
    path = folder / f"{student.id}.zip"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("chat.pcap", "w", force_zip64=True) as out,
    ):
        out.write(b"\xd4\xc3\xb2\xa1")
        for _ in range(300):
            out.write(bytes(1 << 20))
    data = path.read_bytes()
    size = (300 << 20) + 4
    # What the directory says of the size is made a lie.
    path.write_bytes(data.replace(size.to_bytes(4, "little"), (4096).to_bytes(4, "little")))


def tar_bomb(folder: Path, student: Student) -> None:
    """Write a packed tar whose one file has 2 GiB, as it says, of which the first 64 MiB come."""
    entry = tarfile.TarInfo("notes.txt")
    entry.size = 2 << 30
    with gzip.open(folder / f"{student.id}.tar.gz", "wb", compresslevel=1) as out:
        out.write(entry.tobuf())
        for _ in range(64):
            out.write(bytes(1 << 20))


def header_bomb(folder: Path, student: Student) -> None:
    """Write a packed tar with a header of 1.5 GiB, which a reader would keep in memory."""
    entry = tarfile.TarInfo("x")
    entry.type, entry.size = tarfile.XHDTYPE, 3 << 29
    with gzip.open(folder / f"{student.id}.tar.gz", "wb", compresslevel=1) as out:
        out.write(entry.tobuf())
        piece = bytes(1 << 20)
        for _ in range(1200):
            out.write(piece)


def traversal(folder: Path, student: Student) -> None:
    """Write an archive with a path that leads out."""
    with zipfile.ZipFile(folder / f"{student.id}.zip", "w") as archive:
        archive.writestr("../../../../tmp/imlab-was-here", b"x")
        archive.writestr("answers.yaml", b"port: 80\n")


def symlink_in_tar(folder: Path, student: Student) -> None:
    """Write a link to a file of the machine under the name of the answers."""
    with tarfile.open(folder / f"{student.id}.tar", "w") as archive:
        entry = tarfile.TarInfo("answers.yaml")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(entry)


def device_in_tar(folder: Path, student: Student) -> None:
    """Write a device under the name of a capture."""
    with tarfile.open(folder / f"{student.id}.tar", "w") as archive:
        entry = tarfile.TarInfo("chat.pcap")
        entry.type = tarfile.CHRTYPE
        archive.addfile(entry)


def symlink_in_folder(folder: Path, student: Student) -> None:
    """Make a folder whose capture is a link."""
    (folder / student.id).mkdir()
    (folder / student.id / "chat.pcap").symlink_to("/dev/zero")


def pipe_in_folder(folder: Path, student: Student) -> None:
    """Make a folder with a pipe in it, which nobody writes to."""
    (folder / student.id).mkdir()
    os.mkfifo(folder / student.id / "answers.yaml")


def link_itself(folder: Path, student: Student) -> None:
    """Make a submission that is a link to the folder of all."""
    (folder / student.id).symlink_to(folder)


def many_files(folder: Path, student: Student) -> None:
    """Write thousands of files."""
    with zipfile.ZipFile(folder / f"{student.id}.zip", "w") as archive:
        for number in range(5000):
            archive.writestr(f"{number}.txt", b"")


def broken(folder: Path, student: Student) -> None:
    """Write what is no archive at all."""
    (folder / f"{student.id}.zip").write_bytes(b"PK\x03\x04" + bytes(100))


def enormous(folder: Path, student: Student) -> None:
    """Write a capture of a gigabyte (sparse) in a folder."""
    (folder / student.id).mkdir()
    with (folder / student.id / "chat.pcap").open("wb") as out:
        out.write(b"\xd4\xc3\xb2\xa1")
        out.truncate(1 << 30)


HOSTILE = (
    zip_bomb, tar_bomb, traversal, symlink_in_tar, device_in_tar, symlink_in_folder, pipe_in_folder,
    link_itself, many_files, broken, enormous,
)  # fmt: skip
MAKERS = dict(
    zip(
        KINDS,
        (_right, _partly, _wrong, _copied, _anothers, _malformed, _hostile, _nothing),
        strict=True,
    )
)
