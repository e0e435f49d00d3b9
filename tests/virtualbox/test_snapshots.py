"""Saved with its memory and brought back: machines of a VirtualBox that runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab.errors import LabError
from lab.providers.base import Snapshots
from lab.providers.virtualbox.provider import PROVIDER

if TYPE_CHECKING:
    from virtualbox_labs import Box, Labs

pytestmark = [pytest.mark.lab, pytest.mark.virtualbox]


def test_it_is_a_provider_that_saves() -> None:
    """The life cycle asks by the protocol, not by name."""
    assert isinstance(PROVIDER, Snapshots)


def test_machines_are_saved_and_brought_back(box: Box, labs: Labs) -> None:
    """Twice, by name, in order; running again in the end, and gone with all of it."""
    ledger = labs.make(box.plan())
    hosts = ("m1", "m2")
    assert PROVIDER.saved(ledger) == {"m1": [], "m2": []}
    PROVIDER.save(ledger, hosts, "clean")
    PROVIDER.save(ledger, hosts, "later")
    assert PROVIDER.saved(ledger) == {host: ["clean", "later"] for host in hosts}
    assert PROVIDER.observe(ledger) == dict.fromkeys(hosts)
    PROVIDER.restore(ledger, hosts, "clean")
    assert PROVIDER.observe(ledger) == dict.fromkeys(hosts)
    PROVIDER.forget(ledger, hosts, "later")
    assert PROVIDER.saved(ledger) == {host: ["clean"] for host in hosts}
    PROVIDER.restore(ledger, ["m1"], "clean")
    assert PROVIDER.observe(ledger) == dict.fromkeys(hosts)


def test_a_name_that_was_not_saved(box: Box, labs: Labs) -> None:
    """It is said, and the machine runs on."""
    ledger = labs.make(box.plan(hosts=1))
    with pytest.raises(LabError, match="never"):
        PROVIDER.restore(ledger, ["m1"], "never")
    assert PROVIDER.observe(ledger) == {"m1": None}


def test_saving_one_that_does_not_exist_saves_none(box: Box, labs: Labs) -> None:
    """Of a lab whose second machine has gone nothing is saved at all."""
    ledger = labs.make(box.plan())
    gone = next(r for r in ledger.owned("virtualbox", "machine") if r["host"] == "m2")
    box.run(REMOVE, gone["name"])
    with pytest.raises(LabError, match="m2|find"):
        PROVIDER.save(ledger, ["m1", "m2"], "half")
    machines = {r["host"]: r["name"] for r in ledger.owned("virtualbox", "machine")}
    assert box.run(SNAPSHOTS, machines["m1"]).strip() == "0"


REMOVE = """
import sys, time, vboxapi
manager = vboxapi.VirtualBoxManager()
c, session = manager.constants, manager.getSessionObject(None)
machine = manager.getVirtualBox().findMachine(sys.argv[1])
machine.lockMachine(session, c.LockType_Shared)
session.console.powerDown().waitForCompletion(-1)
while machine.sessionState != c.SessionState_Unlocked:
    time.sleep(0.01)
media = machine.unregister(c.CleanupMode_DetachAllReturnHardDisksOnly)
for medium in media:
    if "/m2/" in medium.location:
        medium.deleteStorage().waitForCompletion(-1)
"""
SNAPSHOTS = """
import sys, vboxapi
manager = vboxapi.VirtualBoxManager()
print(manager.getVirtualBox().findMachine(sys.argv[1]).snapshotCount)
"""
