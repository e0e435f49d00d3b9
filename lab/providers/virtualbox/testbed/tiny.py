"""A virtual machine that boots in seconds even where it is interpreted; a fixture of tests.

A kernel of 3 MB from Debian's source, busybox and dropbear as its initial RAM file system, on a
disk that GRUB starts from. It reads a seed (lab/seed.py) as a lab's disks do. What it is made of
lies in a folder of the caller's:

    kernel.config   what is added to `make tinyconfig`; every line must hold in the end
    grub.cfg        what GRUB does
    root/           files of the first root, with their modes; root/init is the first process

The disk: GRUB in the first MiB, then one partition with an ISO 9660 file system in it: grub.cfg,
vmlinuz, initrd, and tools/, programs that are too large to be loaded at every boot.
Made in two steps, each cached by content: the kernel and the programs take minutes, the disk a
second.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import stat
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pycdlib

from lab import once
from lab.disk_build import SECTOR, boot_sectors
from lab.errors import Fault, LabError
from lab.image_build import BUILDER, TOOLS_PATH, build_rootfs
from lab.image_recipe import Recipe
from lab.images import cache_root
from lab.providers.virtualbox.testbed import cpio
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
    from collections.abc import Iterator
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
        "linux-source-6.1", "gcc", "make", "flex", "bison", "bc", "libelf-dev", "xz-utils",
        "grub-pc-bin", "grub-common", "busybox", "dropbear-bin", "tcpdump",
    ),
)  # fmt: skip
PROGRAMS = (
    "/usr/bin/busybox", "/usr/sbin/dropbear", "/usr/bin/dropbearkey",
    "/usr/lib/dropbear/dropbearconvert",
)  # fmt: skip
TOOLS = ("/usr/bin/tcpdump",)
GRUB = "/usr/lib/grub/i386-pc"
MODULES = ("biosdisk", "part_msdos", "iso9660", "normal", "linux")
_ON_DISK = '#!/bin/sh\nLD_LIBRARY_PATH=/disk/tools exec /disk/tools/{} "$@"\n'
OWN_IDS = Ids(IdRange(0), IdRange(0), privileged=True)
DOING = "building the tiny virtual machine"
FOLDERS = (
    "dev",
    "disk",
    "etc",
    "lib64",
    "proc",
    "root",
    "run",
    "sys",
    "tmp",
    "usr",
    "usr/lib",
    "var",
)
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
    made_of = [VERSION, BUILDER, RECIPE.to_json(), PROGRAMS, TOOLS, MODULES]
    digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode())
    digest.update((source / "kernel.config").read_bytes())
    return digest.hexdigest()[:16]


def _disk_key(source: Path, parts: str) -> str:
    digest = hashlib.sha256(f"{VERSION} {parts}".encode())
    digest.update((source / "grub.cfg").read_bytes())
    for entry in _files_of(source / "root"):
        digest.update(repr((entry.path, entry.mode, entry.content)).encode())
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
    for kind, programs in (("programs", PROGRAMS), ("tools", TOOLS)):
        for path in (*programs, *_libraries(root, programs)):
            target = half / kind / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / path.lstrip("/"), target)
    shutil.rmtree(root)


def _compile(root: Path) -> None:
    """Compile and collect, in a mount and process namespace of one's own."""
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    mount("proc", str(root / "proc"), "proc")
    mount("/dev", str(root / "dev"), flags=MS_BIND | MS_REC)
    kernel = root / "imlab" / "linux"
    kernel.mkdir()
    _run(
        root,
        "/",
        "tar",
        "-xf",
        "/usr/src/linux-source-6.1.tar.xz",
        "--strip-components=1",
        "-C",
        "/imlab/linux",
    )
    _run(root, "/imlab/linux", "make", "tinyconfig")
    _run(
        root,
        "/imlab/linux",
        "scripts/kconfig/merge_config.sh",
        "-m",
        ".config",
        "/imlab/kernel.config",
    )
    _run(root, "/imlab/linux", "make", "olddefconfig")
    _check_config((root / "imlab/kernel.config").read_text(), (kernel / ".config").read_text())
    jobs = str(len(os.sched_getaffinity(0)))
    _run(root, "/imlab/linux", "nice", "make", "-j", jobs, "bzImage")
    shutil.copy(kernel / "arch/x86/boot/bzImage", root / "imlab/vmlinuz")
    _run(
        root,
        "/",
        "grub-mkimage",
        "-O",
        "i386-pc",
        "-p",
        "(hd0,msdos1)/",
        "-o",
        "/imlab/core.img",
        *MODULES,
    )
    shutil.copy(root / GRUB.lstrip("/") / "boot.img", root / "imlab")
    (root / "imlab/applets").write_text(_run(root, "/", "busybox", "--list"))


def _check_config(wanted: str, got: str) -> None:
    """Raise LabError for lines that the kernel's configuration does not have: a typo, say."""
    have = set(got.splitlines())
    lost = [
        line
        for line in wanted.splitlines()
        if line.startswith(("CONFIG_", "# CONFIG_")) and line not in have
    ]
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


def _libraries(root: Path, programs: tuple[str, ...]) -> list[str]:
    """Return the shared libraries of programs, and the loader, by the paths that they ask for."""
    said = _run(root, "/", "ldd", *programs)
    return sorted(set(re.findall(r"(/\S+) \(0x", said)))


# --- the disk -----------------------------------------------------------------------------------


def _make_disk(source: Path, parts: Path, half: Path) -> None:
    initrd = cpio.newc(_initial_root(source, parts))
    volume = _volume(
        {
            "grub.cfg": (source / "grub.cfg").read_bytes(),
            "vmlinuz": (parts / "vmlinuz").read_bytes(),
            "initrd": initrd,
        },
        {
            path.name: path.read_bytes()
            for path in sorted((parts / "tools").rglob("*"))
            if path.is_file()
        },
    )
    volume += bytes(-len(volume) % BLOCK)
    gap = boot_sectors(
        (parts / "boot.img").read_bytes(), (parts / "core.img").read_bytes(), len(volume) // SECTOR
    )
    raw = half / "tiny.raw"
    raw.write_bytes(gap.ljust(BLOCK, b"\0") + volume)
    raw_to_vdi(raw, half / "tiny.vdi", raw.stat().st_size)
    for path in (raw, half / "tiny.vdi"):
        path.chmod(0o444)


def _initial_root(source: Path, parts: Path) -> Iterator[cpio.Entry]:
    """Yield the files that the kernel begins with."""
    yield cpio.folder("bin")
    for name in FOLDERS:
        yield cpio.folder(name, 0o700 if name == "root" else 0o755)
    for name, target in (
        ("sbin", "bin"),
        ("usr/bin", "../bin"),
        ("usr/sbin", "../bin"),
        ("lib", "usr/lib"),
    ):
        yield cpio.link(name, target)
    seen: set[str] = set()
    for path in sorted((parts / "programs").rglob("*")):
        if path.is_file():
            library = ".so" in path.name
            content = path.read_bytes()
            if path.name.startswith("ld-linux"):
                yield cpio.file(f"lib64/{path.name}", content, 0o755)
            elif library:
                yield cpio.file(f"usr/lib/{path.name}", content)
            else:
                seen.add(path.name)
                yield cpio.file(f"bin/{path.name}", content, 0o755)
    for path in sorted((parts / "tools").rglob("*")):
        if path.is_file() and ".so" not in path.name:
            seen.add(path.name)
            yield cpio.file(f"bin/{path.name}", _ON_DISK.format(path.name).encode(), 0o755)
    for name in (parts / "applets").read_text().split():
        if name not in seen:
            yield cpio.link(f"bin/{name}", "busybox")
    yield from _files_of(source / "root")


def _files_of(folder: Path) -> Iterator[cpio.Entry]:
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        status = path.lstat()
        if stat.S_ISDIR(status.st_mode):
            yield cpio.folder(name)
        else:
            executable = status.st_mode & stat.S_IXUSR
            yield cpio.file(name, path.read_bytes(), 0o755 if executable else 0o644)


def _volume(files: dict[str, bytes], tools: dict[str, bytes]) -> bytes:
    """Return an ISO 9660 file system with Rock Ridge names: files, and tools in a folder."""
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, vol_ident="tiny", rock_ridge="1.09")
    iso.add_directory("/TOOLS", rr_name="tools")
    everything = [("", name, content, 0o100444) for name, content in files.items()]
    everything += [("/TOOLS", name, content, 0o100555) for name, content in tools.items()]
    for number, (folder, name, content, mode) in enumerate(everything):
        iso.add_fp(
            io.BytesIO(content),
            len(content),
            f"{folder}/F{number}.;1",
            rr_name=name,
            file_mode=mode,
        )
    buffer = io.BytesIO()
    iso.write_fp(buffer)
    iso.close()
    return buffer.getvalue()
