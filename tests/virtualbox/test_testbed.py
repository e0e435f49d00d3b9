"""The testbed: a real VirtualBox without its driver, and a machine that boots in it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from guard import GUARD
from real_labs import PROJECT, small_plan

from lab.bootstrap import host_files, make_keys
from lab.hosts import Host
from lab.seed import seed_iso
from provisioning.files import File
from provisioning.state import Desired, Service, apply
from provisioning.transport import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lab.providers.virtualbox.testbed import Instance, Testbed
    from lab.providers.virtualbox.testbed.tiny import TinyMachine

pytestmark = [pytest.mark.lab, pytest.mark.virtualbox, pytest.mark.slow]

INSIDE = Path(__file__).with_name("inside.py")
MAC = "52:54:00:12:34:56"
WEB = Desired(
    programs=("httpd",),
    files=(File("/srv/www/index.html", b"hello from the machine\n"),),
    services=(
        Service(
            "httpd",
            ("sh", "-c", "httpd -f -p 80 -h /srv/www & echo $! >/run/httpd.pid"),
            ("sh", "-c", "killall httpd; httpd -f -p 80 -h /srv/www & echo $! >/run/httpd.pid"),
            "/run/httpd.pid",
            ":80",
        ),
    ),
)


def ask(instance: Instance, *what: str) -> str:
    """Have inside.py do something in a VirtualBox; return what it says."""
    done = subprocess.run(
        [instance.python, INSIDE, *what],
        env={**os.environ, **instance.environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def free_port() -> int:
    """Return a port of the loopback that nobody listens at."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def wait_for(what: Callable[[], bool], seconds: float, why: Callable[[], str]) -> None:
    """Return when `what` holds; fail with `why` when it does not within the time."""
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, why()
        time.sleep(0.05)


@contextmanager
def seeded(folder: Path) -> Iterator[tuple[Path, Host]]:
    """Give a seed CD for the small lab's peer, and how to log in there."""
    plan = small_plan()
    keys = make_keys(plan)
    cd = folder / "seed.iso"
    cd.touch(mode=0o600)
    cd.write_bytes(seed_iso(plan, "peer", host_files(plan, "peer", keys), management_mac=MAC))
    yield cd, Host("peer", "root", keys.hosts["peer"].public, keys.client.private, 120.0)
    cd.unlink()


def check_machine(host: Host, port: int) -> None:
    """Log in with the pinned key, provision, read what the provisioned service says."""
    with Session.open(host, lambda _: socket.create_connection(("127.0.0.1", port), 30)) as peer:
        said = peer.run(["sh", "-c", "hostname; ip -o -4 address"]).stdout.decode()
        assert said.startswith("peer\n")
        assert "mgmt0    inet 10.0.2.15/24 " in said
        assert "eth0    inet 192.168.1.20/24 " in said
        assert apply(peer, WEB) == ("file /srv/www/index.html", "started httpd")
        assert apply(peer, WEB) == ()
        with peer.connect("127.0.0.1", 80, deadline=30.0) as web:
            web.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = b""
            while chunk := web.recv(4096):
                answer += chunk
        assert answer.endswith(b"\r\n\r\nhello from the machine\n")


def test_it_is_a_virtualbox(instance: Instance) -> None:
    """Its API makes a machine, which lies in the instance's folder, and removes it again."""
    assert ask(instance, "version").startswith("7.2.")
    ask(instance, "create", "made")
    assert ask(instance, "names") == "made"
    assert (instance.home / "machines" / "made" / "made.vbox").is_file()
    ask(instance, "delete", "made")
    assert ask(instance, "names") == ""
    assert not (instance.home / "machines" / "made").exists()


def test_instances_know_nothing_of_each_other(testbed: Testbed, tmp_path: Path) -> None:
    """Two VirtualBoxes run side by side, and the end of one is not that of the other."""
    one, two = (testbed.instance(tmp_path / name) for name in ("one", "two"))
    GUARD.watch(one)
    GUARD.watch(two)
    try:
        ask(one, "create", "mine")
        assert ask(two, "names") == ""
        assert "VBoxSVC" in one.processes().values()
        one.stop()
        assert one.processes() == {}
        assert not one.socket_folder.exists()
        assert "VBoxSVC" in two.processes().values()
        assert ask(one, "names") == "mine"
    finally:
        one.stop()
        two.stop()


def test_paths_are_the_same_inside_and_outside(instance: Instance, tmp_path: Path) -> None:
    """What the caller has, the machine's own Python sees; /usr and /etc are the testbed's."""
    (tmp_path / "here").write_text("told")
    script = (
        "import sys, pathlib as p, virtualbox;"
        "print(p.Path(sys.argv[1]).read_text(), p.Path('/usr/lib/virtualbox/VBoxSVC').exists(),"
        " p.Path.cwd());"
        "p.Path('/usr/new').touch()"
    )
    done = subprocess.run(
        [instance.python, "-c", script, tmp_path / "here"],
        env={**os.environ, **instance.environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["told", "True", str(tmp_path)]
    assert "Read-only file system" in done.stderr
    assert not Path("/usr/new").exists()


def test_an_ordinary_user_is_told(testbed: Testbed, tmp_path: Path) -> None:
    """Mounting takes root: exit code 3 and one line, and no folder is made."""
    launcher = tmp_path / "vbox-python"
    launcher.write_bytes(testbed.python.read_bytes())  # the cache is root's alone
    launcher.chmod(0o755)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.is_relative_to("/tmp") and folder != Path("/tmp"):
            folder.chmod(0o755)
    done = subprocess.run(
        ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", launcher, "-V"],
        env={"PATH": os.environ["PATH"], "IMLAB_VBOX_HOME": str(tmp_path / "vb")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "vbox-python: the VirtualBox testbed needs root (it mounts): sudo -E it\n"
    assert not (tmp_path / "vb").exists()


def test_a_machine_boots_and_obeys_its_power_button(
    instance: Instance, tiny: TinyMachine, tmp_path: Path
) -> None:
    """Without the driver: login with the pinned key, a role, ACPI; the cached disk stays."""
    before = tiny.vdi.read_bytes()
    port, serial = free_port(), tmp_path / "serial"
    with seeded(tmp_path) as (cd, host):
        running = subprocess.Popen(
            [instance.python, INSIDE, "boot", "tiny", tiny.vdi, cd, str(port), serial],
            env={**os.environ, **instance.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert running.stdin
        assert running.stdout
        try:
            assert running.stdout.readline() == "running\n"
            assert {"VBoxSVC", "VirtualBoxVM", "Xvfb"} <= set(instance.processes().values())
            console = lambda: serial.read_text(errors="replace")  # noqa: E731 - short
            wait_for(lambda: "imlab: ready" in console(), 300, console)
            check_machine(host, port)
            running.stdin.close()
            assert running.stdout.readline() == "off\n"
            assert running.wait(60) == 0
        finally:
            running.kill()
            running.wait()
    assert ask(instance, "names") == ""
    assert not (instance.home / "machines" / "tiny").exists()
    assert tiny.vdi.read_bytes() == before
    instance.stop()
    assert instance.processes() == {}


def test_stopping_ends_machines_and_displays(
    instance: Instance, tiny: TinyMachine, tmp_path: Path
) -> None:
    """Whatever runs: nothing of it is left, and its X server has put its lock away."""
    locks = set(Path("/tmp").glob(".X*-lock"))
    with seeded(tmp_path) as (cd, _):
        running = subprocess.Popen(
            [instance.python, INSIDE, "boot", "t", tiny.vdi, cd, str(free_port()), tmp_path / "s"],
            env={**os.environ, **instance.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert running.stdout
        assert running.stdout.readline() == "running\n"
        instance.stop()
        assert running.wait(10) != 0
    assert instance.processes() == {}
    assert not instance.socket_folder.exists()
    wait_for(lambda: set(Path("/tmp").glob(".X*-lock")) <= locks, 10, lambda: "a lock is left")


BEGIN = """
import sys, time
sys.path[:0] = sys.argv[3:]
from pathlib import Path
from guard import GUARD
from lab.providers.virtualbox.testbed import Instance
instance = Instance(Path(sys.argv[1]), Path(sys.argv[2]))
GUARD.watch(instance)
GUARD.watch_labs(Path(sys.argv[2]).parent / "state")
print("watched", flush=True)
sys.stdin.read()
"""


def test_what_killed_tests_leave_behind_is_ended(
    testbed: Testbed, instance: Instance, tmp_path: Path
) -> None:
    """By a process beside them: kill -9 gives nobody a chance to clean up; another's stays."""
    ended = testbed.instance(tmp_path / "ended")
    tests = subprocess.Popen(
        [sys.executable, "-c", BEGIN, ended.python, ended.folder, str(PROJECT),
         str(PROJECT / "tests" / "virtualbox")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert tests.stdout
    try:
        assert tests.stdout.readline() == "watched\n"
        for box in (ended, instance):
            ask(box, "version")
            assert "VBoxSVC" in box.processes().values()
        tests.kill()
        wait_for(lambda: not ended.processes(), 30, lambda: str(ended.processes()))
        assert "VBoxSVC" in instance.processes().values()
    finally:
        tests.kill()
        tests.communicate()
        ended.stop()


def test_the_machine_is_known_good_under_qemu(tiny: TinyMachine, tmp_path: Path) -> None:
    """The same disk and CD, on an IDE controller and with another BIOS."""
    port, serial, monitor = free_port(), tmp_path / "serial", tmp_path / "monitor"
    with seeded(tmp_path) as (cd, host):
        forward = f"user,id=n,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22"
        running = subprocess.Popen(
            [
                "qemu-system-x86_64", "-accel", "tcg", "-m", "128", "-display", "none",
                "-drive", f"file={tiny.raw},format=raw,if=ide,snapshot=on", "-cdrom", str(cd),
                "-netdev", forward, "-device", f"e1000,netdev=n,mac={MAC}",
                "-device", "e1000,mac=02:00:00:00:00:03",
                "-serial", f"file:{serial}", "-monitor", f"unix:{monitor},server,nowait",
            ],
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            console = lambda: serial.read_text(errors="replace") if serial.exists() else ""  # noqa: E731 - short
            wait_for(lambda: "imlab: ready" in console(), 120, console)
            check_machine(host, port)
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(monitor))
                sock.sendall(b"system_powerdown\n")
                assert running.wait(60) == 0
        finally:
            running.kill()
            running.wait()
