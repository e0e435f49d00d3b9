"""Labs made of Linux namespaces: nothing to install but the image, no root needed.

provider.py is what `up` runs, keeper.py stays outside the lab, supervisor.py is its first process,
rootfs.py the first of each host. What has to be decided (wiring.py) is decided before any of
them starts, so that the keeper has little to load.
"""

from __future__ import annotations


def __getattr__(name: str) -> object:
    """Load the provider when it is asked for: the keeper, too, imports this package."""
    if name == "PROVIDER":
        from lab.providers.netns.provider import PROVIDER  # noqa: PLC0415 - see above

        return PROVIDER
    raise AttributeError(name)
