"""The wrapper ./inv: what it makes, what it asks, what it refuses; in a copy of its own.

Python, venv, pip and sha256sum are real. Only apt-get, sudo and id are scripts that write down
how they were called, since a test may not install packages on the machine it runs on.
"""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from terminal import ctrl_c

PROJECT = Path(__file__).parents[1]
TASKS = """
from invoke.tasks import task

@task
def hello(_context):
    print("hello")

@task(name="lab-up")
def lab_up(_context):
    print("up")

@task(name="own-task")
def own_task(_context):
    print("own")

@task
def test(_context):
    print("tested")

@task
def bench(_context, only=""):
    print(f"measured {only}")

@task
def refuse(_context):
    raise SystemExit(1)
"""
PACKAGES = """# a comment
run      one   imlab-test-one   what for
run      two   imlab-test-two   what for
browser  three imlab-test-three what for
bench    four  /nowhere/four    what for
bench-analysis six /nowhere/six what for
machine  five  imlab-test-five  what for
own-task five  /nowhere/five    what for
own-task one   imlab-test-one   what for
"""
TOOLS = "sh env sha256sum readlink dirname flock mkdir mv rm cat uname".split()  # noqa: SIM905 -- as words
EXACT = (
    "apt-get update && env DEBIAN_FRONTEND=noninteractive "
    "apt-get install --yes --no-install-recommends one two"
)
#: What apt-get gets without a terminal.
INSTALL = "-o Dpkg::Use-Pty=0 install --yes --no-install-recommends"


@dataclass
class Copy:
    """A copy of the project that the wrapper needs, and the only PATH it is called with."""

    folder: Path
    tools: Path

    def script(self, name: str, text: str) -> None:
        """Put a shell script on the PATH."""
        path = self.tools / name
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def environment(self, **more: str) -> dict[str, str]:
        """Return a bare environment: no HOME, no CI."""
        kept = {k: v for k, v in os.environ.items() if k.startswith(("PIP_", "SSL_"))}
        return {"PATH": str(self.tools), "IMLAB_PYTHON": "python3", **kept, **more}

    def call(
        self, *arguments: str, cwd: Path | None = None, inv: Path | None = None, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Call ./inv without a terminal."""
        return subprocess.run(
            [str(inv or self.folder / "inv"), *arguments],
            cwd=cwd or self.folder,
            env=self.environment(**more),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def said_to_apt(self) -> list[str]:
        """Return the arguments of each call of apt-get."""
        log = self.tools / "apt.log"
        return log.read_text().splitlines() if log.exists() else []


def make_copy(folder: Path) -> Copy:
    """Copy what the wrapper needs; the lock has invoke alone, as the project's has it."""
    tools = folder / "tools"
    tools.mkdir(parents=True)
    for tool in TOOLS:
        path = shutil.which(tool)
        assert path is not None
        (tools / tool).symlink_to(path)
    (tools / "python3").symlink_to(Path(sys.executable).resolve())
    project = folder / "project"
    (project / "lab").mkdir(parents=True)
    (project / "commands").mkdir()
    for name in ("inv", "commands/program.py", "lab/__init__.py", "lab/errors.py",
                 "lab/version.py"):  # fmt: skip
        shutil.copy(PROJECT / name, project / name)
    lock = (PROJECT / "requirements.lock").read_text()
    match = re.search(r"^invoke==.*(?:\n .*)+\n", lock, re.MULTILINE)
    assert match is not None
    (project / "requirements.lock").write_text(match[0])
    (project / "tasks.py").write_text(TASKS)
    (project / "lab" / "system_packages.txt").write_text(PACKAGES)
    copy = Copy(project, tools)
    copy.script("apt-get", f'echo "$@" >>"{tools}/apt.log"')
    copy.script("id", "echo 0")
    return copy


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """Return a copy whose environment has been made."""
    copy = make_copy(tmp_path_factory.mktemp("made"))
    done = copy.call("hello")
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr
    return copy


@pytest.fixture
def ready(made: Copy) -> Copy:
    """Return that copy with apt's log empty and the scripts as they were."""
    (made.tools / "apt.log").unlink(missing_ok=True)
    for name in ("imlab-test-one", "imlab-test-two", "sudo"):
        (made.tools / name).unlink(missing_ok=True)
    made.script("apt-get", f'echo "$@" >>"{made.tools}/apt.log"')
    made.script("id", "echo 0")
    return made


def test_what_is_there_is_not_made_again(ready: Copy) -> None:
    """The second call says nothing of its own and leaves the stamp alone."""
    stamp = ready.folder / ".venv" / "imlab-stamp"
    before = stamp.stat().st_mtime_ns
    done = ready.call("hello")
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "")
    assert stamp.stat().st_mtime_ns == before


def test_from_elsewhere_through_links_and_in_dash(ready: Copy, tmp_path: Path) -> None:
    """A relative link to an absolute link works, from any folder, without HOME."""
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "inner").symlink_to(ready.folder / "inv")
    (tmp_path / "outer").symlink_to("far/inner")
    done = ready.call("hello", cwd=tmp_path / "far", inv=tmp_path / "outer")
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr


def test_without_a_task_they_are_listed(ready: Copy) -> None:
    """A bare ./inv shows what there is."""
    done = ready.call()
    assert done.returncode == 0
    assert "lab-up" in done.stdout


def test_a_tasks_exit_code_is_passed_on(ready: Copy) -> None:
    """Scripts can trust it, and a mistyped task is no answer: it is a wrong request."""
    assert ready.call("refuse").returncode == 1
    done = ready.call("lab-upp")
    assert done.returncode == 2
    assert "did you mean lab-up?" in done.stderr


def test_packages_are_only_asked_for_by_tasks_that_need_them(ready: Copy) -> None:
    """`hello` runs although one and two are missing."""
    assert ready.call("hello").returncode == 0
    assert ready.said_to_apt() == []


@pytest.mark.parametrize(
    ("arguments", "packages"),
    [
        (("image-build", "disk"), "one two\n"),
        (("image-build", "debian-base", "--form", "disk"), "one two five\n"),
        (("image-build", "--form=disk", "debian-base"), "one two five\n"),
    ],
)
def test_a_disk_needs_more_packages(ready: Copy, arguments: tuple[str, ...], packages: str) -> None:
    """Only the form asks for them, not an image that happens to be called so."""
    done = ready.call(*arguments)
    assert done.returncode == 3
    assert f"missing system packages: {packages}" in done.stderr


def test_nobody_to_ask_prints_the_exact_line(ready: Copy) -> None:
    """Without a terminal and without --yes: the line, exit code 3, and nothing is installed."""
    done = ready.call("lab-up")
    assert (done.returncode, done.stdout) == (3, "")
    assert EXACT in done.stderr
    assert ready.said_to_apt() == []


@pytest.mark.parametrize("how", [("--yes", ""), ("", "true")])
def test_yes_and_ci_install_all_in_one_call(ready: Copy, how: tuple[str, str]) -> None:
    """One apt-get install for everything, then the task; --yes does not reach invoke."""
    done = ready.call(*filter(None, ["lab-up", how[0]]), CI=how[1])
    assert (done.returncode, done.stdout) == (0, "up\n"), done.stderr
    assert ready.said_to_apt() == ["update", f"{INSTALL} one two"]


def test_a_task_needs_the_group_of_its_name(ready: Copy) -> None:
    """And a word behind the task's name asks for no group."""
    assert ready.call("--yes", "own-task").stdout == "own\n"
    assert ready.said_to_apt() == ["update", f"{INSTALL} five one"]
    assert ready.call("--yes", "hello", "own-task").stdout == "hello\nown\n"
    assert ready.said_to_apt() == ["update", f"{INSTALL} five one"]


def test_the_tests_need_all_but_what_benchmarks_do(ready: Copy) -> None:
    """Each package once, whatever the number of its groups."""
    assert ready.call("--yes", "test").stdout == "tested\n"
    assert ready.said_to_apt() == ["update", f"{INSTALL} one two three five"]


@pytest.mark.parametrize("named", [("analysis",), ("--only", "analysis"), ("--only=analysis",)])
def test_reading_captures_is_measured_without_other_peers(
    ready: Copy, named: tuple[str, ...]
) -> None:
    """That benchmark needs what it compares with alone; all of them need everything."""
    assert ready.call("--yes", "bench", *named).stdout == "measured analysis\n"
    assert ready.said_to_apt() == ["update", f"{INSTALL} six"]
    assert ready.call("--yes", "bench").stdout == "measured \n"
    assert ready.said_to_apt()[-1] == f"{INSTALL} one two three four six five"


def test_what_is_there_is_not_installed(ready: Copy) -> None:
    """A package counts as present when its command is on PATH."""
    ready.script("imlab-test-one", "true")
    assert ready.call("--yes", "lab-up").returncode == 0
    assert ready.said_to_apt()[-1] == f"{INSTALL} two"


def test_an_install_that_fails_is_told(ready: Copy) -> None:
    """Exit code 3 and the line that was tried; the task does not run."""
    ready.script("apt-get", "echo no mirror; exit 100")
    done = ready.call("--yes", "lab-up")
    assert (done.returncode, done.stdout) == (3, "")
    assert "no mirror" in done.stderr
    assert EXACT in done.stderr


@pytest.mark.parametrize(("answer", "code"), [("n\n", 3), ("\n", 0), ("\x04", 3)])
def test_the_question_is_asked_on_a_terminal(ready: Copy, answer: str, code: int) -> None:
    """Yes is the default; no, or end of file, installs nothing."""
    child, terminal = pty.fork()
    if child == 0:
        os.execve(ready.folder / "inv", ["inv", "lab-up"], ready.environment())
    said = b""
    while b"[Y/n]" not in said:
        said += os.read(terminal, 1000)
    os.write(terminal, answer.encode())
    while True:
        try:
            more = os.read(terminal, 1000)
        except OSError:  # a terminal's end of file, when the child has gone
            break
        if not more:
            break
        said += more
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == code, said
    assert EXACT.encode() in said
    assert len(ready.said_to_apt()) == (2 if code == 0 else 0)


def test_help_needs_no_packages(ready: Copy) -> None:
    """Who asks what a task does is not asked to install what it needs."""
    done = ready.call("lab-up", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: ./inv" in done.stdout


def test_ctrl_c_at_the_question_installs_nothing(ready: Copy) -> None:
    """Ctrl-C is exit code 130, and told."""
    code, said = ctrl_c([str(ready.folder / "inv"), "lab-up"], ready.environment(), "[Y/n]")
    assert code == 130
    assert said.rstrip().endswith("imlab: interrupted")
    assert ready.said_to_apt() == []


def test_ctrl_c_while_the_environment_is_made_leaves_none(tmp_path: Path) -> None:
    """One line, no traceback of what was interrupted, nothing half-made."""
    copy = make_copy(tmp_path)
    (copy.folder / "lab" / "system_packages.txt").write_text("")
    code, said = ctrl_c(
        [str(copy.folder / "inv"), "lab-up"], copy.environment(), "making the virtual environment"
    )
    assert code == 130
    assert said.rstrip().endswith("imlab: interrupted")
    assert "Traceback" not in said
    assert not (copy.folder / ".venv").exists()


def test_without_rights_the_line_for_an_administrator_is_printed(ready: Copy) -> None:
    """Not root and no sudo: exit code 3, even with --yes."""
    ready.script("id", "echo 1000")
    done = ready.call("--yes", "lab-up")
    assert done.returncode == 3
    assert "no rights" in done.stderr
    assert EXACT in done.stderr
    assert ready.said_to_apt() == []


def test_sudo_never_waits_for_a_password_without_a_terminal(ready: Copy) -> None:
    """Not root, with sudo, nobody at a terminal: sudo -n."""
    ready.script("id", "echo 1000")
    ready.script("sudo", f'echo "sudo $1" >>"{ready.tools}/apt.log"; shift; exec "$@"')
    done = ready.call("--yes", "lab-up")
    assert (done.returncode, done.stdout) == (0, "up\n"), done.stderr
    assert ready.said_to_apt() == [
        "sudo -n",
        "update",
        "sudo -n",
        f"{INSTALL} one two",
    ]


def test_no_python_is_a_missing_package(tmp_path: Path) -> None:
    """On a base install python3 and python3-venv are in the same line as everything else."""
    copy = make_copy(tmp_path)
    (copy.tools / "python3").unlink()
    done = copy.call("lab-up")
    assert done.returncode == 3
    assert "one two python3 python3-venv" in done.stderr


def test_an_old_python_is_none(tmp_path: Path) -> None:
    """What fails the version check is passed over; after a vain install exit code 4."""
    copy = make_copy(tmp_path)
    (copy.tools / "python3").unlink()
    copy.script("python3", "exit 1")
    assert copy.call("hello").returncode == 3
    done = copy.call("--yes", "hello")
    assert done.returncode == 4
    assert "no Python >= 3.11" in done.stderr


@pytest.mark.slow
def test_an_interrupted_creation_is_redone(tmp_path: Path) -> None:
    """Killed in the middle there is no stamp, and the next call makes all anew."""
    copy = make_copy(tmp_path)
    with subprocess.Popen(
        [copy.folder / "inv", "hello"],
        env=copy.environment(),
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        deadline = time.monotonic() + 60
        while not (copy.folder / ".venv" / "bin").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
    assert not (copy.folder / ".venv" / "imlab-stamp").exists()
    done = copy.call("hello")
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr
    assert "making the virtual environment" in done.stderr


@pytest.mark.slow
def test_concurrent_calls_make_it_once_and_a_changed_lock_again(tmp_path: Path) -> None:
    """Three first calls at once all work and one of them makes it; a new lock is followed."""
    copy = make_copy(tmp_path)
    processes = [
        subprocess.Popen(
            [copy.folder / "inv", "hello"],
            env=copy.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    said = [process.communicate(timeout=120) for process in processes]
    assert [out for out, _ in said] == ["hello\n"] * 3, said
    assert sum("making the virtual environment" in err for _, err in said) == 1
    with (copy.folder / "requirements.lock").open("a") as lock:
        lock.write("# changed\n")
    done = copy.call("hello")
    assert (done.returncode, done.stdout) == (0, "hello\n")
    assert "making the virtual environment" in done.stderr


def test_a_package_with_another_hash_is_refused(tmp_path: Path) -> None:
    """requirements.lock's hashes hold: exit code 4, no stamp, and pip's reason is shown."""
    copy = make_copy(tmp_path)
    lock = copy.folder / "requirements.lock"
    lock.write_text(re.sub(r"sha256:\w+", "sha256:" + "0" * 64, lock.read_text()))
    done = copy.call("hello")
    assert done.returncode == 4
    assert "HASH" in done.stderr.upper()
    assert not (copy.folder / ".venv" / "imlab-stamp").exists()
