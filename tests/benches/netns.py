"""Labs of namespaces on the small image."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from real_labs import images, small_plan

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lab.plan import Plan
    from lab.providers.base import Image


class BENCH:
    """Needs nothing of its own."""

    blank = None

    def __init__(self, folder: Path) -> None:
        self._nowhere = folder / "none"

    def plan(self, name: str = "small") -> Plan:
        """Three hosts, wired as in the paper."""
        return small_plan(name)

    def images(self, form: str, wanted: set[str]) -> Mapping[str, Image]:
        """Return the image, and for "gone" one whose folder is not there."""
        found = images(form, {name for name in wanted if name != "gone"} or {"debian-base"})
        if "gone" in wanted:
            return {"gone": replace(found["debian-base"], path=self._nowhere)}
        return found

    def unmakeable(self) -> Plan:
        """Return one whose image has gone."""
        plan = small_plan()
        return replace(plan, hosts=tuple(replace(host, image="gone") for host in plan.hosts))

    def left(self) -> list[str]:
        """Know of nothing: tests/lab/test_netns.py looks at processes, mounts and links."""
        return []

    def close(self) -> None:
        """Nothing was begun."""
