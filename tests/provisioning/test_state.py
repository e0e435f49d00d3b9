"""Desired state: what there is and what is wanted in, what has to be done out."""

from __future__ import annotations

import getpass
import grp
import hashlib
import os
import subprocess
import tarfile
from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING

import pytest

from provisioning.files import File, Folder, bundle
from provisioning.state import (
    Changes,
    Data,
    Desired,
    Facts,
    Service,
    apply_script,
    changes,
    facts_script,
    parse_facts,
)

if TYPE_CHECKING:
    from pathlib import Path

WEB = Service("web", ("start",), ("again",), "/run/web.pid", ":80", ("/etc/web", "/srv/lib"))
WANTED = Desired(
    programs=("/usr/sbin/web",),
    folders=(Folder("/srv", 0o750, "root:adm"),),
    files=(File("/etc/web", b"port 80"), File("/etc/motd", b"hello")),
    services=(WEB,),
    data=(Data("rows", ("ask",), "one\ntwo", ("load",), b"secret"),),
)
AS_WANTED = Facts(
    folders={"/srv": (0o750, "root:adm")},
    files={
        "/etc/web": (0o644, "root:root", hashlib.sha256(b"port 80").hexdigest()),
        "/etc/motd": (0o644, "root:root", hashlib.sha256(b"hello").hexdigest()),
    },
    services={"web": "running"},
    data={"rows": "one\ntwo"},
)


def test_nothing_to_do() -> None:
    """What is as wanted causes no change at all."""
    assert changes(WANTED, AS_WANTED) == Changes()
    assert Changes().words() == ()


def test_a_bare_host_needs_everything() -> None:
    """Where nothing is, everything is made, in words too."""
    todo = changes(WANTED, Facts({}, {}, {}, {}))
    assert todo == Changes(
        folders=WANTED.folders,
        files=WANTED.files,
        start=(WEB,),
        data=WANTED.data,
        new=frozenset({"/etc/web", "/etc/motd"}),
    )
    assert todo.words() == (
        "folder /srv",
        "file /etc/web",
        "file /etc/motd",
        "started web",
        "rows",
    )


@pytest.mark.parametrize(
    "found",
    [
        (0o600, "root:root", hashlib.sha256(b"port 80").hexdigest()),
        (0o644, "www-data:root", hashlib.sha256(b"port 80").hexdigest()),
        (0o644, "root:root", hashlib.sha256(b"port 81").hexdigest()),
    ],
    ids=["mode", "owner", "content"],
)
def test_a_file_that_differs_restarts_its_service(found: tuple[int, str, str]) -> None:
    """A file of another mode, owner or content is replaced; the service takes it up."""
    facts = replace(AS_WANTED, files={**AS_WANTED.files, "/etc/web": found})
    assert changes(WANTED, facts) == Changes(files=(WANTED.files[0],), restart=(WEB,))


def test_a_file_of_no_service_restarts_nothing() -> None:
    """A changed file that no service reads leaves the services alone."""
    facts = replace(AS_WANTED, files={"/etc/web": AS_WANTED.files["/etc/web"]})
    todo = changes(WANTED, facts)
    assert (todo.files, todo.start, todo.restart) == ((WANTED.files[1],), (), ())


def test_a_file_below_a_folder_of_a_service_restarts_it() -> None:
    """A service that reads a folder is restarted for any file below it, and only below."""
    wanted = Desired(files=(File("/srv/lib/a/b", b""),), services=(WEB,))
    beside = Desired(files=(File("/srv/library", b""),), services=(WEB,))
    facts = Facts({}, {}, {"web": "running"}, {})
    assert changes(wanted, facts).restart == (WEB,)
    assert changes(beside, facts).restart == ()


def test_a_service_older_than_its_files_is_restarted() -> None:
    """A service that did not take up a change, as after a crash in between, is restarted."""
    facts = replace(AS_WANTED, services={"web": "stale"})
    assert changes(WANTED, facts) == Changes(restart=(WEB,))


def test_a_stopped_service_is_started_once() -> None:
    """A service that is stopped is started and not restarted as well, whatever changed."""
    todo = changes(WANTED, replace(AS_WANTED, services={"web": "stopped"}, files={}))
    assert (todo.start, todo.restart) == ((WEB,), ())


def test_other_data_is_loaded() -> None:
    """Data that answers differently is loaded."""
    facts = replace(AS_WANTED, data={"rows": "one"})
    assert changes(WANTED, facts) == Changes(data=WANTED.data)


def test_contents_are_no_part_of_the_script() -> None:
    """What is loaded may be secret: it stands in no script and no representation."""
    script = apply_script(changes(WANTED, Facts({}, {}, {}, {})), {"rows": "/run/x/0"})
    assert "secret" not in script
    assert "load < /run/x/0" in script
    assert "secret" not in repr(WANTED.data)


def here(path: str, content: bytes = b"") -> File:
    """Return a file that the user who runs the tests would own."""
    group = grp.getgrgid(os.getgid()).gr_name
    return File(path, content, 0o644, f"{getpass.getuser()}:{group}")


def test_facts_of_a_real_file_system(tmp_path: Path) -> None:
    """The script, run by a real shell, tells of files, services and data what is there."""
    odd = tmp_path / "it's a $file"
    odd.write_bytes(b"x")
    odd.chmod(0o644)
    pid = tmp_path / "pid"
    pid.write_text(f"{os.getpid()}\n")
    os.utime(odd, (1, 1))
    running = Service("running", (), (), str(pid), ":1", (str(odd),))
    stopped = Service("stopped", (), (), str(tmp_path / "none"), ":1")
    (tmp_path / "unended").write_text(f"{os.getpid()}")  # no end of line: Prosody's is so
    unended = replace(running, name="unended", pid_file=str(tmp_path / "unended"))
    stale = replace(running, name="stale", files=(str(tmp_path / "new"),))
    (tmp_path / "new").touch()
    os.utime(tmp_path / "new", (4e9, 4e9))
    wanted = Desired(
        programs=("sh", "no-such-program"),
        files=(here(str(odd), b"x"), here(str(tmp_path / "missing"))),
        services=(running, unended, stopped, stale),
        data=(
            Data("silent", ("false",), "", ("true",), b""),
            Data("spoken", ("printf", "a\\nb\\n"), "a\nb", ("true",), b""),
        ),
    )
    printed = subprocess.run(
        ["/bin/sh", "-s"], input=facts_script(wanted), capture_output=True, text=True, check=True
    )
    assert printed.stderr == ""
    facts = parse_facts(wanted, printed.stdout)
    assert facts == Facts(
        folders={},
        files={str(odd): (0o644, wanted.files[0].owner, hashlib.sha256(b"x").hexdigest())},
        services={
            "running": "running",
            "unended": "running",
            "stopped": "stopped",
            "stale": "stale",
        },
        data={"silent": "", "spoken": "a\nb"},
        missing=("no-such-program",),
    )
    todo = changes(wanted, facts)
    assert [file.path for file in todo.files] == [str(tmp_path / "missing")]
    assert [data.name for data in todo.data] == []


def test_facts_of_nothing() -> None:
    """Output that ends early reads as 'nothing is there', not as a fault of ours."""
    assert changes(WANTED, parse_facts(WANTED, "")).files == WANTED.files


def test_bundle_stages_only_what_replaces() -> None:
    """Files that replace others go through a folder beside them; new ones need no rename."""
    files = (File("/a/old", b"1", 0o600), File("/a/new", b"2", 0o640, "www-data:adm"))
    archive, script = bundle(files, (Folder("/a/d", 0o700, "mysql:root"),), {"/a/new"})
    with tarfile.open(fileobj=BytesIO(archive)) as tar:
        folder, old, new = tar.getmembers()
    assert (folder.name, folder.isdir(), folder.mode, folder.uname) == ("a/d", True, 0o700, "mysql")
    assert old.name.startswith("a/.new-")
    assert (new.name, new.mode, new.uname, new.gname) == ("a/new", 0o640, "www-data", "adm")
    assert script.count("mv ") == 1


@pytest.mark.parametrize("path", ["relative", "/a/../b", "/"])
def test_bundle_wants_absolute_paths(path: str) -> None:
    """A path that could end elsewhere is refused."""
    with pytest.raises(ValueError, match="absolute"):
        bundle((File(path, b""),))


def test_service_that_never_answers_is_told(tmp_path: Path) -> None:
    """The script ends with the service's name and deadline if it does not answer in time."""
    dead = Service("dead", ("true",), ("true",), "", str(tmp_path / "socket"), deadline=0.05)
    script = apply_script(Changes(start=(dead,)), {})
    told = subprocess.run(["/bin/sh"], input=script, capture_output=True, text=True, check=False)
    assert told.returncode == 1
    assert "dead does not answer" in told.stderr
    assert "after 0.05 s" in told.stderr
