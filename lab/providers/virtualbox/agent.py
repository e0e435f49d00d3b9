"""The process that speaks with VirtualBox: one JSON request a line in, answers a line out.

Started with the Python that has vboxapi, as `START` of asking.py does. A request is {"verb",
"args"}; the answers are any number of {"note": text}, then {"result"} or {"error": {"kind",
"call", "code", "text"}}, each with "calls", the count so far. When whoever asks is gone, so is this
process, in the middle of whatever it does; machines that run do not notice.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from lab.providers.virtualbox import api as adapter
from lab.providers.virtualbox import host, machines, media, owned, removal, snapshots
from lab.providers.virtualbox.signatures import UnknownVersion

if TYPE_CHECKING:
    from collections.abc import Callable


def make(api: adapter.Api, note: Callable[[str], None], args: dict[str, Any]) -> list[str]:
    """Make machines, one after another; return their UUIDs."""
    return [machines.make(api, order, note) for order in args["machines"]]


VERBS: dict[str, Callable[[adapter.Api, Callable[[str], None], dict[str, Any]], Any]] = {
    "look": lambda api, _, args: host.look(api, **args),
    "known": lambda api, _, args: media.known(api, args["paths"]),
    "make": make,
    "start": lambda api, _, args: machines.start(api, **args),
    "observe": lambda api, _, args: machines.observe(api, args["uuids"]),
    "remove": lambda api, _, args: removal.remove(api, args),
    "save": lambda api, _, args: snapshots.save(api, **args),
    "restore": lambda api, _, args: snapshots.restore(api, **args),
    "saved": lambda api, _, args: snapshots.saved(api, **args),
    "forget": lambda api, _, args: snapshots.forget(api, **args),
    "detect": lambda api, _, args: owned.detect(api, args["iso"]),
}


def main() -> None:
    """Serve until standard input ends."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the binding prints is no answer
    requests: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()
    connected: adapter.Api | None = None
    locks: list[int] = []
    while True:
        request = json.loads(requests.get())
        answer: dict[str, Any]
        try:
            if request.get("lock"):
                locks.append(_lock(request["lock"], float(request["patience"])))
            connected = connected or adapter.connect()
            answer = {"result": _serve(connected, request, out)}
        except BaseException as error:  # noqa: BLE001 - all of it is told to whoever asked
            answer = {"error": _told(error)}
        _say(out, {**answer, "calls": connected.calls if connected else 0})


def _serve(api: adapter.Api, request: dict[str, Any], out: Any) -> Any:  # noqa: ANN401 - a verb's own
    if request["verb"] == "hello":
        return {
            "python": sys.version.split()[0],
            "api": api.box.get("APIVersion"),
            "version": api.box.get("version"),
            "signature": api.signature.version,
        }
    die_after = int(os.environ.get("IMLAB_VBOX_DIE_AFTER", "0"))  # for tests of sudden death
    if die_after:
        api.before = lambda _: os._exit(9) if api.calls >= die_after else None
    return VERBS[request["verb"]](api, lambda text: _say(out, {"note": text}), request["args"])


def _say(out: Any, answer: dict[str, Any]) -> None:  # noqa: ANN401 - a text stream
    out.write(json.dumps(answer) + "\n")
    out.flush()


def _read(requests: SimpleQueue[str]) -> None:
    """Hand requests on; end at once when nobody is left who could send one."""
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)


def _lock(path: str, patience: float) -> int:
    """Have a lab to oneself, so that nothing is made while it is taken away."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                holder = Path(path).read_text() or "somebody"
                raise adapter.Late(f"process {holder.strip()} still works on this lab") from None
            time.sleep(0.02)
        else:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            return descriptor


def _told(error: BaseException) -> dict[str, str]:
    told = {"kind": type(error).__name__, "call": "", "code": "", "text": str(error)}
    if isinstance(error, adapter.Refused):
        told.update(call=error.call, code=error.code, text=error.text)
    elif isinstance(error, UnknownVersion):
        told["text"] = f"its API is {error}, and the oldest that imlab speaks is 6.1"
    return told


if __name__ == "__main__":
    main()
