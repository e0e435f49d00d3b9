"""What a disk consists of: the boot sectors, the VDI, the recipe. QEMU reads what we write."""

from __future__ import annotations

import struct
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.disk_build import SECTOR, START, boot_sectors
from lab.image_recipe import load_recipe, recipe_names
from lab.vdi import BLOCK, raw_to_vdi

BOOT = bytes(range(256)) + bytes(254) + b"\x55\xaa"


@pytest.mark.parametrize(("size", "rest"), [(SECTOR + 1, 1), (2 * SECTOR, 1), (30_000, 58)])
def test_the_boot_sectors_are_a_loader_and_one_partition(size: int, rest: int) -> None:
    """boot.img keeps its code, the table has one active Linux partition, core.img is found."""
    core = b"\xaa" * size
    gap = boot_sectors(BOOT, core, 4096)
    assert gap[:0x66] + gap[0x68:446] == BOOT[:0x66] + BOOT[0x68:446]
    active, kind, start, sectors = struct.unpack_from("<B3xB3xII", gap, 446)
    assert (active, kind, start * SECTOR, sectors) == (0x80, 0x83, START, 4096)
    assert gap[462:510] == bytes(48)
    assert gap[510:SECTOR] == b"\x55\xaa"
    assert struct.unpack_from("<QH", gap, SECTOR + 500) == (2, rest)
    assert gap[SECTOR : SECTOR + 500] == core[:500]
    assert gap[SECTOR + 510 :] == core[510:]


@pytest.mark.parametrize(
    ("boot", "core"),
    [
        (BOOT[:-1], b"x" * 2000),
        (BOOT[:-1] + b"x", b"x" * 2000),
        (BOOT, b"x" * SECTOR),
        (BOOT, b"x" * (START - SECTOR + 1)),
    ],
)
def test_what_cannot_boot_is_refused(boot: bytes, core: bytes) -> None:
    """No boot sector, a core image without a second sector, or one that hits the partition."""
    with pytest.raises(ValueError, match=r"boot\.img|core\.img"):
        boot_sectors(boot, core, 4096)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from(["hole", "zeros", "data", "one byte"]), max_size=9),
    st.integers(0, BLOCK - 1),
    st.integers(1, 40),
)
def test_a_vdi_reads_as_the_raw_disk_that_it_was_made_from(
    blocks: list[str], tail: int, more: int
) -> None:
    """QEMU finds it sound and its content the same; holes and zeros take no block."""
    with tempfile.TemporaryDirectory() as folder:
        raw, vdi, back = (Path(folder) / name for name in ("disk.raw", "disk.vdi", "back.raw"))
        with raw.open("wb") as stream:
            for number, kind in enumerate(blocks):
                stream.seek(number * BLOCK)
                if kind == "zeros":
                    stream.write(bytes(BLOCK))
                elif kind == "data":
                    stream.write(bytes([number + 1]) * BLOCK)
                elif kind == "one byte":
                    stream.seek(BLOCK - 1, 1)
                    stream.write(b"!")
            stream.truncate(len(blocks) * BLOCK + tail)
        size = (len(blocks) + 1 + more) * BLOCK
        raw_to_vdi(raw, vdi, size)
        qemu_img("check", "-f", "vdi", str(vdi))
        qemu_img("convert", "-f", "vdi", "-O", "raw", str(vdi), str(back))
        assert back.stat().st_size == size
        assert back.read_bytes() == raw.read_bytes().ljust(size, b"\0")
        used = sum(kind in {"data", "one byte"} for kind in blocks)
        assert vdi.stat().st_size == (2 + used) * BLOCK


def test_a_last_block_that_is_not_whole_is_filled_up(tmp_path: Path) -> None:
    """The disk is as large as was asked for, whatever the raw file ends with."""
    raw, vdi = tmp_path / "disk.raw", tmp_path / "disk.vdi"
    raw.write_bytes(b"x" * (BLOCK + 1))
    raw_to_vdi(raw, vdi, 2 * BLOCK)
    qemu_img("compare", "-f", "raw", "-F", "vdi", str(raw), str(vdi))
    for size in (2 * BLOCK + 1, BLOCK):
        with pytest.raises(ValueError, match="cannot hold"):
            raw_to_vdi(raw, vdi, size)


def qemu_img(*arguments: str) -> None:
    """Run qemu-img, which must find nothing wrong."""
    done = subprocess.run(["qemu-img", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_recipe_becomes_a_disk() -> None:
    """A disk has all that the root file system has, a kernel, and room to be built in."""
    for name in recipe_names():
        rootfs, disk = load_recipe(name), load_recipe(name, "disk")
        assert set(rootfs.packages) < set(disk.packages)
        assert "linux-image-amd64" in disk.packages
        assert set(rootfs.files) < set(disk.files)
        assert disk.commands[: len(rootfs.commands)] == rootfs.commands
        assert disk.needs_mib > rootfs.needs_mib
        assert (disk.name, disk.suite) == (rootfs.name, rootfs.suite)
        assert disk.key() != rootfs.key()


def test_scripts_of_the_disk_are_shell() -> None:
    """A shell that executes nothing finds no error in them."""
    scripts = [f for f in load_recipe("debian-base", "disk").files if f.content.startswith("#!")]
    assert {f.path for f in scripts} == {"/usr/lib/imlab/first-boot", "/usr/lib/imlab/dhcp"}
    for script in scripts:
        assert script.mode == 0o755
        done = subprocess.run(
            ["sh", "-n"], input=script.content, text=True, capture_output=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
