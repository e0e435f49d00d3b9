"""Disks for virtual machines, from the same recipes and in the same cache as root file systems."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.images import ImageRef, ensure_image, find_image

if TYPE_CHECKING:
    from lab.image_build import Progress

DiskRef = ImageRef
"""A disk in the cache: `path` is the VDI, `lock` what whoever uses it holds a shared flock on."""


def ensure_disk(name: str, progress: Progress | None = None) -> DiskRef:
    """Return the disk of the recipe `name`, building it first where the cache has none.

    The disk is shared and never written to: machines have linked clones of it. Raises LabError.
    """
    return ensure_image(name, progress, form="disk")


def find_disk(name: str) -> DiskRef | None:
    """Return the disk that the recipe `name` stands for now, if it is in the cache."""
    return find_image(name, form="disk")
