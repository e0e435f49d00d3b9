"""The tasks as a user calls them: what they print, and the exit codes that scripts trust."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from terminal import ctrl_c

from lab import own_tasks

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).resolve().parents[2]
PROGRAM = [
    sys.executable, str(PROJECT / "commands" / "program.py"), "--search-root", str(PROJECT),
]  # fmt: skip
EVERY_TASK = {
    "analyze", "bench", "doctor", "report", "reproduce", "run", "runs", "spec-check", "test",
    "image-build", "image-list", "image-rm",
    "lab-capture", "lab-down", "lab-forward", "lab-restore", "lab-run", "lab-shell",
    "lab-snapshot", "lab-status", "lab-up",
    "matrix",
    "class-down", "class-grade", "class-handout", "class-serve", "class-status", "class-up",
    "compare", "pack", "rerun", "verify",
    *(task.name for task in own_tasks.of_providers()),
}  # fmt: skip


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a state folder in which the paper's lab is up."""
    folder = tmp_path_factory.mktemp("state")
    assert call(folder, "lab-up", "--json").returncode == 0
    yield folder
    call(folder, "lab-down", "--all")


def call(state: Path, *words: str, wait: float = 120) -> subprocess.CompletedProcess[str]:
    """Call a task; wait is in seconds."""
    return subprocess.run(
        [*PROGRAM, *words],
        env={**os.environ, "IMLAB_STATE": str(state)},
        capture_output=True, text=True, check=False, timeout=wait,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_every_task_is_listed_and_has_help(tmp_path: Path) -> None:
    """The list is the manual's table of contents, and --help works for each."""
    listed = call(tmp_path, "--list", "--list-format=json")
    names = {task["name"] for task in json.loads(listed.stdout)["tasks"]}
    assert names == EVERY_TASK


@pytest.mark.parametrize("task", sorted(EVERY_TASK))
def test_help(tmp_path: Path, task: str) -> None:
    """--help says what a task does."""
    done = call(tmp_path, "--help", task)
    assert done.returncode == 0
    assert "Docstring:" in done.stdout
    assert "none" not in done.stdout.split("Docstring:")[1].split("Options:")[0]


def test_completion_offers_tasks(tmp_path: Path) -> None:
    """The shell's completion asks the program, and the program knows its tasks."""
    assert "lab-up" in call(tmp_path, "--complete", "--", "inv", "").stdout.split()
    assert "complete" in call(tmp_path, "--print-completion-script", "bash").stdout


def test_dry_run_prints_the_plan_and_makes_nothing(tmp_path: Path) -> None:
    """The plan is the same each time, hides passwords, and needs no lab."""
    first, again = (call(tmp_path, "lab-up", "--dry-run", "--json").stdout for _ in range(2))
    plan = json.loads(first)
    assert first == again
    assert [host["name"] for host in plan["hosts"]] == ["host", "guest", "peer"]
    assert {account["password"] for account in plan["accounts"]} == {"***"}
    assert not list(tmp_path.rglob("ledger.json"))
    assert "bridged to host/eth0" in call(tmp_path, "lab-up", "--dry-run").stdout


def test_a_faulty_spec_is_told_whole_and_makes_nothing(tmp_path: Path) -> None:
    """Every fault with its place, exit code 2, no lab."""
    bad = tmp_path / "bad.yaml"
    text = (PROJECT / "vm_specs" / "paper.yaml").read_text()
    bad.write_text(text.replace("ttl: 64", "ttl: 640").replace("bridged: eth0", "bridged: eth7"))
    for words in (("spec-check", str(bad)), ("lab-up", "--spec", str(bad))):
        done = call(tmp_path, *words)
        said = done.stdout + done.stderr
        assert done.returncode == 2
        assert len(re.findall(r"bad\.yaml:\d+:\d+", said)) == 2, said
        assert "Traceback" not in said
    assert call(tmp_path, "lab-status").stdout.startswith("no lab is up")


def test_wrong_names_list_what_there_is(tmp_path: Path) -> None:
    """A name that is not there is answered with those that are; exit code 2."""
    for words, expected in (
        (("lab-up", "--spec", "papre"), "paper"),
        (("lab-up", "--provider", "vmware"), "netns"),
        (("run", "papre"), "paper"),
        (("report", "never"), "runs in"),
        (("lab-run", "guest", "--", "true"), "none"),
        (("lab-down", "--name", "ghost"), "none"),
        (("run", "paper", "--out", "/dev/null/runs"), "/dev/null"),
    ):
        done = call(tmp_path, *words)
        assert (done.returncode, expected in done.stderr) == (2, True), (words, done.stderr)
        assert "Traceback" not in done.stderr


@pytest.mark.lab
def test_lab_up_twice_says_so(state: Path) -> None:
    """The second time changes nothing and takes no new lab."""
    done = call(state, "lab-up", "--json")
    told = json.loads(done.stdout)
    assert told["new"] is False
    assert {host: list(what) for host, what in told["changes"].items()} == {
        "host": [], "guest": [], "peer": []
    }  # fmt: skip
    assert "was up already" in call(state, "lab-up").stdout


@pytest.mark.lab
def test_status_shows_every_host(state: Path) -> None:
    """A whole lab is exit code 0."""
    done = call(state, "lab-status", "--json")
    (lab,) = json.loads(done.stdout)
    assert (done.returncode, lab["name"], lab["state"]) == (0, "paper", "ready")
    assert lab["hosts"] == {"host": None, "guest": None, "peer": None}


@pytest.mark.lab
def test_lab_run_keeps_words_streams_and_the_exit_code(state: Path) -> None:
    """What stands behind -- arrives word for word."""
    script = 'printf "%s|" "$@"; echo oops >&2; exit 7'
    done = call(state, "lab-run", "guest", "--", "sh", "-c", script, "sh", "a b", "$HOME", "'")
    assert (done.returncode, done.stdout, done.stderr) == (7, "a b|$HOME|'|", "oops\n")


@pytest.mark.lab
def test_lab_capture_is_a_live_pcapng(state: Path, tmp_path: Path) -> None:
    """tshark reads the stream while it comes, as Wireshark would."""
    file = tmp_path / "live.pcapng"
    with file.open("wb") as out:
        tap = subprocess.Popen(
            [*PROGRAM, "lab-capture", "guest"],
            env={**os.environ, "IMLAB_STATE": str(state)},
            stdout=out, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert tap.stderr
        assert "capturing on guest/eth0" in tap.stderr.readline()
        assert call(state, "lab-run", "peer", "--", "ping", "-nc1", "192.168.1.10").returncode == 0
        end = time.monotonic() + 30
        while b"\x08\x00" not in file.read_bytes() and time.monotonic() < end:
            time.sleep(0.01)
        tap.send_signal(signal.SIGINT)
        assert tap.wait(20) == 0
    read = subprocess.run(
        ["tshark", "-r", str(file), "-Y", "icmp"], capture_output=True, text=True, check=True
    )
    assert "192.168.1.20 → 192.168.1.10 ICMP" in read.stdout


@pytest.mark.lab
def test_lab_forward_opens_the_guests_chat_here(state: Path) -> None:
    """A page of the guest's own server, fetched from this machine."""
    forward = subprocess.Popen(
        [*PROGRAM, "lab-forward", "guest:80"],
        env={**os.environ, "IMLAB_STATE": str(state)},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert forward.stdout
        line = forward.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert found, line
        with urllib.request.urlopen(f"{found[0]}client/Home.php", timeout=60) as page:
            assert "Post Chat" in page.read().decode()
    finally:
        forward.send_signal(signal.SIGINT)
        assert forward.wait(20) == 0


@pytest.mark.lab
def test_lab_shell_is_a_shell_on_the_host(state: Path) -> None:
    """What is typed is done there, and the shell's exit code is ours."""
    near, far = pty.openpty()
    shell = subprocess.Popen(
        [*PROGRAM, "lab-shell", "guest"],
        env={**os.environ, "IMLAB_STATE": str(state), "TERM": "xterm"},
        stdin=far,
        stdout=far,
        stderr=far,
        start_new_session=True,
    )
    os.close(far)
    try:
        os.write(near, b"echo on-$(hostname)-$((6*7)); exit 9\r")
        seen = b""
        while b"on-guest-42" not in seen:
            assert select.select([near], [], [], 30)[0], seen
            seen += os.read(near, 4096)
        assert shell.wait(20) == 9
    finally:
        shell.kill()
        os.close(near)


@pytest.mark.lab
@pytest.mark.slow
def test_a_real_browser_types_the_conversation(tmp_path: Path) -> None:
    """With --browser it is Chromium's requests that cross the wire, and the verdicts stand."""
    done = call(tmp_path, "run", "paper", "--browser", "--json", "--out", str(tmp_path), wait=900)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert {row["verdict"] for row in told["verdicts"]} == {"confirmed"}
    agents = subprocess.run(
        ["tshark", "-r", f"{told['folder']}/captures/peer-eth0.pcapng", "-Y", "http.request",
         "-T", "fields", "-e", "http.user_agent"],
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert agents
    assert all("HeadlessChrome" in agent for agent in agents)


@pytest.mark.lab
def test_run_report_and_runs(state: Path, tmp_path: Path) -> None:
    """A run on the lab that is up leaves it up; its folder judged again gives the same bytes."""
    done = call(state, "run", "paper", "--json", "--out", str(tmp_path))
    told = json.loads(done.stdout)
    assert done.returncode == 0
    assert {row["verdict"] for row in told["verdicts"]} == {"confirmed"}
    assert call(state, "lab-status").returncode == 0
    folder = Path(told["folder"])
    derived = ("verdicts.json", "report.html", "report.json", "analysis.json")
    before = {name: (folder / name).read_bytes() for name in derived}
    for name in derived:
        (folder / name).unlink()
    assert call(tmp_path, "report", str(folder)).returncode == 0
    assert {name: (folder / name).read_bytes() for name in derived} == before


def interrupt(state: Path, after: str, *words: str) -> tuple[int, str]:
    """Call a task on a terminal and press Ctrl-C once it has said `after`."""
    environment = {**os.environ, "IMLAB_STATE": str(state), "TERM": "xterm"}
    return ctrl_c([*PROGRAM, *words], environment, after)


@pytest.mark.lab
@pytest.mark.parametrize("step", ["reading", "making hosts", "waiting for SSH", "provisioning"])
def test_ctrl_c_during_lab_up_leaves_nothing(tmp_path: Path, step: str) -> None:
    """Whenever it comes: one word, exit code 130, no lab; unless it came after the last step."""
    code, said = interrupt(tmp_path, step, "lab-up")
    assert "Traceback" not in said
    left = [path.name for path in (tmp_path / "labs").glob("*") if path.name != ".lock"]
    if code:
        assert (code, left) == (130, [])
        assert said.rstrip().endswith("interrupted")
    call(tmp_path, "lab-down", "--all")


@pytest.mark.lab
@pytest.mark.parametrize("step", ["starting captures", "ping between", "visits"])
def test_ctrl_c_during_a_run_leaves_nothing(tmp_path: Path, step: str) -> None:
    """Half a run is no evidence, and the lab that was made for it goes."""
    code, said = interrupt(tmp_path, step, "run", "paper", "--out", str(tmp_path / "runs"))
    assert "Traceback" not in said
    assert code == 130
    assert said.rstrip().endswith("interrupted")
    assert [path.name for path in (tmp_path / "labs").glob("*")] == [".lock"]
    assert list((tmp_path / "runs").glob("*")) == []


def test_a_command_line_that_is_wrong_is_exit_code_2(tmp_path: Path) -> None:
    """It is told in one screen, with what was probably meant."""
    for words, said in (
        (("lab-upp",), "did you mean lab-up"),
        (("lab-up", "--nam", "x"), "did you mean --name"),
        (("lab-run",), "'host'"),
        (("--nosuch",), "there is no '--nosuch'"),
    ):
        done = call(tmp_path, *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr
        assert "next:" in done.stderr


def test_help_behind_a_task_is_its_help(tmp_path: Path) -> None:
    """--help is never taken for a task's argument, but words behind -- are left alone."""
    for words in (("spec-check", "--help"), ("lab-up", "--name", "x", "--help")):
        done = call(tmp_path, *words)
        assert done.returncode == 0
        assert f"[--core-opts] {words[0]} " in done.stdout
    done = call(tmp_path, "lab-run", "guest", "--", "ls", "--help")
    assert done.returncode == 2
    assert "choosing a lab" in done.stderr


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    """./inv --list | head shows no traceback."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*PROGRAM, "--list"], stdout=write, stderr=subprocess.PIPE, check=False, timeout=60,
        cwd=tmp_path,
    )  # fmt: skip
    os.close(write)
    assert done.stderr == b""


@pytest.mark.skipif(shutil.which("bash") is None, reason="completes in bash")
def test_bash_completes_from_the_printed_script(tmp_path: Path) -> None:
    """The script asks the very program that is typed, wherever it lies."""
    inv = tmp_path / "inv"
    inv.write_text(f'#!/bin/sh\nexec {shlex.join(PROGRAM)} "$@"\n')
    inv.chmod(0o755)
    typed = (
        'source <("$1" --print-completion-script bash); '
        'COMP_WORDS=("$1" lab-st); COMP_CWORD=1; _complete_inv "$1" lab-st "$1"; '
        'echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", typed, "bash", str(inv)], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("lab-status\n", "")


@pytest.mark.lab
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_a_run_killed_at_any_moment_leaves_nothing_that_lab_down_does_not_remove(
    tmp_path: Path, seed: int
) -> None:
    """kill -9 of `run` on a lab of its own, at eight moments from start to end."""
    out, folder = tmp_path / "runs", tmp_path / "state"
    run = subprocess.Popen(
        [*PROGRAM, "run", "paper", "--json", "--out", str(out)],
        env={**os.environ, "IMLAB_STATE": str(folder)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    time.sleep(0.25 + 0.3 * seed)  # the moment is what is tested
    run.kill()
    run.wait()
    end = time.monotonic() + 30
    while '"creating"' in call(folder, "lab-status", "--json").stdout and time.monotonic() < end:
        pass
    call(folder, "lab-down", "--all")
    assert call(folder, "lab-status", "--json").stdout.strip() == "[]"
    assert [p for p in (folder / "labs").glob("*") if p.name != ".lock"] == []
    assert [p for p in out.glob("*") if not (p / "manifest.json").exists()] == []
