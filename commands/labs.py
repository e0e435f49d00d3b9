"""Labs from a spec to a chat that answers, and what is done with them by hand."""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import lifecycle, providers
from lab.errors import Fault, LabError
from lab.making import uninterrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from lab.image_recipe import Form, Recipe
    from lab.making import Images
    from lab.plan import Plan
    from lab.providers.base import Image
    from provisioning.transport import Session

    #: Recipes by the image's name and form.
    Recipes = Mapping[tuple[str, Form], Recipe]

SPECS = Path(__file__).resolve().parent.parent / "vm_specs"
DEFAULT_SPEC = "paper"
WORK_PATIENCE = 60.0  # seconds to wait for another lab-up or run; the paper's takes 15
COMMAND_DEADLINE = 3600.0  # seconds; Ctrl-C ends it before


@dataclass(frozen=True, slots=True)
class Raised:
    """What lab-up did: new is False when the lab was there; changes are words by host.

    links -- what was measured of its cables with conditions (lab/links.py).
    """

    lab: lifecycle.Lab = field(repr=False)
    new: bool
    changes: dict[str, tuple[str, ...]]
    links: list[dict[str, Any]] = field(default_factory=list)


def spec_path(spec: str) -> Path:
    """Return the file of a spec: a path, or the name of one in vm_specs/."""
    named = SPECS / f"{spec}.yaml"
    if "/" not in spec and not spec.endswith((".yaml", ".yml")) and named.is_file():
        return named
    path = Path(spec)
    if not path.exists():
        there = ", ".join(sorted(p.stem for p in SPECS.glob("*.yaml")))
        raise LabError(
            f"finding the spec {spec!r}",
            f"no such file; in vm_specs/ there are: {there}",
            fault=Fault.USER,
            todo="give the path of a YAML file or one of these names",
        )
    return path


BROWSER = "-browser"  # what the image with a browser adds to the name of the one without


def plan_of(
    path: Path,
    name: str | None = None,
    *,
    provider: str = providers.DEFAULT,
    browser: bool = False,
) -> Plan:
    """Read, check and plan a spec; with `browser`, on images that have one where there are such.

    provider -- what makes the hosts of which the spec does not say it, or HOST=PROVIDER for a
                host of which it may: see providers.chosen.

    Raises LabError with all faults of the spec.
    """
    from lab.image_recipe import recipe_names  # noqa: PLC0415 - not for lab-run, lab-shell …
    from lab.planning import make_plan  # noqa: PLC0415 - as above
    from lab.spec import load_spec  # noqa: PLC0415 - as above
    from provisioning import roles  # noqa: PLC0415 - as above
    from provisioning.provision import faults as role_faults  # noqa: PLC0415 - as above

    spec = load_spec(path, roles=roles.names(), images=recipe_names(), providers=providers.names())
    default, by_host = providers.chosen(provider)
    if unknown := sorted(set(by_host) - set(spec.hosts)):
        raise LabError(
            f"choosing who makes the hosts of {path}",
            f"it has no host {', '.join(unknown)}; it has: {', '.join(spec.hosts)}",
            fault=Fault.USER,
            todo="name one of these before the '='",
        )
    plan = make_plan(
        spec,
        name=name,
        provider=default or providers.DEFAULT,
        providers=by_host,
        folder=path.parent.absolute(),
    )
    if browser:
        known = recipe_names()
        plan = replace(
            plan,
            hosts=tuple(
                replace(host, image=host.image + BROWSER) if host.image + BROWSER in known else host
                for host in plan.hosts
            ),
        )
    faults = role_faults(plan)
    if faults:
        raise LabError(
            f"checking the roles of {path}",
            "\n".join(faults),
            fault=Fault.SPEC,
            todo="correct the parameters of these roles",
        )
    if faults := lifecycle.faults(plan):
        raise LabError(
            f"checking what makes the hosts of {path}",
            "\n".join(faults),
            fault=Fault.SPEC,
            todo="correct these hosts, or choose another provider for them",
        )
    return plan


def spec_faults(spec: str) -> list[str]:
    """Return everything that is wrong with a spec, a text each; [] when it is sound."""
    from lab.image_recipe import recipe_names  # noqa: PLC0415 - as above
    from lab.spec import check_spec  # noqa: PLC0415 - as above
    from provisioning import roles  # noqa: PLC0415 - as above

    faults = check_spec(
        spec_path(spec), roles=roles.names(), images=recipe_names(), providers=providers.names()
    )
    return [str(fault) for fault in faults]


def bring_up(  # noqa: PLR0913 - where the lab comes from, and how to go about it by keyword
    path: Path,
    *,
    name: str | None = None,
    provider: str = providers.DEFAULT,
    browser: bool = False,
    configure_machine: bool = False,
    bases: Images | None = None,
    note: Callable[..., None] = lambda *_: None,
    held: contextlib.ExitStack | None = None,
) -> Raised:
    """Put a lab up and provision it. Safe to repeat. Raises LabError.

    Interrupted, a lab that this call has made goes again; one that was there stays.
    bases -- where base images come from; the cache, which builds what is missing, by default.
    held  -- gets the claim on the lab's hosts, for who goes on working on them.
    """
    from provisioning.provision import prepare as prepare_roles  # noqa: PLC0415 - not for lab-run …

    # A daemon: Ctrl-C amid an import can leave a lock that the importing thread waits for.
    warm = threading.Thread(
        target=importlib.import_module, args=("provisioning.sessions",), daemon=True
    )
    note("reading the spec")
    lifecycle.prepare(name or path.stem, provider)
    plan = plan_of(path, name, provider=provider, browser=browser)
    warm.start()  # paramiko loads while the keeper makes hosts

    text = path.read_text(encoding="utf-8")
    if lifecycle.status(plan.lab).state is lifecycle.State.ABSENT:
        prepare_roles(plan)
    lab, new = lifecycle.up(
        plan,
        bases or images(note),
        spec=(str(path), text),
        configure_machine=configure_machine,
        note=note,
    )
    try:
        warm.join()
        with contextlib.ExitStack() as alone:
            claim = lifecycle.working(lab, patience=WORK_PATIENCE, note=note)
            (alone if held is None else held).enter_context(claim)
            note("provisioning")
            return Raised(lab, new, provision(lab), lab.ledger.read().get("links", []))
    except KeyboardInterrupt:
        if new:
            with uninterrupted():
                lifecycle.down(lab.name)
        raise


def images(note: Callable[..., None], recipes: Recipes | None = None) -> Images:
    """Return what gives the life cycle its base images, building what is missing.

    recipes -- what images are made of instead of the recipes of their names: by name and form.
               A form that is not there is made of the root file system's, if that is.
    """
    from lab.image_recipe import in_form  # noqa: PLC0415 - not for lab-run, lab-shell …

    others = recipes or {}

    def other(image: str, form: Form) -> Recipe | None:
        rootfs = others.get((image, "rootfs"))
        return others.get((image, form)) or (in_form(rootfs, form) if rootfs else None)

    def found(form: str, wanted: set[str]) -> Mapping[str, Image]:
        called: Form = "disk" if form == "disk" else "rootfs"
        return {
            image: _ensure(called, image, note, other(image, called)) for image in sorted(wanted)
        }

    return found


def provision(lab: lifecycle.Lab) -> dict[str, tuple[str, ...]]:
    """Apply all roles; the second time changes nothing."""
    from provisioning.provision import provision as apply  # noqa: PLC0415 - loads paramiko
    from provisioning.sessions import Sessions  # noqa: PLC0415 - as above

    with Sessions(lab, [host.name for host in lab.plan.hosts if host.roles]) as sessions:
        changes = apply(lab.plan, sessions)
    lifecycle.mark_ready(lab)
    return changes


def _ensure(form: Form, name: str, note: Callable[..., None], recipe: Recipe | None) -> Image:
    from lab import images  # noqa: PLC0415 - not for lab-run, lab-shell …
    from lab.providers.base import Image  # noqa: PLC0415 - as above

    def told(phase: str, share: float | None) -> None:
        note(f"image {name}: {phase}", share)

    ref = images.ensure_image(name, told, form, recipe)
    return Image(ref.name, ref.key, ref.path, ref.lock)


def pick(name: str | None) -> lifecycle.Lab:
    """Return the lab that is meant: the named one, else the only one there is.

    Raises LabError when there is none, or several and no name.
    """
    if name:
        return lifecycle.attach(name)
    labs = lifecycle.all_status()
    if len(labs) == 1:
        return lifecycle.attach(labs[0].name)
    raise LabError(
        "choosing a lab",
        "labs: " + (", ".join(lab.name for lab in labs) or "none"),
        fault=Fault.USER,
        todo="name one with --name" if labs else "put one up with `./inv lab-up`",
    )


@contextlib.contextmanager
def session(lab: lifecycle.Lab, host: str) -> Iterator[Session]:
    """Log in to one host of a lab."""
    from provisioning.transport import Session  # noqa: PLC0415 - loads paramiko

    with Session.open(lab.host(host), lab.dial(host)) as opened:
        yield opened


def adapter_of(lab: lifecycle.Lab, host: str, adapter: str | None) -> str:
    """Return the adapter of a host that is meant: the named one, else its first with a cable."""
    lab.host(host)
    adapters = [a.name for a in lab.plan.host(host).adapters]
    if adapter is None:
        plugged = [a.name for a in lab.plan.host(host).adapters if a.address]
        adapter = (plugged or adapters)[0]
    if adapter not in adapters:
        raise LabError(
            f"choosing an adapter of {host}",
            f"there are: {', '.join(adapters)}",
            fault=Fault.USER,
            todo="name one of these with --adapter",
        )
    return adapter


def take_down(name: str | None, *, every: bool) -> list[str]:
    """Take down the named lab, or the only one, or every one; return whose they were."""
    there = [status.name for status in lifecycle.all_status()]
    if name is None and not every and len(there) > 1:
        raise LabError(
            "choosing a lab to take down",
            f"labs: {', '.join(there)}",
            fault=Fault.USER,
            todo="name one with --name, or say --all",
        )
    if name and name not in there:
        raise LabError(
            f"taking down the lab {name!r}",
            f"labs: {', '.join(there) or 'none'}",
            fault=Fault.USER,
            todo="nothing is to be done if it is not there",
        )
    gone, refused = [], []
    for each in [name] if name else there:
        try:
            if lifecycle.down(each):
                gone.append(each)
        except LabError as error:  # the others go all the same
            refused.append(error)
    if len(refused) == 1:
        raise refused[0]
    if refused:
        raise LabError(
            "taking down " + ", ".join(error.doing.rpartition(" ")[2] for error in refused),
            "\n".join(f"{error.doing}: {error.saw}" for error in refused),
            fault=refused[0].fault,
            todo=refused[0].todo,
        )
    return gone


def run_command(lab: lifecycle.Lab, host: str, argv: list[str], *, as_json: bool) -> int:
    """Run a command on a host with our own streams; return its exit code."""
    if not argv:
        raise LabError(
            f"running a command on {host}",
            "no command was given",
            fault=Fault.USER,
            todo=f"./inv lab-run {host} -- ip address",
        )
    stdin = b"" if sys.stdin.isatty() else sys.stdin.buffer.read()
    with session(lab, host) as opened:
        result = opened.run(argv, stdin=stdin, deadline=COMMAND_DEADLINE, check=False)
    if as_json:
        print(json.dumps(result.to_json(), indent=2))  # noqa: T201 - the task's output
    else:
        sys.stdout.buffer.write(result.stdout)
        sys.stderr.buffer.write(result.stderr)
    return result.exit_code


def forward(lab: lifecycle.Lab, target: str, local_port: int) -> None:
    """Forward HOST:PORT to this machine until interrupted."""
    host, _, port = target.partition(":")
    if not port.isdigit() or not 0 < int(port) < 65536:  # noqa: PLR2004 - TCP's ports
        raise LabError(
            f"forwarding {target!r}",
            "that is not HOST:PORT",
            fault=Fault.USER,
            todo="for instance ./inv lab-forward guest:80",
        )
    with session(lab, host) as opened, opened.forward(int(port), local_port) as at:
        print(  # noqa: T201 - the task's output
            f"{host}:{port} is at http://127.0.0.1:{at}/  (Ctrl-C ends it)", flush=True
        )
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


def capture(lab: lifecycle.Lab, host: str, adapter: str | None) -> None:
    """Write a live capture to standard output until interrupted or nobody reads any more."""
    from experiments.capture import live  # noqa: PLC0415 - not for the other commands

    chosen = adapter_of(lab, host, adapter)
    if sys.stdout.isatty():
        raise LabError(
            f"capturing on {host}/{chosen}",
            "standard output is a terminal, and a capture is binary",
            fault=Fault.USER,
            todo=f"./inv lab-capture {host} | wireshark -k -i -   or   > file.pcapng",
        )
    gone = threading.Event()

    def sink(block: bytes) -> None:
        try:
            sys.stdout.buffer.write(block)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            gone.set()

    with session(lab, host) as opened, live(opened, host, chosen, sink) as tap:
        print(f"capturing on {host}/{chosen}; Ctrl-C ends it", file=sys.stderr)  # noqa: T201 - as above
        with contextlib.suppress(KeyboardInterrupt):
            while not gone.wait(0.2) and tap.running:
                pass
