"""The providers, found by name: every module of this package that exports PROVIDER.

The imports are inside: the keeper of a lab imports this package, too, and must start quickly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.plan import DEFAULT_PROVIDER as DEFAULT

if TYPE_CHECKING:
    from lab.providers.base import Provider

__all__ = ["DEFAULT", "get", "names"]


def names() -> list[str]:
    """Return the names of all providers."""
    from lab import table  # noqa: PLC0415 - see above

    return table.names(__path__, besides=("base",))


def get(name: str) -> Provider:
    """Return the provider of that name. Raises LabError that lists what there is."""
    from lab import table  # noqa: PLC0415 - see above

    provider: Provider = table.load(__name__, names(), "provider", name).PROVIDER
    return provider
