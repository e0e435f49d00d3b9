"""Building the testbed: once, cached by the content of what it is made of."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import once
from lab.errors import Fault, LabError
from lab.image_build import BUILDER, build_rootfs
from lab.image_recipe import Recipe, RecipeFile
from lab.images import cache_root
from lab.providers.virtualbox.testbed.instance import Instance
from lab.userns import IdRange, Ids

if TYPE_CHECKING:
    from lab.image_build import Progress

FILES = Path(__file__).with_name("files")
MEMBERS = ("vbox-python", "VBoxHeadless", "VirtualBox.xml")
WRAPPER = "virtualbox"
"""The pure Python package of ours that is put beside vboxapi, as pip would have done."""

RECIPE = Recipe(
    name="virtualbox-testbed",
    description="VirtualBox, its API for Python, and an X server without a screen",
    suite="sid",  # where Debian has it
    components=("main", "contrib"),
    needs_mib=1500,
    packages=("virtualbox", "virtualbox-qt", "libxcb-cursor0", "xvfb", "python3"),
    files=(RecipeFile("/etc/hosts", "127.0.0.1 localhost\n"),),
    # Unstable's Release is for a week; a mirror that stands still is good enough.
    apt_settings=('Acquire::Check-Valid-Until "false";',),
)
#: Everybody's ids are themselves: VirtualBox wants programs that are root's.
OWN_IDS = Ids(IdRange(0), IdRange(0), privileged=True)
DOING = "building the VirtualBox testbed"


@dataclass(frozen=True, slots=True)
class Testbed:
    """The testbed in the cache.

    folder -- where it lies.
    meta   -- virtualbox (its version), packages {name: version}, bytes.
    """

    folder: Path
    meta: dict[str, Any]

    @property
    def python(self) -> Path:
        """The command that is the testbed's Python."""
        return self.folder / "bin" / "vbox-python"

    def instance(self, folder: Path) -> Instance:
        """Return the VirtualBox that keeps its settings in `folder`, which may not exist yet."""
        return Instance(self.python, folder)


def build(progress: Progress | None = None) -> Testbed:
    """Return the testbed, building it first where the cache has none. Raises LabError.

    While somebody else builds it this waits, and then uses theirs.
    """
    folder = _folder()
    _check(folder)
    report = progress or (lambda _phase, _fraction: None)
    once.ensure(folder, lambda half: _make(half, report), report)
    return _read(folder)


def find() -> Testbed | None:
    """Return the testbed if the cache has it."""
    folder = _folder()
    return _read(folder) if folder.is_dir() else None


def _check(folder: Path) -> None:
    """Raise LabError where it cannot be built."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise LabError(
            DOING,
            f"this is {platform.system()} on {platform.machine()}",
            fault=Fault.MACHINE,
            todo="use a Linux machine with an x86-64 processor, or this machine's own VirtualBox",
        )
    if os.geteuid() != 0:
        raise LabError(
            DOING,
            "an ordinary user: it takes root to build it and to mount it, for a moment, in a"
            " mount namespace",
            fault=Fault.USER,
            todo="run it as root, e.g. sudo ./inv vbox-testbed",
        )
    if folder.is_relative_to("/usr") or folder.is_relative_to("/etc"):
        raise LabError(
            DOING,
            f"the cache is {folder.parent}: /usr and /etc are the testbed's own where it is used",
            fault=Fault.USER,
            todo="point IMLAB_CACHE at a folder elsewhere",
        )


def _folder() -> Path:
    digest = hashlib.sha256(
        json.dumps(
            [RECIPE.to_json(), BUILDER, importlib.metadata.version(WRAPPER)], sort_keys=True
        ).encode()
    )
    for name in MEMBERS:
        digest.update((FILES / name).read_bytes())
    return cache_root() / "testbed" / digest.hexdigest()[:16]


def _make(half: Path, report: Progress) -> None:
    free = shutil.disk_usage(half).free >> 20
    if free < RECIPE.needs_mib:
        raise LabError(
            DOING,
            f"{free} MiB free in {half.parent}, {RECIPE.needs_mib} MiB wanted",
            fault=Fault.MACHINE,
            todo="free disk space, or point IMLAB_CACHE at a folder on a larger disk",
        )
    built = build_rootfs(RECIPE, half, OWN_IDS, report)
    root = half / "rootfs"
    _install(root)
    root.rename(half / "root")
    launcher = half / "bin" / "vbox-python"
    launcher.parent.mkdir()
    shutil.copy(FILES / "vbox-python", launcher)
    launcher.chmod(0o755)
    meta = {"virtualbox": built["packages"]["virtualbox"], **built}
    (half / "meta.json").write_text(json.dumps(meta, indent=1, sort_keys=True), encoding="utf-8")
    half.chmod(0o755)


def _install(root: Path) -> None:
    """Put our own files into the root."""
    headless = root / "usr/lib/virtualbox/VBoxHeadless"
    headless.rename(headless.with_suffix(".debian"))
    shutil.copy(FILES / "VBoxHeadless", headless)
    headless.chmod(0o755)
    share = root / "usr/share/imlab"
    share.mkdir()
    shutil.copy(FILES / "VirtualBox.xml", share)
    spec = importlib.util.find_spec(WRAPPER)
    if spec is None or spec.origin is None:
        raise LabError(
            DOING,
            f"no Python package {WRAPPER!r}",
            fault=Fault.US,
            todo="start it by ./inv, which makes a complete environment",
        )
    target = root / "usr/lib/python3/dist-packages" / WRAPPER
    shutil.copytree(Path(spec.origin).parent, target, ignore=shutil.ignore_patterns("__pycache__"))
    compiler = ["chroot", str(root), "/usr/bin/python3", "-m", "compileall", "-q"]
    subprocess.run([*compiler, f"/{target.relative_to(root)}"], check=True)


def _read(folder: Path) -> Testbed:
    return Testbed(folder, json.loads((folder / "meta.json").read_text(encoding="utf-8")))
