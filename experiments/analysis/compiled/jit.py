"""Marks the functions that are compiled.

They are plain Python over numpy arrays and run as such too, which is how they are fuzzed. Numba is
loaded only where MODE asks for it, before the modules with the functions are imported: it takes
half a second, as long as tshark needs for a small capture.

Written so that both ways give the same: all arithmetic is in int64 (what is unsigned is masked), no
allocation, no exception, no division by what may be 0. Compiled code checks no bounds: every access
is preceded by a comparison with the end of what it reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    Row = Any  # one row of a table

    def i64(_value: Any, /) -> int:  # noqa: ANN401 - whatever an array holds
        """Return a number as the 64 bits in which all is computed."""
        return 0

    def u64(_value: Any, /) -> int:  # noqa: ANN401 - as above
        """Return a number that is known not to be negative: an index that need not be checked."""
        return 0

    def u8(_value: Any, /) -> int:  # noqa: ANN401 - as above
        """Return a byte: what is computed of bytes alone is computed of many at once."""
        return 0

else:
    Row = np.void
    i64 = np.int64
    u64 = np.uint64
    u8 = np.uint8

PLAIN: Final = "plain"  # Python
COMPILED: Final = "compiled"  # numba
CHECKED: Final = "checked"  # numba, with its check of every index

MODE = [PLAIN]

_F = TypeVar("_F", bound="Callable[..., object]")


def kernel(function: _F) -> _F:
    """Mark a function as one that is compiled."""
    if MODE[0] == PLAIN:
        return function
    import numba  # noqa: PLC0415 - see above

    checked = MODE[0] == CHECKED
    made: Any = numba.njit(error_model="numpy", boundscheck=checked)(function)
    return made  # type: ignore[no-any-return] # called as the function is
