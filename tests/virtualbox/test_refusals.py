"""What VirtualBox refuses, in its own words, with what to do: for real."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lab.errors import Fault, LabError
from lab.providers.virtualbox import asking
from lab.providers.virtualbox.provider import PROVIDER

if TYPE_CHECKING:
    from pathlib import Path

    from virtualbox_labs import Box, Labs

    from lab.plan import Plan

pytestmark = [pytest.mark.lab, pytest.mark.virtualbox]


def attached(box: Box, attach: dict[str, Any]) -> Plan:
    """Return a lab of one machine that is attached so."""
    plan = box.plan(hosts=1)
    (host,) = plan.hosts
    adapters = tuple(replace(adapter, attach=attach) for adapter in host.adapters)
    return replace(plan, hosts=(replace(host, adapters=adapters),))


def refused(labs: Labs, plan: Plan) -> LabError:
    """Return the error of a lab that cannot be made; nothing is left of it."""
    with pytest.raises(LabError) as caught:
        labs.make(plan)
    assert list((labs.root / "labs").glob("[!.]*")) == []
    return caught.value


def bridgeable(box: Box) -> list[str]:
    """Return the adapters of this machine, in VirtualBox's own words."""
    names: list[str] = box.run_json(
        "import json, vboxapi; m = vboxapi.VirtualBoxManager();"
        "h = m.getVirtualBox().host; c = m.constants;"
        "print(json.dumps([i.name for i in m.getArray(h, 'networkInterfaces')"
        " if i.interfaceType == c.HostNetworkInterfaceType_Bridged]))"
    )
    return names


def test_a_bridged_adapter_that_is_missing(box: Box, labs: Labs) -> None:
    """It is looked for before the machine starts, since VirtualBox would not come back."""
    error = refused(labs, attached(box, {"bridged": "nonesuch0"}))
    assert "this machine has none of that name" in error.saw
    assert all(name in error.saw for name in bridgeable(box))


def test_a_bridged_adapter_that_is_refused(box: Box, labs: Labs) -> None:
    """Without the kernel driver: VirtualBox's own words, and how to load it."""
    error = refused(labs, attached(box, {"bridged": bridgeable(box)[0]}))
    assert "VERR_SUP_DRIVERLESS" in error.saw
    assert error.fault is Fault.MACHINE
    assert "modprobe vboxdrv" in error.todo


def test_an_internal_network_that_is_refused(box: Box, labs: Labs) -> None:
    """As above: NAT and generic networks alone need no driver."""
    assert "VERR_SUP_DRIVERLESS" in refused(labs, attached(box, {"internal": "any"})).saw


TWO_WIRED = """#!/bin/sh
# A network of its own, with the two ends of a cable: both are wired, and up.
exec unshare --net -- /bin/sh -c '
    ip link add wired0 type veth peer name wired1
    ip link set wired0 up
    ip link set wired1 up
    exec "$@"' sh {} "$@"
"""


def test_two_bridged_adapters_that_both_fit(
    box: Box, labs: Labs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither is taken: the error lists both, with kind, state and address."""
    launcher = tmp_path / "two-wired"
    launcher.write_text(TWO_WIRED.format(box.instance.python))
    launcher.chmod(0o755)
    other = replace(box.instance, folder=tmp_path / "home")
    asking.forget()
    try:
        with monkeypatch.context() as patch:
            patch.setenv("IMLAB_VBOX_PYTHON", str(launcher))
            patch.setenv("IMLAB_VBOX_HOME", str(other.folder))
            error = refused(labs, attached(box, {"bridged": "wired"}))
    finally:
        asking.forget()
        other.stop()
    assert "2 that are up fit" in error.saw
    assert "wired0 (wired, up, no address)" in error.saw
    assert "wired1 (wired, up, no address)" in error.saw
    assert error.fault is Fault.SPEC


def test_a_machine_that_hangs_is_ended(
    box: Box, labs: Labs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bridged to what vanished meanwhile, it locks itself for ever: its process is killed."""
    from lab.providers.virtualbox import jobs, provider
    from lab.providers.virtualbox.adapters import HostAdapter

    monkeypatch.setattr(jobs, "choose", lambda wish, _: HostAdapter(wish, up=True, wireless=False))
    monkeypatch.setattr(provider, "STARTING", 6.0)
    error = refused(labs, attached(box, {"bridged": "nonesuch0"}))
    assert "no answer in 6 s" in error.saw


def test_an_operating_system_that_it_does_not_know(box: Box, labs: Labs) -> None:
    """VirtualBox 7.2 would take any word and make a machine of it."""
    from lab.plan import PlannedImage

    plan = box.plan(hosts=1)
    image = PlannedImage("mine", str(box.base))
    plan = replace(
        plan, images=(image,), hosts=(replace(plan.hosts[0], image="mine", os="windooze"),)
    )
    error = refused(labs, plan)
    assert "'windooze' is not a valid Guest OS type" in error.saw
    assert error.fault is Fault.SPEC


def test_two_disks_of_one_identity(box: Box, labs: Labs, tmp_path: Path) -> None:
    """A copy of a disk has its UUID: only one of them can be open."""
    import shutil

    from lab.plan import PlannedImage

    copy = tmp_path / "copy.vdi"
    shutil.copy(box.base, copy)
    plan = box.plan(hosts=2)
    hosts = (plan.hosts[0], replace(plan.hosts[1], image="mine", os="debian"))
    error = refused(labs, replace(plan, images=(PlannedImage("mine", str(copy)),), hosts=hosts))
    assert "already exists" in error.saw
    assert "Media Manager" in error.todo


def test_a_python_without_the_binding_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As is one that is not there at all; doctor says the same."""
    import sys

    monkeypatch.setattr(asking, "_works", [])
    for python, saw in ((sys.executable, "vboxapi"), ("/nonexistent/python", "No such file")):
        monkeypatch.setenv("IMLAB_VBOX_PYTHON", python)
        with pytest.raises(LabError) as caught:
            asking.start()
        assert saw in caught.value.saw
        assert "IMLAB_VBOX_PYTHON" in caught.value.todo
        (row,) = PROVIDER.check()
        assert (row.state, row.todo) == ("fail", caught.value.todo)


def test_doctor_tells_what_there_is(box: Box) -> None:
    """Which Python, which VirtualBox, what it can bridge to, and that there is no driver."""
    rows = {row.name: row for row in PROVIDER.check()}
    assert str(box.instance.python) in rows["its Python"].saw
    assert rows["VirtualBox"].saw.startswith("7.2.")
    assert all(name in rows["adapters to bridge to"].saw for name in bridgeable(box))
    assert rows["kernel driver"].state == "warn"
    assert rows["virtualisation by the processor"].state == "warn"


@pytest.mark.parametrize("system", ["Linux", "Darwin", "Windows"])
def test_every_system_has_its_own_advice(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install differs between them."""
    monkeypatch.setattr(asking.platform, "system", lambda: system)
    monkeypatch.setattr(asking, "_works", [])
    monkeypatch.setenv("IMLAB_VBOX_PYTHON", "/nonexistent/python")
    with pytest.raises(LabError) as caught:
        asking.start()
    assert caught.value.todo.startswith(asking.INSTALL[system])
