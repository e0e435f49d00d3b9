"""The providers, found by name: every module of this package that exports PROVIDER.

The imports are inside: the keeper of a lab imports this package, too, and must start quickly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.plan import DEFAULT_PROVIDER as DEFAULT

if TYPE_CHECKING:
    from lab.providers.base import Provider

__all__ = ["DEFAULT", "chosen", "get", "names"]


def names() -> list[str]:
    """Return the names of all providers."""
    from lab import table  # noqa: PLC0415 - see above

    return table.names(__path__, besides=("base",))


def get(name: str) -> Provider:
    """Return the provider of that name. Raises LabError that lists what there is."""
    from lab import table  # noqa: PLC0415 - see above

    provider: Provider = table.load(__name__, names(), "provider", name).PROVIDER
    return provider


def chosen(text: str) -> tuple[str, dict[str, str]]:
    """Read who makes which hosts: NAME, HOST=NAME, or several of these with commas between.

    Returns who makes the hosts of which nothing is said, "" if that is not in the text, and by
    host who makes the others, whatever the spec says. Raises LabError for a provider that there
    is not, and for two answers to one question.
    """
    from lab.errors import Fault, LabError  # noqa: PLC0415 - see above

    found: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        host, _, name = part.rpartition("=")
        get(name)
        if found.setdefault(host, name) != name:
            raise LabError(
                f"choosing who makes the hosts by {text!r}",
                f"of {host or 'the hosts that are not named'} it says two things",
                fault=Fault.USER,
                todo="name one provider, and HOST=PROVIDER for hosts that another one makes",
            )
    return found.pop("", ""), found
