"""A virtual machine that boots in seconds even where it is interpreted; a fixture of tests.

A kernel of 3 MB from Debian's source, busybox and dropbear, on a disk that GRUB starts from. It
reads a seed (lab/seed.py) as a lab's disks do, keeps what is written to it, and can be switched
off by its power button. What it is made of lies in a folder of the caller's:

    kernel.config   what is added to `make tinyconfig`; every line must hold in the end
    grub.cfg        what GRUB does
    root/           files of its file system

The disk: GRUB in the first MiB, then one partition with ext2, of which the kernel reads what it
needs: an initial RAM file system would have to be loaded and unpacked whole.
Made in two steps, each cached by content: the kernel and the programs take minutes, the disk a
second.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab import once
from lab.disk_build import SECTOR, boot_sectors
from lab.errors import Fault, LabError
from lab.image_build import BUILDER, TOOLS_PATH, build_rootfs
from lab.image_recipe import Recipe
from lab.images import cache_root
from lab.userns import (
    CLONE_NEWNS,
    CLONE_NEWPID,
    MS_BIND,
    MS_PRIVATE,
    MS_REC,
    IdRange,
    Ids,
    mount,
    run_mapped,
)
from lab.vdi import BLOCK, raw_to_vdi

if TYPE_CHECKING:
    from pathlib import Path

    from lab.image_build import Progress

VERSION = "1"
"""Of this module: raise it when its results change."""

RECIPE = Recipe(
    name="tiny-machine",
    description="What a small kernel is compiled with, and programs for it",
    suite="bookworm",
    needs_mib=4000,
    packages=(
        "linux-source-6.1", "gcc", "make", "flex", "bison", "bc", "libelf-dev", "xz-utils", "lz4",
        "grub-pc-bin", "grub-common", "busybox", "dropbear-bin", "tcpdump",
    ),
)  # fmt: skip
#: Where they are in the machine, and where Debian has them.
PROGRAMS = {
    "busybox": "/usr/bin/busybox",
    "dropbear": "/usr/sbin/dropbear",
    "dropbearconvert": "/usr/lib/dropbear/dropbearconvert",
    "tcpdump": "/usr/bin/tcpdump",
}
GRUB = "/usr/lib/grub/i386-pc"
MODULES = ("biosdisk", "part_msdos", "ext2", "normal", "linux")
OWN_IDS = Ids(IdRange(0), IdRange(0), privileged=True)
DOING = "building the tiny virtual machine"
FOLDERS = ("dev", "media", "proc", "root", "run", "sys", "tmp", "usr/bin", "usr/lib", "var")
LINKS = {
    "bin": "usr/bin", "sbin": "usr/bin", "usr/sbin": "bin", "lib": "usr/lib", "lib64": "usr/lib",
    "var/run": "/run",
}  # fmt: skip
START = BLOCK  # of the partition; boot_sectors has it there
SIZE = 64 << 20
#: What GRUB's and Linux's ext2 read, whatever this machine's mke2fs would choose.
FEATURES = "none,filetype,sparse_super,large_file,dir_index,ext_attr"
_NOTHING: Progress = lambda _phase, _fraction: None  # noqa: E731 - a default


@dataclass(frozen=True, slots=True)
class TinyMachine:
    """A disk in the cache; nobody writes to it: give a machine a differencing copy.

    vdi -- for VirtualBox; raw -- the same for anything else. Both boot by BIOS.
    """

    vdi: Path
    raw: Path


def build_tiny(source: Path, progress: Progress = _NOTHING) -> TinyMachine:
    """Return the machine made of the folder `source`, building it where the cache has none.

    Raises LabError. Compiling takes minutes, once.
    """
    if os.geteuid() != 0:
        raise LabError(
            DOING, "an ordinary user", fault=Fault.USER, todo="run it as root, e.g. with sudo"
        )
    parts = cache_root() / "tiny" / f"parts-{_parts_key(source)}"
    once.ensure(parts, lambda half: _make_parts(source, half, progress), progress)
    disk = cache_root() / "tiny" / f"disk-{_disk_key(source, parts.name)}"
    once.ensure(disk, lambda half: _make_disk(source, parts, half), progress)
    return TinyMachine(disk / "tiny.vdi", disk / "tiny.raw")


def _parts_key(source: Path) -> str:
    made_of = [VERSION, BUILDER, RECIPE.to_json(), PROGRAMS, MODULES]
    digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode())
    digest.update((source / "kernel.config").read_bytes())
    return digest.hexdigest()[:16]


def _disk_key(source: Path, parts: str) -> str:
    digest = hashlib.sha256(f"{VERSION} {parts}".encode())
    digest.update((source / "grub.cfg").read_bytes())
    for path in sorted((source / "root").rglob("*")):
        if path.is_file():
            executable = os.access(path, os.X_OK)
            name = str(path.relative_to(source))
            digest.update(repr((name, executable, path.read_bytes())).encode())
    return digest.hexdigest()[:16]


# --- the kernel and the programs --------------------------------------------------------------


def _make_parts(source: Path, half: Path, progress: Progress) -> None:
    build_rootfs(RECIPE, half, OWN_IDS, progress)
    root = half / "rootfs"
    work = root / "imlab"
    work.mkdir()
    shutil.copy(source / "kernel.config", work)
    progress("compiling a kernel", None)
    run_mapped(lambda: _compile(root), ids=OWN_IDS, namespaces=CLONE_NEWNS | CLONE_NEWPID)
    for name in ("vmlinuz", "core.img", "boot.img", "applets"):
        shutil.copy(work / name, half)
    programs, libraries = half / "programs", half / "libraries"
    programs.mkdir()
    libraries.mkdir()
    for name, path in PROGRAMS.items():
        shutil.copy(root / path.lstrip("/"), programs / name)
    for path in _libraries(root):
        shutil.copy(root / path.lstrip("/"), libraries)
    shutil.rmtree(root)


def _compile(root: Path) -> None:
    """Compile and collect, in a mount and process namespace of one's own."""
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    mount("proc", str(root / "proc"), "proc")
    mount("/dev", str(root / "dev"), flags=MS_BIND | MS_REC)
    kernel, tree = root / "imlab/linux", "/imlab/linux"
    kernel.mkdir()
    archive = "/usr/src/linux-source-6.1.tar.xz"
    _run(root, tree, "tar", "-xf", archive, "--strip-components=1")
    _run(root, tree, "make", "tinyconfig")
    _run(root, tree, "scripts/kconfig/merge_config.sh", "-m", ".config", "/imlab/kernel.config")
    _run(root, tree, "make", "olddefconfig")
    check_config((root / "imlab/kernel.config").read_text(), (kernel / ".config").read_text())
    jobs = str(len(os.sched_getaffinity(0)))
    _run(root, tree, "nice", "make", "-j", jobs, "bzImage")
    shutil.copy(kernel / "arch/x86/boot/bzImage", root / "imlab/vmlinuz")
    core = ("-O", "i386-pc", "-p", "(hd0,msdos1)/", "-o", "/imlab/core.img")
    _run(root, "/", "grub-mkimage", *core, *MODULES)
    shutil.copy(root / GRUB.lstrip("/") / "boot.img", root / "imlab")
    (root / "imlab/applets").write_text(_run(root, "/", "busybox", "--list"))


def check_config(wanted: str, got: str) -> None:
    """Raise LabError for lines that do not hold in the kernel's configuration: a typo, say."""
    on = {line.partition("=")[0]: line for line in got.splitlines() if line.startswith("CONFIG_")}
    lost = []
    for line in wanted.splitlines():
        name = re.match(r"(?:# )?(CONFIG_\w+)", line)
        # Of what depends on something that is off, the kernel's file says nothing.
        if name and on.get(name[1], f"# {name[1]} is not set") != line:
            lost.append(line)
    if lost:
        raise LabError(
            DOING,
            "the kernel's configuration does not take: " + ", ".join(lost),
            fault=Fault.US,
            todo="correct kernel.config",
        )


def _run(root: Path, folder: str, *command: str) -> str:
    done = subprocess.run(
        ["chroot", str(root), "env", "-C", folder, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # The kernel tells who made it: not this machine's affair.
        env={
            "PATH": TOOLS_PATH,
            "LC_ALL": "C.UTF-8",
            "KBUILD_BUILD_TIMESTAMP": "@0",
            "KBUILD_BUILD_USER": "imlab",
            "KBUILD_BUILD_HOST": "imlab",
        },
        check=False,
    )
    if done.returncode != 0:
        raise LabError(
            DOING,
            f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}",
            fault=Fault.US,
            todo="report this with the lines above",
        )
    return done.stdout


def _libraries(root: Path) -> list[str]:
    """Return the shared libraries of the programs, and the loader, by path."""
    said = _run(root, "/", "ldd", *PROGRAMS.values())
    return sorted(set(re.findall(r"(/\S+) \(0x", said)))


# --- the disk -----------------------------------------------------------------------------------


def _make_disk(source: Path, parts: Path, half: Path) -> None:
    root = half / "root"
    _fill_root(root, source, parts)
    raw = half / "tiny.raw"
    with raw.open("wb") as stream:
        stream.write(
            boot_sectors(
                (parts / "boot.img").read_bytes(),
                (parts / "core.img").read_bytes(),
                SIZE // SECTOR,
            )
        )
        stream.truncate(START + SIZE)
    done = subprocess.run(
        [
            "mke2fs", "-q", "-F", "-t", "ext2", "-O", FEATURES, "-m", "0", "-L", "tiny",
            "-d", str(root), "-E", f"offset={START}", str(raw), f"{SIZE >> 10}k",
        ],
        env={"PATH": TOOLS_PATH, "LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise LabError(DOING, done.stdout, fault=Fault.US, todo="report this with the lines above")
    raw_to_vdi(raw, half / "tiny.vdi", raw.stat().st_size)
    for path in (raw, half / "tiny.vdi"):
        path.chmod(0o444)
    shutil.rmtree(root)


def _fill_root(root: Path, source: Path, parts: Path) -> None:
    """Lay out the file system of the machine."""
    shutil.copytree(source / "root", root)
    for name in FOLDERS:
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "root").chmod(0o700)
    for name, target in LINKS.items():
        (root / name).symlink_to(target)
    for path in (parts / "libraries").iterdir():
        shutil.copy(path, root / "usr/lib")
    for path in (parts / "programs").iterdir():
        shutil.copy(path, root / "usr/bin")
    for applet in (parts / "applets").read_text().split():
        if not (root / "usr/bin" / applet).exists():
            (root / "usr/bin" / applet).symlink_to("busybox")
    shutil.copy(parts / "vmlinuz", root)
    shutil.copy(source / "grub.cfg", root)
    subprocess.run(["ldconfig", "-r", str(root)], env={"PATH": TOOLS_PATH}, check=True)
