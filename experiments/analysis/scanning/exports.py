"""The functions that scan what streams carry, with the types of what they take.

See `native.PARTS`. A further function is a line in each of SOURCES, SIGNATURES and functions().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

BYTES: Final = np.dtype("u1")
NUMBERS: Final = np.dtype("<i8")

# The modules that hold compiled functions, and those that these take constants from.
SOURCES: Final = (
    "exports",
    "layout",
    "pages",
)
SIGNATURES: Final[dict[str, tuple[np.dtype[Any] | None, ...]]] = {
    "tells": (BYTES,),
    "page": (BYTES, BYTES, NUMBERS, NUMBERS, NUMBERS),
}


def functions() -> dict[str, Callable[..., int]]:
    """Return the functions by name, in the form that jit.MODE asks for."""
    from experiments.analysis.scanning import pages  # noqa: PLC0415 - see jit

    return {
        "tells": pages.tells,
        "page": pages.read,
    }
