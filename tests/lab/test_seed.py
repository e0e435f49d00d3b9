"""The seed CD: what a guest reads from it is what the plan says."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from ipaddress import IPv4Interface
from pathlib import Path

import pycdlib
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.bootstrap import HOST_KEY, KeyPair, LabKeys, host_files
from lab.errors import Fault, LabError
from lab.plan import Plan, PlannedAdapter, PlannedHost, PlannedNetwork
from lab.seed import MANAGEMENT, VOLUME, seed_iso

PROJECT = Path(__file__).parents[2]
MAC = "08:00:27:12:34:56"
KEYS = LabKeys(KeyPair("client", "ssh-ed25519 CLIENT"), {"guest": KeyPair("own\n", "ssh-x OWN")})
FILES = ("meta-data", "user-data", "network-config", "imlab.tar")

names = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,14}", fullmatch=True).filter(
    lambda name: name != MANAGEMENT
)
macs = st.binary(min_size=5, max_size=5).map(lambda raw: "0a:" + raw.hex(":"))
addresses = st.builds(
    lambda number, length: str(IPv4Interface((number, length))),
    st.integers(0x0A00_0001, 0x0AFF_FFFE),
    st.integers(8, 30),
)
adapters = st.lists(
    st.builds(
        lambda name, mac, address: PlannedAdapter(name, mac, "network", "e1000", address),
        names,
        macs,
        st.none() | addresses,
    ),
    max_size=8,
    unique_by=(lambda adapter: adapter.name, lambda adapter: adapter.mac),
)
sysctls = st.dictionaries(
    st.from_regex(r"net(\.[a-z0-9_]{1,9}){2,4}", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9._-]{1,5}( [A-Za-z0-9._-]{1,5}){0,3}", fullmatch=True),
    max_size=4,
)
hosts = st.builds(
    lambda adapters, sysctls, ttl: replace(
        host(*adapters), sysctls={k: v for k, v in sysctls.items() if "ttl" not in k}, ttl=ttl
    ),
    adapters,
    sysctls,
    st.integers(1, 255),
)


def host(*adapters: PlannedAdapter) -> PlannedHost:
    """Return a host of that name with these adapters."""
    return PlannedHost("guest", "debian-base", "linux", 64, 512, 1, 2048, None, adapters, ())


def plan(of: PlannedHost) -> Plan:
    """Return a plan with this host alone."""
    return Plan("seeded", "", (PlannedNetwork("lan", "192.168.1.0/24"),), (of,), (), ())


def seed(of: PlannedHost, mac: str | None = None) -> bytes:
    """Return the CD of this host."""
    whole = plan(of)
    return seed_iso(whole, of.name, host_files(whole, of.name, KEYS), management_mac=mac)


def read(volume: bytes, names: str = "rr_path") -> dict[str, bytes]:
    """Return the files of a CD by their Rock Ridge or Joliet names."""
    iso = pycdlib.PyCdlib()
    iso.open_fp(io.BytesIO(volume))
    found = {}
    for name in FILES:
        into = io.BytesIO()
        iso.get_file_from_iso_fp(into, **{names: f"/{name}"})
        found[name] = into.getvalue()
    iso.close()
    return found


def unpacked(volume: bytes) -> dict[str, tuple[int, str]]:
    """Return path -> (mode, text) of what is in imlab.tar."""
    with tarfile.open(fileobj=io.BytesIO(read(volume)["imlab.tar"])) as archive:
        members = [(m, archive.extractfile(m)) for m in archive.getmembers()]
        return {
            f"/{m.name}": (m.mode, content.read().decode() if content else "")
            for m, content in members
        }


@settings(deadline=None)  # the machine may be busy
@given(hosts, st.none() | macs.map(lambda mac: "08" + mac[2:]))
def test_a_guest_reads_what_the_plan_says(of: PlannedHost, mac: str | None) -> None:
    """Both readers get the same names, addresses and settings, whatever those are."""
    volume = seed(of, mac)
    files = unpacked(volume)
    lines = [line.split(" ") for line in files["/etc/imlab/network"][1].splitlines()]
    wanted = [[a.mac, a.name, a.address or "-"] for a in of.adapters]
    managed = [[mac, MANAGEMENT, "dhcp"]] if mac else []
    assert lines == wanted + managed
    said = dict(line.split(" ", 1) for line in files["/etc/imlab/sysctls"][1].splitlines())
    assert said == {"net.ipv4.ip_default_ttl": str(of.ttl), **of.sysctls}
    assert files["/etc/imlab/disk"] == (0o644, f"{of.disk_mib}\n")

    network = yaml.safe_load(read(volume)["network-config"])["ethernets"]
    assert [
        [one["match"]["macaddress"], one["set-name"], *one.get("addresses", ["-"])]
        for name, one in network.items()
        if name != MANAGEMENT
    ] == wanted
    user = yaml.safe_load(read(volume)["user-data"])
    [written] = [f for f in user["write_files"] if f["path"].startswith("/etc/sysctl.d/")]
    assert dict(line.split(" = ", 1) for line in written["content"].splitlines()) == said


@pytest.mark.parametrize("names", ["rr_path", "joliet_path"])
def test_the_volume_is_one_that_cloud_init_finds(names: str) -> None:
    """Its label is cidata and its files have their long names in Rock Ridge and in Joliet."""
    volume = seed(host(), MAC)
    iso = pycdlib.PyCdlib()
    iso.open_fp(io.BytesIO(volume))
    assert iso.pvd.volume_identifier.decode().strip() == VOLUME
    files = read(volume, names)
    assert files["user-data"].startswith(b"#cloud-config\n")
    user, meta = yaml.safe_load(files["user-data"]), yaml.safe_load(files["meta-data"])
    assert meta["local-hostname"] == user["hostname"] == "guest"
    [root] = user["users"]
    assert (root["name"], root["ssh_authorized_keys"]) == ("root", ["ssh-ed25519 CLIENT"])
    assert user["ssh_keys"] == {"ed25519_private": "own\n", "ed25519_public": "ssh-x OWN"}


def test_private_things_are_for_root_alone() -> None:
    """Keys and their folder have the modes that sshd wants; everything is root's."""
    files = unpacked(seed(host()))
    assert files[HOST_KEY] == (0o600, "own\n")
    assert files["/root/.ssh"][0] == 0o700
    assert files["/root/.ssh/authorized_keys"] == (0o600, "ssh-ed25519 CLIENT\n")
    assert files["/etc/hostname"] == (0o644, "guest\n")
    with tarfile.open(fileobj=io.BytesIO(read(seed(host()))["imlab.tar"])) as archive:
        assert {(m.uid, m.gid) for m in archive.getmembers()} == {(0, 0)}


def test_the_management_adapter_leads_nowhere() -> None:
    """It takes an address and nothing else of what DHCP offers."""
    network = yaml.safe_load(read(seed(host(), MAC))["network-config"])["ethernets"][MANAGEMENT]
    assert network["match"]["macaddress"] == MAC
    assert network["dhcp4"] is True
    assert network["accept-ra"] is False
    assert set(network["dhcp4-overrides"].values()) == {False}
    assert "use-routes" in network["dhcp4-overrides"]


def test_an_adapter_with_the_management_adapters_name_is_refused() -> None:
    """Only where there is a management adapter; the user is told to rename the other."""
    of = host(PlannedAdapter(MANAGEMENT, "0a:00:00:00:00:01", "network", "e1000"))
    with pytest.raises(LabError, match="called 'mgmt0'") as raised:
        seed(of, MAC)
    assert raised.value.fault is Fault.USER
    assert unpacked(seed(of))["/etc/imlab/network"][1] == "0a:00:00:00:00:01 mgmt0 -\n"


SCRIPT = """
import hashlib, sys, time
sys.path.insert(0, {project!r})
sys.path.insert(0, {tests!r})
time.time = lambda: {clock}
from test_seed import MAC, host, seed
print(hashlib.sha256(seed(host(), MAC)).hexdigest())
"""


def test_the_same_host_is_the_same_bytes_at_any_time_and_place() -> None:
    """Neither the clock nor the time zone leaves a trace in it."""
    said = set()
    for clock, zone in ((time.time(), "UTC"), (1_000_000_000.0, "Asia/Tokyo")):
        script = SCRIPT.format(
            project=str(PROJECT), tests=str(Path(__file__).parent), clock=repr(clock)
        )
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "TZ": zone},
            capture_output=True,
            text=True,
            check=True,
        )
        said.add(done.stdout)
    assert len(said) == 1


def test_another_configuration_is_another_instance() -> None:
    """cloud-init configures an instance once: any change gives a new instance-id."""
    of = host(PlannedAdapter("eth0", "0a:00:00:00:00:01", "network", "e1000", "10.0.0.1/8"))
    [adapter] = of.adapters
    other = replace(of, adapters=(replace(adapter, address="10.0.0.2/8"),))
    ids = [yaml.safe_load(read(seed(h))["meta-data"])["instance-id"] for h in (of, of, other)]
    assert (ids[0] == ids[1], ids[0] == ids[2]) == (True, False)
