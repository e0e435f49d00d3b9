"""What a spec says of real and virtual machines alone: images of one's own, attachments, SSH.

Namespace hosts have none of it, and their provider says so.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from lab.spec.errors import quote
from lab.spec.fields import Model, Text, Word, empty, printable, whole, wrong

IMAGE_FILES = (".ova", ".vdi", ".vmdk", ".iso")
KEY_TYPES = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")
SSH_PORT = 22


def _image_file(name: str) -> str:
    if not name.lower().endswith(IMAGE_FILES):
        wrong(f"{quote(name)} is no disk image", f"name a file that ends in {_or(IMAGE_FILES)}")
    return name


def _host_key(line: str) -> str:
    words = line.split()
    if len(words) < 2 or words[0] not in KEY_TYPES:  # noqa: PLR2004 - type and key
        wrong(
            "that is no public host key",
            "write a line of `ssh-keyscan -t ed25519 ADDRESS`, without the address in front",
        )
    return " ".join(words[:2])


def _or(words: tuple[str, ...]) -> str:
    return ", ".join(words[:-1]) + " or " + words[-1]


def _short(secret: SecretStr) -> SecretStr:
    plain = secret.get_secret_value()
    if not plain or not plain.isprintable():
        wrong("empty, or with control characters", "write printable characters, on one line")
    return secret


FileName = Annotated[str, AfterValidator(printable), AfterValidator(_image_file)]
Line = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(printable)]
Secret = Annotated[SecretStr, AfterValidator(_short)]
HostKey = Annotated[str, AfterValidator(_host_key)]
Port = Annotated[int, whole(1, 65535)]
FreePort = Annotated[int, whole(0, 65535)]


class UnattendedSpec(Model):
    """How an operating system installs itself from its medium, with nobody at the keyboard."""

    user: Annotated[Word, Field(description="the account that it makes")]
    password: Annotated[Secret, Field(description="its password; never shown")]
    full_name: Annotated[Text, Field(description="whom it greets")] = ""
    product_key: Annotated[Secret | None, Field(description="the licence; never shown")] = None
    locale: Annotated[Word, Field(description="language and country, as en_US")] = "en_US"
    time_zone: Annotated[Line, Field(description="as Africa/Nairobi")] = "UTC"


class OwnImageSpec(Model):
    """A disk image of one's own: a machine or disk (.ova, .vdi, .vmdk), or a medium (.iso)."""

    file: Annotated[FileName, Field(description="its file; relative to the spec's folder")]
    unattended: Annotated[
        UnattendedSpec | None, Field(description="how a medium installs itself on an empty disk")
    ] = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.unattended and not self.file.lower().endswith(".iso"):
            wrong("only a medium (.iso) installs itself", "remove `unattended`, or name an .iso")
        return self


class ForwardSpec(Model):
    """A port of this machine that leads into a virtual one; host 0 is any free one."""

    host: Annotated[FreePort, Field(description="TCP port of 127.0.0.1 here; 0: any")] = 0
    guest: Annotated[Port, Field(description="TCP port in the virtual machine")]


class NatSpec(Model):
    """A network of the virtual machine's own, behind this machine."""

    forwards: Annotated[
        dict[Word, ForwardSpec], Field(description="ports that lead into the machine, by name")
    ] = {}


class GenericSpec(Model):
    """A driver by name, with its properties."""

    driver: Annotated[Word, Field(description="as UDPTunnel")]
    properties: Annotated[dict[Word, Line], Field(description="the driver's settings")] = {}


class AttachSpec(Model):
    """How an adapter of a virtual machine is attached: exactly one of these."""

    bridged: Annotated[
        Line | None, Field(description="an adapter of this machine, or wired, wireless, up")
    ] = None
    internal: Annotated[Word | None, Field(description="a network among virtual machines")] = None
    nat: Annotated[
        NatSpec | None, BeforeValidator(empty), Field(description="behind this machine")
    ] = None
    generic: Annotated[GenericSpec | None, Field(description="a driver by name")] = None

    @model_validator(mode="before")
    @classmethod
    def _one(cls, value: object) -> object:
        names = list(cls.model_fields)
        if isinstance(value, dict) and len(value) != 1 and all(k in names for k in value):
            wrong(
                "an adapter is attached in exactly one way",
                f"write one of {', '.join(names)}",
            )
        return value


class ReachSpec(Model):
    """How to log in to a computer that is there already."""

    address: Annotated[Line, Field(description="host name or IP address")]
    port: Annotated[Port, Field(description="TCP port of its sshd")] = SSH_PORT
    user: Annotated[Word, Field(description="who logs in; roles want root")] = "root"
    key: Annotated[Line, Field(description="file with the private key")]
    host_key: Annotated[
        HostKey, Field(description="its public host key: ssh-ed25519 AAAA…; no other is taken")
    ]
