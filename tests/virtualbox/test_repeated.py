"""A run made on namespaces, repeated from its archive with a virtual machine in it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from benches.virtualbox import MEMORY_MIB, TINY
from guard import GUARD
from real_labs import images as usual

from commands import rerun, runs
from experiments import pack
from lab.lifecycle import State, status
from lab.providers.base import Image
from lab.providers.virtualbox.testbed.tiny import build_tiny

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from virtualbox_labs import Box

pytestmark = [pytest.mark.lab, pytest.mark.virtualbox, pytest.mark.slow]

SPEC = f"""
imlab: 1
name: cabled
networks:
  lan: {{subnet: 192.168.1.0/24}}
hosts:
  host:
    provider: netns
    adapters: {{eth0: {{network: lan, address: 192.168.1.30}}}}
  guest:
    on: host
    ttl: 128
    memory: {MEMORY_MIB}
    adapters: {{eth0: {{bridged: eth0, address: 192.168.1.10}}}}
    roles: {{web_page: {{text: The guest answers.}}}}
  peer:
    provider: netns
    adapters: {{eth0: {{network: lan, address: 192.168.1.20}}}}
captures: [peer/eth0, guest/eth0, host/eth0]
"""
EXPERIMENT = """
imlab_experiment: 1
name: pings
spec: cabled.yaml
seed: 3
steps:
  - ping: {count: 5, bytes: 32, interval_s: 0.1}
claims:
  - {id: ping, claim: "All answer, each with its own TTL.", check: ping}
"""


def images(form: str, wanted: set[str]) -> Mapping[str, Image]:
    """Return the small disk for machines, and the usual images for namespaces."""
    if form != "disk":
        return usual(form, wanted)
    disk = build_tiny(TINY).vdi
    return {name: Image(name, "tiny", disk, disk) for name in wanted}


def test_a_run_on_namespaces_is_repeated_with_a_guest_in_virtualbox_and_compared(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--provider virtualbox: the same verdicts; the provider and the guest's kernel are told.

    Nothing else of the plan differs. The lab goes, and VirtualBox has what it had before.
    """
    before, state = box.lists(), tmp_path / "state"
    monkeypatch.setenv("IMLAB_STATE", str(state))
    GUARD.watch_labs(state)
    (tmp_path / "cabled.yaml").write_text(SPEC)
    (tmp_path / "pings.yaml").write_text(EXPERIMENT.replace("cabled", str(tmp_path / "cabled")))
    made = runs.run_experiment(str(tmp_path / "pings.yaml"), runs.Options(out=tmp_path / "runs"))
    assert made.confirmed
    archive = pack.pack(made.folder, tmp_path)

    options = rerun.Options(tmp_path / "again", "virtualbox", bases=images)
    again = rerun.rerun(str(archive), options)
    told = again.comparison
    assert again.same
    assert [(row["first"], row["second"]) for row in told["verdicts"]] == [("confirmed",) * 2]
    assert told["plan"] == [
        {"path": "hosts.guest.provider", "first": "netns", "second": "virtualbox"}
    ]
    assert told["experiment"] == []
    around = {row["what"]: (row["first"], row["second"]) for row in told["environment"]}
    assert around["software provider"] == ("netns", "netns, virtualbox")
    then, now = around["software kernel of hosts"]
    assert now.startswith(f"{then} (host, peer); Linux 6.1.")
    assert now.endswith(" (guest)")
    lost = [row for row in told["measures"] if row["name"].startswith("ping lost")]
    assert [row["within"] for row in lost] == [True] * 6
    assert {row["second"]["value"] for row in lost} == {0}

    results = json.loads((again.folder / "results.json").read_bytes())
    assert [row["dropped"] for row in results["captures"]] == [0] * 3
    assert "guest does not tell its packages" in (again.folder / "logs" / "run.log").read_text()
    assert status("cabled").state is State.ABSENT
    assert box.lists() == before
