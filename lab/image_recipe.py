"""Recipes of images: what a root file system is made of, as data.

A recipe is one YAML file in lab/recipes; its name is the file's. It may extend another one:
lists are appended to and files are added to or replaced, everything else overrides.

A recipe is made into a form: a root file system, or a disk. What a form wants in addition is a
recipe too, in lab/recipes/forms.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from lab.errors import Fault, LabError

RECIPES = Path(__file__).with_name("recipes")

Form = Literal["rootfs", "disk"]

_LISTS = ("packages", "debconf", "commands")
_REQUIRED = ("description", "suite", "needs_mib", "packages")
_KNOWN = {*_REQUIRED, *_LISTS, "extends", "files"}
_MAIN = ("main",)


@dataclass(frozen=True, slots=True)
class RecipeFile:
    """A file of the image: absolute path, content as text, mode bits."""

    path: str
    content: str
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Recipe:
    """A decided recipe.

    suite     -- Debian's code name, e.g. "bookworm".
    needs_mib -- free disk space wanted while building, MiB.
    debconf   -- answers (debconf-set-selections(1)), given before the packages are unpacked.
    files     -- written before the packages are unpacked.
    commands  -- argument lists, run in the image at the end; each must succeed.
    components   -- sections of Debian's archive.
    apt_settings -- lines of apt.conf(5) beside the machine's own.
    """

    name: str
    description: str
    suite: str
    needs_mib: int
    packages: tuple[str, ...]
    debconf: tuple[str, ...] = ()
    files: tuple[RecipeFile, ...] = ()
    commands: tuple[tuple[str, ...], ...] = ()
    components: tuple[str, ...] = _MAIN
    apt_settings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as JSON data; what no image needed once is there if it is used."""
        data = asdict(self)
        for key, usual in (("components", _MAIN), ("apt_settings", ())):
            if data[key] == usual:
                del data[key]
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Recipe:
        """Rebuild a recipe from `to_json`. Raises LabError (fault USER) for data that is none."""
        try:
            fields = dict(data)
            for key in ("packages", "debconf", "components", "apt_settings"):
                if key in data:
                    fields[key] = tuple(data[key])
            fields["files"] = tuple(RecipeFile(**file) for file in data.get("files", ()))
            fields["commands"] = tuple(tuple(command) for command in data.get("commands", ()))
            return cls(**fields)
        except (TypeError, KeyError, AttributeError) as error:
            raise LabError(
                "reading the recipe of an image",
                str(error),
                fault=Fault.USER,
                todo="it was made by another version of imlab; use that one",
            ) from error

    def key(self, *context: str) -> str:
        """Return 16 hex digits that change whenever the recipe's content or `context` does."""
        text = json.dumps([self.to_json(), *context], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def recipe_names() -> list[str]:
    """Return the names of all recipes, sorted."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def load_recipe(name: str, form: Form = "rootfs") -> Recipe:
    """Return the recipe of that name for that form.

    Raises LabError: USER for a name that there is not, US for a recipe with a fault in it.
    """
    if name not in recipe_names():
        raise LabError(
            f"finding the image {name!r}",
            "there is no such recipe; there are: " + ", ".join(recipe_names()),
            fault=Fault.USER,
            todo=f"choose one of them, or add {RECIPES.name}/{name}.yaml",
        )
    data = _load(name, ())
    missing = [key for key in _REQUIRED if key not in data]
    if missing:
        raise _faulty(name, f"missing: {', '.join(missing)}")
    recipe = Recipe(
        name=name,
        description=str(data["description"]),
        suite=str(data["suite"]),
        needs_mib=int(data["needs_mib"]),
        packages=tuple(data["packages"]),
        debconf=tuple(data.get("debconf", ())),
        files=_files(data),
        commands=tuple(tuple(command) for command in data.get("commands", ())),
    )
    return in_form(recipe, form)


def in_form(recipe: Recipe, form: Form) -> Recipe:
    """Return a root file system's recipe with what `form` wants in addition."""
    if form == "rootfs":
        return recipe
    more = _load(f"forms/{form}", ())
    files = {file.path: file for file in (*recipe.files, *_files(more))}
    return replace(
        recipe,
        description=f"{recipe.description}: {more['description']}",
        needs_mib=recipe.needs_mib + int(more["needs_mib"]),
        packages=(*recipe.packages, *more["packages"]),
        debconf=(*recipe.debconf, *more.get("debconf", ())),
        files=tuple(files[path] for path in sorted(files)),
        commands=(*recipe.commands, *(tuple(command) for command in more.get("commands", ()))),
    )


def _files(data: dict[str, Any]) -> tuple[RecipeFile, ...]:
    return tuple(
        RecipeFile(path, entry["content"], int(str(entry.get("mode", "644")), 8))
        for path, entry in sorted(data.get("files", {}).items())
    )


def _load(name: str, seen: tuple[str, ...]) -> dict[str, Any]:
    """Read a recipe and what it extends; return them as one mapping."""
    if name in seen:
        raise _faulty(name, "it extends itself: " + " -> ".join((*seen, name)))
    try:
        data = yaml.safe_load((RECIPES / f"{name}.yaml").read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise _faulty(name, str(error)) from error
    if not isinstance(data, dict):
        raise _faulty(name, "it is no mapping")
    _check(name, data)
    if "extends" not in data:
        return data
    return _merged(_load(data.pop("extends"), (*seen, name)), data)


def _merged(base: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe and what is put on top of it as one mapping."""
    merged = {**base, **data}
    for key in _LISTS:
        merged[key] = [*base.get(key, []), *data.get(key, [])]
    merged["files"] = {**base.get("files", {}), **data.get("files", {})}
    return merged


def _check(name: str, data: dict[str, Any]) -> None:
    """Raise LabError for keys and shapes that a recipe does not have."""
    unknown = sorted(set(data) - _KNOWN)
    if unknown:
        raise _faulty(name, f"unknown: {', '.join(unknown)}")
    for key in _LISTS:
        if not isinstance(data.get(key, []), list):
            raise _faulty(name, f"{key} is no list")
    for path, entry in data.get("files", {}).items():
        if not path.startswith("/") or ".." in path.split("/") or "content" not in entry:
            raise _faulty(name, f"files: {path} needs an absolute path and a content")


def _faulty(name: str, saw: str) -> LabError:
    return LabError(
        f"reading the recipe {name!r}", saw, fault=Fault.US, todo=f"correct lab/recipes/{name}.yaml"
    )
