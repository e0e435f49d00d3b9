"""Specs made by programs: many hosts on one switch, and any spec back into YAML."""

from __future__ import annotations

import json
import re
from ipaddress import IPv4Network
from typing import Any

from pydantic import BaseModel, SecretStr

from lab.spec.models import FORMAT, AdapterSpec, HostSpec, LabSpec, NetworkSpec

INDENT = "  "
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def star(
    count: int,
    *,
    name: str = "star",
    subnet: str = "10.77.0.0/16",
    **host: Any,  # noqa: ANN401 - the keys of HostSpec, which checks them
) -> LabSpec:
    """Return a lab of `count` hosts h1, h2, … on one switch, addressed in order from `subnet`.

    Other keywords are keys of every host: image="debian-base", memory=64, roles={"xmpp": {}}.
    Raises ValueError for a subnet too small, pydantic.ValidationError for a wrong keyword.
    """
    network = IPv4Network(subnet)
    if not 0 < count <= network.num_addresses - 2:
        raise ValueError(f"{count} hosts do not fit into {subnet}")
    return LabSpec(
        imlab=FORMAT,
        name=name,
        networks={"lan": NetworkSpec(subnet=network)},
        hosts={
            f"h{number}": HostSpec(
                adapters={"eth0": AdapterSpec(network="lan", address=network[number])}, **host
            )
            for number in range(1, count + 1)
        },
    )


def to_yaml(spec: LabSpec) -> str:
    """Return YAML that parse_spec reads back as an equal spec. Passwords are in it, plainly."""
    lines: list[str] = []
    _mapping(_data(spec), "", lines)
    return "\n".join(lines) + "\n"


def _data(value: Any) -> Any:  # noqa: ANN401 - models in, JSON data out
    if isinstance(value, BaseModel):
        return {
            key: _data(getattr(value, key))
            for key, info in type(value).model_fields.items()
            if info.is_required() or getattr(value, key) != info.get_default()
        }
    if isinstance(value, dict):
        return {key: _data(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_data(item) for item in value]
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return value if isinstance(value, str | int | float | None) else str(value)


def _mapping(data: dict[str, Any], indent: str, lines: list[str]) -> None:
    for key, value in data.items():
        # JSON's scalars, lists and mappings are YAML's as well, and none is read as another type.
        word = key if _PLAIN.fullmatch(key) else _scalar(key)
        if isinstance(value, dict) and value:
            lines.append(f"{indent}{word}:")
            _mapping(value, indent + INDENT, lines)
        else:
            lines.append(f"{indent}{word}: {_scalar(value)}")


def _scalar(value: Any) -> str:  # noqa: ANN401 - JSON data
    text = json.dumps(value, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in text)
