"""What an eavesdropper would have read from captures, in one call.

    with eavesdrop.analyze([Path("a.pcap"), Path("b.pcapng.gz")]) as heard:
        print(heard.overview.messages)
        document.write(heard, file)

One pass of the engine finds packets and streams; then the streams are decoded one after the other.
What is found goes to temporary files, so memory is bounded at any size. `document` (JSON), `page`
(HTML) and `proof` (pcapng) write what was heard. docs/analyze.md is the manual.
"""

from __future__ import annotations

from experiments.eavesdrop.heard import Heard
from experiments.eavesdrop.listening import Progress, analyze

__all__ = ["Heard", "Progress", "analyze"]
