"""Invoke tasks: parse, call one function, show the result."""

from __future__ import annotations

import sys

from invoke.context import Context
from invoke.tasks import task


@task(name="hello")
def hello(_context: Context) -> None:
    sys.stdout.write("hello\n")
