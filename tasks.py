"""What imlab can do, one task each: parse, call one function, show the result.

Exit codes: 0 done · 1 the answer is no (a claim refuted, a test failed) · 2 the request or the
spec is wrong · 3 this machine can't · 4 a lab host failed · 5 a fault of imlab · 130 Ctrl-C.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.tasks import task

from commands.class_tasks import (  # noqa: F401 - tasks, too
    class_down,
    class_grade,
    class_handout,
    class_serve,
    class_status,
    class_up,
)
from commands.cli import after_dashes, guarded, jsonable, progress, show
from commands.repeat_tasks import compare, pack, rerun, verify  # noqa: F401 - tasks, too
from lab import own_tasks

if TYPE_CHECKING:
    from collections.abc import Callable

    from invoke.tasks import Task
    from rich.console import RenderableType

    from commands.runs import Outcome

JSON = {"json": "print JSON for programs"}
NAME = {"name": "which lab; the spec's own name, or the only lab there is, by default"}


@task(
    name="lab-up",
    help={
        "spec": "a file, or a name in vm_specs/",
        "provider": "what makes the hosts of which the spec does not say it; HOST=NAME, for one",
        "configure-machine": "let the network of this machine be changed where the spec wants it",
        "name": "another name, so that several labs of one spec run side by side",
        "dry-run": "show the plan and make nothing",
        **JSON,
    },
)
@guarded
def lab_up(
    _: Context,
    spec: str = "paper",
    provider: str = "netns",
    name: str = "",
    dry_run: bool = False,
    configure_machine: bool = False,
    json: bool = False,
) -> None:
    """Put a lab up and provision it; safe to repeat."""
    from commands import labs

    path = labs.spec_path(spec)
    if dry_run:
        plan = labs.plan_of(path, name or None, provider=provider)
        show(lambda: _view("plan_tree", plan), plan.to_json(), as_json=json)
        return
    with progress(quiet=json) as told:
        raised = labs.bring_up(
            path,
            name=name or None,
            provider=provider,
            configure_machine=configure_machine,
            note=told.note,
        )
    data = {"lab": raised.lab.name, "new": raised.new, "changes": raised.changes}
    data |= {"links": raised.links}
    show(lambda: _view("raised_tree", raised), data, as_json=json)


@task(name="lab-status", help={**NAME, **JSON})
@guarded
def lab_status(_: Context, name: str = "", json: bool = False) -> None:
    """Show the labs on this machine; exit 1 when one is not whole."""
    from lab import lifecycle

    labs = [lifecycle.status(name)] if name else lifecycle.all_status()
    show(lambda: _view("status_table", labs), [jsonable(lab) for lab in labs], as_json=json)
    if any(lab.state.value in {"absent", "degraded", "lost"} for lab in labs):
        sys.exit(1)


@task(name="lab-down", help={**NAME, "all": "every lab on this machine", **JSON})
@guarded
def lab_down(_: Context, name: str = "", all: bool = False, json: bool = False) -> None:
    """Take a lab down, or what is left of it; needs no spec."""
    from commands import labs

    gone = labs.take_down(name or None, every=all)
    show(lambda: "\n".join(f"lab {n} is down" for n in gone) or "no lab is up", gone, as_json=json)


@task(
    name="lab-snapshot",
    positional=["snapshot"],
    help={"snapshot": "what to call it; shows those there are without", **NAME, **JSON},
    optional=["snapshot"],
)
@guarded
def lab_snapshot(_: Context, snapshot: str = "", name: str = "", json: bool = False) -> None:
    """Save a lab's virtual machines, running, to have them back in seconds."""
    from commands import labs
    from lab import lifecycle

    lab = labs.pick(name or None)
    if not snapshot:
        there = lifecycle.snapshots(lab)
        show(lambda: _view("snapshots_table", there), there, as_json=json)
        return
    with progress(quiet=json) as told:
        told.note(f"saving as {snapshot}")
        saved = lifecycle.snapshot(lab, snapshot)
    show(lambda: f"saved as {snapshot}: {', '.join(saved)}", saved, as_json=json)


@task(
    name="lab-restore",
    positional=["snapshot"],
    help={"snapshot": "a name that lab-snapshot gave", **NAME, **JSON},
)
@guarded
def lab_restore(_: Context, snapshot: str, name: str = "", json: bool = False) -> None:
    """Bring a lab's virtual machines back to what they were."""
    from commands import labs
    from lab import lifecycle

    with progress(quiet=json) as told:
        told.note(f"restoring {snapshot}")
        back = lifecycle.restore(labs.pick(name or None), snapshot)
    show(lambda: f"as {snapshot} again: {', '.join(back)}", back, as_json=json)


@task(name="lab-shell", positional=["host"], help={"host": "a host of the lab", **NAME})
@guarded
def lab_shell(_: Context, host: str, name: str = "") -> None:
    """Open a shell on a host."""
    from commands import labs

    with labs.session(labs.pick(name or None), host) as session:
        sys.exit(session.shell())


@task(name="lab-run", positional=["host"], help={"host": "a host of the lab", **NAME, **JSON})
@guarded
def lab_run(_: Context, host: str, name: str = "", json: bool = False) -> None:
    """Run a command on a host: ./inv lab-run guest -- ip address."""
    from commands import labs

    sys.exit(labs.run_command(labs.pick(name or None), host, after_dashes(), as_json=json))


@task(
    name="lab-forward",
    positional=["target"],
    help={
        "target": "HOST:PORT, e.g. guest:80",
        "port": "local port; a free one by default",
        **NAME,
    },
)
@guarded
def lab_forward(_: Context, target: str, port: int = 0, name: str = "") -> None:
    """Lead a port of a host to this machine until Ctrl-C: the chat opens in your own browser."""
    from commands import labs

    labs.forward(labs.pick(name or None), target, port)


@task(
    name="lab-capture",
    positional=["host"],
    help={
        "host": "a host of the lab",
        "adapter": "its first adapter with a cable by default",
        **NAME,
    },
)
@guarded
def lab_capture(_: Context, host: str, adapter: str = "", name: str = "") -> None:
    """Write a live pcapng to standard output: ./inv lab-capture guest | wireshark -k -i -."""
    from commands import labs

    labs.capture(labs.pick(name or None), host, adapter or None)


@task(
    positional=["experiment"],
    help={
        "experiment": "a file, a name in experiments/definitions/, or a series to go on with",
        "provider": "what makes the hosts, if the lab is not up yet; HOST=NAME, for one",
        "browser": "drive a real Chromium on the peer",
        "keep": "leave the lab up afterwards",
        "out": "folder of the runs",
        **NAME,
        **JSON,
    },
)
@guarded
def run(
    _: Context,
    experiment: str,
    name: str = "",
    provider: str = "netns",
    browser: bool = False,
    keep: bool = False,
    out: str = "",
    json: bool = False,
) -> None:
    """Run an experiment on the lab that is up, or on one of its own; exit 1 unless confirmed."""
    from commands import runs, series

    options = runs.Options(
        name or None, provider, Path(out) if out else runs.RUNS, browser=browser, keep=keep
    )
    if series.wanted(experiment):
        with progress(quiet=json) as told:
            done = series.run(experiment, options, told.note)
        show(lambda: _view("series_view", done), done.to_json(), as_json=json)
        if not done.confirmed:
            sys.exit(1)
        return
    with progress(quiet=json) as told:
        outcome = runs.run_experiment(experiment, options, told.note)
    _show_outcome(outcome, as_json=json)


@task(help={"json": JSON["json"], "browser": "drive a real Chromium on the peer"})
@guarded
def reproduce(_: Context, browser: bool = False, json: bool = False) -> None:
    """Reproduce the paper: lab up, experiment, report, lab down."""
    from commands import runs

    with progress(quiet=json) as told:
        outcome = runs.run_experiment("paper", runs.Options(browser=browser), told.note)
    _show_outcome(outcome, as_json=json)


@task(
    positional=["name"],
    help={
        "name": "a run's name, its folder, or 'last'",
        "engine": "what reads the captures: native, or tshark to compare with",
        **JSON,
    },
)
@guarded
def report(_: Context, name: str, engine: str = "native", json: bool = False) -> None:
    """Judge a run again from its folder alone and write its report anew."""
    from commands import runs

    folder = runs.find(name)
    with progress(quiet=json) as told:
        told.note("reading the captures and judging")
        outcome = runs.judge(folder, engine=engine)
    _show_outcome(outcome, as_json=json)


@task(
    help={
        "only": "systems and countermeasures, e.g. xmpp,tls; all by default",
        "repeats": "messages in each cell; 60 by default, which the 95th percentile needs",
        "again": "judge the matrix in this folder again, without a lab",
        "claims": "runs whose verdicts stand on the page, e.g. RUN,RUN",
        "spec": "the lab: a file, or a name in vm_specs/",
        "keep": "leave the lab up afterwards",
        "out": "folder of the matrices",
        **NAME,
        **JSON,
    },
)
@guarded
def matrix(
    _: Context,
    only: str = "",
    repeats: int = 0,
    again: str = "",
    claims: str = "",
    spec: str = "im",
    name: str = "",
    keep: bool = False,
    out: str = "",
    json: bool = False,
) -> None:
    """Find out who reads what under every countermeasure; exit 1 if a text was missed."""
    from commands import matrix as matrix_
    from commands import runs

    given = tuple(word for word in claims.split(",") if word)
    options = matrix_.Options(
        tuple(word for word in only.split(",") if word), repeats, spec, name or None,
        Path(out) if out else runs.RUNS, keep, given,
    )  # fmt: skip
    with progress(quiet=json) as told:
        if again:
            outcome = matrix_.judge(Path(again), given, told.note)
        else:
            outcome = matrix_.run_matrix(options, told.note)
    show(lambda: _view("matrix_table", outcome), outcome.rows, as_json=json)
    if not outcome.sound:
        sys.exit(1)


@task(help=JSON)
@guarded
def runs(_: Context, json: bool = False) -> None:
    """List the runs."""
    from commands import runs as runs_

    rows = runs_.listing()
    show(lambda: _view("runs_table", rows), rows, as_json=json)


@task(name="spec-check", positional=["file"], help={"file": "a spec", **JSON})
@guarded
def spec_check(_: Context, file: str, json: bool = False) -> None:
    """Say everything that is wrong with a spec; exit 2 if anything is."""
    from commands import labs

    faults = labs.spec_faults(file)
    show(lambda: "\n".join(map(str, faults)) or f"{file}: sound", faults, as_json=json)
    if faults:
        sys.exit(2)


@task(help={"provider": "whether it can have hosts of that one", **JSON})
@guarded
def doctor(_: Context, provider: str = "netns", json: bool = False) -> None:
    """Say whether this machine can have a lab, and what to do if not; exit 3 if it can't."""
    from lab import doctor as doctor_

    checks = doctor_.examine(provider)
    show(lambda: _view("doctor_view", checks), [c.to_json() for c in checks], as_json=json)
    if not doctor_.can_have_a_lab(checks):
        sys.exit(3)


@task(name="image-list", help=JSON)
@guarded
def image_list(_: Context, json: bool = False) -> None:
    """List the images in the cache; 'old' ones no recipe stands for any more."""
    from lab import images

    listed = [(image, images.is_current(image)) for image in images.list_images()]
    data = [{**image.to_json(), "current": current} for image, current in listed]
    show(lambda: _view("images_table", data), data, as_json=json)


FORM = {"form": "rootfs (of a namespace host) or disk (of a virtual machine)"}


@task(
    name="image-build",
    positional=["name"],
    help={"name": "a recipe of lab/recipes", **FORM, **JSON},
)
@guarded
def image_build(_: Context, name: str, form: str = "rootfs", json: bool = False) -> None:
    """Build an image unless the cache has it."""
    from lab import images

    with progress(quiet=json) as told:
        image = images.ensure_image(name, told.note, images.form_called(form))
    show(lambda: f"{image.name} {image.key} in {image.folder}", image.to_json(), as_json=json)


@task(
    name="image-rm",
    positional=["name"],
    help={
        "name": "a recipe's name, or name-key for one of its images",
        "form": "only this form: rootfs or disk",
        "old": "only old ones",
    },
)
@guarded
def image_rm(_: Context, name: str, form: str = "", old: bool = False) -> None:
    """Remove images from the cache; refused while a lab uses them."""
    from lab import images

    wanted = images.form_called(form) if form else None
    for image in images.matching(name, form=wanted, old=old):
        freed = images.remove_image(image) >> 20
        print(f"removed {image.name}-{image.key} ({image.form}), {freed} MiB")


@task(
    iterable=["capture", "pattern"],
    help={
        "capture": "pcap or pcapng, .gz and .zst too, - for standard input; several are merged",
        "html": "write the page with packet list and streams to this file",
        "proof": "write a pcapng of only the frames that prove something to this file",
        "secrets": "look for what this file lists: one a line, or YAML/JSON list of {id, text}",
        "pattern": "look for NAME=REGEX; may be given several times",
        "keys": "a TLS key log to decrypt with",
        "packet": "show this packet only",
        "stream": "follow this stream only, e.g. tcp:4711",
        **JSON,
    },
)
@guarded
def analyze(
    _: Context,
    capture: list[str],
    html: str = "",
    proof: str = "",
    secrets: str = "",
    pattern: list[str] | None = None,
    keys: str = "",
    packet: int = 0,
    stream: str = "",
    json: bool = False,
) -> None:
    """Show what an eavesdropper reads in captures: ./inv analyze a.pcap b.pcapng.gz."""
    from commands import analysis

    given = (html, proof, secrets, tuple(pattern or ()), keys, packet, stream)
    if code := analysis.analyze(analysis.Options(tuple(capture), json, *given)):
        sys.exit(code)


@task(help={"only": "a provider, a room (lab, provisioning …), a test file, or a marker"})
@guarded
def test(_: Context, only: str = "") -> None:
    """Check style, types and rooms, then run the tests; all output is shown."""
    from commands import checks

    sys.exit(checks.run_all(only))


@task(
    help={
        "only": "a benchmark by name; all by default (the word --only may be left out)",
        "runs": "runs of each",
        "sizes": "of the captures of `analysis`, in MB: 10,100,1000,4000",
        **JSON,
    },
)
@guarded
def bench(_: Context, only: str = "", runs: int = 5, sizes: str = "", json: bool = False) -> None:
    """Measure speed and memory against peers and floors, in one run."""
    from benchmarks import suite
    from benchmarks.rows import bench_table

    rows = suite.run(only or None, runs, tuple(int(size) for size in sizes.split(",") if size))
    show(lambda: bench_table(rows), [jsonable(row) for row in rows], as_json=json)


def _of_provider(own: own_tasks.OwnTask) -> Task[Callable[..., None]]:
    """Make a task of what a provider adds."""

    def body(_: Context, json: bool = False) -> None:
        with progress(quiet=json) as told:
            answer = own.run(told.note)
        show(lambda: answer.text, answer.data, as_json=json)

    body.__doc__ = own.summary
    made: Task[Callable[..., None]] = task(name=own.name, help=JSON)(guarded(body))
    return made


globals().update({own.name: _of_provider(own) for own in own_tasks.of_providers()})


def _view(name: str, value: object) -> RenderableType:
    from commands import show, show_runs

    view: RenderableType = getattr(show if hasattr(show, name) else show_runs, name)(value)
    return view


def _show_outcome(outcome: Outcome, *, as_json: bool) -> None:
    from commands.show import verdict_table

    data = {"folder": str(outcome.folder), "verdicts": outcome.verdicts}
    show(
        lambda: verdict_table(outcome.verdicts, outcome.folder, outcome.durations_s),
        data,
        as_json=as_json,
    )
    if not outcome.confirmed:
        sys.exit(1)
