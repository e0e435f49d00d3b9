"""The kinds of values that a spec has: each checked alone, each fault with what to write instead.

Their JSON Schema goes into vm_specs/schema.json.
"""

from __future__ import annotations

import json
import re
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError
from typing import Annotated, Any, NoReturn

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

PASSWORD_BYTES = 72  # bcrypt, which PHP's password_hash uses, reads no further
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


def wrong(message: str, fix: str) -> NoReturn:
    """Refuse a value. Both texts are shown to the user."""
    raise PydanticCustomError("imlab", "{message}", {"message": message, "fix": fix})


def matches(pattern: re.Pattern[str], what: str, rule: str, longest: int) -> AfterValidator:
    """Take text that the whole of a pattern matches; the other words are for who wrote another."""

    def check(name: str) -> str:
        if len(name) > longest:
            wrong(f"the {what} has {len(name)} characters", f"use at most {longest}")
        if not pattern.fullmatch(name):
            wrong(f"{quote(name.partition(':')[0])} is no {what}", f"use {rule}")
        return name

    return AfterValidator(check)


def _host_name(name: str) -> str:
    if name.isdigit():
        wrong(f"the host name {quote(name)} reads as a number", "put a letter in it")
    if name == "localhost":
        wrong("every host calls itself 'localhost'", "choose another name")
    return name


def _interface_name(name: str) -> str:
    if name in _TAKEN_INTERFACES:
        wrong(f"Linux uses the name {quote(name)} itself", "choose another name, as eth0")
    return name


def printable(text: str) -> str:
    """Take text without control characters; line breaks are none."""
    if not text.replace("\n", "").isprintable():
        wrong("a text with control characters", "use letters, digits and line breaks alone")
    return text


def _password(secret: SecretStr) -> SecretStr:
    plain = secret.get_secret_value()
    if not plain:
        wrong("the password is empty", "write one, in quotes if need be")
    if len(plain.encode()) > PASSWORD_BYTES:
        wrong(
            f"the password is longer than {PASSWORD_BYTES} bytes",
            "shorten it: password_hash (bcrypt) would ignore the rest",
        )
    if not plain.isprintable():
        wrong("the password has control characters", "use printable characters, on one line")
    return secret


def _subnet(value: Any) -> IPv4Network:  # noqa: ANN401 - whatever the file says
    if isinstance(value, IPv4Network):
        value = str(value)
    if not isinstance(value, str):
        wrong("a subnet must be text", "write it as 192.168.1.0/24")
    if ":" in value:
        wrong("IPv6 is not spoken in a lab yet", "write an IPv4 subnet, as 192.168.1.0/24")
    if "/" not in value:
        wrong(f"{quote(value)} has no prefix length", "write a subnet as 192.168.1.0/24")
    try:
        subnet = IPv4Network(value, strict=False)
    except (AddressValueError, NetmaskValueError, ValueError):
        wrong(f"{quote(value)} is no IPv4 subnet", "write it as 192.168.1.0/24")
    if str(subnet) != value:
        wrong(f"{quote(value)} is not how a subnet is written", f"did you mean '{subnet}'?")
    if not _WIDEST <= subnet.prefixlen <= _NARROWEST:
        wrong(
            f"the subnet of a lab cannot be a /{subnet.prefixlen}",
            f"choose a prefix length from /{_WIDEST} to /{_NARROWEST}",
        )
    for block in _UNUSABLE:
        if subnet.overlaps(block):
            wrong(
                f"hosts cannot have addresses of {block}",
                "choose a private subnet (RFC 1918), as 192.168.1.0/24",
            )
    return subnet


def _address(value: Any) -> IPv4Address:  # noqa: ANN401 - whatever the file says
    if isinstance(value, IPv4Address):
        return value
    if not isinstance(value, str):
        wrong("an address must be text", "write it as 192.168.1.10")
    if "/" in value:
        wrong(
            f"{quote(value)} has a prefix length",
            f"write {quote(value.partition('/')[0])}: the network has the prefix length",
        )
    try:
        return IPv4Address(value)
    except AddressValueError:
        wrong(f"{quote(value)} is no IPv4 address", "write it as 192.168.1.10")


def empty(value: Any) -> Any:  # noqa: ANN401 - whatever the file says
    """Read a key without a value as a mapping without keys."""
    return {} if value is None else value


def _storable(parameters: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(parameters, allow_nan=False)
    except ValueError:
        wrong("a number that is infinite or none at all", "write a finite number")
    return parameters


def _pattern(pattern: re.Pattern[str]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^{pattern.pattern}$"})


HostName = Annotated[
    str,
    matches(
        _LABEL, "host name", "lower-case letters, digits and inner hyphens (RFC 1123)", longest=63
    ),
    AfterValidator(_host_name),
    _pattern(_LABEL),
]
LabName = Annotated[
    str,
    matches(_LABEL, "lab name", "lower-case letters, digits and inner hyphens", longest=32),
    WithJsonSchema({"type": "string", "pattern": f"^{_LABEL.pattern}$", "maxLength": 32}),
]
InterfaceName = Annotated[
    str,
    matches(_INTERFACE, "interface name", "a letter, then letters, digits, - or _", longest=15),
    AfterValidator(_interface_name),
    _pattern(_INTERFACE),
]
NetworkName = Annotated[
    str,
    matches(_INTERFACE, "network name", "a letter, then letters, digits, - or _", longest=15),
    AfterValidator(_interface_name),
    _pattern(_INTERFACE),
]
AccountName = Annotated[
    str,
    matches(_ACCOUNT, "account name", "a letter, then letters, digits, '.', '_' or '-'", 32),
    _pattern(_ACCOUNT),
]
RoleName = Annotated[
    str,
    matches(_WORD, "role name", "letters, digits, '.', '_' and '-'", longest=64),
    _pattern(_WORD),
]
Word = Annotated[
    str,
    matches(_WORD, "name", "letters, digits, '.', '_' and '-'", longest=64),
    _pattern(_WORD),
]
Text = Annotated[str, Field(max_length=1000), AfterValidator(printable)]
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
    BeforeValidator(empty),
    AfterValidator(_storable),
    WithJsonSchema({"type": ["object", "null"]}),
]


def whole(low: int, high: int) -> Any:  # noqa: ANN401 - a Field, whose type pydantic hides
    """Take a whole number from low to high, not one in quotes."""
    return Field(ge=low, le=high, strict=True)


def number(low: float, high: float) -> Any:  # noqa: ANN401 - as above
    """Take a number from low to high, whole or not, not one in quotes."""
    return Field(ge=low, le=high, strict=True, allow_inf_nan=False)


def _setting(value: Any) -> Any:  # noqa: ANN401 - whatever the file says
    """Take a number as the kernel's text form of it."""
    return str(value) if type(value) is int else value


SysctlName = Annotated[
    str,
    matches(_SYSCTL, "kernel setting of a network", "a name like net.ipv4.tcp_timestamps", 128),
    _pattern(_SYSCTL),
]
SysctlValue = Annotated[
    str,
    BeforeValidator(_setting),
    matches(_SYSCTL_VALUE, "value of a kernel setting", "numbers or words", 128),
    WithJsonSchema({"type": ["string", "integer"], "maxLength": 128}),
]


class Model(BaseModel):
    """A mapping of a spec: its keys and no others, frozen."""

    # A failed construction from Python must not print a password among its inputs either.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
