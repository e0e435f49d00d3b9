"""The format of a spec as frozen models: what may stand in a file, key by key.

The models check each value alone; what concerns two values at once (an address and its network,
a guest and its host) is checked by lab.spec.checks. Their JSON Schema is vm_specs/schema.json.
"""

from __future__ import annotations

import json
import re
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError
from typing import Annotated, Any, Literal, NoReturn

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    SecretStr,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from lab.spec.errors import quote

FORMAT = 1  # the value of the key `imlab`
PASSWORD_BYTES = 72  # bcrypt, which PHP's password_hash uses, reads no further
DEFAULT_IMAGE = "debian-base"  # sshd and network tools
DEFAULT_OS = "linux"
DEFAULT_TTL = 64  # RFC 1700; Windows sends 128
DEFAULT_MEMORY_MIB = 512
DEFAULT_CPUS = 1
DEFAULT_DISK_MIB = 2048

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")  # RFC 1123, 2.1; lower case
_INTERFACE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,14}")  # IFNAMSIZ is 16 with the final NUL
_TAKEN_INTERFACES = ("lo", "all", "default")  # loopback, and net.ipv4.conf's two wildcards
_ACCOUNT = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,31}")
_SYSCTL = re.compile(r"net(\.[a-zA-Z0-9_-]+){2,8}")  # what a network namespace has for itself
_SYSCTL_VALUE = re.compile(r"[A-Za-z0-9._-]+([ \t]+[A-Za-z0-9._-]+)*")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_UNUSABLE = tuple(
    IPv4Network(block)  # RFC 6890: this network, loopback, multicast, reserved
    for block in ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4")
)
_WIDEST, _NARROWEST = 8, 30  # prefix lengths; a /31 has no room for a host and two addresses


def _wrong(message: str, fix: str) -> NoReturn:
    """Refuse a value. Both texts are shown to the user."""
    raise PydanticCustomError("imlab", "{message}", {"message": message, "fix": fix})


def _matches(pattern: re.Pattern[str], what: str, rule: str, longest: int) -> AfterValidator:
    def check(name: str) -> str:
        if len(name) > longest:
            _wrong(f"the {what} has {len(name)} characters", f"use at most {longest}")
        if not pattern.fullmatch(name):
            _wrong(f"{quote(name.partition(':')[0])} is no {what}", f"use {rule}")
        return name

    return AfterValidator(check)


def _host_name(name: str) -> str:
    if name.isdigit():
        _wrong(f"the host name {quote(name)} reads as a number", "put a letter in it")
    if name == "localhost":
        _wrong("every host calls itself 'localhost'", "choose another name")
    return name


def _interface_name(name: str) -> str:
    if name in _TAKEN_INTERFACES:
        _wrong(f"Linux uses the name {quote(name)} itself", "choose another name, as eth0")
    return name


def _printable(text: str) -> str:
    if not text.replace("\n", "").isprintable():
        _wrong("a text with control characters", "use letters, digits and line breaks alone")
    return text


def _password(secret: SecretStr) -> SecretStr:
    plain = secret.get_secret_value()
    if not plain:
        _wrong("the password is empty", "write one, in quotes if need be")
    if len(plain.encode()) > PASSWORD_BYTES:
        _wrong(
            f"the password is longer than {PASSWORD_BYTES} bytes",
            "shorten it: password_hash (bcrypt) would ignore the rest",
        )
    if not plain.isprintable():
        _wrong("the password has control characters", "use printable characters, on one line")
    return secret


def _subnet(value: Any) -> IPv4Network:  # noqa: ANN401 - whatever the file says
    if isinstance(value, IPv4Network):
        value = str(value)
    if not isinstance(value, str):
        _wrong("a subnet must be text", "write it as 192.168.1.0/24")
    if ":" in value:
        _wrong("IPv6 is not spoken in a lab yet", "write an IPv4 subnet, as 192.168.1.0/24")
    if "/" not in value:
        _wrong(f"{quote(value)} has no prefix length", "write a subnet as 192.168.1.0/24")
    try:
        subnet = IPv4Network(value, strict=False)
    except (AddressValueError, NetmaskValueError, ValueError):
        _wrong(f"{quote(value)} is no IPv4 subnet", "write it as 192.168.1.0/24")
    if str(subnet) != value:
        _wrong(f"{quote(value)} is not how a subnet is written", f"did you mean '{subnet}'?")
    if not _WIDEST <= subnet.prefixlen <= _NARROWEST:
        _wrong(
            f"the subnet of a lab cannot be a /{subnet.prefixlen}",
            f"choose a prefix length from /{_WIDEST} to /{_NARROWEST}",
        )
    for block in _UNUSABLE:
        if subnet.overlaps(block):
            _wrong(
                f"hosts cannot have addresses of {block}",
                "choose a private subnet (RFC 1918), as 192.168.1.0/24",
            )
    return subnet


def _address(value: Any) -> IPv4Address:  # noqa: ANN401 - whatever the file says
    if isinstance(value, IPv4Address):
        return value
    if not isinstance(value, str):
        _wrong("an address must be text", "write it as 192.168.1.10")
    if "/" in value:
        _wrong(
            f"{quote(value)} has a prefix length",
            f"write {quote(value.partition('/')[0])}: the network has the prefix length",
        )
    try:
        return IPv4Address(value)
    except AddressValueError:
        _wrong(f"{quote(value)} is no IPv4 address", "write it as 192.168.1.10")


def _empty(value: Any) -> Any:  # noqa: ANN401 - whatever the file says
    """Read a key without a value as a mapping without keys."""
    return {} if value is None else value


def _storable(parameters: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(parameters, allow_nan=False)
    except ValueError:
        _wrong("a number that is infinite or none at all", "write a finite number")
    return parameters


def _pattern(pattern: re.Pattern[str]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^{pattern.pattern}$"})


HostName = Annotated[
    str,
    _matches(
        _LABEL, "host name", "lower-case letters, digits and inner hyphens (RFC 1123)", longest=63
    ),
    AfterValidator(_host_name),
    _pattern(_LABEL),
]
LabName = Annotated[
    str,
    _matches(_LABEL, "lab name", "lower-case letters, digits and inner hyphens", longest=32),
    WithJsonSchema({"type": "string", "pattern": f"^{_LABEL.pattern}$", "maxLength": 32}),
]
InterfaceName = Annotated[
    str,
    _matches(_INTERFACE, "interface name", "a letter, then letters, digits, - or _", longest=15),
    AfterValidator(_interface_name),
    _pattern(_INTERFACE),
]
NetworkName = Annotated[
    str,
    _matches(_INTERFACE, "network name", "a letter, then letters, digits, - or _", longest=15),
    AfterValidator(_interface_name),
    _pattern(_INTERFACE),
]
AccountName = Annotated[
    str,
    _matches(_ACCOUNT, "account name", "a letter, then letters, digits, '.', '_' or '-'", 32),
    _pattern(_ACCOUNT),
]
RoleName = Annotated[
    str,
    _matches(_WORD, "role name", "letters, digits, '.', '_' and '-'", longest=64),
    _pattern(_WORD),
]
Word = Annotated[
    str,
    _matches(_WORD, "name", "letters, digits, '.', '_' and '-'", longest=64),
    _pattern(_WORD),
]
Text = Annotated[str, Field(max_length=1000), AfterValidator(_printable)]
Password = Annotated[
    SecretStr, AfterValidator(_password), WithJsonSchema({"type": "string", "minLength": 1})
]
Subnet = Annotated[
    IPv4Network,
    BeforeValidator(_subnet),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9.]+/[0-9]+$"}),
]
Address = Annotated[
    IPv4Address,
    BeforeValidator(_address),
    WithJsonSchema({"type": "string", "format": "ipv4", "pattern": r"^[0-9]+(\.[0-9]+){3}$"}),
]
Parameters = Annotated[
    dict[str, JsonValue],
    BeforeValidator(_empty),
    AfterValidator(_storable),
    WithJsonSchema({"type": ["object", "null"]}),
]


def _whole(low: int, high: int) -> Any:  # noqa: ANN401 - a Field, whose type pydantic hides
    return Field(ge=low, le=high, strict=True)


def _setting(value: Any) -> Any:  # noqa: ANN401 - whatever the file says
    """Take a number as the kernel's text form of it."""
    return str(value) if type(value) is int else value


SysctlName = Annotated[
    str,
    _matches(_SYSCTL, "kernel setting of a network", "a name like net.ipv4.tcp_timestamps", 128),
    _pattern(_SYSCTL),
]
SysctlValue = Annotated[
    str,
    BeforeValidator(_setting),
    _matches(_SYSCTL_VALUE, "value of a kernel setting", "numbers or words", 128),
    WithJsonSchema({"type": ["string", "integer"], "maxLength": 128}),
]


class _Model(BaseModel):
    # A failed construction from Python must not print a password among its inputs either.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class NetworkSpec(_Model):
    """A switch that hosts are plugged into."""

    subnet: Annotated[Subnet, Field(description="IPv4 subnet, as 192.168.1.0/24")]
    description: Annotated[Text, Field(description="what it stands for")] = ""


class AccountSpec(_Model):
    """Somebody who signs in to a messaging system."""

    password: Annotated[
        Password, Field(description="at most 72 bytes; it is published with the evidence of a run")
    ]


class AdapterSpec(_Model):
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


class HostSpec(_Model):
    """A computer, or a virtual machine that lives `on` one."""

    description: Annotated[Text, Field(description="what it stands for")] = ""
    on: Annotated[
        HostName | None, Field(description="the host that it lives on as a virtual machine")
    ] = None
    os: Annotated[Word, Field(description="operating system that it stands for")] = DEFAULT_OS
    image: Annotated[Word, Field(description="what it boots")] = DEFAULT_IMAGE
    ttl: Annotated[
        int, _whole(1, 255), Field(description="time to live of the packets it sends")
    ] = DEFAULT_TTL
    sysctls: Annotated[
        dict[SysctlName, SysctlValue],
        Field(description="kernel settings of its network: net.… -> value (sysctl(8))"),
    ] = {}
    memory: Annotated[int, _whole(16, 1_048_576), Field(description="MiB")] = DEFAULT_MEMORY_MIB
    cpus: Annotated[int, _whole(1, 256), Field(description="virtual processors")] = DEFAULT_CPUS
    disk: Annotated[int, _whole(16, 16_777_216), Field(description="MiB that it may write")] = (
        DEFAULT_DISK_MIB
    )
    adapters: Annotated[
        dict[InterfaceName, Annotated[AdapterSpec, BeforeValidator(_empty)]],
        Field(description="network adapters by interface name"),
    ] = {}
    roles: Annotated[
        dict[RoleName, Parameters],
        Field(description="what is provisioned, in this order: role name -> its parameters"),
    ] = {}


class LabSpec(_Model):
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
    hosts: Annotated[dict[HostName, HostSpec], Field(description="computers by name")]
    captures: Annotated[
        tuple[str, ...],
        Field(description="where an observer listens: host/adapter"),
    ] = ()
