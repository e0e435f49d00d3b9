"""How a lab is made and unmade: on record first, then the hosts of every provider, then commit.

The first provider that is an anchor (lab/providers/base.py) keeps the record in a process of its
own, and what it has made goes by itself if this process is killed. What the others made is on
record by then, each thing before it was made: `unmake` needs nothing else.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lab import limits, providers
from lab.bootstrap import KeyPair, LabKeys, host_files, make_keys
from lab.errors import Fault, LabError
from lab.ledger import Ledger
from lab.patches import patches_of
from lab.providers.base import Anchor, Maker, Order, image_label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from lab.plan import Plan, PlannedHost
    from lab.providers.base import Beginning, Image, Provider

    #: (form, names) -> images by name: see Provider.image_form.
    Images = Callable[[str, set[str]], Mapping[str, Image]]

DESTROY_DEADLINE = 10.0  # seconds
BEING_MADE = ("another lab-up is making it", "wait for that one, or end it")
THIS_PROCESS = secrets.token_hex(8)


def make(plan: Plan, images: Images, order: Order, spec: tuple[str, str]) -> Ledger:
    """Put a lab on record, have every provider make its hosts, commit; return its record.

    order -- what all shares of it have in common; spec -- (path, text) of where the plan came from.
    Raises LabError, and then nothing is left.
    """
    makers = [providers.get(name) for name in dict.fromkeys(h.provider for h in plan.hosts)]
    makers.sort(key=lambda maker: not isinstance(maker, Anchor))
    orders = {maker.name: _share(maker, plan, images, order) for maker in makers}
    order.note("making hosts and wires")
    keys = make_keys(plan)
    switching = makers[0].name if isinstance(makers[0], Anchor) else ""
    patched = {maker.name for maker in makers if maker.patched}
    patches = patches_of(plan, switching, patched) if switching else ()
    record: dict[str, Any] = {
        "providers": [maker.name for maker in makers],
        "plan": plan.to_json(secrets=True),
        "spec_path": spec[0],
        "spec_text": spec[1],
        "images": {
            image_label(name, maker.image_form): image.key
            for maker in makers
            for name, image in orders[maker.name].images.items()
        },
        "maker": THIS_PROCESS,
        "keys": _keys_to_json(keys),
        "patches": [list(patch) for patch in patches],
    }
    if order.share:
        record["share"] = list(order.share)
        record["groups"] = limits.groups_for(f"imlab-{plan.lab}-{secrets.token_hex(4)}")
    files = {host.name: host_files(plan, host.name, keys) for host in plan.hosts}
    orders = {
        name: replace(share, record=record, files=files, patches=patches)
        for name, share in orders.items()
    }
    try:
        beginning = _begin(makers[0], orders[makers[0].name])
    except FileExistsError:
        raise LabError(
            f"putting up the lab {plan.lab!r}", BEING_MADE[0], fault=Fault.USER, todo=BEING_MADE[1]
        ) from None
    try:
        for maker in makers:
            if isinstance(maker, Maker):
                maker.create(orders[maker.name], beginning.ledger)
        beginning.commit()
    except BaseException:  # Ctrl-C too
        with uninterrupted():
            unmake(beginning.ledger)
        raise
    return beginning.ledger


def _share(maker: Provider, plan: Plan, images: Images, order: Order) -> Order:
    """Return a provider's share of an order, with the images that its hosts want."""
    hosts = hosts_of(plan, maker.name)
    own = {image.name for image in plan.images}
    wanted = {host.image for host in hosts} - own if maker.image_form else set()
    have = images(maker.image_form, wanted) if wanted else {}
    return replace(order, hosts=hosts, images=have)


def _begin(first: Provider, order: Order) -> Beginning:
    if isinstance(first, Anchor):
        return first.begin(order)
    ledger, lock = Ledger.create(order.root, order.plan.lab, order.record)
    return _Held(ledger, lock)


@dataclass(frozen=True, slots=True)
class _Held:
    """A lab whose record this process keeps while it is made: no provider has one that would."""

    ledger: Ledger
    lock: int

    def commit(self) -> None:
        """Make it exist."""
        self.ledger.update(state="created")
        os.close(self.lock)


def unmake(ledger: Ledger) -> None:
    """End all that a lab is, whatever is left of it, and its record. Raises LabError.

    What one provider refuses to end does not hold up the others; the record stays then.
    """
    refused = []
    for name in providers_of(ledger, ledger.read()):
        try:
            providers.get(name).destroy(ledger, DESTROY_DEADLINE)
        except LabError as error:
            refused.append(error)
    if refused:
        raise refused[0]
    ledger.remove()


def hosts_of(plan: Plan, provider: str) -> tuple[PlannedHost, ...]:
    """Return the hosts of a plan that are one provider's to make."""
    return tuple(host for host in plan.hosts if host.provider == provider)


def providers_of(ledger: Ledger, record: dict[str, Any]) -> list[str]:
    """Return whose hosts a lab has: those that keep its record last, so that they end last."""
    names = record.get("providers") or ledger.providers() or [providers.DEFAULT]
    return sorted(names, key=lambda name: isinstance(providers.get(name), Anchor))


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Let a second Ctrl-C wait until what the first one began is cleaned up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _keys_to_json(keys: LabKeys) -> dict[str, Any]:
    def pair(key: KeyPair) -> dict[str, str]:
        return {"private": key.private, "public": key.public}

    return {"client": pair(keys.client), "hosts": {n: pair(k) for n, k in keys.hosts.items()}}
