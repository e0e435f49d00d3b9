"""Programs on a terminal, as tests press Ctrl-C on them."""

from __future__ import annotations

import os
import pty
import termios
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LOCAL_FLAGS = 3  # where tcgetattr has them


def ctrl_c(argv: Sequence[str], environment: Mapping[str, str], after: str) -> tuple[int, str]:
    """Run a program on a terminal and press Ctrl-C once it has said `after`.

    Returns its exit code and all that it said.
    """
    child, terminal = pty.fork()
    if child == 0:
        # Else Ctrl-C also flushes what was written (termios(3), NOFLSH), the answer to it too.
        settings = termios.tcgetattr(0)
        settings[LOCAL_FLAGS] |= termios.NOFLSH
        termios.tcsetattr(0, termios.TCSANOW, settings)
        os.execve(argv[0], list(argv), dict(environment))
    said, pressed = b"", False
    while True:
        try:
            more = os.read(terminal, 1000)
        except OSError:  # a terminal's end of file, when the child has gone
            break
        if not more:
            break
        said += more
        if after.encode() in said and not pressed:
            os.write(terminal, b"\x03")  # the terminal sends SIGINT to all in the foreground
            pressed = True
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said.decode()
