"""The image cache with real builds: a tiny recipe, interrupted, contended, used, removed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab import image_recipe, images
from lab.apt_sources import machine_sources
from lab.errors import LabError
from lab.images import ImageRef, ensure_image, find_image, hold_image, list_images, remove_image
from lab.userns import (
    CLONE_NEWNS,
    CLONE_NEWPID,
    MS_BIND,
    MS_PRIVATE,
    MS_REC,
    ids_for_current_user,
    mount,
    run_mapped,
)

if TYPE_CHECKING:
    from lab.image_recipe import Form

PROJECT = Path(__file__).parents[2]
KILLS = int(os.environ.get("IMLAB_TEST_KILLS", "5"))

TINY = """
description: the least that can be built
suite: bookworm
needs_mib: 300
packages: [tini]
files:
  /etc/tiny/told: {content: "before\\n", mode: 640}
commands:
  - [test, -s, /etc/tiny/told]
"""

# What is in a disk beside the files, so that no kernel and no GRUB have to be unpacked here.
TINY_DISK = """
description: a disk that does not boot
needs_mib: 100
packages: []
commands:
  - [mkdir, -p, /boot/grub]
  - [truncate, --size=510, /boot/grub/boot.img]
  - [sh, -c, 'printf "\\125\\252" >>/boot/grub/boot.img']
  - [truncate, --size=30000, /boot/grub/core.img]
"""

BUILD = """
import sys
sys.path.insert(0, {project!r})
from pathlib import Path
from lab import image_recipe, images
image_recipe.RECIPES = Path({recipes!r})
last = None
def show(phase, _fraction):
    global last
    if phase != last:
        print(phase, flush=True)
    last = phase
print(images.ensure_image("tiny", show, {form!r}).key, flush=True)
"""

pytestmark = [pytest.mark.lab, pytest.mark.slow]


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the recipe 'tiny' and one that cannot be built."""
    folder = tmp_path_factory.mktemp("recipes")
    (folder / "tiny.yaml").write_text(TINY)
    (folder / "forms").mkdir()
    (folder / "forms" / "disk.yaml").write_text(TINY_DISK)
    (folder / "nonesuch.yaml").write_text(TINY.replace("[tini]", "[tini, imlab-nonesuch]"))
    return folder


@pytest.fixture(autouse=True)
def _use_recipes(recipes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_recipe, "RECIPES", recipes)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use an empty cache; return its images folder."""
    monkeypatch.setenv("IMLAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "images"


@pytest.fixture(scope="module")
def built_cache(tmp_path_factory: pytest.TempPathFactory, recipes: Path) -> Path:
    """Build 'tiny' once, in the process that the caller is; return the cache's folder."""
    folder = tmp_path_factory.mktemp("built")
    subprocess.run(build_command(recipes), env=environment(folder), check=True)
    return folder


@pytest.fixture
def tiny(built_cache: Path, monkeypatch: pytest.MonkeyPatch) -> ImageRef:
    """Return the image 'tiny', built once for all tests that only look at it."""
    monkeypatch.setenv("IMLAB_CACHE", str(built_cache))
    found = find_image("tiny")
    assert found is not None
    return found


def build_command(recipes: Path, form: Form = "rootfs") -> list[str]:
    """Return the command that ensures 'tiny', telling its phases and at last the key."""
    script = BUILD.format(project=str(PROJECT), recipes=str(recipes), form=form)
    return [sys.executable, "-c", script]


def environment(cache: Path) -> dict[str, str]:
    """Return this process's environment with another image cache."""
    return {**os.environ, "IMLAB_CACHE": str(cache)}


def await_end_of_builds(folder: Path) -> None:
    """Wait until no process has `folder` mounted (each build binds its own); fail after 5 s."""
    deadline = time.monotonic() + 30
    while left := [p for p in Path("/proc").glob("[0-9]*") if str(folder) in mounts(p)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


def mounts(process: Path) -> str:
    """Return what a process has mounted; nothing if it has gone."""
    try:
        return (process / "mountinfo").read_text()
    except OSError:
        return ""


def in_image(image: ImageRef, path: str) -> bytes:
    """Read a file of the image as mapped root."""
    opened: list[int] = []

    def read() -> str:
        fd = os.open(path, os.O_RDONLY, dir_fd=opened[0])
        return os.read(fd, 1 << 20).decode("latin-1")

    return run_mapped(
        read, as_caller=lambda: opened.append(os.open(image.rootfs, os.O_PATH))
    ).encode("latin-1")


def test_an_image_is_what_its_recipe_says(tiny: ImageRef) -> None:
    """Packages are installed and listed, files written, and meta.json tells where it is from."""
    assert "tini" in tiny.meta["packages"]
    assert in_image(tiny, "etc/tiny/told") == b"before\n"
    assert tiny.meta["recipe"]["packages"] == ["tini"]
    assert tiny.meta["bytes"] > 50 << 20
    assert tiny.meta["duration_s"] > 1
    assert images.is_current(tiny)


def test_an_image_names_neither_the_machine_nor_its_mirror(tiny: ImageRef) -> None:
    """No mirror, no resolver, no host name, no machine id, no host key, no package lists."""
    for path in ("etc/apt/sources.list", "etc/resolv.conf", "etc/machine-id"):
        assert in_image(tiny, path) == b""
    assert in_image(tiny, "etc/hostname") == b"imlab\n"
    sources = "\n".join(machine_sources("bookworm").values())
    names = {word.split("/")[2] for word in sources.split() if "://" in word}
    opened: list[int] = []

    def search() -> list[str]:
        os.fchdir(opened[0])
        hits = []
        for top in ("etc", "var"):
            for root, _, files in os.walk(top):
                for name in files:
                    path = root + "/" + name
                    if os.path.islink(path):  # noqa: PTH114 -- pathlib could import in here
                        continue
                    with open(path, "rb") as stream:  # noqa: PTH123 -- as above
                        content = stream.read()
                    hits += [path for mirror in names if mirror.encode() in content]
                    if name.startswith("ssh_host_") or path.startswith("var/lib/apt/lists/"):
                        hits.append(path)
        return hits

    hits = run_mapped(search, as_caller=lambda: opened.append(os.open(tiny.rootfs, os.O_RDONLY)))
    assert hits == []


def test_files_belong_to_the_mapped_range_behind_a_private_folder(tiny: ImageRef) -> None:
    """Outside, an image's root is a subordinate id, and only the cache's owner gets there."""
    assert tiny.rootfs.stat().st_uid == ids_for_current_user().uids.first
    assert tiny.folder.parent.stat().st_mode & 0o777 == 0o700


def test_an_image_works_below_an_overlay(tiny: ImageRef) -> None:
    """With userxattr in a user namespace: programs run, lower folders go, the image stays."""
    opened: list[int] = []

    def work() -> list[str]:
        mount("none", "/", flags=MS_REC | MS_PRIVATE)
        mount("proc", "/proc", "proc")
        mount("tmpfs", "/mnt", "tmpfs", data="mode=755")
        for name in ("lower", "upper", "work", "root"):
            (Path("/mnt") / name).mkdir()
        mount(f"/proc/self/fd/{opened[0]}", "/mnt/lower", flags=MS_BIND)
        options = "lowerdir=/mnt/lower,upperdir=/mnt/upper,workdir=/mnt/work,userxattr"
        mount("overlay", "/mnt/root", "overlay", data=options)
        script = "tini --version; rm -r /var/lib/dpkg && test ! -e /var/lib/dpkg && echo gone"
        done = subprocess.run(
            ["chroot", "/mnt/root", "sh", "-c", script], capture_output=True, check=False
        )
        return [done.stdout.decode(), done.stderr.decode()]

    said, wrong = run_mapped(
        work,
        namespaces=CLONE_NEWNS | CLONE_NEWPID,
        as_caller=lambda: opened.append(os.open(tiny.rootfs, os.O_PATH)),
    )
    assert (said.startswith("tini version"), said.endswith("gone\n"), wrong) == (True, True, "")
    assert (tiny.rootfs / "var/lib/dpkg/status").exists()


def test_a_second_call_builds_nothing(tiny: ImageRef) -> None:
    """What the cache has is used at once, without a phase to report."""
    phases: list[str] = []
    again = ensure_image("tiny", lambda phase, _fraction: phases.append(phase))
    assert (again, phases) == (tiny, [])


def test_a_held_image_cannot_be_removed(tiny: ImageRef, cache: Path) -> None:
    """hold_image keeps it while any copy of the descriptor is open; then removal frees all."""
    cache.mkdir(parents=True)
    # An image of our own to remove: mapped root's files, in a folder like the cache's.
    folder = cache / tiny.folder.name
    folder.mkdir()
    folder.chmod(0o777)
    opened: list[int] = []
    run_mapped(
        lambda: os.makedirs(f"/proc/self/fd/{opened[0]}/rootfs/usr/bin"),  # noqa: PTH103 -- returns None
        as_caller=lambda: opened.append(os.open(folder, os.O_PATH)),
    )
    shutil.copy(tiny.folder / "meta.json", folder)
    mine = ImageRef(tiny.name, tiny.key, folder, tiny.meta)
    fds = [hold_image(mine), hold_image(mine)]
    os.close(fds[0])
    with pytest.raises(LabError, match="in use"):
        remove_image(mine)
    assert mine.rootfs.is_dir()
    os.close(fds[1])
    assert remove_image(mine) == tiny.meta["bytes"]
    assert list(cache.iterdir()) == []
    with pytest.raises(LabError, match="removed"):
        hold_image(mine)


def test_two_builders_build_once(recipes: Path, cache: Path) -> None:
    """The second waits and then uses what the first has made."""
    pair = [
        subprocess.Popen(
            build_command(recipes), env=environment(cache.parent), stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = sorted((process.communicate(timeout=120)[0].splitlines() for process in pair), key=len)
    assert [process.returncode for process in pair] == [0, 0]
    assert said[0][0].startswith("waiting for another process")
    assert said[0][-1] == said[1][-1]
    assert len(said[0]) == 2
    assert [image.key for image in list_images()] == [said[0][-1]]
    remove_image(list_images()[0])


def test_a_build_that_fails_says_why_and_leaves_nothing(cache: Path) -> None:
    """The error shows apt's own line; the cache is as empty as before."""
    with pytest.raises(LabError, match="Unable to locate package imlab-nonesuch"):
        ensure_image("nonesuch")
    assert list(cache.iterdir()) == []


def test_too_little_space_is_seen_before_anything_is_built(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names what is free and what is wanted."""
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _folder: type("usage", (), {"free": 5 << 20})()
    )
    with pytest.raises(LabError, match=r"5 MiB free .* 300 MiB wanted"):
        ensure_image("tiny")
    assert list(cache.iterdir()) == []


def test_ctrl_c_leaves_nothing(recipes: Path, cache: Path) -> None:
    """SIGINT in the middle: when the process has ended nothing half-made is there."""
    with subprocess.Popen(
        build_command(recipes),
        env=environment(cache.parent),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        while "unpacking" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
    assert list(cache.iterdir()) == []
    await_end_of_builds(cache)


def test_a_disk_is_built_from_what_the_image_would_have(recipes: Path, cache: Path) -> None:
    """Both forms of a recipe lie side by side; one can be removed without the other."""
    subprocess.run(build_command(recipes, "disk"), env=environment(cache.parent), check=True)
    [disk] = list_images()
    assert (disk.form, disk.name, "tini" in disk.meta["packages"]) == ("disk", "tiny", True)
    assert find_image("tiny") is None
    assert find_image("tiny", "disk") == disk
    assert images.matching("tiny", form="disk") == [disk]
    with pytest.raises(LabError, match=disk.folder.name):
        images.matching("tiny", form="rootfs")
    remove_image(disk)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(
    ("form", "kill"),
    [("rootfs", n) for n in range(KILLS)] + [("disk", n) for n in range(-(-KILLS // 2))],
)
def test_kill_9_leaves_nothing_half_made(
    recipes: Path, tiny: ImageRef, form: Form, kill: int
) -> None:
    """Killed at a random moment: its processes end, and the next use finds nothing or an image.

    A disk is as a root file system is until the end: it is killed while what is its own is made.
    """
    longest = float(tiny.meta["duration_s"]) + 0.4
    moment = random.Random(kill).uniform(0.0, longest)
    folder = tiny.folder.parents[2] / f"kill-{kill}"
    with subprocess.Popen(
        build_command(recipes, form), env=environment(folder), stdout=subprocess.PIPE, text=True
    ) as process:
        if form == "disk":
            assert process.stdout is not None
            while "cleaning up" not in process.stdout.readline():
                assert process.poll() is None
            moment /= 4
        try:
            process.wait(timeout=moment)
        except subprocess.TimeoutExpired:
            process.kill()
    os.environ["IMLAB_CACHE"] = str(folder)  # the fixture of `tiny` puts it back
    try:
        await_end_of_builds(folder)
        if (folder / "images").exists():
            deadline = time.monotonic() + 30
            while True:
                found = list_images()
                names = {path.name for path in (folder / "images").iterdir()}
                halves = {name for name in names if name.startswith(".half-")}
                if not halves:
                    break
                assert time.monotonic() < deadline, names  # its lock outlived the build
                time.sleep(0.02)
            # Nothing but whole images, each with its lock.
            whole = {image.folder.name for image in found}
            assert names == whole | {f"{name}.lock" for name in whole}
            for image in found:
                assert (image.path / "usr/bin/tini" if form == "rootfs" else image.path).exists()
                remove_image(image)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert not folder.exists()
