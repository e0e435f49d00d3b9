"""Visit a web server again and again, each time over a new connection, and take the time."""

from __future__ import annotations

import http.client
import time

from . import guard

MAX_COUNT = 50


def main() -> None:
    """Visit, and say for each visit how long it took, in seconds, or why it failed."""
    told = guard.take_order()
    target = guard.address_of(told["targets"][told["server"]])
    for _ in range(min(int(told["count"]), MAX_COUNT)):
        before = time.perf_counter()
        link = http.client.HTTPConnection(target, int(told["port"]), timeout=told["patience_s"])
        try:
            link.request("GET", told["path"], headers={"Connection": "close"})
            link.getresponse().read()
            guard.say(event="visit", seconds=time.perf_counter() - before)
        except (OSError, http.client.HTTPException) as error:
            guard.say(event="visit", seconds=None, why=str(error) or type(error).__name__)
        finally:
            link.close()
    guard.say(event="done")


if __name__ == "__main__":
    main()
