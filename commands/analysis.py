"""What `analyze` does for its user: read captures, show a screen or JSON, write page and proof."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from commands.cli import INTERRUPTED, console
from experiments.eavesdrop import wanted
from experiments.eavesdrop.plain import dumps, plain
from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from experiments.analysis.capture import Reading
    from experiments.eavesdrop import Heard, Progress

# What a pipe gets, of which nobody knows the size.
_LINES: Final = 40
_NARROWEST, _WIDEST = 60, 160
_HIGHEST: Final = 60
# Wireshark's colours of a followed stream.
_COLOURS: Final = {"→": "\x1b[31m", "←": "\x1b[34m", "": "\x1b[2m"}


@dataclass(frozen=True)
class Options:
    """The command line of `analyze`; "" and 0 are what was not given."""

    captures: tuple[str, ...]
    json: bool = False
    html: str = ""
    proof: str = ""
    secrets: str = ""
    patterns: tuple[str, ...] = ()
    keys: str = ""
    packet: int = 0
    stream: str = ""


def analyze(options: Options) -> int:
    """Do what the command line says; return the exit code. Raises LabError."""
    keys = wanted.keys_from(Path(options.keys)) if options.keys else b""
    for name in (options.html, options.proof):
        _not_a_capture(name, options.captures)
    if options.packet or options.stream:
        return _one(options, keys)
    from experiments import eavesdrop  # noqa: PLC0415 - after the command line was found right

    secrets = wanted.secrets_from(Path(options.secrets)) if options.secrets else []
    patterns = [wanted.pattern(word) for word in options.patterns]
    with _progress() as progress:
        heard = eavesdrop.analyze(
            options.captures,
            secrets=secrets,
            patterns=patterns,
            keys=keys,
            keep=bool(options.json or options.html or options.proof),
            hashes=options.json,
            progress=progress,
        )
    with heard:
        _show(heard, options)
        return INTERRUPTED if heard.interrupted else 0


def _show(heard: Heard, options: Options) -> None:
    from experiments.eavesdrop import document, page, proof  # noqa: PLC0415 - as above

    written = []
    if options.html:
        with _into(options.html) as path:
            page.write(heard, path)
        written.append(f"page   {options.html}")
    if options.proof:
        with _into(options.proof) as path:
            frames, left_out = proof.write(heard, path)
        more = f", {left_out} more left out" if left_out else ""
        written.append(f"proof  {options.proof}  ({frames} frames{more})")
    if options.json:
        document.write(heard, sys.stdout)
    else:
        _screen(heard, len(written))
    for line in written:
        print(plain(line), file=sys.stderr if options.json else sys.stdout)


def _screen(heard: Heard, below: int) -> None:
    from commands.heard import screen  # noqa: PLC0415 - not for --json

    out = console()
    height = min(out.size.height, _HIGHEST) if out.is_terminal else _LINES
    width = max(min(out.size.width, _WIDEST), _NARROWEST)
    for line in screen(heard, width, height - 1 - below):
        out.print(line, no_wrap=True, crop=True, overflow="ellipsis")


# --- one packet, one stream -------------------------------------------------------------------


def _one(options: Options, keys: bytes) -> int:
    from experiments.analysis import capture  # noqa: PLC0415 - as above
    from experiments.eavesdrop import follow  # noqa: PLC0415 - as above

    name = follow.named(options.stream) if options.stream else None
    with _progress() as progress:
        reading = capture.read(options.captures, progress=_reading(progress))
    with reading:
        if options.packet:
            row = follow.packet_row(reading, options.packet)
            _print(dumps(row) if options.json else "\n".join(follow.packet_lines(row)))
        if name:
            _stream(reading, name, keys, as_json=options.json)
        if reading.stopped:
            print(plain(reading.stopped), file=sys.stderr)  # noqa: T201 - its user waits for it
        return INTERRUPTED if reading.interrupted else 0


def _stream(reading: Reading, name: tuple[str, int], keys: bytes, *, as_json: bool) -> None:
    from experiments.eavesdrop import follow  # noqa: PLC0415 - as above

    followed = reading.find(*name)
    row = follow.stream_row(reading, followed, keys + b"\n" + reading.secrets)
    if as_json:
        _print(f'{dumps(row)[:-1]},\n"chunks":[')
        separator = ""
        for chunk in follow.stream_chunks(followed):
            sys.stdout.write(separator + dumps(chunk))
            separator = ",\n"
        _print("]}")
        return
    coloured = console().is_terminal and not os.environ.get("NO_COLOR")
    for mark, line in follow.stream_lines(followed, row):
        _print(f"{_COLOURS[mark]}{line}\x1b[0m" if coloured else line)


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


# --- progress ---------------------------------------------------------------------------------


@contextmanager
def _progress() -> Iterator[Callable[[Progress], None] | None]:
    """Show how far it is, at what rate, and the time left; on a terminal only."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich import progress as bars  # noqa: PLC0415 - only where it is seen

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.DownloadColumn(),
        bars.TransferSpeedColumn(),
        bars.TimeRemainingColumn(),
        bars.TextColumn("{task.fields[packets]} packets"),
    )
    with bars.Progress(*columns, console=console(stderr=True), transient=True) as shown:
        tasks: dict[str, Any] = {}

        def tell(at: Progress) -> None:
            if at.step not in tasks:
                tasks[at.step] = shown.add_task(at.step, total=at.total, packets=at.packets)
            shown.update(tasks[at.step], completed=at.done, total=at.total, packets=at.packets)

        yield tell


def _reading(tell: Callable[[Progress], None] | None) -> Callable[[Any], None] | None:
    if tell is None:
        return None
    from experiments.eavesdrop import Progress  # noqa: PLC0415 - as above

    return lambda at: tell(Progress("reading", at.done, at.total, at.packets, at.seconds))


# --- files ------------------------------------------------------------------------------------


def _not_a_capture(name: str, captures: tuple[str, ...]) -> None:
    """Refuse to write over what is to be read."""
    for other in captures if name else ():
        with suppress(OSError):
            if other != "-" and Path(name).samefile(other):
                raise LabError(
                    f"writing {plain(name)}",
                    "it is one of the captures that are to be read",
                    fault=Fault.USER,
                    todo="Give it another name.",
                )


@contextmanager
def _into(name: str) -> Iterator[Path]:
    """Give a path to write to; the file appears under its name once it is whole."""
    target = Path(name)
    try:
        if target.exists() and not target.is_file():  # a pipe or a device
            yield target
            return
        descriptor, part = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        os.close(descriptor)
        try:
            yield Path(part)
            mask = os.umask(0)
            os.umask(mask)
            Path(part).chmod(0o666 & ~mask)
            Path(part).replace(target)
        finally:
            Path(part).unlink(missing_ok=True)
    except OSError as error:
        raise LabError(
            f"writing {plain(name)}",
            error.strerror or str(error),
            fault=Fault.USER if isinstance(error, FileNotFoundError) else Fault.MACHINE,
            todo="See whether the folder is there, writable and has space.",
        ) from error
