"""Building the disk of a virtual machine: a recipe's root file system, and a disk around it.

    sector 0          GRUB's boot.img with the partition table (MBR) in it
    sector 1 on       GRUB's core.img, in the gap that every tool leaves before the partition
    1 MiB on          ext4, filled by mkfs.ext4 as mapped root: owners are right, nothing is mounted

Both files of GRUB come from the image (/boot/grub), so they fit its file system. The file system
is as small as it can be on a disk of 64 GiB, of which only what is written takes space; the first
boot makes it larger by what the plan allows (lab/recipes/forms/disk.yaml, "grow").
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from typing import TYPE_CHECKING, Any

from lab.errors import Fault, LabError
from lab.image_build import TOOLS_PATH, build_rootfs, disk_bytes
from lab.vdi import BLOCK, raw_to_vdi

if TYPE_CHECKING:
    from pathlib import Path

    from lab.image_build import Progress
    from lab.image_recipe import Recipe
    from lab.userns import Ids

BUILDER = "1"
"""Version of this module and of lab/vdi.py, a part of every disk's key."""

DISK = "disk.vdi"
SIZE = 64 << 30
"""Bytes that a machine's disk has, as the machine sees it."""

SECTOR = 512
START = BLOCK  # of the partition; where partitioning tools put the first one
LABEL = "imlab-root"
SECTORS = "usr/lib/imlab/sectors"  # how large the file system was made: the first boot reads it

_RAW = "disk.raw"
_LINUX = 0x83  # partition type
_ACTIVE = 0x80
_TABLE_AT, _MAGIC_AT = 446, 510
_MAGIC = b"\x55\xaa"
_BEYOND_CHS = b"\xfe\xff\xff"  # an address that cylinders, heads and sectors cannot tell
# Where a drive's number is doubted; a disk's boot sector has two NOPs there instead (GRUB 2,
# boot.S and grub-setup). And where the core image says what is to be loaded after its first
# sector: a 64-bit sector, a 16-bit count and a segment (diskboot.S).
_DRIVE_CHECK_AT, _NOPS = 0x66, b"\x90\x90"
_BLOCK_LIST = struct.Struct("<QH")
_BLOCK_LIST_AT = 500
# The features that GRUB 2.06 and Linux 6.1 read, whatever mkfs.ext4 this machine has: a newer one
# would put in others (metadata_csum_seed, orphan_file), and the disk would not boot.
_MKE2FS = """[defaults]
base_features = sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr
default_mntopts = acl,user_xattr
enable_periodic_fsck = 0
blocksize = 4096
inode_size = 256
inode_ratio = 16384
[fs_types]
ext4 = {
features = has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize
}
"""
_JOURNAL_MIB = 16
_SLACK_MIB = 48


def build_disk(recipe: Recipe, folder: Path, ids: Ids, progress: Progress) -> dict[str, Any]:
    """Make `folder`/disk.vdi from the recipe (of the form "disk"); see build_rootfs.

    Return {"packages": {name: version}, "bytes": what the disk takes, "virtual_bytes": its size}.
    """
    if shutil.which("mkfs.ext4", path=TOOLS_PATH) is None:
        raise LabError(
            f"building the image {recipe.name!r}",
            "no command 'mkfs.ext4'",
            fault=Fault.MACHINE,
            todo="sudo apt-get install e2fsprogs",
        )

    def into_disk(rootfs: Path) -> None:
        _fill(recipe.name, rootfs, rootfs.parent / _RAW)
        shutil.rmtree(rootfs)

    built = build_rootfs(recipe, folder, ids, progress, then=into_disk)
    progress("writing the disk", None)
    # By the caller, whose file the disk is to be; the raw one is mapped root's.
    raw, disk = folder / _RAW, folder / DISK
    raw_to_vdi(raw, disk, SIZE)
    raw.unlink()
    return {**built, "bytes": disk.stat().st_blocks * 512, "virtual_bytes": SIZE}


def _fill(name: str, rootfs: Path, raw: Path) -> None:
    """Make a raw disk with the files of `rootfs`, as mapped root. Raises LabError."""
    inodes = sum(1 for _ in rootfs.rglob("*"))
    # A file takes whole blocks, which disk_bytes counts; tables of inodes come to 1/64.
    mib = (disk_bytes(rootfs) * 66 // 64 + inodes * 256 >> 20) + _JOURNAL_MIB + _SLACK_MIB
    (rootfs / SECTORS).parent.mkdir(parents=True, exist_ok=True)
    (rootfs / SECTORS).write_text(f"{(mib << 20) // SECTOR}\n")
    config = raw.with_name("mke2fs.conf")
    config.write_text(_MKE2FS)
    with raw.open("wb") as stream:
        stream.truncate(START + (mib << 20))
    done = subprocess.run(
        [
            "mkfs.ext4", "-q", "-F", "-L", LABEL, "-m", "0", "-d", str(rootfs),
            "-J", f"size={_JOURNAL_MIB}", "-E", f"offset={START}", str(raw), f"{mib}M",
        ],
        env={"PATH": TOOLS_PATH, "LC_ALL": "C.UTF-8", "MKE2FS_CONFIG": str(config)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )  # fmt: skip
    config.unlink()
    if done.returncode != 0:
        raise LabError(
            f"building the image {name!r}",
            f"mkfs.ext4 ended with {done.returncode}\n{done.stdout.strip()}",
            fault=Fault.MACHINE if "No space" in done.stdout else Fault.US,
            todo="free disk space" if "No space" in done.stdout else "report this",
        )
    grub = rootfs / "boot/grub"
    gap = boot_sectors(
        (grub / "boot.img").read_bytes(),
        (grub / "core.img").read_bytes(),
        (mib << 20) // SECTOR,
    )
    with raw.open("r+b") as stream:
        stream.write(gap)
    raw.chmod(0o644)


def boot_sectors(boot: bytes, core: bytes, sectors: int) -> bytes:
    """Return what comes before a partition of `sectors` sectors: MBR, table and boot loader.

    boot, core -- GRUB's boot.img and core.img for i386-pc; boot.img loads sector 1 as it is.
    Raises ValueError for files that are none of these, or too large for the gap.
    """
    if len(boot) != SECTOR or boot[_MAGIC_AT:] != _MAGIC:
        raise ValueError("boot.img is no boot sector")
    rest = -(-len(core) // SECTOR) - 1  # sectors of the core image after its first
    if not 0 < rest < START // SECTOR - 1:
        raise ValueError(f"core.img has {len(core)} bytes")
    entry = struct.pack(
        "<B3sB3sII", _ACTIVE, _BEYOND_CHS, _LINUX, _BEYOND_CHS, START // SECTOR, sectors
    )
    mbr = bytearray(boot)
    mbr[_DRIVE_CHECK_AT : _DRIVE_CHECK_AT + len(_NOPS)] = _NOPS
    mbr[_TABLE_AT:_MAGIC_AT] = entry.ljust(_MAGIC_AT - _TABLE_AT, b"\0")
    loader = bytearray(core)
    _BLOCK_LIST.pack_into(loader, _BLOCK_LIST_AT, 2, rest)
    return bytes(mbr + loader)
