"""From a file to a LabSpec, or to all that is wrong with it."""

from __future__ import annotations

import copy
import os
import stat
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import BaseModel, ValidationError

from lab.errors import Fault
from lab.spec.checks import Known, Row, check
from lab.spec.errors import SpecError, SpecFault, closest, quote, suggest
from lab.spec.machines import (
    AttachSpec,
    ForwardSpec,
    GenericSpec,
    NatSpec,
    OwnImageSpec,
    ReachSpec,
    UnattendedSpec,
)
from lab.spec.models import (
    FORMAT,
    AccountSpec,
    AdapterSpec,
    HostSpec,
    LabSpec,
    LinkSpec,
    NetworkSpec,
)
from lab.spec.yaml_positions import MAX_BYTES, Document, Path, read_yaml, shown_key

if TYPE_CHECKING:
    from collections.abc import Collection

    from pydantic_core import ErrorDetails

    from lab.spec.checks import RoleCheck

Roles: TypeAlias = "Collection[str] | Mapping[str, RoleCheck | None]"

# What the mappings of a spec are called, and whose keys they have: by the shape of the path.
_SECTIONS: dict[tuple[str, ...], tuple[str, type[BaseModel]]] = {
    (): ("a lab", LabSpec),
    ("networks", "*"): ("a network", NetworkSpec),
    ("networks", "*", "link"): ("a link", LinkSpec),
    ("accounts", "*"): ("an account", AccountSpec),
    ("hosts", "*"): ("a host", HostSpec),
    ("hosts", "*", "adapters", "*"): ("an adapter", AdapterSpec),
    ("hosts", "*", "adapters", "*", "link"): ("a link", LinkSpec),
    ("images", "*"): ("an image", OwnImageSpec),
    ("images", "*", "unattended"): ("an unattended installation", UnattendedSpec),
    ("hosts", "*", "ssh"): ("a login", ReachSpec),
    ("hosts", "*", "adapters", "*", "attach"): ("an attachment", AttachSpec),
    ("hosts", "*", "adapters", "*", "attach", "nat"): ("an attachment to NAT", NatSpec),
    ("hosts", "*", "adapters", "*", "attach", "nat", "forwards", "*"): ("a forward", ForwardSpec),
    ("hosts", "*", "adapters", "*", "attach", "generic"): ("a generic attachment", GenericSpec),
}
_EXAMPLES = {
    "imlab": f"add `imlab: {FORMAT}`, the version of the format, as the first key",
    "name": "add `name: …`, lower-case letters, digits and hyphens",
    "hosts": "add `hosts:` with at least one host",
    "subnet": "add `subnet: 192.168.1.0/24` or what it shall be",
    "password": "add `password: …`",
    "key": "add `key: …`, the file with your private key",
    "host_key": "add `host_key: ssh-ed25519 …`, as `ssh-keyscan -t ed25519 ADDRESS` prints it",
}
_FILLERS: dict[str, Any] = {"imlab": FORMAT, "name": "unnamed", "hosts": {}}  # to read on with
_ROUNDS = 8  # levels of the format: a value is taken out at most once a level


def load_spec(
    path: str | os.PathLike[str],
    *,
    roles: Roles | None = None,
    images: Collection[str] | None = None,
    providers: Collection[str] | None = None,
) -> LabSpec:
    """Read and validate a spec file.

    roles  -- the names of the roles there are, or a mapping from each to what checks its
              parameters (None: any). A check takes the parameters and returns rows (path below
              them, message, fix). Without `roles`, role names are not checked.
    images, providers -- the names of those there are; without it, they are not checked.
    Raises SpecError, with every fault, for a file that cannot be read or is no sound spec.
    """
    name = os.fspath(path)
    return parse_spec(_text_of(name), name, roles=roles, images=images, providers=providers)


def parse_spec(
    text: str,
    name: str = "spec",
    *,
    roles: Roles | None = None,
    images: Collection[str] | None = None,
    providers: Collection[str] | None = None,
) -> LabSpec:
    """Validate a spec's text; `name` is what faults call the file. Else as load_spec."""
    name = name if name.isprintable() else quote(name)
    table = roles if isinstance(roles, Mapping) or roles is None else dict.fromkeys(roles)
    spec, faults = _parse(text, name, Known(table, images, providers))
    if faults or spec is None:
        raise SpecError(name, faults)
    return spec


def check_spec(
    path: str | os.PathLike[str],
    *,
    roles: Roles | None = None,
    images: Collection[str] | None = None,
    providers: Collection[str] | None = None,
) -> tuple[SpecFault, ...]:
    """Return every fault of a spec file, in the order of the file; none for a sound one."""
    try:
        load_spec(path, roles=roles, images=images, providers=providers)
    except SpecError as error:
        return error.faults
    return ()


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a spec, for editors: vm_specs/schema.json."""
    tidy: dict[str, Any] = _tidy(LabSpec.model_json_schema())
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "imlab lab spec",
        **tidy,
    }


def _tidy(node: Any) -> Any:  # noqa: ANN401 - JSON data
    """Make pydantic's schema one for editors.

    Its titles go, which are made up from names and would be shown as help. A name that breaks
    its rule is underlined, and an adapter without a value is not.
    """
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    tidy = {
        key: _tidy(value)
        for key, value in node.items()
        if not (key == "title" and isinstance(value, str))
    }
    if "patternProperties" in tidy:
        tidy["additionalProperties"] = False
    if tidy.get("$ref", "").endswith("/AdapterSpec"):
        return {"anyOf": [tidy, {"type": "null"}]}
    return tidy


# -- the file -------------------------------------------------------------------------------


def _text_of(name: str) -> str:
    shown = name if name.isprintable() else quote(name)

    def refuse(message: str, fix: str, at: tuple[int, int] = (0, 0)) -> SpecError:
        fault = Fault.SPEC if at[0] else Fault.USER
        return SpecError(shown, [SpecFault(shown, *at, message, fix)], fault=fault)

    try:
        raw = _bytes_of(name)
    except FileNotFoundError:
        raise refuse("there is no such file", _other_files(name)) from None
    except IsADirectoryError:
        raise refuse("is a folder", f"name a file in it; {_other_files(f'{name}/x')}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise refuse(f"cannot be read: {reason}", "name a YAML file that you may read") from None
    if len(raw) > MAX_BYTES:
        raise refuse(
            f"more than {MAX_BYTES // 1024} KiB",
            "a lab's description is a few KiB; is it the right file?",
        )
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise refuse("is UTF-16", "save it as UTF-8", (1, 1))
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode()
        place = before.count("\n") + 1, len(before) - before.rfind("\n")
        message = f"the byte 0x{raw[error.start]:02X} is not UTF-8"
        raise refuse(message, "save the file as UTF-8", place) from None


def _bytes_of(name: str) -> bytes:
    # Without O_NONBLOCK a named pipe would be waited for; a device would never end.
    descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(name)
        if not stat.S_ISREG(mode):
            raise ValueError("it is no regular file")
        return file.read(MAX_BYTES + 1)


def _other_files(name: str) -> str:
    path = FilePath(name)
    try:
        names = sorted(p.name for p in path.parent.glob("*.yaml") if p.name.isprintable())
    except (OSError, ValueError):
        names = []
    return suggest(path.name, names, f"the specs in {str(path.parent)!r} are")


# -- the models -----------------------------------------------------------------------------


def _parse(text: str, name: str, known: Known) -> tuple[LabSpec | None, list[SpecFault]]:
    document = read_yaml(text, name)
    if document.data is None:
        return None, document.faults
    if not isinstance(document.data, dict):
        message = f"a spec is a mapping, not {_kind(document.data)}"
        return None, [*document.faults, SpecFault(name, 1, 1, message, _EXAMPLES["imlab"])]
    spec, rows, broken = _build(document.data)
    if spec is not None:
        rows += check(spec, known, broken)
    told = {(fault.line, fault.column) for fault in document.faults}  # one fault a place is enough
    faults = [SpecFault(name, *_place(document, r), r.message, r.fix) for r in rows]
    return spec, [*document.faults, *(f for f in faults if (f.line, f.column) not in told)]


def _build(data: dict[str, Any]) -> tuple[LabSpec | None, list[Row], set[Path]]:
    """Validate; take out what is refused until the rest stands, so that the rest is checked too.

    Returns the spec as far as it is sound, the faults, and the paths of what was taken out.
    """
    rows: list[Row] = []
    broken: set[Path] = set()
    for _ in range(_ROUNDS):
        try:
            return LabSpec.model_validate(data), rows, broken
        except ValidationError as error:
            errors = error.errors(include_url=False)
        if not rows:  # later rounds only see the holes that this one leaves
            # A key that was misspelt is not missing as well.
            broken.update(_meant(detail, data) for detail in errors)
            rows = [_row(d) for d in errors if d["type"] != "missing" or _path(d) not in broken]
        for detail in errors:
            path = _path(detail)
            if detail["type"] == "missing" and len(path) > 1:  # without it, its owner falls
                path = path[:-1]
            broken.add(path)
            _take_out(data, path)
    return None, rows, broken


def _meant(detail: ErrorDetails, data: Any) -> Path:  # noqa: ANN401 - YAML holds any data
    """Return the path that a misspelt key was meant to be; for another fault its own path."""
    path = _path(detail)
    if detail["type"] == "missing":
        return path[:-1]
    if detail["type"] == "extra_forbidden":
        _, model = _section(path[:-1]) or ("", LabSpec)
        near = closest(str(path[-1]).partition(":")[0], model.model_fields)
        for step in path[:-1]:
            data = data[step]
        return (*path[:-1], near) if near and near not in data else path
    return path


def _path(detail: ErrorDetails) -> Path:
    loc = detail["loc"]
    return loc[:-1] if loc and loc[-1] == "[key]" else loc


def _take_out(data: dict[str, Any], path: Path) -> None:
    node: Any = data
    for step in path[:-1]:
        node = node[int(step)] if isinstance(node, list) else node.get(step)
        if not isinstance(node, dict | list):
            return  # something above it is out already
    if isinstance(node, list):
        node[int(path[-1])] = ""  # its place stays, so that what follows keeps its own
    elif len(path) == 1 and path[0] in _FILLERS:
        node[path[0]] = copy.deepcopy(_FILLERS[str(path[0])])
    else:
        node.pop(path[-1], None)


def _place(document: Document, row: Row) -> tuple[int, int]:
    """Return where a fault stands: at the value, the key, or what it would have been in."""
    path = row.path
    while path and path not in document.values:
        path = path[:-1]
    if not path:
        return (1, 1)
    value = document.values[path]
    key = document.keys.get(path, value)
    # A value that begins on a later line is found by its key.
    return key if row.at_key or key[0] != value[0] else value


def _kind(value: object) -> str:
    """Return what YAML calls the type of a value; never the value, which may be a password."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    names = {str: "text", int: "a number", float: "a fraction", list: "a list", dict: "a mapping"}
    return names.get(type(value), "something else")


def _section(path: Path) -> tuple[str, type[BaseModel]] | None:
    for shape, section in _SECTIONS.items():
        if len(shape) == len(path) and all(w in {"*", s} for w, s in zip(shape, path, strict=True)):
            return section
    return None


def _row(detail: ErrorDetails) -> Row:
    """Put what pydantic found into the words of a spec."""
    path, kind, context = _path(detail), detail["type"], detail.get("ctx", {})
    key = str(path[-1]) if path else ""
    if kind == "imlab":
        return Row(path, context["message"], context["fix"], at_key=path != detail["loc"])
    if kind == "extra_forbidden":
        return _unknown_key(path, key)
    if kind == "missing":
        section = _section(path[:-1])
        what = section[0] if section else "this"
        return Row(path, f"{what} needs the key '{key}'", _EXAMPLES.get(key, f"add `{key}: …`"))
    if kind == "literal_error":
        return _literal(path, key, detail["input"], context["expected"])
    return _bounds(path, key, detail) or _wrong_type(path, key, kind, detail["input"])


def _bounds(path: Path, key: str, detail: ErrorDetails) -> Row | None:
    context = detail.get("ctx", {})
    if detail["type"] in {"greater_than_equal", "less_than_equal"}:
        word, limit = ("least", context["ge"]) if "ge" in context else ("most", context["le"])
        bound = f"at {word} {int(limit) if limit == int(limit) else limit}"
        return Row(path, f"'{key}' is {quote(detail['input'])}", f"it must be {bound}")
    if detail["type"] == "string_too_long":
        limit = context["max_length"]
        return Row(path, f"'{key}' has more than {limit} characters", "shorten it")
    return None


def _unknown_key(path: Path, key: str) -> Row:
    what, model = _section(path[:-1]) or ("this", LabSpec)
    keys = list(model.model_fields)
    near = closest(key.partition(":")[0], keys)
    fix = f"did you mean '{near}'?" if near else f"the keys of {what} are: {', '.join(keys)}"
    if ":" in key:
        fix = f"put a space after the colon: `{near}: …`" if near else "put a space after the colon"
    # `CLIENT: {secret}` makes a key of the password: it is not shown.
    shown = "such key" if path[0] in {"accounts", "images"} else f"key {shown_key(key)}"
    return Row(path, f"{what} has no {shown}", fix, at_key=True)


def _literal(path: Path, key: str, value: object, expected: str) -> Row:
    if key == "imlab":
        message = f"version {quote(value)} of the format is not known here"
        return Row(path, message, f"this imlab reads version {FORMAT}: `imlab: {FORMAT}`")
    names = [name.strip("'") for name in expected.replace(" or ", ", ").split(", ")]
    near = closest(value, names) if isinstance(value, str) else None
    fix = f"did you mean '{near}'?" if near else f"write {expected}"
    return Row(path, f"'{key}' must be {expected}", fix)


_WANTED = {
    "string_type": ("text", "put quotes around it"),
    "int_type": ("a whole number", "write digits alone, without quotes or a unit"),
    "float_type": ("a number", "write digits alone, without quotes or a unit"),
    "finite_number": ("a number", "write a finite one"),
    "dict_type": ("a mapping", "write `name: …` entries below it, indented"),
    "model_type": ("a mapping", "write `key: value` entries below it, indented"),
    "model_attributes_type": ("a mapping", "write `key: value` entries below it, indented"),
    "tuple_type": ("a list", "write `- …` entries below it"),
}


def _wrong_type(path: Path, key: str, kind: str, value: object) -> Row:
    wanted, fix = _WANTED.get(kind, ("something else", "see docs/spec.md"))
    shown = shown_key(key)
    if path and isinstance(path[-1], int):
        shown, fix = f"an entry of '{path[-2]}'", f"write {wanted}"
    if value is None:
        return Row(path, f"{shown} has no value", f"write {wanted}, or remove the key")
    if wanted == "text" and isinstance(value, dict | list):
        fix = "write one value after the colon"
    return Row(path, f"{shown} must be {wanted}, not {_kind(value)}", fix)
