"""Invoke tasks: parse, call one function, show the result.

Every task has --help; where a program would read the result it has --json.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.exceptions import Exit
from invoke.tasks import task
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from lab import doctor as lab_doctor
from lab import images
from lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from invoke.context import Context

OUT = Console()
ERR = Console(stderr=True)
PROJECT = Path(__file__).parent


def told(body: Callable[..., None]) -> Callable[..., None]:
    """Show a LabError as it is meant to be read, without a traceback, and exit with 1."""

    @functools.wraps(body)
    def wrapper(*args: Any, **kwargs: Any) -> None:  # noqa: ANN401 -- whatever the task takes
        try:
            body(*args, **kwargs)
        except LabError as error:
            ERR.print(str(error), style="red", markup=False, highlight=False)
            raise Exit(code=1) from error

    return wrapper


def show_json(data: object) -> None:
    """Write one JSON document to standard output."""
    sys.stdout.write(json.dumps(data, indent=1) + "\n")


def show_table(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Write a table to standard output."""
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    OUT.print(table)


@contextmanager
def shown_progress(title: str) -> Iterator[Callable[[str, float | None], None]]:
    """Give a function that shows (phase, fraction): as a bar on a terminal, else in lines."""
    if not ERR.is_terminal:
        phases: list[str] = []

        def tell(phase: str, _fraction: float | None) -> None:
            if phases[-1:] != [phase]:
                phases.append(phase)
                ERR.print(f"{title}: {phase}", soft_wrap=True)

        yield tell
        return
    with Progress(console=ERR, transient=True) as progress:
        bar = progress.add_task(title, total=None)

        def show(phase: str, fraction: float | None) -> None:
            progress.update(bar, description=f"{title}: {phase}", total=1, completed=fraction or 0)

        yield show


@task(name="doctor", help={"json": "one JSON list instead of the table"})
@told
def doctor(_context: Context, json: bool = False) -> None:  # noqa: FBT001, FBT002 -- the option's name; invoke makes flags of booleans
    """Say whether this machine can have a lab, and what to do if not (exit code 1)."""
    checks = lab_doctor.examine()
    if json:
        show_json([check.to_json() for check in checks])
    else:
        colours = {"ok": "green", "warn": "yellow", "fail": "red"}
        rows = [(c.name, f"[{colours[c.state]}]{c.state}[/]", escape(c.saw)) for c in checks]
        show_table("Can this machine have a lab?", ("what", "state", "seen"), rows)
        for check in checks:
            if check.todo:  # outside the table and unwrapped: to be copied
                OUT.print(f"{check.name}: {check.todo}", soft_wrap=True, markup=False)
    if not lab_doctor.can_have_a_lab(checks):
        raise Exit(code=1)


@task(name="image-list", help={"json": "one JSON list instead of the table"})
@told
def image_list(_context: Context, json: bool = False) -> None:  # noqa: FBT001, FBT002 -- as in doctor
    """List the images in the cache; 'old' ones no recipe stands for any more."""
    listed = [(image, images.is_current(image)) for image in images.list_images()]
    if json:
        show_json([{**image.to_json(), "current": current} for image, current in listed])
        return
    show_table(
        f"Images in {images.cache_root()}",
        ("name", "key", "MiB", "built", "in", ""),
        [
            (
                image.name,
                image.key,
                str(image.meta["bytes"] >> 20),
                image.meta["built"].replace("T", " "),
                f"{image.meta['duration_s']} s",
                "" if current else "old",
            )
            for image, current in listed
        ],
    )


@task(name="image-build", help={"name": "a recipe of lab/recipes", "json": "the result as JSON"})
@told
def image_build(_context: Context, name: str, json: bool = False) -> None:  # noqa: FBT001, FBT002 -- as in doctor
    """Build an image unless the cache has it."""
    with shown_progress(f"image {name}") as show:
        image = images.ensure_image(name, show)
    if json:
        show_json(image.to_json())
    else:
        OUT.print(
            f"{image.name} {image.key}: {image.meta['bytes'] >> 20} MiB in {image.folder}",
            soft_wrap=True,
        )


@task(
    name="image-rm",
    help={"name": "a recipe's name, or name-key for one of its images", "old": "only old ones"},
)
@told
def image_rm(_context: Context, name: str, old: bool = False) -> None:  # noqa: FBT001, FBT002 -- as in doctor
    """Remove images from the cache; refused while a lab uses them."""
    for image in images.matching(name, old=old):
        freed = images.remove_image(image)
        OUT.print(f"removed {image.name}-{image.key}, {freed >> 20} MiB")


@task(name="test", help={"only": "a room (lab, provisioning …), a test file, or a marker"})
@told
def run_tests(_context: Context, only: str = "") -> None:
    """Check style, types and rooms, then run the tests; all output is shown."""
    for title, command in checks_and_tests(only):
        ERR.rule(title)
        done = subprocess.run(command, cwd=PROJECT, check=False)
        if done.returncode != 0:
            raise Exit(f"{title}: failed ({done.returncode})", code=done.returncode)


def checks_and_tests(only: str) -> list[tuple[str, list[str]]]:
    """Return what `test` runs, as (title, command): everything, or the tests named by `only`."""
    python = sys.executable
    tools = Path(python).parent
    pytest = [python, "-m", "pytest"]
    if only:
        room = PROJECT / "tests" / only
        if room.exists() or (PROJECT / only.partition("::")[0]).exists():
            return [("pytest", [*pytest, str(room) if room.exists() else only])]
        return [("pytest", [*pytest, "-m", only])]
    return [
        ("ruff check", [str(tools / "ruff"), "check"]),
        ("ruff format", [str(tools / "ruff"), "format", "--check"]),
        ("mypy", [python, "-m", "mypy"]),
        ("lint-imports", [str(tools / "lint-imports")]),
        # What only computes runs side by side; what puts labs up or builds images has the
        # machine to itself, so that times mean something.
        ("pytest, pure", [*pytest, "-n", "2", "-m", "not lab and not slow"]),
        ("pytest, real", [*pytest, "-m", "lab or slow"]),
    ]
