"""The disk of debian-base boots and is what its CD says; with another CD something else."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from qemu_machine import Machine

from lab import image_recipe
from lab.bootstrap import host_files, make_keys
from lab.disk_image import DiskRef, ensure_disk, find_disk
from lab.errors import LabError
from lab.hosts import Host
from lab.images import hold_image, is_current, list_images, remove_image
from lab.plan import Plan, PlannedAdapter, PlannedHost, PlannedNetwork
from lab.planning import make_plan
from lab.seed import seed_iso
from lab.spec import load_spec
from provisioning import roles

if TYPE_CHECKING:
    from provisioning.transport import Session

PROJECT = Path(__file__).parents[2]

pytestmark = [pytest.mark.lab, pytest.mark.slow]

MANAGEMENT, FIRST, SECOND = "0a:00:00:00:00:01", "0a:00:00:00:00:02", "0a:00:00:00:00:03"
MORE_MIB = 2048


@pytest.fixture(scope="module")
def disk() -> DiskRef:
    """Return the disk of debian-base."""
    return ensure_disk("debian-base")


def guest(name: str, ttl: int, first: PlannedAdapter, second: PlannedAdapter) -> Plan:
    """Return a plan of one machine."""
    host = PlannedHost(
        name, "debian-base", "linux", ttl, 512, 1, MORE_MIB, None, (first, second), (),
        sysctls={"net.ipv4.tcp_rmem": "4096 87380 4194304", "net.ipv4.conf.eth0.forwarding": "1"},
    )  # fmt: skip
    return Plan("disks", "", (PlannedNetwork("lan", "192.168.1.0/24"),), (host,), (), ())


def adapters(session: Session) -> dict[str, tuple[str, list[str]]]:
    """Return name -> (MAC, IPv4 addresses) of the machine's adapters."""
    said = session.run(["ip", "-json", "address"]).stdout
    return {
        link["ifname"]: (
            link["address"],
            [f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if a["family"] == "inet"],
        )
        for link in json.loads(said)
        if link["ifname"] != "lo"
    }


def output(session: Session, *command: str) -> str:
    """Return what a command says."""
    return session.run(command, deadline=300).stdout.decode().strip()


@dataclass(frozen=True)
class Seeded:
    """A host that a machine is to be: how SSH knows it, and the CD that says so."""

    host: Host
    cd: bytes


def seeded(plan: Plan, name: str) -> Seeded:
    """Return a host of a plan with fresh keys."""
    keys = make_keys(plan)
    cd = seed_iso(plan, name, host_files(plan, name, keys), management_mac=MANAGEMENT)
    host = Host(name, "root", keys.hosts[name].public, keys.client.private, patience=20)
    return Seeded(host, cd)


def clone(disk: DiskRef, folder: Path) -> Path:
    """Return a disk to write to, on top of one in the cache."""
    overlay = folder / "machine.qcow2"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-b", disk.path, "-F", "vdi", overlay],
        check=True,
    )
    return overlay


def test_a_disk_boots_and_follows_its_cd(disk: DiskRef, tmp_path: Path) -> None:
    """Names, addresses, kernel settings, size and keys are the CD's, after each boot.

    On IDE as on AHCI. Adapters have the names of their MACs even where the kernel gave that name
    to another one, or an earlier boot did. Nothing leads out of the lab. The power button works.
    """
    overlay = clone(disk, tmp_path)
    before = disk.path.stat()
    cable = PlannedAdapter("eth0", SECOND, "network", "e1000", "192.168.1.10/24", "lan")
    spare = PlannedAdapter("eth1", FIRST, "network", "e1000")
    other = replace(cable, name="eth1", address="192.168.1.77/24")
    boots = (
        (guest("guest", 128, cable, spare), "pc"),
        (guest("renamed", 64, other, replace(spare, name="eth0")), "q35"),
    )
    for plan, hardware in boots:
        [host] = plan.hosts
        known, address = seeded(plan, host.name), plan.address(host.name)
        with Machine(
            tmp_path,
            overlay,
            known.cd,
            management=MANAGEMENT,
            lan=[(FIRST, ""), (SECOND, address)],
            hardware=hardware,
        ) as machine:
            with machine.log_in(known.host) as session:
                assert output(session, "systemctl", "is-system-running", "--wait") == "running"
                check_configuration(session, host)
                nobody = ["runuser", "-u", "nobody", "--", "ping", "-c1", "-W5", address]
                assert session.run(nobody, deadline=30).exit_code == 0
            # The same machine through the adapter that its lab would see.
            with machine.log_in(known.host, address) as session:
                assert output(session, "uname", "-m") == "x86_64"
            machine.press_power_button()
            assert f"{host.name} login:" in machine.console
    after = disk.path.stat()
    assert (after.st_mtime_ns, after.st_size) == (before.st_mtime_ns, before.st_size)


def check_configuration(session: Session, host: PlannedHost) -> None:
    """Compare what a machine of our own is with its plan."""
    check_network(session, host)
    settings = {"net.ipv4.ip_default_ttl": str(host.ttl), **host.sysctls}
    said = {name: output(session, "sysctl", "-n", name) for name in settings}
    assert {name: " ".join(value.split()) for name, value in said.items()} == settings
    free = int(output(session, "df", "--output=avail", "-m", "/").splitlines()[-1])
    assert host.disk_mib * 0.95 < free < host.disk_mib * 1.05
    listening = output(session, "ss", "-Hltn").splitlines()
    assert {line.split()[3] for line in listening} == {"0.0.0.0:22", "[::]:22"}


def check_network(session: Session, host: PlannedHost) -> None:
    """Compare a machine's name and adapters with its plan; nothing leads out of the lab."""
    assert output(session, "hostname") == host.name
    assert adapters(session) == {
        "mgmt0": (MANAGEMENT, ["10.0.2.15/24"]),
        **{a.name: (a.mac, [a.address] if a.address else []) for a in host.adapters},
    }
    assert output(session, "ip", "route", "show", "default") == ""
    assert "nameserver 1" not in output(session, "cat", "/etc/resolv.conf")


def test_a_role_is_applied_to_a_machine_as_to_any_host(tmp_path: Path) -> None:
    """The paper's chat on the paper's guest: applied, answering, and nothing to do again."""
    plan = make_plan(load_spec(PROJECT / "vm_specs" / "paper.yaml"))
    host = plan.host("guest")
    known, [planned] = seeded(plan, host.name), host.roles
    with Machine(
        tmp_path,
        clone(ensure_disk(host.image), tmp_path),
        known.cd,
        management=MANAGEMENT,
        lan=[(host.adapters[0].mac, plan.address(host.name))],
    ) as machine:
        with machine.log_in(known.host) as session:
            role = roles.find(planned.name)
            context = roles.RoleContext(plan, host, planned.parameters)
            assert role.apply(session, context)
            role.probe(session, context, 120.0)
            assert role.apply(session, context) == ()
            assert output(session, "systemctl", "is-active", "apache2", "mariadb") == (
                "active\nactive"
            )
        machine.press_power_button()


# cloud-init on a disk of ours, with what reads imlab.tar taken out: then only the CD's other half
# can have configured it.
CLOUD = """
extends: debian-base
description: debian-base with cloud-init
needs_mib: 100
packages: [cloud-init, netplan.io, python3]
files:
  /etc/systemd/system-preset/00-cloud.preset:
    content: |
      enable cloud-*
      enable systemd-networkd.service
      disable imlab-first-boot.service
  /etc/cloud/cloud.cfg.d/90-test.cfg: {content: "locale: false\\n"}
commands:
  - [rm, -r, /usr/lib/imlab, /etc/systemd/system/ssh.service.d]
  - [rm, -f, /etc/network/interfaces]
"""


def test_an_image_with_cloud_init_becomes_the_same_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Name, adapters, addresses, settings and keys come from the CD's other half."""
    recipes = tmp_path / "recipes"
    shutil.copytree(image_recipe.RECIPES, recipes)
    (recipes / "cloud.yaml").write_text(CLOUD)
    monkeypatch.setattr(image_recipe, "RECIPES", recipes)
    monkeypatch.setenv("IMLAB_CACHE", str(tmp_path / "cache"))
    cable = PlannedAdapter("eth0", SECOND, "network", "e1000", "192.168.1.10/24", "lan")
    plan = guest("cloudy", 128, cable, PlannedAdapter("eth1", FIRST, "network", "e1000"))
    [host] = plan.hosts
    known = seeded(plan, host.name)
    with Machine(
        tmp_path,
        clone(ensure_disk("cloud"), tmp_path),
        known.cd,
        management=MANAGEMENT,
        lan=[(FIRST, ""), (SECOND, plan.address(host.name))],
    ) as machine:
        with machine.log_in(known.host) as session:
            assert "done" in output(session, "cloud-init", "status", "--wait")
            schema = session.run(["cloud-init", "schema", "--system"], deadline=300)
            assert schema.exit_code == 0, schema.stderr
            check_network(session, host)
            for name, value in {"net.ipv4.ip_default_ttl": "128", **host.sysctls}.items():
                assert output(session, "sysctl", "-n", name).split() == value.split()
        machine.press_power_button()


def test_a_disk_is_an_image_of_its_own(disk: DiskRef) -> None:
    """It is listed with its form, is current, and is not what the root file system is."""
    assert disk.form == "disk"
    assert is_current(disk)
    assert disk in list_images()
    assert find_disk("debian-base") == disk
    assert "linux-image-amd64" in disk.meta["packages"]
    assert "grub-pc-bin" not in disk.meta["packages"]
    assert disk.meta["bytes"] < 700 << 20 < disk.meta["virtual_bytes"]
    assert {path.name for path in disk.folder.iterdir()} == {"disk.vdi", "meta.json"}
    assert disk.path.stat().st_uid == disk.folder.stat().st_uid


def test_a_disk_that_a_machine_uses_cannot_be_removed(
    disk: DiskRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """hold_image keeps it; afterwards removal leaves nothing."""
    monkeypatch.setenv("IMLAB_CACHE", str(tmp_path))
    folder = tmp_path / "images" / disk.folder.name
    folder.mkdir(parents=True)
    (folder / "disk.vdi").write_text("a disk")
    (folder / "meta.json").write_text(json.dumps(disk.meta))
    [mine] = list_images()
    with open(hold_image(mine)), pytest.raises(LabError, match="in use"):  # noqa: PTH123 - a descriptor
        remove_image(mine)
    remove_image(mine)
    assert list(folder.parent.iterdir()) == []
    with pytest.raises(LabError, match="--form disk"):
        hold_image(mine)
