"""The format of a spec as frozen models: what may stand in a file, key by key.

The models check each value alone (lab.spec.fields); what concerns two values at once (an address
and its network, a guest and its host) is checked by lab.spec.checks. Their JSON Schema is
vm_specs/schema.json.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from lab.spec.fields import (
    AccountName,
    Address,
    HostName,
    InterfaceName,
    LabName,
    Model,
    NetworkName,
    Parameters,
    Password,
    RoleName,
    Subnet,
    SysctlName,
    SysctlValue,
    Text,
    Word,
    empty,
    number,
    whole,
)
from lab.spec.machines import AttachSpec, OwnImageSpec, ReachSpec

FORMAT = 1  # the value of the key `imlab`
DEFAULT_IMAGE = "debian-base"  # sshd and network tools
DEFAULT_OS = "linux"
DEFAULT_TTL = 64  # RFC 1700; Windows sends 128
DEFAULT_MEMORY_MIB = 512
DEFAULT_CPUS = 1
DEFAULT_DISK_MIB = 2048


class LinkSpec(Model):
    """Conditions of a cable, which hold in either direction for itself."""

    rate_mbit: Annotated[
        float | None, number(0.05, 1000), Field(description="Mbit/s of what is on the wire")
    ] = None
    loss_percent: Annotated[
        float | None, number(0, 90), Field(description="frames in a hundred that are lost")
    ] = None
    delay_ms: Annotated[
        float | None, number(0, 2000), Field(description="how long a frame is under way, ms")
    ] = None


class NetworkSpec(Model):
    """A switch that hosts are plugged into."""

    subnet: Annotated[Subnet, Field(description="IPv4 subnet, as 192.168.1.0/24")]
    link: Annotated[
        LinkSpec | None, Field(description="conditions of each cable that is plugged in here")
    ] = None
    description: Annotated[Text, Field(description="what it stands for")] = ""


class AccountSpec(Model):
    """Somebody who signs in to a messaging system."""

    password: Annotated[
        Password, Field(description="at most 72 bytes; it is published with the evidence of a run")
    ]


class AdapterSpec(Model):
    """A network adapter: plugged into a network, bridged to the parent's adapter, or neither."""

    network: Annotated[NetworkName | None, Field(description="the network it is plugged into")] = (
        None
    )
    bridged: Annotated[
        InterfaceName | None,
        Field(description="the adapter of the host it lives on whose wire it shares"),
    ] = None
    address: Annotated[
        Address | None, Field(description="IPv4 address; the network has the prefix length")
    ] = None
    kind: Annotated[
        Literal["wired", "wireless"], Field(description="what it stands for in a picture")
    ] = "wired"
    model: Annotated[
        Text, Field(max_length=128, description="maker and model, for the report alone")
    ] = ""
    link: Annotated[
        LinkSpec | None, Field(description="conditions of its cable, instead of its network's")
    ] = None
    attach: Annotated[
        AttachSpec | None,
        Field(description="how a virtual machine's adapter is attached; its provider's choice"),
    ] = None


class HostSpec(Model):
    """A computer, or a virtual machine that lives `on` one."""

    description: Annotated[Text, Field(description="what it stands for")] = ""
    on: Annotated[
        HostName | None, Field(description="the host that it lives on as a virtual machine")
    ] = None
    provider: Annotated[
        Word | None, Field(description="what makes it; what lab-up is told, by default")
    ] = None
    ssh: Annotated[
        ReachSpec | None, Field(description="how a computer is reached that is there already")
    ] = None
    firmware: Annotated[
        Literal["bios", "efi"], Field(description="what a virtual machine starts from")
    ] = "bios"
    os: Annotated[Word, Field(description="operating system that it stands for")] = DEFAULT_OS
    image: Annotated[Word, Field(description="what it boots")] = DEFAULT_IMAGE
    ttl: Annotated[
        int, whole(1, 255), Field(description="time to live of the packets it sends")
    ] = DEFAULT_TTL
    sysctls: Annotated[
        dict[SysctlName, SysctlValue],
        Field(description="kernel settings of its network: net.… -> value (sysctl(8))"),
    ] = {}
    memory: Annotated[int, whole(16, 1_048_576), Field(description="MiB")] = DEFAULT_MEMORY_MIB
    cpus: Annotated[int, whole(1, 256), Field(description="virtual processors")] = DEFAULT_CPUS
    disk: Annotated[int, whole(16, 16_777_216), Field(description="MiB that it may write")] = (
        DEFAULT_DISK_MIB
    )
    adapters: Annotated[
        dict[InterfaceName, Annotated[AdapterSpec, BeforeValidator(empty)]],
        Field(description="network adapters by interface name"),
    ] = {}
    roles: Annotated[
        dict[RoleName, Parameters],
        Field(description="what is provisioned, in this order: role name -> its parameters"),
    ] = {}


class LabSpec(Model):
    """A lab as its author describes it: a file of vm_specs/, or built in Python.

    Order is kept: hosts are made in it (a parent before its guests) and roles applied in it.
    Construction raises pydantic.ValidationError for a value that is wrong by itself;
    lab.spec.check finds what is wrong between values, and make_plan refuses it.
    """

    imlab: Annotated[Literal[1], Field(description="version of this format")]
    name: Annotated[LabName, Field(description="the lab's name; lab-up --name overrides it")]
    description: Annotated[Text, Field(description="what it stands for")] = ""
    networks: Annotated[dict[NetworkName, NetworkSpec], Field(description="switches by name")] = {}
    accounts: Annotated[
        dict[AccountName, AccountSpec],
        Field(description="who signs in to the messaging systems"),
    ] = {}
    images: Annotated[
        dict[Word, OwnImageSpec], Field(description="disk images of your own, by name")
    ] = {}
    hosts: Annotated[dict[HostName, HostSpec], Field(description="computers by name")]
    captures: Annotated[
        tuple[str, ...],
        Field(description="where an observer listens: host/adapter"),
    ] = ()
