"""A run as one archive, and back: the same run packed twice gives the same bytes.

A tar of POSIX.1-1988 (ustar) under zstd: files in order of their names, owner 0, mode 0444, the
time at which the run ended. `tar --zstd -xf` unpacks it as well. What `unpack` takes is only what
`pack` makes: plain files of plain names below one folder, bounded in number and size. Nothing
else of an archive, which anybody may have sent, is ever acted upon.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import tarfile
import tempfile
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, cast

import zstandard

from experiments.evidence import RunFolder
from experiments.verifying import differences
from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from experiments.evidence import Fact

ENDING: Final = ".tar.zst"
LEVEL: Final = 12
BLOCK: Final = 512  # bytes: tar's unit
MAX_FILES: Final = 10_000
MAX_BYTES: Final = 64 << 30
MAX_RATIO: Final = 500  # what a file may grow to: captures shrink to a tenth, zeros to nothing
SMALL: Final = 64 << 20  # bytes that any archive may unpack to
MAX_WINDOW: Final = 1 << 27  # bytes of memory that the archive's maker may ask for
SPARE: Final = 64 << 20  # bytes of disk that stay free
_CHUNK: Final = 1 << 20
_PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+ -]{0,127}")
_MAX_DEPTH: Final = 8


def pack(path: Path, out: Path) -> Path:
    """Write a run into `out`, a folder or a file to be; return the archive.

    Raises LabError for a run that is not whole, and then nothing is written.
    """
    folder = RunFolder.open(path)
    manifest = folder.manifest()
    refuse_broken(f"packing the run {folder.name}", differences(path))
    names = sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
    ended = int(datetime.fromisoformat(manifest["finished"]).timestamp())
    target = out / f"{manifest['run']}{ENDING}" if out.is_dir() else out
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with temporary.open("xb") as file:
            packer = zstandard.ZstdCompressor(level=LEVEL, threads=0)
            with packer.stream_writer(file, closefd=False) as stream:
                for name in names:
                    _put(stream, path / name, f"{manifest['run']}/{name}", ended)
                stream.write(b"\0" * 2 * BLOCK)
        temporary.replace(target)
    except OSError as error:
        raise LabError(
            f"writing the archive {target}",
            str(error),
            fault=Fault.MACHINE,
            todo="give a folder that can be written to and has space, with --out",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _put(stream: IO[bytes], path: Path, name: str, time: int) -> None:
    header = tarfile.TarInfo(name)
    header.size, header.mtime, header.mode = path.stat().st_size, time, 0o444
    try:
        stream.write(header.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict"))
    except ValueError as error:
        raise LabError(
            f"packing {name}",
            f"the format has no room for it: {error}",
            fault=Fault.USER,
            todo="a file of a run can have 8 GiB and a name of 100 bytes",
        ) from error
    left = header.size
    with path.open("rb") as file:
        while left and (chunk := file.read(min(_CHUNK, left))):
            stream.write(chunk)
            left -= len(chunk)
    stream.write(b"\0" * (-header.size % BLOCK))


def refuse_broken(doing: str, facts: list[Fact]) -> None:
    """Raise LabError that names every file which is not what was sealed."""
    if facts:
        raise LabError(
            doing,
            "\n".join(f"{fact.file} {fact.fault}" for fact in facts),
            fault=Fault.USER,
            todo="get the run from where it was made; what was derived comes back by ./inv report",
        )


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """Give the folder of a run: the path itself, or that of its archive, unpacked for the time."""
    if path.is_dir():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="imlab-run-") as space:
        yield unpack(path, Path(space))


def unpack(archive: Path, into: Path) -> Path:
    """Unpack a run into the folder `into`; return its folder, a new one.

    Raises LabError for anything that `pack` would not have made, and then nothing is left. It
    does not hold the files against their hashes: `differences` does.
    """
    space = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=into))
    try:
        name = _unpack(archive, space)
        target = into / name
        if target.exists():
            raise _refused(archive, f"{target} is there already", "unpack it elsewhere")
        (space / name).rename(target)
    except (OSError, ValueError, zstandard.ZstdError, tarfile.TarError) as error:
        raise _refused(archive, str(error)) from error
    finally:
        shutil.rmtree(space)
    return target


def _unpack(archive: Path, space: Path) -> str:
    """Write the files of an archive below `space`; return the name of their one folder."""
    with archive.open("rb") as file:
        allowed = max(SMALL, MAX_RATIO * os.fstat(file.fileno()).st_size)
        allowed = min(allowed, MAX_BYTES, shutil.disk_usage(space).free - SPARE)
        unpacker = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
        stream = io.BufferedReader(cast("io.RawIOBase", unpacker.stream_reader(file)), _CHUNK)
        tops, seen = set[str](), set[str]()
        while (header := _header(archive, stream)) is not None:
            if header.type != tarfile.REGTYPE:
                raise _refused(archive, f"{header.name[:200]!r} is no plain file")
            parts = header.name.split("/")
            plain = all(_PART.fullmatch(part) for part in parts)
            if not plain or not 1 < len(parts) <= _MAX_DEPTH or header.name.lower() in seen:
                raise _refused(archive, f"a file is called {header.name[:200]!r}")
            seen.add(header.name.lower())  # as a file system that ignores case would see it
            tops.add(parts[0])
            allowed -= header.size + BLOCK
            if len(seen) > MAX_FILES or header.size < 0 or allowed < 0 or len(tops) > 1:
                raise _refused(archive, f"at {header.name!r} it is more than a run can be")
            _take(archive, stream, space.joinpath(*parts), header.size)
    if not tops:
        raise _refused(archive, "it has no file")
    return tops.pop()


def _header(archive: Path, stream: IO[bytes]) -> tarfile.TarInfo | None:
    """Return the next header, None at the end. Extensions of the format are not read at all."""
    block = stream.read(BLOCK)
    if len(block) != BLOCK:
        raise _refused(archive, "it ends too early")
    if not any(block):
        return None
    return tarfile.TarInfo.frombuf(block, "utf-8", "strict")


def _take(archive: Path, stream: IO[bytes], path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        left = size
        while left:
            chunk = stream.read(min(_CHUNK, left))
            if not chunk:
                raise _refused(archive, f"it ends within {path.name}")
            file.write(chunk)
            left -= len(chunk)
    stream.read(-size % BLOCK)
    path.chmod(0o444)


def _refused(archive: Path, saw: str, todo: str = "have the run packed again") -> LabError:
    return LabError(f"unpacking {archive}", saw, fault=Fault.USER, todo=todo)
