"""Recipes as a run keeps them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from lab.errors import LabError
from lab.image_recipe import Recipe, in_form, load_recipe, recipe_names

if TYPE_CHECKING:
    from lab.image_recipe import Form


@pytest.mark.parametrize("form", ["rootfs", "disk"])
@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_comes_back_from_its_json(name: str, form: Form) -> None:
    """What a run keeps of an image makes the same recipe again, with the same key."""
    recipe = load_recipe(name, form)
    again = Recipe.from_json(json.loads(json.dumps(recipe.to_json())))
    assert again == recipe
    assert again.key("x") == recipe.key("x")


def test_another_ones_recipe_is_made_into_a_disk_as_ours_are() -> None:
    """Its own packages and files stay, and it gets what boots."""
    ours = load_recipe("debian-base")
    theirs = replace(ours, packages=(*ours.packages, "figlet"))
    disk = in_form(theirs, "disk")
    assert in_form(theirs, "rootfs") == theirs
    assert {*theirs.packages, "linux-image-amd64"} <= set(disk.packages)
    assert set(theirs.files) < set(disk.files)
    assert in_form(ours, "disk") == load_recipe("debian-base", "disk")


def test_what_is_no_recipe_is_refused() -> None:
    """A run of another version, or one made up: in words."""
    for data in ({}, {"name": "x", "files": [1]}, {"colour": 1}):
        with pytest.raises(LabError, match="recipe"):
            Recipe.from_json(data)
