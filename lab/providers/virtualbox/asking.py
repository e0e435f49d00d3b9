"""The outer end of the agent: which Python it runs in, its deadlines, and what its errors mean."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import platform
import selectors
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

PROJECT = Path(__file__).resolve().parents[3]
#: The packages above the agent's are left empty: that Python may be an old one (3.9 on macOS).
START = """
import sys, types
project, library = sys.argv[1:3]
sys.path[:] = [path for path in sys.path if path] + [library]
for name in ("lab", "lab.providers"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [project + "/" + name.replace(".", "/")]
from lab.providers.virtualbox.agent import main
main()
"""
#: Seconds for the agent to reach VBoxSVC, which it may have to start.
HELLO = 60.0
ANSWER = 60.0
MAX_WORDS = 100_000  # bytes of what an agent said before it died
NO_MODULE = "ModuleNotFoundError"

INSTALL = {
    "Linux": (
        "install VirtualBox 6.1 or later with its Python binding (Debian, Ubuntu: the package"
        " virtualbox; Oracle's package: sudo python3 vboxapisetup.py install, in the folder"
        " sdk/installer of its SDK)"
    ),
    "Darwin": (
        "install VirtualBox 6.1 or later, then its Python binding: sudo python3 vboxapisetup.py"
        " install, in the folder sdk/installer of VirtualBox's SDK, with"
        " VBOX_INSTALL_PATH=/Applications/VirtualBox.app/Contents/MacOS"
    ),
    "Windows": (
        "install VirtualBox 6.1 or later, choosing 'Python support' in its installer, with"
        " pywin32 in that Python (py -m pip install pywin32); or py vboxapisetup.py install, in the"
        " folder sdk\\install of VirtualBox"
    ),
}
CHOOSE = "and name that Python in IMLAB_VBOX_PYTHON if it is not found by itself"


class Denied(Exception):  # noqa: N818 - VirtualBox's answer, on its way to a LabError
    """An answer of the agent that is an error."""

    def __init__(self, verb: str, kind: str, call: str, code: str, text: str) -> None:
        self.verb, self.kind, self.call, self.code, self.text = verb, kind, call, code, text
        super().__init__(verb, kind, call, code, text)


class Agent:
    """An agent that runs. Use it in a `with`; it ends with it.

    facts -- what it said at first: python, api, version, signature.
    calls -- how many calls to VirtualBox's API it has made.
    rests -- whether it has answered all that it was asked: no call of its is under way.
    """

    def __init__(self, python: list[str]) -> None:
        self.python, self.calls, self.rests = python, 0, True
        where = importlib.util.find_spec("virtualbox")
        library = Path(where.origin).parents[1] if where and where.origin else PROJECT
        # A pipe that nobody empties would fill up.
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the agent
        self._process = subprocess.Popen(
            [*python, "-c", START, str(PROJECT), str(library)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            start_new_session=True,  # Ctrl-C is for us: it must not end VBoxSVC and machines
        )
        self._kept = b""
        try:
            self.facts: dict[str, Any] = self.ask("hello", deadline=HELLO)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(
        self,
        verb: str,
        *,
        deadline: float = ANSWER,
        note: Callable[[str], None] = lambda _: None,
        lock: Path | None = None,
        **args: Any,  # noqa: ANN401 - plain JSON, each verb's own
    ) -> Any:  # noqa: ANN401 - as above
        """Have one thing done. Raises Denied; LabError when it takes longer than `deadline`.

        lock -- a file that the agent locks first, and keeps locked until it ends.
        """
        request: dict[str, Any] = {"verb": verb, "args": args}
        if lock:
            request.update(lock=str(lock), patience=deadline / 2)
        end = time.monotonic() + deadline
        self.rests = False
        try:
            assert self._process.stdin  # noqa: S101 - it was opened as a pipe
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            while True:
                answer = self._line(end)
                self.calls = answer.get("calls", self.calls)
                if "note" in answer:
                    note(answer["note"])
                    continue
                self.rests = True
                if "error" in answer:
                    raise Denied(verb, **answer["error"])
                return answer["result"]
        except TimeoutError:
            self.close()
            raise LabError(
                f"asking VirtualBox to {verb}",
                f"no answer in {deadline:.0f} s; the process that asked was ended",
                fault=Fault.MACHINE,
                todo="see whether VirtualBox itself answers (its window, or: VBoxManage list vms)",
            ) from None
        except (BrokenPipeError, EOFError):
            words = self._last_words()
            self.close()
            raise Denied(verb, "Ended", "", "", words) from None

    def _line(self, end: float) -> dict[str, Any]:
        assert self._process.stdout  # noqa: S101 - it was opened as a pipe
        descriptor = self._process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while b"\n" not in self._kept:
                if not selector.select(max(0.0, end - time.monotonic())):
                    raise TimeoutError
                read = os.read(descriptor, 1 << 16)
                if not read:
                    raise EOFError
                self._kept += read
        line, _, self._kept = self._kept.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        self._words.seek(0)
        words = self._words.read(MAX_WORDS).decode(errors="replace").strip()
        return words or "it ended without a word"

    def close(self) -> None:
        """End the agent: it goes when its input ends; if it does not, it is killed."""
        process = self._process
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if stream:
                    stream.close()
        try:
            process.wait(0.5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._words.close()


def candidates() -> list[list[str]]:
    """Return the Pythons to try: the one chosen, or ours and then the system's."""
    if chosen := os.environ.get("IMLAB_VBOX_PYTHON"):
        return [shlex.split(chosen)]
    others = [shutil.which(name) for name in ("python3", "python")]
    if platform.system() != "Windows":
        others = ["/usr/bin/python3", *others]
    found: dict[str, None] = {sys.executable: None}
    for other in others:
        if other and Path(other).exists():
            found[str(Path(other).resolve())] = None
    return [[path] for path in found]


_works: list[list[str]] = []  # the Python that answered in this process


def forget() -> None:
    """Look for the Python anew: another VirtualBox is meant."""
    _works.clear()


def start() -> Agent:
    """Return an agent that has reached VirtualBox. Raises LabError that says what to install."""
    tried: list[str] = []
    for python in _works or candidates():
        try:
            agent = Agent(python)
        except FileNotFoundError as error:
            tried.append(f"{shlex.join(python)}: {error.strerror}")
        except Denied as error:
            tried.append(f"{shlex.join(python)}: {error.text.strip().splitlines()[-1]}")
            if NO_MODULE not in error.kind and NO_MODULE not in error.text:
                raise _unreachable(tried, error) from error
        else:
            _works[:] = [python]
            return agent
    raise LabError(
        "reaching VirtualBox",
        "no Python here has its binding (the module vboxapi):\n" + "\n".join(tried),
        fault=Fault.MACHINE,
        todo=f"{INSTALL.get(platform.system(), INSTALL['Linux'])}; {CHOOSE}",
    )


def _unreachable(tried: list[str], error: Denied) -> LabError:
    todo = "run `./inv doctor --provider virtualbox`; see that VirtualBox's own window opens"
    if error.kind == "UnknownVersion":
        todo = "install VirtualBox 6.1 or later"
    elif "vboxapi" in error.text or "xpcom" in error.text.lower():
        todo = f"its binding belongs to another Python: {CHOOSE.removeprefix('and ')}"
    return LabError("reaching VirtualBox", "\n".join(tried), fault=Fault.MACHINE, todo=todo)
