"""SSH (RFC 4253): the banners, which are all that is readable."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from experiments.analysis.model import Decoded, Exposure

if TYPE_CHECKING:
    from experiments.analysis.model import Stream

_BANNER: Final = re.compile(rb"(SSH-[12]\.[0-9]{1,3}-[^\r\n]{1,240})\r?\n")
_SIDES: Final = (True, False)


class Ssh:
    """Secure Shell."""

    name = "ssh"

    def recognises(self, stream: Stream) -> bool:
        """Whether a side begins with its banner."""
        return stream.protocol == "tcp" and any(
            stream.side(forward=forward).startswith(b"SSH-") for forward in _SIDES
        )

    def decode(self, stream: Stream) -> Decoded:
        """Read the banners."""
        exposures = []
        for forward, kind in ((True, "browser"), (False, "server")):
            match = _BANNER.match(stream.side(forward=forward)[:2048])
            if match:
                text = match[1].decode("utf-8", "replace")
                place = (match.start(1), match.end(1))
                exposures.append(Exposure(kind, text, "SSH banner", forward, *place))
        notes = ("encrypted after its banner",)
        return Decoded("ssh", (), tuple(exposures), facts={"sealed": "yes"}, notes=notes)


DECODER = Ssh()
