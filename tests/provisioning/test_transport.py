"""The transport against a real sshd on loopback: logging in, commands, files."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback_sshd import SSHD, Sshd, free_port, new_key, running_sshd

from lab.errors import Fault, LabError
from provisioning.files import File
from provisioning.transport import Session, _PromptSocket

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(SSHD is None, reason="openssh-server is not installed")


@pytest.fixture(scope="module")
def session(sshd: Sshd) -> Iterator[Session]:
    """Open a session that the tests of this module share."""
    with sshd.open() as opened:
        yield opened


def refusal(error: pytest.ExceptionInfo[LabError]) -> str:
    """Return how an error reads."""
    return str(error.value)


def test_another_host_key_is_refused(sshd: Sshd) -> None:
    """A host whose key is not the pinned one is refused, and both fingerprints are told."""
    with pytest.raises(LabError) as error:
        sshd.open(host_key=new_key()[1])
    assert refusal(error).count("SHA256:") == 2
    assert error.value.fault is Fault.GUEST


def test_another_type_of_host_key_is_refused(sshd: Sshd) -> None:
    """A pinned key of a type that the server does not have is no conversation at all."""
    ecdsa = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBA=="
    with pytest.raises(LabError) as error:
        sshd.open(host_key=ecdsa)
    assert "no SSH conversation" in refusal(error)


def test_malformed_pinned_key_is_our_fault(sshd: Sshd) -> None:
    """A pinned key that cannot be read is never taken as 'any key'."""
    with pytest.raises(LabError) as error:
        sshd.open(host_key="nonsense")
    assert error.value.fault is Fault.US


def test_wrong_key_is_refused(sshd: Sshd) -> None:
    """A private key that the host does not know is refused, and nothing of it is told."""
    stranger = new_key()[0]
    with pytest.raises(LabError) as error:
        sshd.open(private_key=stranger)
    assert "the key was refused" in refusal(error)
    assert stranger.splitlines()[1] not in refusal(error)


def test_text_that_is_no_key_is_refused(sshd: Sshd) -> None:
    """Text that is no private key is an error that does not repeat the text."""
    with pytest.raises(LabError) as error:
        sshd.open(private_key="hunter2")
    assert "hunter2" not in refusal(error)


def test_dead_port(sshd: Sshd) -> None:
    """Nobody listening is told as such at once."""
    nobody = replace(sshd, port=free_port())
    with pytest.raises(LabError, match="no connection to its SSH port"):
        nobody.open()


def test_silent_server_meets_the_deadline(sshd: Sshd) -> None:
    """A server that accepts and says nothing is given up at the deadline."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        before = time.monotonic()
        with pytest.raises(LabError, match="no SSH conversation"):
            Session.open(
                replace(sshd.host, patience=0.5),
                lambda _: socket.create_connection(("127.0.0.1", port)),
            )
        assert time.monotonic() - before < 15


def test_result_can_be_stored(session: Session) -> None:
    """A result carries what ran, both streams apart, the exit code and the times, as data."""
    result = session.run(["sh", "-c", "echo out; echo err >&2; exit 3"], check=False)
    assert (result.exit_code, result.stdout, result.stderr) == (3, b"out\n", b"err\n")
    assert abs(result.started - time.time()) < 60
    assert 0 < result.duration < 30
    stored = json.loads(json.dumps(result.to_json()))
    assert stored["argv"] == ["sh", "-c", "echo out; echo err >&2; exit 3"]


def test_failure_shows_command_and_last_lines(session: Session) -> None:
    """A failed command is an error with the command, its exit code and the last it said."""
    with pytest.raises(LabError) as error:
        session.run(["sh", "-c", "seq 1 100 >&2; exit 7"])
    text = refusal(error)
    assert "seq 1 100" in text
    assert "exit code 7" in text
    assert "100" in text
    assert "\n  50\n" not in text


def test_failure_never_shows_its_input(session: Session) -> None:
    """What goes in through stdin appears in no error."""
    with pytest.raises(LabError) as error:
        session.run(["sh", "-c", "cat >/dev/null; exit 1"], stdin=b"secret-word")
    assert "secret-word" not in refusal(error)


def test_command_killed_by_a_signal(session: Session) -> None:
    """A command that a signal ended is told apart from one that exits."""
    with pytest.raises(LabError, match="ended by a signal"):
        session.run(["sh", "-c", "kill -9 $$"])


def test_what_was_read_is_acknowledged_at_once() -> None:
    """The first channel after a login would else wait for a delayed acknowledgement (40 ms)."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
        with near, far:
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
            assert near.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK) == 0
            far.sendall(b"x")
            assert _PromptSocket(near).recv(1) == b"x"
            assert near.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK) == 1


def test_deadline_of_a_command(session: Session) -> None:
    """A command that outlives its deadline is an error, and the session still works."""
    before = time.monotonic()
    with pytest.raises(LabError, match=r"not done after 2 s") as error:
        session.run(["sh", "-c", "echo begun; exec sleep 20"], deadline=2.0)
    assert time.monotonic() - before < 15
    assert "begun" in refusal(error)
    assert session.run(["echo", "well"]).stdout == b"well\n"


def test_deadlines_are_kept_by_the_pace_of_the_host(sshd: Sshd) -> None:
    """A host that is slow by nature is given as many times as long, for all that it does."""
    with Session.open(replace(sshd.host, pace=20.0), sshd.dial) as slow:
        assert slow.within(30) == 600
        with pytest.raises(LabError, match=r"not done after 2 s"):
            slow.run(["sleep", "20"], deadline=0.1)


def test_output_that_a_background_process_keeps_open(session: Session) -> None:
    """A command that leaves something holding its output is told so at the deadline."""
    with pytest.raises(LabError, match="keeps its output open"):
        session.run(["sh", "-c", "sleep 20 & exit 0"], deadline=3.0)


def test_ten_megabytes_on_both_streams(session: Session) -> None:
    """Much output on both streams at once arrives whole."""
    size = 10 * 1024 * 1024
    script = f"head -c {size} /dev/zero & head -c {size} /dev/zero >&2; wait"
    result = session.run(["sh", "-c", script], deadline=120)
    assert (len(result.stdout), len(result.stderr)) == (size, size)


def test_large_input_and_output_at_once(session: Session) -> None:
    """Input beyond the channel's window flows while the command answers."""
    content = os.urandom(8 * 1024 * 1024)
    assert session.run(["cat"], stdin=content, deadline=120).stdout == content


def test_command_that_ignores_its_input(session: Session) -> None:
    """Input that nobody reads is no failure of the command."""
    assert session.run(["true"], stdin=b"x" * 5_000_000).exit_code == 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), max_size=6))
def test_arguments_arrive_unchanged(session: Session, arguments: list[str]) -> None:
    """Any argument, with quotes, newlines, $ and emoji, arrives as it was given."""
    printed = session.run(["/usr/bin/printf", r"%s\0", *arguments, "end"]).stdout
    assert printed == b"".join(a.encode() + b"\0" for a in [*arguments, "end"])


@settings(max_examples=15, deadline=None)
@given(st.binary(max_size=3000))
def test_binary_input_comes_back_unchanged(session: Session, content: bytes) -> None:
    """Bytes pass through a command unchanged."""
    assert session.run(["cat"], stdin=content).stdout == content


def test_put_and_get(session: Session, tmp_path: Path) -> None:
    """A file put has the content and the mode asked for, and nothing else is left beside it."""
    path = tmp_path / "new folder" / ".it's\n$HOME ☃"
    content = bytes(range(256)) * 300
    session.put(content, str(path), 0o640)
    assert session.get(str(path)) == content
    assert path.stat().st_mode & 0o7777 == 0o640
    session.put(b"", str(path))
    assert path.read_bytes() == b""
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_put_many_in_one_command(session: Session, tmp_path: Path) -> None:
    """Many files of several folders arrive together, each with its own mode."""
    files = [File(f"{tmp_path}/{i % 3}/-f{i}", b"%d" % i, 0o600 + i) for i in range(9)]
    session.put_many(files)
    for i in range(9):
        path = tmp_path / str(i % 3) / f"-f{i}"
        assert path.read_bytes() == b"%d" % i
        assert path.stat().st_mode & 0o777 == 0o600 + i


def test_put_replaces_by_rename(session: Session, tmp_path: Path) -> None:
    """A reader that has the old file open goes on reading the old one, whole."""
    path = tmp_path / "file"
    path.write_bytes(b"old" * 1000)
    with path.open("rb") as reader:
        session.put(b"new", str(path))
        assert reader.read() == b"old" * 1000
    assert path.read_bytes() == b"new"


def test_put_that_cannot_succeed(session: Session, tmp_path: Path) -> None:
    """A destination that is a folder is an error, not a file inside it."""
    (tmp_path / "taken" / "x").mkdir(parents=True)
    with pytest.raises(LabError, match="taken"):
        session.put(b"new", str(tmp_path / "taken" / "x"))
    with pytest.raises(ValueError, match="absolute"):
        session.put(b"new", "relative")


def test_get_of_what_is_not_there(session: Session, tmp_path: Path) -> None:
    """A file that does not exist is named in the error."""
    with pytest.raises(LabError, match="No such file"):
        session.get(str(tmp_path / "none"))


def test_commands_from_many_threads(session: Session) -> None:
    """One session serves several threads at a time."""
    said: dict[int, bytes] = {}

    def speak(number: int) -> None:
        said[number] = session.run(["echo", str(number)]).stdout

    threads = [threading.Thread(target=speak, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == {i: b"%d\n" % i for i in range(8)}


def test_lost_connection_is_told(tmp_path: Path) -> None:
    """A connection that ends under a command is an error that says so."""
    with running_sshd(tmp_path) as own, own.open() as opened:
        timer = threading.Timer(0.3, opened._transport.sock.shutdown, (socket.SHUT_RDWR,))
        timer.start()
        with pytest.raises(LabError, match="connection is lost"):
            opened.run(["sleep", "5"])
        assert not opened.alive
        with pytest.raises(LabError, match="connection is lost"):
            opened.run(["true"])
