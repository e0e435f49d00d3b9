"""Images: root file systems and disks for labs, built once, cached by content and shared.

The cache is one folder a user: IMLAB_CACHE, else /var/cache/imlab for root, else
$XDG_CACHE_HOME/imlab or ~/.cache/imlab. In it:

    images/                        0700: an image has set-user-id files of the owner's ids
      <name>-<key>/rootfs/         of the form "rootfs": the owner's subordinate ids' files
      <name>-<key>/disk.vdi        of the form "disk": the owner's
      <name>-<key>/meta.json       what it was made of and from
      <name>-<key>.lock            held exclusively by a build or a removal, shared by labs
      .half-<name>-<key>/          a build or a removal under way, or one that was killed

An image appears and disappears by one rename, under its lock. A `.half-` folder whose lock is
free was left by a killed process and is removed at the next use.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lab import once
from lab.disk_build import BUILDER as DISK_BUILDER
from lab.disk_build import DISK, build_disk
from lab.errors import Fault, LabError
from lab.image_build import BUILDER, Progress, build_rootfs
from lab.image_recipe import Form, Recipe, load_recipe, recipe_names
from lab.userns import Ids, ids_for_current_user, run_mapped

_CONTENT: dict[Form, str] = {"rootfs": "rootfs", "disk": DISK}


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image in the cache.

    name   -- the recipe's name.
    key    -- 16 hex digits of what it was made from.
    folder -- where it lies.
    meta   -- meta.json: form, recipe, packages {name: version}, bytes, built (RFC 3339),
              duration_s; a disk's virtual_bytes.
    """

    name: str
    key: str
    folder: Path
    meta: dict[str, Any]

    @property
    def form(self) -> Form:
        """What it is: "rootfs" or "disk"."""
        form: Form = self.meta.get("form", "rootfs")  # images made before there were disks
        return form

    @property
    def path(self) -> Path:
        """The folder of the root file system, or the file of the disk (VDI)."""
        return self.folder / _CONTENT[self.form]

    @property
    def rootfs(self) -> Path:
        """The root file system: to be opened with the caller's rights, not as mapped root."""
        return self.folder / "rootfs"

    @property
    def lock(self) -> Path:
        """The file on which whoever uses the image holds a shared flock."""
        return once.lock_path(self.folder)

    def to_json(self) -> dict[str, Any]:
        """Return what `image-list` shows, as JSON data."""
        shown = ("bytes", "built", "duration_s", "suite", "architecture")
        return {
            "name": self.name,
            "form": self.form,
            "key": self.key,
            "folder": str(self.folder),
            **{field: self.meta[field] for field in shown},
            "packages": len(self.meta["packages"]),
        }


def cache_root() -> Path:
    """Return the cache's folder, which may not exist yet."""
    if os.environ.get("IMLAB_CACHE"):
        return Path(os.environ["IMLAB_CACHE"]).absolute()
    if os.geteuid() == 0:
        return Path("/var/cache/imlab")
    base = os.environ.get("XDG_CACHE_HOME", "")
    if base.startswith("/"):
        return Path(base) / "imlab"
    with suppress(RuntimeError):
        return Path.home() / ".cache" / "imlab"
    raise LabError(
        "finding the image cache",
        "this user has no home folder",
        fault=Fault.MACHINE,
        todo="set IMLAB_CACHE to a folder of your own",
    )


def form_called(name: str) -> Form:
    """Return the form of that name. Raises LabError (fault USER) when there is none."""
    for form in _CONTENT:
        if form == name:
            return form
    raise LabError(
        f"making an image of the form {name!r}",
        "the forms are: " + ", ".join(_CONTENT),
        fault=Fault.USER,
        todo="choose one of them",
    )


def find_image(name: str, form: Form = "rootfs") -> ImageRef | None:
    """Return the image that the recipe `name` stands for now, if it is in the cache."""
    recipe = load_recipe(name, form)
    return _read(_images() / _folder_name(recipe, ids_for_current_user(), form))


def ensure_image(
    name: str,
    progress: Progress | None = None,
    form: Form = "rootfs",
    recipe: Recipe | None = None,
) -> ImageRef:
    """Return the image of that name, building it first where the cache has none.

    recipe -- what to make it of, instead of the recipe of that name.

    While somebody else builds the same image this waits, and then uses theirs. Interrupted at
    any moment it leaves nothing, or what the next call sweeps away. Raises LabError.
    """
    report = progress or (lambda _phase, _fraction: None)
    recipe, ids = recipe or load_recipe(name, form), ids_for_current_user()
    folder = _images() / _folder_name(recipe, ids, form)
    found = _read(folder)
    if found is not None:
        return found
    once.make_private(folder.parent)
    sweep()
    with once.locked(folder, report):
        found = _read(folder)
        if found is None:
            _check_space(recipe, folder.parent)
            _build(recipe, folder, ids, form, report)
            found = _read(folder)
    if found is None:
        raise _not_there(name, form)
    return found


def meta_of(name: str, key: str) -> dict[str, Any] | None:
    """Return meta.json of an image by its recipe's name and its key; None if it is not there."""
    found = _read(_images() / f"{name}-{key}")
    return found.meta if found else None


def list_images() -> list[ImageRef]:
    """Return what the cache has, by name and age; sweep away what a killed process left."""
    sweep()
    found = [_read(path.parent) for path in _images().glob("[!.]*/meta.json")]
    return sorted(
        (image for image in found if image), key=lambda image: (image.name, image.meta["built"])
    )


def matching(name: str, *, form: Form | None = None, old: bool = False) -> list[ImageRef]:
    """Return the images called `name` or `name-key`, only those that are not current if `old`.

    form -- only that one. Raises LabError when there is none.
    """
    listed = list_images()
    found = [image for image in listed if name in {image.name, image.folder.name}]
    if form is not None:
        found = [image for image in found if image.form == form]
    if old:
        found = [image for image in found if not is_current(image)]
    if not found:
        raise LabError(
            f"finding the image {name!r}",
            "the cache has: " + (", ".join(image.folder.name for image in listed) or "nothing"),
            fault=Fault.USER,
            todo="./inv image-list shows what there is",
        )
    return found


def is_current(image: ImageRef) -> bool:
    """Tell whether the image is the one that its recipe stands for now."""
    if image.name not in recipe_names():
        return False
    recipe = load_recipe(image.name, image.form)
    return image.folder.name == _folder_name(recipe, ids_for_current_user(), image.form)


def remove_image(image: ImageRef) -> int:
    """Remove an image; return the bytes freed. Raises LabError when a lab uses it."""
    fd = once.try_lock(image.folder, fcntl.LOCK_EX)
    if fd is None:
        raise LabError(
            f"removing the image {image.name}-{image.key}",
            "it is in use: a lab stands on it, or it is being built",
            fault=Fault.USER,
            todo="./inv lab-status shows the labs; ./inv lab-down takes one down",
        )
    try:
        half = once.half(image.folder)
        _discard(half)
        with suppress(FileNotFoundError):
            image.folder.rename(half)
        _discard(half)
        once.lock_path(image.folder).unlink(missing_ok=True)
    finally:
        os.close(fd)
    return int(image.meta["bytes"])


def hold_image(image: ImageRef) -> int:
    """Return a descriptor that keeps the image from being removed while any copy is open.

    It is close-on-exec and survives fork. Raises LabError when the image is gone already.
    """
    fd = once.try_lock(image.folder, fcntl.LOCK_SH)
    if fd is not None:
        if image.path.exists():
            return fd
        os.close(fd)
    raise _not_there(image.name, image.form)


def sweep() -> None:
    """Remove what builds and removals left that were killed: their lock is free."""
    once.sweep(_images(), _discard)


def _build(recipe: Recipe, folder: Path, ids: Ids, form: Form, report: Progress) -> None:
    """Build into the half-made folder and rename it; the lock is ours."""
    half = once.half(folder)
    _discard(half)
    half.mkdir()
    started, clock = datetime.now(UTC), time.monotonic()
    try:
        half.chmod(0o777)  # mapped root makes rootfs in it; images/ is 0700
        build = {"rootfs": build_rootfs, "disk": build_disk}[form]
        built = build(recipe, half, ids, report)
        half.chmod(0o755)
        meta = {
            "format": 1,
            "form": form,
            "name": recipe.name,
            "key": folder.name.rpartition("-")[2],
            "suite": recipe.suite,
            "architecture": platform.machine(),
            "builder": BUILDER,
            "recipe": recipe.to_json(),
            "built": started.isoformat(timespec="seconds").replace("+00:00", "Z"),
            "duration_s": round(time.monotonic() - clock, 2),
            **built,
        }
        text = json.dumps(meta, indent=1, sort_keys=True)
        (half / "meta.json").write_text(text, encoding="utf-8")
        half.rename(folder)
    except BaseException:
        _discard(half)
        raise


def _discard(half: Path) -> None:
    """Remove a half-made folder. Its files belong to subordinate ids: it takes mapped root."""
    rootfs = half / "rootfs"
    if rootfs.is_dir():
        opened: list[int] = []

        def open_rootfs() -> None:
            opened.append(os.open(rootfs, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW))

        def empty() -> None:
            # Twice at most: a build that was just killed may still write a last file.
            for attempt in (1, 2):
                try:
                    _remove_entries(opened[0])
                except OSError:
                    if attempt == 2:  # noqa: PLR2004 -- the last attempt
                        raise
                    time.sleep(0.1)
                else:
                    return

        try:
            run_mapped(empty, as_caller=open_rootfs)
            rootfs.rmdir()
        except OSError as error:
            raise LabError(
                f"removing {half}",
                str(error),
                fault=Fault.MACHINE,
                todo="were the subordinate ids in /etc/subuid changed since? Remove it as root",
            ) from error
    if half.exists():
        shutil.rmtree(half)


def _remove_entries(folder_fd: int) -> None:
    with os.scandir(folder_fd) as entries:
        listed = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in listed:
        if is_folder:
            shutil.rmtree(name, dir_fd=folder_fd)
        else:
            os.unlink(name, dir_fd=folder_fd)


def _read(folder: Path) -> ImageRef | None:
    """Return the image in `folder`, or None."""
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    return ImageRef(meta["name"], meta["key"], folder, meta)


def _images() -> Path:
    return cache_root() / "images"


def _folder_name(recipe: Recipe, ids: Ids, form: Form) -> str:
    context = [BUILDER, platform.machine()]
    if form == "disk":
        context += [form, DISK_BUILDER]
    else:  # the ids own the files: another range needs an image of its own
        context += [str(ids.uids.first), str(ids.gids.first)]
    key = recipe.key(*context)
    return f"{recipe.name}-{key}"


def _check_space(recipe: Recipe, folder: Path) -> None:
    free = shutil.disk_usage(folder).free >> 20
    if free < recipe.needs_mib:
        raise LabError(
            f"building the image {recipe.name!r}",
            f"{free} MiB free in {folder}, {recipe.needs_mib} MiB wanted",
            fault=Fault.MACHINE,
            todo="free disk space, or point IMLAB_CACHE at a folder on a larger disk",
        )


def _not_there(name: str, form: Form) -> LabError:
    return LabError(
        f"using the image {name!r}",
        "it was removed a moment ago",
        fault=Fault.USER,
        todo=f"./inv image-build {name} --form {form}, then try again",
    )
