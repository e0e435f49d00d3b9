"""The disk of debian-base boots and is what its CD says; with another CD something else."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from qemu_machine import Machine

from lab.bootstrap import host_files, make_keys
from lab.disk_image import DiskRef, ensure_disk, find_disk
from lab.errors import LabError
from lab.hosts import Host
from lab.images import hold_image, is_current, list_images, remove_image
from lab.plan import Plan, PlannedAdapter, PlannedHost, PlannedNetwork
from lab.seed import seed_iso

if TYPE_CHECKING:
    from pathlib import Path

    from provisioning.transport import Session

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
    return session.run(command, deadline=60).stdout.decode().strip()


def test_a_disk_boots_and_follows_its_cd(disk: DiskRef, tmp_path: Path) -> None:
    """Names, addresses, kernel settings, size and keys are the CD's, after each boot.

    On IDE as on AHCI. Adapters have the names of their MACs even where the kernel gave that name
    to another one, or an earlier boot did. Nothing leads out of the lab. The power button works.
    """
    overlay = tmp_path / "machine.qcow2"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-b", disk.path, "-F", "vdi", overlay],
        check=True,
    )
    before = disk.path.stat()
    cable = PlannedAdapter("eth0", SECOND, "network", "e1000", "192.168.1.10/24", "lan")
    spare = PlannedAdapter("eth1", FIRST, "network", "e1000")
    boots = (
        (guest("guest", 128, cable, spare), "pc"),
        (
            guest(
                "renamed",
                64,
                replace(cable, name="eth1", address="192.168.1.77/24"),
                replace(spare, name="eth0"),
            ),
            "q35",
        ),
    )
    for plan, hardware in boots:
        [host] = plan.hosts
        keys = make_keys(plan)
        seed = seed_iso(
            plan, host.name, host_files(plan, host.name, keys), management_mac=MANAGEMENT
        )
        address = plan.address(host.name)
        known = Host(host.name, "root", keys.hosts[host.name].public)
        with Machine(
            tmp_path,
            overlay,
            seed,
            management=MANAGEMENT,
            lan=[(FIRST, ""), (SECOND, address)],
            hardware=hardware,
        ) as machine:
            with machine.log_in(known, keys.client.private) as session:
                assert output(session, "systemctl", "is-system-running", "--wait") == "running"
                assert output(session, "hostname") == host.name
                assert adapters(session) == {
                    "mgmt0": (MANAGEMENT, ["10.0.2.15/24"]),
                    **{a.name: (a.mac, [a.address] if a.address else []) for a in host.adapters},
                }
                assert output(session, "ip", "route", "show", "default") == ""
                assert "nameserver" not in output(session, "cat", "/etc/resolv.conf")
                settings = {"net.ipv4.ip_default_ttl": str(host.ttl), **host.sysctls}
                assert {
                    name: " ".join(output(session, "sysctl", "-n", name).split())
                    for name in settings
                } == settings
                free = int(output(session, "df", "--output=avail", "-m", "/").splitlines()[-1])
                assert MORE_MIB * 0.95 < free < MORE_MIB * 1.05
                listening = output(session, "ss", "-Hltn").splitlines()
                assert {line.split()[3] for line in listening} == {"0.0.0.0:22", "[::]:22"}
                nobody = ["runuser", "-u", "nobody", "--", "ping", "-c1", "-W5", address]
                assert session.run(nobody, deadline=30).exit_code == 0
            # The same machine through the adapter that its lab would see.
            with machine.log_in(known, keys.client.private, address) as session:
                assert output(session, "uname", "-m") == "x86_64"
            machine.press_power_button()
            assert f"{host.name} login:" in machine.console
    after = disk.path.stat()
    assert (after.st_mtime_ns, after.st_size) == (before.st_mtime_ns, before.st_size)


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
