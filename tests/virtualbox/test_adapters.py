"""Which adapter of this machine is bridged to: a name, or a rule that fits exactly one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.errors import Fault, LabError
from lab.providers.virtualbox.adapters import RULES, HostAdapter, choose

pytestmark = pytest.mark.virtualbox

WIRED = HostAdapter("enp3s0", up=True, wireless=False, address="192.168.1.30")
UNPLUGGED = HostAdapter("enp4s0", up=False, wireless=False, address="0.0.0.0")  # noqa: S104 - as VirtualBox says it
WIRELESS = HostAdapter("wlp2s0", up=True, wireless=True, address="10.0.0.7")
SECOND = HostAdapter("enx00", up=True, wireless=False)

ADAPTERS = st.lists(
    st.builds(
        HostAdapter,
        st.text("abcdefgh0123456789", min_size=4, max_size=8),
        up=st.booleans(),
        wireless=st.booleans(),
    ),
    max_size=6,
    unique_by=lambda adapter: adapter.name,
)


@pytest.mark.parametrize(
    ("wish", "there", "taken"),
    [
        ("wired", [UNPLUGGED, WIRELESS, WIRED], WIRED),
        ("wireless", [UNPLUGGED, WIRELESS, WIRED], WIRELESS),
        ("up", [UNPLUGGED, WIRELESS, WIRED], WIRED),
        ("up", [UNPLUGGED, WIRELESS], WIRELESS),
        ("enp4s0", [WIRED, UNPLUGGED], UNPLUGGED),
        ("en0", [HostAdapter("en0: Ethernet", up=True, wireless=False), WIRED],
         HostAdapter("en0: Ethernet", up=True, wireless=False)),
    ],
)  # fmt: skip
def test_a_name_or_a_rule_leads_to_one(
    wish: str, there: list[HostAdapter], taken: HostAdapter
) -> None:
    """Wired before wireless, one that is up; a name is taken as it is, up or down."""
    assert choose(wish, there) == taken


@pytest.mark.parametrize(
    ("wish", "there", "saw"),
    [
        ("wired", [WIRED, SECOND, WIRELESS], "2 that are up fit"),
        ("wireless", [WIRED], "none that is up fits"),
        ("up", [UNPLUGGED], "none that is up fits"),
        ("eth7", [WIRED, WIRELESS], "this machine has none of that name"),
        ("eth7", [], "none of that name; VirtualBox can bridge to:\n  none"),
    ],
)
def test_nothing_is_guessed(wish: str, there: list[HostAdapter], saw: str) -> None:
    """The error lists every adapter with its kind, state and address."""
    with pytest.raises(LabError) as caught:
        choose(wish, there)
    assert saw in caught.value.saw
    assert all(str(adapter) in caught.value.saw for adapter in there)
    assert caught.value.fault is Fault.SPEC


@given(there=ADAPTERS, rule=st.sampled_from(RULES))
def test_a_rule_takes_what_alone_fits(there: list[HostAdapter], rule: str) -> None:
    """What is taken is up and of the wanted kind, and no other is like it."""
    try:
        taken = choose(rule, there)
    except LabError:
        return
    assert taken.up
    assert [a for a in there if a.up and a.wireless == taken.wireless] == [taken]
    assert rule == "up" or taken.wireless == (rule == "wireless")


@given(there=ADAPTERS.filter(bool), data=st.data())
def test_every_adapter_can_be_named(there: list[HostAdapter], data: st.DataObject) -> None:
    """Whatever its state: who names one knows why."""
    adapter = data.draw(st.sampled_from(there))
    assert choose(adapter.name, there) == adapter
