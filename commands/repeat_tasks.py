"""The tasks by which a run is somebody else's to check; tasks.py has the others."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.tasks import task

from commands.cli import guarded, progress, show

if TYPE_CHECKING:
    from rich.console import RenderableType

JSON = {"json": "print JSON for programs"}


@task(
    positional=["run"],
    help={
        "run": "a run's name, folder or archive, or 'last'",
        "provider": "what makes the hosts, instead of what made them then; HOST=NAME, for one",
        "out": "folder of the runs",
        "strict": "exit 1 also when a measure lies outside of what it was",
        "their-recipes": "build images by the run's recipes where ours differ (runs its commands)",
        **JSON,
    },
)
@guarded
def rerun(
    _: Context,
    run: str,
    provider: str = "",
    out: str = "",
    strict: bool = False,
    their_recipes: bool = False,
    json: bool = False,
) -> None:
    """Do a run again on this machine and compare; exit 1 unless the verdicts are equal."""
    from commands import rerun as again
    from commands import runs

    folder = Path(out) if out else runs.RUNS
    options = again.Options(folder, provider, their_recipes, strict)
    with progress(quiet=json) as told:
        outcome = again.rerun(run, options, told.note)
    show(lambda: _view("rerun_view", outcome), outcome.to_json(), as_json=json)
    if not outcome.same:
        sys.exit(1)


@task(
    positional=["run"],
    help={
        "run": "a run's name, its folder, or 'last'",
        "out": "folder or file of the archive; here by default",
        **JSON,
    },
)
@guarded
def pack(_: Context, run: str, out: str = "", json: bool = False) -> None:
    """Make one archive of a run; the same run gives the same bytes."""
    from commands import repeat

    packed = repeat.pack(run, Path(out))
    told = f"{packed['archive']}  {packed['bytes'] / 1e6:.1f} MB\nsha256 {packed['sha256']}"
    show(lambda: told, packed, as_json=json)


@task(
    positional=["run"],
    help={"run": "a run's name, folder or archive, 'last', or the folder of a series", **JSON},
)
@guarded
def verify(_: Context, run: str, json: bool = False) -> None:
    """Find every byte of a run that is not what was sealed, and name its file; exit 1 if any."""
    from commands import repeat

    found = repeat.verify(run)
    show(lambda: _view("verified_view", found), found.to_json(), as_json=json)
    if found.facts:
        sys.exit(1)


@task(
    iterable=["run"],
    help={
        "run": "a run's name, folder or archive, or the folder of a series; several",
        "html": "write the page to this file",
        **JSON,
    },
)
@guarded
def compare(_: Context, run: list[str], html: str = "", json: bool = False) -> None:
    """Put runs side by side: verdicts, measures with intervals, and what differed around them."""
    from commands import series

    told = series.compare(run, html)
    show(lambda: _view("compare_view", told), told, as_json=json)


def _view(name: str, value: object) -> RenderableType:
    from commands import show_runs

    view: RenderableType = getattr(show_runs, name)(value)
    return view
