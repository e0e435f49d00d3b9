"""Reading captures with the project's own engine (experiments/analysis/capture/)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.analysis import capture
from experiments.analysis.capture.layout import CUT, TCP
from experiments.analysis.model import Capture, Stream
from lab.version import VERSION

if TYPE_CHECKING:
    from pathlib import Path


class Native:
    """The evidence engine."""

    name = "native"

    def version(self) -> str:
        """Return the project's version: the engine is part of it."""
        return VERSION

    def read(self, path: Path) -> Capture:
        """Read a capture file. Raises LabError when it is none."""
        with capture.read([path]) as reading:
            streams = sorted(
                reading.followed(), key=lambda stream: (stream.protocol, stream.number)
            )
            # A connection without payload is a stream too, an empty one.
            tcp = [reading.stream(int(n)) for n in (reading.flows["protocol"] == TCP).nonzero()[0]]
            udp = [stream for stream in streams if stream.protocol == "udp"]
            return Capture(
                packets=tuple(reading.rows()),
                handshakes=tuple(reading.handshakes()),
                streams=tuple(
                    Stream(s.protocol, s.number, s.client, s.server, s.chunks) for s in (*tcp, *udp)
                ),
                gaps=reading.lost(),
                cut=reading.marked(CUT),
                unread=reading.stopped,
            )


ENGINE = Native()
