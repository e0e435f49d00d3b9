"""Labs from a spec to a chat that answers, and what is done with them by hand."""

from __future__ import annotations

import contextlib
import importlib
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lab import lifecycle
from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from lab.plan import Plan
    from lab.providers.base import Image
    from provisioning.transport import Session

SPECS = Path(__file__).resolve().parent.parent / "vm_specs"
DEFAULT_SPEC = "paper"


@dataclass(frozen=True, slots=True)
class Raised:
    """What lab-up did: new is False when the lab was there; changes are words by host."""

    lab: lifecycle.Lab = field(repr=False)
    new: bool
    changes: dict[str, tuple[str, ...]]


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


def plan_of(path: Path, name: str | None = None) -> Plan:
    """Read, check and plan a spec. Raises LabError with all its faults."""
    from lab.image_recipe import recipe_names  # noqa: PLC0415 - not for lab-run, lab-shell …
    from lab.planning import make_plan  # noqa: PLC0415 - as above
    from lab.spec import load_spec  # noqa: PLC0415 - as above
    from provisioning import roles  # noqa: PLC0415 - as above

    spec = load_spec(path, roles=roles.names(), images=recipe_names())
    return make_plan(spec, name=name)


def bring_up(
    path: Path,
    *,
    name: str | None = None,
    provider: str = "netns",
    note: Callable[..., None] = lambda *_: None,
) -> Raised:
    """Put a lab up and provision it. Safe to repeat. Raises LabError."""
    warm = threading.Thread(target=importlib.import_module, args=("provisioning.sessions",))
    note("reading the spec")
    plan = plan_of(path, name)
    warm.start()  # paramiko loads while the keeper makes hosts

    def images(wanted: set[str]) -> Mapping[str, Image]:
        return {image: _ensure(image, note) for image in sorted(wanted)}

    text = path.read_text(encoding="utf-8")
    lab, new = lifecycle.up(
        plan, images, provider=provider, spec=(str(path), text), note=note
    )  # fmt: skip
    warm.join()
    note("provisioning")
    return Raised(lab, new, provision(lab))


def provision(lab: lifecycle.Lab) -> dict[str, tuple[str, ...]]:
    """Apply all roles; the second time changes nothing."""
    from provisioning.provision import provision as apply  # noqa: PLC0415 - loads paramiko
    from provisioning.sessions import Sessions  # noqa: PLC0415 - as above

    with Sessions(lab) as sessions:
        changes = apply(lab.plan, sessions)
    lifecycle.mark_ready(lab)
    return changes


def _ensure(name: str, note: Callable[..., None]) -> Image:
    from lab import images  # noqa: PLC0415 - not for lab-run, lab-shell …

    ref = images.ensure_image(name, note)
    return ref.as_image()


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

    with Session.open(lab.host(host), lab.dial(host), lab.private_key) as opened:
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
