"""The providers, found by name: every module of this package that exports PROVIDER."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from lab.providers.base import Provider

DEFAULT = "netns"


def names() -> list[str]:
    """Return the names of all providers."""
    import pkgutil  # noqa: PLC0415 - the keeper imports this package and must start quickly

    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "base")


def get(name: str) -> Provider:
    """Return the provider of that name. Raises LabError that lists what there is."""
    if name not in names():
        raise LabError(
            f"choosing the provider {name!r}",
            f"there are: {', '.join(names())}",
            fault=Fault.USER,
            todo="name one of these with --provider",
        )
    import importlib  # noqa: PLC0415 - as above

    provider: Provider = importlib.import_module(f"{__name__}.{name}").PROVIDER
    return provider
