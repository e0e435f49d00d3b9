"""Capture files, whatever they come as: opened, unpacked, and known by their first bytes.

What can be read at any place (a plain file) is used where it is. What cannot (gzip, zstd, a pipe)
is unpacked into a nameless temporary file first, a piece at a time: extents point into it, so it
has to stay as long as the reading does.
"""

from __future__ import annotations

import io
import mmap
import os
import stat
import sys
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np

from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

STANDARD_INPUT: Final = "-"
_PIECE: Final = 1 << 20
# The largest zstd window that is followed: a larger one asks for that much memory.
_ZSTD_WINDOW: Final = 1 << 27
_ZSTD_PIECE: Final = 1 << 10  # packed bytes that unpack to 32 MiB at most
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_PCAPNG: Final = b"\x0a\x0d\x0d\x0a"
# magic: (big-endian, nanoseconds, bytes of a record's header beyond 16)
_PCAP: Final = {
    b"\xd4\xc3\xb2\xa1": (0, 0, 0),
    b"\xa1\xb2\xc3\xd4": (1, 0, 0),
    b"\x4d\x3c\xb2\xa1": (0, 1, 0),
    b"\xa1\xb2\x3c\x4d": (1, 1, 0),
    b"\x34\xcd\xb2\xa1": (0, 0, 8),  # a kernel's variant of 1998, with the interface and more
    b"\xa1\xb2\xcd\x34": (1, 0, 8),
}
_HEADER: Final = 24


@dataclass(frozen=True, slots=True)
class File:
    """A capture file: its format, how it was packed, and its size in bytes as it came."""

    name: str
    format: str
    packed: str
    size: int


class Source:
    """A capture that can be read at any place. `number` is the upper part of its addresses."""

    def __init__(self, number: int, path: Path | str, note: Callable[[int], None]) -> None:
        """Open and, if need be, unpack. Raises LabError when it is no capture file."""
        self.number = number
        self.name = "standard input" if path == STANDARD_INPUT else Path(path).name
        self.trouble = ""
        self.interrupted = False
        self._map: mmap.mmap | None = None
        self._view: NDArray[np.uint8] | None = None
        self._seen = 0
        try:
            self._open(path, note)
        except OSError as error:
            raise LabError(
                f"opening the capture {self.name}",
                error.strerror or str(error),
                fault=Fault.USER if not isinstance(error, MemoryError) else Fault.MACHINE,
                todo="Check the path, and that there is room for the unpacked copy.",
            ) from error

    def _open(self, path: Path | str, note: Callable[[int], None]) -> None:
        stream = _opened(path)
        kind = os.fstat(stream.fileno()).st_mode
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(21, "it is a folder")
        plain = stat.S_ISREG(kind) and path != STANDARD_INPUT
        head = stream.read(_HEADER)
        came = os.fstat(stream.fileno()).st_size if plain else 0
        packed = "gzip" if head[:2] == _GZIP else "zstd" if head[:4] == _ZSTD else ""
        if plain and not packed:
            self.file_object = stream
        else:
            self.file_object = spooled("capture")
            came = self._unpack(_Joined(head, stream), packed, note) or came
            if path != STANDARD_INPUT:
                stream.close()
            head = os.pread(self.file_object.fileno(), _HEADER, 0)
        self.descriptor = self.file_object.fileno()
        self.size = os.fstat(self.descriptor).st_size
        self.head = head
        self.file = File(self.name, self._format(head), packed, came)

    def _unpack(self, stream: _Joined, packed: str, note: Callable[[int], None]) -> int:
        pieces: Iterator[bytes]
        if packed == "gzip":
            pieces = _gunzip(stream)
        elif packed == "zstd":
            pieces = _unzstd(stream)
        else:
            pieces = iter(lambda: stream.read(_PIECE), b"")
        try:
            for piece in pieces:
                self.file_object.write(piece)
                note(stream.taken)
        except _BrokenError as error:
            self.trouble = (
                f"{self.name}: the {packed} data is damaged at byte {stream.taken}: {error}"
            )
        except KeyboardInterrupt:
            self.interrupted = True
            self.trouble = f"{self.name}: interrupted after {stream.taken} bytes"
        self.file_object.flush()
        return stream.taken

    def _format(self, head: bytes) -> str:
        if head[:4] == _PCAPNG:
            return "pcapng"
        if head[:4] in _PCAP and len(head) == _HEADER:
            _, nano, extra = _PCAP[head[:4]]
            return "pcap, nanoseconds" if nano else "pcap, modified" if extra else "pcap"
        saw = "it is empty" if not head else f"it begins with {head[:4].hex(' ')}"
        raise LabError(
            f"reading the capture {self.name}",
            self.trouble or f"it is neither pcap nor pcapng: {saw}",
            fault=Fault.USER,
            todo="Check that the file is a capture: `capinfos FILE`.",
        )

    def pcap_header(self) -> tuple[int, int, int, int, int]:
        """Return big-endian, nanoseconds, extra header bytes, link type, snap length of a pcap."""
        big, nano, extra = _PCAP[self.head[:4]]
        order = "big" if big else "little"
        link = int.from_bytes(self.head[20:24], order)  # type: ignore[arg-type] # one of the two
        snap = int.from_bytes(self.head[16:20], order)  # type: ignore[arg-type] # as above
        return big, nano, extra, link & 0xFFFF, snap

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes; fewer at the end."""
        return os.pread(self.descriptor, length, offset)

    def into(self, offset: int, target: NDArray[np.uint8]) -> int:
        """Read bytes into an array; return how many there were."""
        done = 0
        while done < len(target):
            got = os.preadv(self.descriptor, [target[done:].data], offset + done)
            if not got:
                break
            done += got
        return done

    def view(self) -> NDArray[np.uint8]:
        """Return all of it as a mapped array; see `forget`."""
        if self._view is None:
            if self.size:
                self._map = mmap.mmap(self.descriptor, self.size, prot=mmap.PROT_READ)
                self._view = np.frombuffer(self._map, np.uint8)
            else:
                self._view = np.zeros(0, np.uint8)
        return self._view

    def forget(self, used: int, most: int = 32 << 20) -> None:
        """Note that `used` bytes of the view were read, and let go of its pages now and then."""
        self._seen += used
        if self._seen > most and self._map is not None:
            self._map.madvise(mmap.MADV_DONTNEED)
            self._seen = 0

    def now(self) -> int:
        """Return the file's size at this moment: a map of what is no longer there would crash."""
        return os.fstat(self.descriptor).st_size

    def close(self) -> None:
        """Close the file; views of it are no longer valid."""
        self._view = None
        self.file_object.close()


def _opened(path: Path | str) -> BinaryIO:
    if path == STANDARD_INPUT:
        return sys.stdin.buffer
    return Path(path).open("rb")


def spooled(what: str) -> Any:  # noqa: ANN401 - the class is private to tempfile
    """Return a nameless temporary file, which goes when it is closed."""
    return tempfile.TemporaryFile(prefix=f"imlab-{what}-", buffering=_PIECE)


class _BrokenError(Exception):
    """Packed data is damaged."""


class _Joined:
    """What was read already, and the rest of a stream."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self._head = head
        self._stream = stream
        self.taken = 0

    def read(self, size: int = _PIECE) -> bytes:
        """Return up to `size` bytes, b"" at the end."""
        if self._head:
            data, self._head = self._head, b""
        else:
            data = self._stream.read1(size) if isinstance(self._stream, io.BufferedReader) else b""
        self.taken += len(data)
        return data


def _gunzip(stream: _Joined) -> Iterator[bytes]:
    """Unpack gzip members one after the other, in pieces (RFC 1952)."""
    data = stream.read()
    # Behind the last member zeros may pad, and what is no gzip is ignored, as gzip itself does.
    while data[:2] == _GZIP:
        unpacker = zlib.decompressobj(31)
        while not unpacker.eof:
            if not data:
                data = stream.read()
                if not data:
                    raise _BrokenError("it ends in the middle")
            try:
                piece = unpacker.decompress(data, _PIECE)
            except zlib.error as error:
                raise _BrokenError(str(error)) from error
            data = unpacker.unconsumed_tail
            if piece:
                yield piece
        data = unpacker.unused_data
        while len(data) < len(_GZIP) or not data[:1].strip(b"\0"):
            more = stream.read()
            data = (data + more).lstrip(b"\0")
            if not more:
                break


def _unzstd(stream: _Joined) -> Iterator[bytes]:
    """Unpack zstd frames one after the other, in pieces (RFC 8878)."""
    import zstandard  # noqa: PLC0415 - only where it is needed

    unpacker = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    data = stream.read()
    while data:
        frame = unpacker.decompressobj()
        while not frame.eof:
            if not data:
                data = stream.read()
                if not data:
                    raise _BrokenError("it ends in the middle")
            # A little at a time: all that it unpacks to comes at once.
            part, data = data[:_ZSTD_PIECE], data[_ZSTD_PIECE:]
            try:
                piece = frame.decompress(part)
            except zstandard.ZstdError as error:
                raise _BrokenError(str(error)) from error
            if piece:
                yield piece
        data = frame.unused_data + data or stream.read()
