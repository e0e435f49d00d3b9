"""Hand-outs: what each student gets, in a folder of the student's own.

handout.html   the exercise with the student's own values, to print or to read
answers.yaml   the questions, to be filled in
ssh_config, known_hosts, key   the way into the student's own lab
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from teaching import pages
from teaching.exercise import fill

if TYPE_CHECKING:
    from pathlib import Path

    from teaching.course import Course
    from teaching.exercise import Assignment, Exercise
    from teaching.roster import Student

SECRET_FILES: Final = frozenset({"key"})


@dataclass(frozen=True, slots=True)
class Door:
    """Where students knock: the gate's sshd. host_key is its public key, one OpenSSH line."""

    address: str
    port: int
    user: str
    host_key: str


def key_of(course: Course, student: Student) -> tuple[str, str]:
    """Return the key pair (private, public; OpenSSH's formats) of a student who has brought none.

    Derived from the course like all else, so that it is the same tomorrow and stored nowhere.
    """
    key = Ed25519PrivateKey.from_private_bytes(course.derive(student.id, "ssh key"))
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return private.decode(), public.decode()


def files(assignment: Assignment, course: Course, door: Door) -> dict[str, str]:
    """Return the files of a student's hand-out by name."""
    exercise, student = assignment.exercise, assignment.student
    text = fill(exercise.text("handout.md.j2"), assignment.context, exercise.name)
    hosts = [host.name for host in assignment.plan.hosts]
    made = {
        "handout.html": pages.render(
            "handout.html.j2",
            exercise=exercise,
            student=student,
            body=pages.markdown(text),
            hosts=hosts,
            door=door,
            form=answers_form(exercise),
            own_key=not student.key,
        ),
        "answers.yaml": answers_form(exercise),
        "ssh_config": ssh_config(door, hosts, own_key=not student.key),
        "known_hosts": f"{_known_name(door)} {door.host_key}\n",
    }
    if not student.key:
        made["key"] = key_of(course, student)[0]
    return made


def write(assignment: Assignment, course: Course, door: Door, out: Path) -> Path:
    """Write a student's hand-out into out/ID; return its page."""
    folder = out / assignment.student.id
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files(assignment, course, door).items():
        mode = 0o600 if name in SECRET_FILES else 0o644
        (folder / name).unlink(missing_ok=True)
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(descriptor, "w", encoding="utf-8") as stream:  # noqa: PTH123 - a descriptor has no path
            stream.write(text)
    return folder / "handout.html"


def teachers_sheet(exercise: Exercise) -> str:
    """Return the page for whoever teaches the exercise: time, aim, what to listen for."""
    return pages.render("sheet.html.j2", exercise=exercise)


def answers_form(exercise: Exercise) -> str:
    """Return answers.yaml as it is handed out: every question, nothing filled in."""
    lines = [f"# {exercise.title}", "# Write each answer behind its colon; lists have a line each.",
             "answers:"]  # fmt: skip
    for question in exercise.questions:
        lines.append(f"  # {question.ask}")
        if question.options:
            lines.append(f"  # one of: {', '.join(question.options)}")
        if question.type == "set":
            lines += [f"  {question.id}:", '    - ""', '    - ""']
        else:
            lines.append(f'  {question.id}: ""')
    return "\n".join(lines) + "\n"


def ssh_config(door: Door, hosts: list[str], *, own_key: bool) -> str:
    """Return what ssh(1) needs to know: `lab` is the gate, the others are hosts behind it.

    A host of a lab has new keys each time the lab is put up. It is reached through the gate, whose
    key is known, and nobody else can answer there: its own key is not asked for.
    """
    identity = "    IdentityFile key\n    IdentitiesOnly yes\n" if own_key else ""
    return (
        f"Host lab\n    HostName {door.address}\n    Port {door.port}\n    User {door.user}\n"
        f"{identity}    UserKnownHostsFile known_hosts\n    StrictHostKeyChecking yes\n"
        f"    ServerAliveInterval 30\n\n"
        f"Host {' '.join(hosts)}\n    User root\n{identity}"
        f"    ProxyCommand ssh -F ssh_config lab dial %h\n"
        f"    UserKnownHostsFile /dev/null\n    StrictHostKeyChecking no\n    LogLevel ERROR\n"
    )


def _known_name(door: Door) -> str:
    """Return the gate's name in known_hosts (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT)."""
    return door.address if door.port == 22 else f"[{door.address}]:{door.port}"  # noqa: PLR2004 - SSH's own
