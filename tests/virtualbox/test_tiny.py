"""The tiny machine's making: what is checked before minutes are spent."""

from __future__ import annotations

import pytest

from lab.errors import Fault, LabError
from lab.providers.virtualbox.testbed.tiny import check_config

pytestmark = pytest.mark.virtualbox

GOT = "#\n# of the kernel\n#\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_TIME=1\n"


@pytest.mark.parametrize(
    "line", ["CONFIG_A=y", "# CONFIG_B is not set", "# CONFIG_GONE is not set", "# a remark", ""]
)
def test_what_holds_is_taken(line: str) -> None:
    """An option that is off may also be one that the kernel's file does not tell of."""
    check_config(line, GOT)


@pytest.mark.parametrize(
    "line", ["CONFIG_B=y", "CONFIG_GONE=y", "CONFIG_TIME=2", "# CONFIG_A is not set"]
)
def test_what_does_not_hold_is_told(line: str) -> None:
    """A kernel without what was asked for boots, and then lacks it: the line is named before."""
    with pytest.raises(LabError) as told:
        check_config(f"CONFIG_A=y\n{line}\n", GOT)
    assert told.value.fault is Fault.US
    assert told.value.saw.endswith(f": {line}")
