"""Recipes: data that is merged, checked and hashed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab import image_recipe
from lab.errors import Fault, LabError
from lab.image_build import BuildProgress, build_failure
from lab.image_recipe import load_recipe, recipe_names

if TYPE_CHECKING:
    from pathlib import Path

BASE = """
description: base
suite: bookworm
needs_mib: 10
packages: [one]
files:
  /etc/a: {content: "a", mode: 600}
  /etc/b: {content: "b"}
"""


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use an empty folder of recipes instead of the project's."""
    monkeypatch.setattr(image_recipe, "RECIPES", tmp_path)
    return tmp_path


def test_every_recipe_of_the_project_loads() -> None:
    """The recipes that specs name are there and have sshd in them."""
    assert {"debian-base", "debian-lamp"} <= set(recipe_names())
    for name in recipe_names():
        assert "openssh-server" in load_recipe(name).packages


def test_extending_appends_lists_and_replaces_files(recipes: Path) -> None:
    """A recipe that extends another adds packages, and its files win."""
    (recipes / "base.yaml").write_text(BASE)
    (recipes / "more.yaml").write_text(
        "extends: base\ndescription: more\npackages: [two]\nfiles:\n  /etc/b: {content: B}\n"
    )
    more = load_recipe("more")
    assert more.packages == ("one", "two")
    assert [(f.path, f.content, f.mode) for f in more.files] == [
        ("/etc/a", "a", 0o600),
        ("/etc/b", "B", 0o644),
    ]
    assert (more.suite, more.needs_mib, more.description) == ("bookworm", 10, "more")


def test_the_key_follows_the_content_and_not_the_text(recipes: Path) -> None:
    """A comment changes no key; a package, a file of the base or the context does."""
    (recipes / "base.yaml").write_text(BASE)
    key = load_recipe("base").key("1")
    (recipes / "base.yaml").write_text("# said\n" + BASE)
    assert load_recipe("base").key("1") == key
    assert load_recipe("base").key("2") != key
    (recipes / "base.yaml").write_text(BASE.replace("[one]", "[one, two]"))
    assert load_recipe("base").key("1") != key


@pytest.mark.parametrize(
    ("text", "saw"),
    [
        ("description: x", "missing: suite, needs_mib, packages"),
        (BASE + "colour: red", "unknown: colour"),
        (BASE.replace("[one]", "one"), "packages is no list"),
        (BASE.replace("/etc/a", "/etc/../a"), "needs an absolute path"),
        (BASE + "extends: base", "extends itself: base -> base"),
        ("- a", "it is no mapping"),
        ("a: [", "expected"),
    ],
)
def test_a_faulty_recipe_says_what_is_wrong(recipes: Path, text: str, saw: str) -> None:
    """Each fault is named, and is ours: recipes belong to the project."""
    (recipes / "base.yaml").write_text(text)
    with pytest.raises(LabError, match="base") as caught:
        load_recipe("base")
    assert saw in caught.value.saw
    assert caught.value.fault is Fault.US


def test_an_unknown_name_lists_what_there_is() -> None:
    """Not found says what could have been found."""
    with pytest.raises(LabError, match="debian-base, .*debian-lamp") as caught:
        load_recipe("../debian-base")
    assert caught.value.fault is Fault.USER


def test_progress_follows_what_mmdebstrap_says() -> None:
    """Phases come from its own lines, fractions from apt's count of packages."""
    progress = BuildProgress()
    said = [
        "I: running apt-get update...",
        "Get:1 http://mirror.example/os bookworm InRelease [151 kB]",
        "I: downloading packages with apt...",
        "0 upgraded, 2 newly installed, 0 to remove and 0 not upgraded.",
        "Get:1 http://mirror.example/os bookworm/main amd64 a 1 [1 kB]",
        "I: installing remaining packages inside the chroot...",
        "0 upgraded, 4 newly installed, 0 to remove and 0 not upgraded.",
        "Get:1 http://mirror.example/os bookworm/main amd64 b 1 [1 kB]",
        "Unpacking b (1) ...",
        "Setting up b (1) ...",
        "I: cleaning package lists and apt cache...",
    ]
    assert [progress.feed(line) for line in said] == [
        ("reading the mirror's package lists", None),
        None,
        ("downloading the base system", None),
        None,
        ("downloading the base system", 0.5),
        ("downloading packages", None),
        None,
        ("downloading packages", 0.25),
        ("installing packages", 0.125),
        ("installing packages", 0.25),
        ("cleaning up", None),
    ]


@pytest.mark.parametrize(
    ("line", "fault", "todo"),
    [
        ("Err:1 … Temporary failure resolving 'mirror.example'", Fault.MACHINE, "reaches"),
        ("E: Unable to locate package nonesuch", Fault.US, "list of packages"),
        ("dpkg: error: … No space left on device", Fault.MACHINE, "IMLAB_CACHE"),
        ("W: GPG error: … NO_PUBKEY 0E98404D386FA1D9", Fault.MACHINE, "debian-archive-keyring"),
        ("E: Release file … is not valid yet (invalid for another 3d)", Fault.MACHINE, "clock"),
        ("something nobody has seen", Fault.US, "report"),
    ],
)
def test_a_failed_build_says_why_where_it_can_be_known(line: str, fault: Fault, todo: str) -> None:
    """Known causes lead to what to do; the lines themselves are always shown."""
    error = build_failure("x", ["before", line])
    assert (error.fault, todo in error.todo, line in str(error)) == (fault, True, True)
