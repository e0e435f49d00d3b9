"""The evidence engine: captures of any size to packets, streams and what can be read in them.

`read(paths)` makes one pass in compiled code with bounded memory and returns a Reading. Pure
functions over files: no host, no network. docs/analysis.md tells how it works and where it differs
from Wireshark.
"""

from __future__ import annotations

from experiments.analysis.capture.engine import Progress
from experiments.analysis.capture.files import File
from experiments.analysis.capture.followed import Followed
from experiments.analysis.capture.reader import Comment, Interface
from experiments.analysis.capture.reading import Reading, read

__all__ = ["Comment", "File", "Followed", "Interface", "Progress", "Reading", "read"]
