"""One pass of the engine in a process of its own: `python -m benchmarks.engine_pass MODE FILE`.

follow -- all packets and streams; search -- also 1000 secrets in every form in all streams;
http -- also every stream decoded, and the secrets looked for in what was packed in it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import texts
from experiments.analysis import capture

if TYPE_CHECKING:
    from experiments.analysis.capture.scan import Scanner


def run(mode: str, path: Path) -> dict[str, Any]:
    """Make the pass and count what came of it."""
    scanner: Scanner | None = None
    if mode != "follow":
        from experiments.analysis.capture import scan  # noqa: PLC0415 - not needed to follow

        scanner = scan.Scanner([scan.Secret(*secret) for secret in texts.secrets()])
    with capture.read([path], scanner=scanner) as reading:
        told: dict[str, Any] = {
            "packets": len(reading),
            "streams": reading.streams,
            "bytes": int(reading.flows["side"]["stream"].sum()),
            "hits": len(reading.hits),
        }
        if mode == "http":
            told |= _decoded(reading, scanner)
    return told


def _decoded(reading: capture.Reading, scanner: Scanner | None) -> dict[str, Any]:
    from experiments.analysis.decoders import decode  # noqa: PLC0415 - not needed to follow

    exposures = hits = 0
    for stream in reading.followed():
        decoded = decode(stream)
        if decoded is None:
            continue
        exposures += len(decoded.exposures)
        for passage in decoded.passages:
            if passage.encodings and scanner is not None:
                hits += sum(1 for _ in scanner.scan(passage.content))
    return {"exposures": exposures, "packed hits": hits}


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1], Path(sys.argv[2]))))  # noqa: T201 - its answer
