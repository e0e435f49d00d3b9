"""VirtualBox's disk format VDI: a raw image made into a dynamic one, whose holes take no space.

A header, a table with one 32-bit number a block (where in the file the block lies, or that it was
never written), and the blocks, 1 MiB each. Little-endian throughout. Layout after VirtualBox's
VDICore.h (version 1.1); QEMU's block/vdi.c reads the same.
"""

from __future__ import annotations

import os
import struct
import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BLOCK = 1 << 20
_SECTOR = 512
_TEXT = b"<<< Oracle VM VirtualBox Disk Image >>>\n"
_SIGNATURE, _VERSION = 0xBEDA_107F, 0x0001_0001
_HEADER_BYTES = 400  # of version 1.1, counted from the field that says it
_DYNAMIC = 1
_UNUSED = 0xFFFF_FFFF  # never written: reads as zeros
# Signature to the number of used blocks, then four UUIDs (image, last snapshot, link, parent);
# between them a comment of 256 bytes. A geometry stands in the middle and at the end: readers work
# both out themselves, but VirtualBox takes no image whose sectors are not of 512 bytes in both.
_HEADER = struct.Struct("<64s IIIII 256s II IIII I QIIII 16s16s16s16s IIII")


def raw_to_vdi(raw: Path, vdi: Path, size: int) -> None:
    """Write `vdi`, a dynamic disk of `size` bytes that begins with what is in `raw`.

    `size` is a multiple of 1 MiB and not less than that of `raw`. Blocks that are holes or all
    zeros are left out. Raises OSError; ValueError for a size that does not fit.
    """
    if size % BLOCK or size < raw.stat().st_size:
        raise ValueError(f"a disk of {size} bytes cannot hold {raw.stat().st_size}")
    table = [_UNUSED] * (size // BLOCK)
    table_at = BLOCK  # both begin at whole blocks, as VirtualBox itself has it since 4.0
    blocks_at = table_at + -(-4 * len(table) // BLOCK) * BLOCK
    written = 0
    with raw.open("rb") as source, vdi.open("wb") as target:
        target.seek(blocks_at)
        for number in _with_data(source.fileno()):
            source.seek(number * BLOCK)
            content = source.read(BLOCK)
            if content.count(0) == len(content):
                continue
            target.write(content.ljust(BLOCK, b"\0"))
            table[number] = written
            written += 1
        target.seek(0)
        target.write(_header(size, table_at, blocks_at, written))
        target.seek(table_at)
        target.write(struct.pack(f"<{len(table)}I", *table))
        target.truncate(blocks_at + written * BLOCK)
        target.flush()
        os.fsync(target.fileno())


def _with_data(fd: int) -> Iterator[int]:
    """Yield the numbers of the blocks of a file that are not holes (lseek(2), SEEK_DATA)."""
    end, number = os.fstat(fd).st_size, 0
    while number * BLOCK < end:
        try:
            found = os.lseek(fd, number * BLOCK, os.SEEK_DATA) // BLOCK
        except OSError:  # ENXIO: nothing but a hole to the end
            return
        yield found
        number = found + 1


def _header(size: int, table_at: int, blocks_at: int, written: int) -> bytes:
    return _HEADER.pack(
        _TEXT,
        _SIGNATURE, _VERSION, _HEADER_BYTES, _DYNAMIC, 0,
        b"",
        table_at, blocks_at,
        0, 0, 0, _SECTOR,
        0,
        size, BLOCK, 0, size // BLOCK, written,
        uuid.uuid4().bytes_le, uuid.uuid4().bytes_le, bytes(16), bytes(16),
        0, 0, 0, _SECTOR,
    )  # fmt: skip
