"""Building a root file system from a recipe, with mmdebstrap.

Everything happens as root of a user namespace and as process 1 of a process namespace: the
files belong to the caller's subordinate ids from the first one on, an ordinary user builds in
the same way as root does, maintainer scripts are nobody outside, and nothing that the build
started can outlive it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.apt_sources import machine_settings, machine_sources
from lab.errors import Fault, LabError
from lab.userns import (
    CLONE_NEWNS,
    CLONE_NEWPID,
    MS_BIND,
    MS_PRIVATE,
    MS_REC,
    Ids,
    mount,
    run_mapped,
    sync_filesystem,
)

if TYPE_CHECKING:
    from lab.image_recipe import Recipe

BUILDER = "1"
"""Version of this module, a part of every image's key: raise it when the result changes."""

Progress = Callable[[str, float | None], None]
"""Called with a phase in words and how much of that phase is done (0 to 1; None: not known).
Called from a thread of its own."""

TOOLS_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_WORK = Path("/tmp")  # noqa: S108 -- a tmpfs of the build's own mount namespace lies on it
_EXCLUDED = ("doc/*", "man/*", "info/*", "locale/*", "lintian/*", "bug/*")
_GONE = (
    "etc/apt/sources.list",
    "etc/apt/sources.list.d/*",
    "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/dpkg/dpkg.cfg.d/99mmdebstrap",
    "etc/resolv.conf",
    "etc/ssh/ssh_host_*",
    "etc/**/*.ucf-dist",
    "var/lib/apt/lists/*",
    "var/cache/apt/*",
    "var/cache/debconf/*-old",
    "var/lib/dpkg/*-old",
    "var/log/*.log",
    "var/log/apt/*",
    "var/lib/systemd/random-seed",
)
"""What would name the mirror or the machine, be shared where it must be unique, or is waste."""

_CAUSES = (
    (
        r"Could not (?:resolve|connect)|failure resolving|unreachable|No route to host",
        Fault.MACHINE,
        "check that this machine reaches its package mirror (`apt-get update`), then try again",
    ),
    (
        r"NO_PUBKEY|is not signed|could not be verified|no keyring|keyring .* not",
        Fault.MACHINE,
        "sudo apt-get install debian-archive-keyring",
    ),
    (
        r"No space left on device|not enough free disk space|Disk quota exceeded",
        Fault.MACHINE,
        "free disk space, or point IMLAB_CACHE at a folder on a larger disk",
    ),
    (
        r"is not valid yet|is expired|Release file .* expired",
        Fault.MACHINE,
        "set this machine's clock, then try again",
    ),
    (
        r"Unable to locate package|has no installation candidate",
        Fault.US,
        "correct the recipe's list of packages, or use a mirror that has them",
    ),
    (
        r"Operation not permitted|Permission denied",
        Fault.MACHINE,
        "./inv doctor says what this machine refuses",
    ),
)

_NEWLY = re.compile(r"(\d+) newly installed")


class BuildProgress:
    """Turns mmdebstrap's verbose output, line by line, into phases and fractions."""

    def __init__(self) -> None:
        self._phase = "starting"
        self._expected = 0
        self._seen = 0

    def feed(self, line: str) -> tuple[str, float | None] | None:
        """Return (phase, fraction) when `line` tells something new, else None."""
        if line.startswith("I: "):
            return self._enter(line[3:].rstrip(". \n"))
        newly = _NEWLY.search(line)
        if newly:
            self._expected, self._seen = int(newly[1]), 0
        elif line.startswith("Get:"):
            return self._step("downloading packages", 1)
        elif line.startswith(("Unpacking ", "Setting up ")):
            return self._step("installing packages", 2)
        return None

    def _enter(self, said: str) -> tuple[str, float | None] | None:
        for start, phase in (
            ("running apt-get update", "reading the mirror's package lists"),
            ("downloading packages", "downloading the base system"),
            ("extracting archives", "unpacking the base system"),
            ("installing essential", "installing the base system"),
            ("installing remaining", "downloading packages"),
            ("cleaning package lists", "cleaning up"),
        ):
            if said.startswith(start):
                self._phase, self._seen = phase, 0
                return phase, None
        return None

    def _step(self, phase: str, per_package: int) -> tuple[str, float | None] | None:
        if self._phase.endswith("the base system"):
            phase = self._phase
        if self._phase.startswith("reading"):
            return None
        if phase != self._phase:
            self._phase, self._seen = phase, 0
        self._seen += 1
        whole = self._expected * per_package
        return phase, min(1.0, self._seen / whole) if whole else None


def build_failure(name: str, lines: list[str]) -> LabError:
    """Return the error for a failed build, from the last lines of what mmdebstrap said."""
    text = "\n".join(lines)
    for pattern, fault, todo in _CAUSES:
        if re.search(pattern, text):
            return LabError(f"building the image {name!r}", text, fault=fault, todo=todo)
    return LabError(
        f"building the image {name!r}",
        text,
        fault=Fault.US,
        todo="report this with the lines above",
    )


def build_rootfs(
    recipe: Recipe,
    folder: Path,
    ids: Ids,
    progress: Progress,
    then: Callable[[Path], None] = lambda _rootfs: None,
) -> dict[str, Any]:
    """Make `folder`/rootfs from the recipe; return {"packages": {name: version}, "bytes": n}.

    `folder` is the caller's, must allow everybody to write and lie behind a private one: mapped
    root makes its own folder in it, and at last calls `then` with that folder's path.
    Raises LabError; whatever was made until then is left there.
    """
    if shutil.which("mmdebstrap", path=TOOLS_PATH) is None:
        raise LabError(
            f"building the image {recipe.name!r}",
            "no command 'mmdebstrap'",
            fault=Fault.MACHINE,
            todo="sudo apt-get install mmdebstrap",
        )
    sources, settings = machine_sources(recipe.suite, recipe.components), machine_settings()
    tail: deque[str] = deque(maxlen=60)
    said_read, said_write = os.pipe()
    reader = threading.Thread(target=_report, args=(said_read, tail, progress), daemon=True)
    folder_fd: list[int] = []

    def open_folder() -> None:
        # In the new mount namespace, or it could not be bound; by path, with the caller's rights.
        folder_fd.append(os.open(folder, os.O_PATH | os.O_DIRECTORY))

    def work() -> dict[str, Any] | None:
        os.umask(0o022)  # the caller's may be 077; an image's folders are for everybody
        _arrange_mounts(folder_fd[0])
        _write_inputs(recipe, sources, settings)
        rootfs = _WORK / "image" / "rootfs"
        done = subprocess.run(
            _mmdebstrap(recipe, sources, rootfs),
            stdin=subprocess.DEVNULL,
            stdout=said_write,
            stderr=said_write,
            env={"PATH": TOOLS_PATH, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"},
            check=False,
        )
        if done.returncode != 0:
            return None
        finished = _finish(recipe, rootfs)
        then(rootfs)
        return finished

    reader.start()
    try:
        built = run_mapped(
            work, ids=ids, namespaces=CLONE_NEWNS | CLONE_NEWPID, as_caller=open_folder
        )
    finally:
        os.close(said_write)
        reader.join()
    if built is None:
        raise build_failure(recipe.name, list(tail))
    return built


def _report(fd: int, tail: deque[str], progress: Progress) -> None:
    """Read what the build says until it ends; keep its tail and pass its progress on."""
    parser = BuildProgress()
    with open(fd, encoding="utf-8", errors="replace") as stream:
        for line in stream:
            tail.append(line.rstrip())
            step = parser.feed(line)
            if step is not None:
                progress(*step)


def _arrange_mounts(folder_fd: int) -> None:
    """Give the build its own /proc and /tmp, with the image's folder bound at /tmp/image."""
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    mount("proc", "/proc", "proc")
    # Mounted from below /proc before /tmp is covered: the folder may lie in there.
    mount("tmpfs", str(_WORK), "tmpfs", data="mode=1777")
    (_WORK / "image").mkdir()
    mount(f"/proc/self/fd/{folder_fd}", str(_WORK / "image"), flags=MS_BIND)


def _write_inputs(recipe: Recipe, sources: dict[str, str], settings: list[str]) -> None:
    """Write what mmdebstrap reads: sources, apt settings, debconf answers and files."""
    for name, text in sources.items():
        (_WORK / name).write_text(text)
    (_WORK / "apt.conf").write_text(
        "\n".join([*settings, *recipe.apt_settings, 'Acquire::Languages "none";', ""])
    )
    (_WORK / "debconf").write_text("".join(f"{line}\n" for line in recipe.debconf))
    stage = _WORK / "files"
    stage.mkdir()
    for file in recipe.files:
        path = stage / file.path.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.content)
        path.chmod(file.mode)


def _mmdebstrap(recipe: Recipe, sources: dict[str, str], rootfs: Path) -> list[str]:
    """Return the command that makes `rootfs`."""
    excluded = [f"--dpkgopt=path-exclude=/usr/share/{pattern}" for pattern in _EXCLUDED]
    return [
        "mmdebstrap",
        "--verbose",
        "--mode=root",
        "--variant=apt",
        "--format=directory",
        # Needs a network namespace of one's own, in which the mirror could not be reached.
        "--skip=chroot/mount/sys",
        # fsync for every file would cost more than the build; ensure_image syncs once.
        "--dpkgopt=force-unsafe-io",
        "--dpkgopt=force-confold",
        *excluded,
        "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        "--dpkgopt=path-include=/usr/share/locale/locale.alias",
        f"--aptopt={_WORK}/apt.conf",
        f"--essential-hook=sync-in {_WORK}/files /",
        f'--essential-hook=chroot "$1" debconf-set-selections <{_WORK}/debconf',
        f"--components={','.join(recipe.components)}",
        f"--include={','.join(recipe.packages)}",
        recipe.suite,
        str(rootfs),
        *(str(_WORK / name) for name in sources),
    ]


def _finish(recipe: Recipe, rootfs: Path) -> dict[str, Any]:
    """Run the recipe's commands, take out what an image must not carry, take stock."""
    for command in recipe.commands:
        done = subprocess.run(
            ["chroot", str(rootfs), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={"PATH": TOOLS_PATH, "LC_ALL": "C.UTF-8"},
            check=False,
        )
        if done.returncode != 0:
            raise build_failure(
                recipe.name,
                [f"in the image: {command} ended with {done.returncode}", done.stdout],
            )
    listed = subprocess.run(
        ["chroot", str(rootfs), "dpkg-query", "-W", "-f", "${Package} ${Version}\n"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": TOOLS_PATH, "LC_ALL": "C.UTF-8"},
    )
    for pattern in _GONE:
        for path in rootfs.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    (rootfs / "etc/apt/sources.list").write_text("")
    (rootfs / "etc/resolv.conf").write_text("")
    (rootfs / "etc/hostname").write_text("imlab\n")
    (rootfs / "etc/machine-id").write_text("")  # empty: "not yet set", machine-id(5)
    sync_filesystem(rootfs)  # before the rename that makes it an image; for power cuts
    return {
        "packages": dict(line.split(" ", 1) for line in listed.stdout.splitlines()),
        "bytes": disk_bytes(rootfs),
    }


def disk_bytes(folder: Path) -> int:
    """Return how many bytes of disk the files under `folder` take, hard links counted once."""
    total, seen = 0, set()
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            status = (Path(root) / name).lstat()
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                total += status.st_blocks * 512  # stat(2): the unit of st_blocks
    return total
