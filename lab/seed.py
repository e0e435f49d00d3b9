"""The seed of a virtual machine: its first-boot configuration as a small CD. Pure.

An ISO 9660 volume with Rock Ridge and Joliet names, called "cidata", read by two kinds of guests:

    meta-data, user-data, network-config   any image with cloud-init (its NoCloud data source)
    imlab.tar                              our own images: to be unpacked over / at every boot

In imlab.tar are the host's files (lab/bootstrap.py) and what its network is to be:

    etc/imlab/network   an adapter a line: MAC NAME ADDRESS/PREFIX, with "-" for no address and
                        "dhcp" for the management adapter
    etc/imlab/sysctls   a kernel setting a line: NAME VALUE, VALUE to the end of the line
    etc/imlab/disk      how many MiB the machine may write: its file system grows by that

The management adapter is how SSH gets in where the provider cannot dial a socket within the guest
(VirtualBox's NAT with a forwarded port). It takes an address by DHCP but neither a route, a
resolver nor a clock: a lab has no way out.

The CD holds the host's private SSH key: whoever writes it to a file makes that file 0600.
The same arguments give the same bytes. docs/images.md shows the whole.
"""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile
from typing import TYPE_CHECKING, Any

import pycdlib
import yaml
from pycdlib.dates import DirectoryRecordDate, VolumeDescriptorDate

from lab.bootstrap import HOST_KEY
from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pycdlib.dr import DirectoryRecord

    from lab.plan import Plan, PlannedHost

VOLUME = "cidata"
"""What cloud-init looks for, and imlab-first-boot too (NoCloud's documentation)."""

MANAGEMENT = "mgmt0"
"""Name of the management adapter within the guest."""

NETWORK = "/etc/imlab/network"
SYSCTLS = "/etc/imlab/sysctls"
DISK = "/etc/imlab/disk"
TTL = "net.ipv4.ip_default_ttl"

_AUTHORIZED = "/root/.ssh/authorized_keys"
# Of a cloud image's own making, or told to cloud-init by other keys than write_files.
_TOLD_OTHERWISE = ("/etc/hostname", "/etc/resolv.conf", HOST_KEY, f"{HOST_KEY}.pub", _AUTHORIZED)
_PRIVATE_FOLDERS = {"root/.ssh"}  # sshd(8) refuses keys in a folder that others may write to
_DATE = bytes((100, 1, 1, 0, 0, 0, 0))  # 2000-01-01 00:00:00 UTC; ECMA-119, 9.1.5
_LONG_DATE = b"2000010100000000\0"  # the same; ECMA-119, 8.4.26.1
_SECTOR = 2048
_DESCRIPTORS = 16  # ECMA-119, 6.3: sector of the first volume descriptor
_TERMINATOR = 255  # ECMA-119, 8.1.1: type of the last one
_CHANGED = 830  # ECMA-119, 8.4.27: offset of the date that pycdlib takes from the clock


def seed_iso(
    plan: Plan,
    host_name: str,
    files: Mapping[str, tuple[int, str]],
    *,
    management_mac: str | None = None,
) -> bytes:
    """Return the CD of a host.

    files          -- path -> (mode, text), as lab.bootstrap.host_files gives them.
    management_mac -- of the adapter through which SSH gets in; None where there is none.

    Raises KeyError for a host that the plan does not have; LabError (fault USER) for an adapter
    with the management adapter's name.
    """
    host = plan.host(host_name)
    if management_mac and any(adapter.name == MANAGEMENT for adapter in host.adapters):
        raise LabError(
            f"configuring the host {host_name!r}",
            f"it has an adapter called {MANAGEMENT!r}, as the one for managing it is called",
            fault=Fault.USER,
            todo="give the adapter another name in the spec",
        )
    everything = {
        **files,
        NETWORK: (0o644, network_lines(host, management_mac)),
        SYSCTLS: (0o644, sysctl_lines(host)),
        DISK: (0o644, f"{host.disk_mib}\n"),
    }
    user_data = "#cloud-config\n" + _yaml(_user_data(host, files))
    network = _yaml(_network_config(host, management_mac))
    # cloud-init works once for each instance: other content is another instance.
    digest = hashlib.sha256((user_data + network).encode()).hexdigest()[:16]
    meta = {"instance-id": f"imlab-{plan.lab}-{host.name}-{digest}", "local-hostname": host.name}
    return _iso(
        {
            "meta-data": _yaml(meta).encode(),
            "user-data": user_data.encode(),
            "network-config": network.encode(),
            "imlab.tar": _tar(everything),
        }
    )


def network_lines(host: PlannedHost, management_mac: str | None) -> str:
    """Return the text of /etc/imlab/network."""
    lines = [f"{a.mac} {a.name} {a.address or '-'}" for a in host.adapters]
    if management_mac:
        lines.append(f"{management_mac} {MANAGEMENT} dhcp")
    return "".join(f"{line}\n" for line in lines)


def sysctl_lines(host: PlannedHost) -> str:
    """Return the text of /etc/imlab/sysctls: what the spec says about one overrides its TTL."""
    settings = {TTL: str(host.ttl), **host.sysctls}
    return "".join(f"{name} {value}\n" for name, value in settings.items())


def _user_data(host: PlannedHost, files: Mapping[str, tuple[int, str]]) -> dict[str, Any]:
    """Return cloud-init's configuration: name, keys and the files that are left."""
    sysctls = "".join(f"{line.replace(' ', ' = ', 1)}\n" for line in sysctl_lines(host).split("\n"))
    left = {path: entry for path, entry in files.items() if path not in _TOLD_OTHERWISE}
    left["/etc/sysctl.d/90-imlab.conf"] = (0o644, sysctls.strip() + "\n")
    data: dict[str, Any] = {
        "hostname": host.name,
        "preserve_hostname": False,
        "disable_root": False,
        "ssh_pwauth": False,
        "package_update": False,
        "users": [],
        "write_files": [
            {"path": path, "permissions": f"{mode:04o}", "owner": "root:root", "content": text}
            for path, (mode, text) in left.items()
        ],
        "runcmd": [["sysctl", "--system"]],  # after the first boot systemd does it
    }
    if _AUTHORIZED in files:
        keys = files[_AUTHORIZED][1].splitlines()
        # A locked account cannot log in, not even with a key, where sshd has UsePAM no.
        data["users"] = [{"name": "root", "lock_passwd": False, "ssh_authorized_keys": keys}]
    if HOST_KEY in files:
        data["ssh_deletekeys"] = True
        data["ssh_keys"] = {
            "ed25519_private": files[HOST_KEY][1],
            "ed25519_public": files[f"{HOST_KEY}.pub"][1].strip(),
        }
    return data


def _network_config(host: PlannedHost, management_mac: str | None) -> dict[str, Any]:
    """Return cloud-init's networking configuration, version 2: nothing leads out of the lab."""

    def common(mac: str, name: str) -> dict[str, Any]:
        return {
            "match": {"macaddress": mac},
            "set-name": name,
            "accept-ra": False,
        }

    ethernets: dict[str, Any] = {}
    for adapter in host.adapters:
        ethernets[adapter.name] = {**common(adapter.mac, adapter.name), "dhcp4": False}
        if adapter.address:
            ethernets[adapter.name]["addresses"] = [adapter.address]
        else:
            # Boot does not wait for a cable. Not for all: with none to wait for, networkd waits
            # two minutes.
            ethernets[adapter.name]["optional"] = True
    if management_mac:
        refused = ("routes", "dns", "ntp", "hostname", "domains")
        ethernets[MANAGEMENT] = {
            **common(management_mac, MANAGEMENT),
            "dhcp4": True,
            "dhcp4-overrides": {f"use-{what}": False for what in refused},
        }
    return {"version": 2, "ethernets": ethernets}


def _yaml(data: dict[str, Any]) -> str:
    return yaml.safe_dump(data, sort_keys=False)


def _tar(files: Mapping[str, tuple[int, str]]) -> bytes:
    """Return a ustar archive of the files, root's, with no date of today in it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        folders: set[str] = set()
        for path, (mode, text) in files.items():
            name, content = path.lstrip("/"), text.encode()
            folder = name.rpartition("/")[0]
            if folder in _PRIVATE_FOLDERS and folder not in folders:
                folders.add(folder)
                archive.addfile(_member(folder, 0o700, tarfile.DIRTYPE))
            member = _member(name, mode, tarfile.REGTYPE)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _member(name: str, mode: int, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.uname, member.gname = kind, mode, "root", "root"
    return member


def _iso(files: Mapping[str, bytes]) -> bytes:
    """Return an ISO 9660 volume with Rock Ridge and Joliet names and fixed dates."""
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, vol_ident=VOLUME, joliet=3, rock_ridge="1.09")
    for number, (name, content) in enumerate(files.items()):
        iso.add_fp(
            io.BytesIO(content),
            len(content),
            f"/FILE{number}.;1",
            rr_name=name,
            joliet_path=f"/{name}",
            file_mode=0o100400,
        )
    iso.force_consistency()
    for descriptor in filter(None, (iso.pvd, iso.joliet_vd)):
        for name in ("creation", "effective"):
            date = VolumeDescriptorDate()
            date.parse(_LONG_DATE)
            setattr(descriptor, f"volume_{name}_date", date)
        _fix_dates(descriptor.root_directory_record())
    buffer = io.BytesIO()
    iso.write_fp(buffer)
    iso.close()
    return _without_clock(buffer.getvalue())


def _fix_dates(record: DirectoryRecord) -> None:
    """Put the fixed date into a folder's record and those of all in it."""
    for one in (record, *record.children):
        one.date = _date()
        ridge = one.rock_ridge
        for entries in (ridge.dr_entries, ridge.ce_entries) if ridge else ():
            stamps = entries.tf_record if entries else None
            for name in ("access_time", "modification_time", "attribute_change_time"):
                if stamps and getattr(stamps, name):
                    setattr(stamps, name, _date())


def _date() -> DirectoryRecordDate:
    date = DirectoryRecordDate()
    date.parse(_DATE)
    return date


def _without_clock(volume: bytes) -> bytes:
    """Return the volume with the fixed date as that of its last change, in each descriptor."""
    data = bytearray(volume)
    start = _DESCRIPTORS * _SECTOR
    while data[start] != _TERMINATOR:
        struct.pack_into(f"{len(_LONG_DATE)}s", data, start + _CHANGED, _LONG_DATE)
        start += _SECTOR
    return bytes(data)
