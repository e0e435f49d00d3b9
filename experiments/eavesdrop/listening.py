"""The pass over captures: the engine's, and then over each stream that has bytes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from experiments.analysis import capture
from experiments.analysis.decoders import decode
from experiments.analysis.told import told
from experiments.eavesdrop import figures, rows
from experiments.eavesdrop.heard import Heard
from experiments.eavesdrop.overview import Sealed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from experiments.analysis.capture import Followed, Reading
    from experiments.analysis.model import Decoded

# After Ctrl-C: seconds for looking into the streams that were found by then.
AFTER_INTERRUPTION_S: Final = 2.0
_EVERY_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is. step: "reading" (bytes of the files) or "decoding" (bytes of streams).

    total is None while it is not known; packets and seconds are those since the beginning.
    """

    step: str
    done: int
    total: int | None
    packets: int
    seconds: float


def analyze(  # noqa: PLR0913 - each by its name
    captures: Sequence[Path | str],
    *,
    secrets: Iterable[tuple[str, str]] = (),
    patterns: Iterable[tuple[str, bytes]] = (),
    keys: bytes = b"",
    keep: bool = True,
    hashes: bool = True,
    progress: Callable[[Progress], None] | None = None,
) -> Heard:
    """Read captures ("-" is standard input; several are merged by time) and all their streams.

    secrets -- (id, text) to look for in every encoding; patterns: (name, regular expression).
    keys -- a TLS key log; what a pcapng brings itself is used as well.
    keep -- whether all rows are kept, for JSON, page and proof; else the overview alone is made.
    hashes -- whether streams' rows have SHA-256 of each direction.
    Ctrl-C ends it early with what is known so far: see Heard.interrupted. Raises LabError when
    there is no capture, or one of the files is none.
    """
    since = time.monotonic()

    def reading_on(at: capture.Progress) -> None:
        if progress is not None:
            progress(Progress("reading", at.done, at.total, at.packets, at.seconds))

    scanner = _scanner(tuple(secrets), tuple(patterns))
    reading = capture.read(captures, scanner=scanner, progress=reading_on)
    try:
        heard = Heard(reading, figures.count(reading), searched=scanner is not None)
        listener = _Listener(heard, scanner, keys + b"\n" + reading.secrets)
        listener.keep, listener.hashes = keep, hashes and keep
        listener.run(since, progress)
    except BaseException:
        reading.close()
        raise
    return heard


def _scanner(secrets: tuple[tuple[str, str], ...], patterns: tuple[tuple[str, bytes], ...]) -> Any:  # noqa: ANN401 - capture.scan.Scanner, loaded only when something is looked for
    if not secrets and not patterns:
        return None
    from experiments.analysis.capture import scan  # noqa: PLC0415 - it takes a moment to load

    return scan.Scanner(
        [scan.Secret(name, text) for name, text in secrets],
        patterns=[scan.Pattern(name, expression) for name, expression in patterns],
    )


class _Listener:
    """Takes what streams say into a Heard."""

    def __init__(self, heard: Heard, scanner: Any, keys: bytes) -> None:  # noqa: ANN401 - as above
        self.heard = heard
        self.scanner = scanner
        self.keys = keys.strip()
        self.keep = self.hashes = True

    def run(self, since: float, progress: Callable[[Progress], None] | None) -> None:
        """Look into every stream; Ctrl-C ends it early."""
        reading = self.heard.reading
        sides = reading.flows["side"]["stream"]
        total = int(sides.sum()) if reading.streams else 0
        done, last = 0, 0.0
        view = self.heard.overview
        view.streams = reading.streams
        with_bytes = int((sides.sum(axis=1) > 0).sum()) if reading.streams else 0
        view.empty = reading.streams - with_bytes
        looked = 0
        deadline = time.monotonic() + AFTER_INTERRUPTION_S if self.heard.interrupted else None
        try:
            for followed in reading.followed():
                self._take(followed)
                looked += 1
                done += followed.length(forward=True) + followed.length(forward=False)
                now = time.monotonic()
                if deadline is not None and now > deadline:
                    break
                if progress is not None and now - last > _EVERY_S:
                    last = now
                    progress(Progress("decoding", done, total, len(reading), now - since))
            self._hits(reading)
        except KeyboardInterrupt:
            self.heard.interrupted = True
        view.waiting = max(with_bytes - looked, 0)

    def _take(self, followed: Followed) -> None:
        heard, view = self.heard, self.heard.overview
        start = heard.reading.start
        decoded = decode(rows.as_stream(followed), self.keys)
        row = rows.stream(followed, decoded, start, hashes=self.hashes)
        if followed.clipped:
            row["notes"].append("only the beginning of this stream was decoded")
        if self.keep:
            heard.streams.add({"flow": followed.flow, **row})
        self._count(followed, decoded, row)
        marks: list[tuple[bool, int, int, str]] = []
        score = 0
        for said in told(rows.as_stream(followed), decoded):
            out = rows.told(said, followed, start)
            if self.keep:
                heard.lists[rows.list_of(said.kind)].add(out)
            view.told(out)
            if said.kind in _DRAWN:
                heard.mark(out)
            score += _WORTH.get(said.kind, 0)
            if said.kind in _WORTH:
                exposure = said.exposure
                marks.append((exposure.forward, exposure.start, exposure.end, said.kind))
        if decoded is not None:
            score += self._search(followed, decoded)
        heard.choose(followed, score, marks, row)

    def _count(self, followed: Followed, decoded: Decoded | None, row: dict[str, Any]) -> None:
        view = self.heard.overview
        size = row["bytes"]["forward"] + row["bytes"]["back"]
        entry = view.protocols.setdefault(row["protocol"] or "empty", [0, 0])
        entry[0] += 1
        entry[1] += size
        missing = row["missing"]["forward"] + row["missing"]["back"]
        view.missing += bool(missing)
        view.late += not followed.started
        for sentence in row["notes"]:
            view.note(sentence)
        if decoded is None:
            return
        name = decoded.facts.get("server name") or followed.server
        if row["sealed"] != "no":
            kind = row["protocol"]
            if decoded.protocol == "unknown":
                kind = decoded.facts.get("guess", "").removeprefix("looks like ")
            view.sealed.setdefault(kind, Sealed()).add(size, name)
        elif decoded.protocol == "unknown":
            guess = decoded.facts.get("guess", "").removeprefix("looks like ")
            view.unread.setdefault(guess, Sealed()).add(size, followed.server)

    def _search(self, followed: Followed, decoded: Decoded) -> int:
        """Look into what had to be unpacked; the bytes of streams the engine has searched."""
        if self.scanner is None:
            return 0
        found = 0
        for passage in decoded.passages:
            if not passage.encodings:
                continue
            for hit in self.scanner.scan(passage.content):
                start, end = passage.place(hit.start, hit.end)
                frames = followed.frames(start, end, forward=passage.forward)
                forms = [*passage.encodings, *([hit.form] if hit.form != "as is" else [])]
                place = (start, end, passage.forward)
                self.heard.hit(
                    hit.id, forms, followed, place=place, frames=frames, where=passage.where
                )
                found += 1
        return 100 * min(found, 10)

    def _hits(self, reading: Reading) -> None:
        if self.scanner is None:
            return
        for hit in reading.hits:
            followed = reading.stream(hit.flow)
            forms = [] if hit.form == "as is" else [hit.form]
            place = (hit.start, hit.end, hit.forward)
            self.heard.hit(hit.id, forms, followed, place=place, frames=hit.frames)


# What a timeline shows.
_DRAWN: Final = frozenset({"message", "user", "password"})
# What makes a stream worth showing on the page, by the kind of what was read in it.
_WORTH: Final = {
    "password": 200, "hash": 100, "user": 60, "message": 40, "token": 20, "cookie": 10,
    "contact": 10, "sealed": 5, "subject": 5,
}  # fmt: skip
