"""The truth about what was sent: pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from provisioning.messaging import Carried, Exchange, planted, readable

if TYPE_CHECKING:
    from provisioning.messaging import Kind, Place, System


@dataclass(frozen=True)
class Stores:
    """As much of a system as decides what rests on its disk."""

    stores: frozenset[Kind]


def said(at: str, *, up: bool) -> Exchange:
    """Return an exchange of a message with the server on the guest."""
    item = Carried("message", "Hi", up=up, sender="CLIENT", recipient="SERVER")
    return Exchange(at, "guest", "CLIENT", "post", 0.0, carried=[item])


def test_a_relayed_message_goes_up_one_wire_and_down_the_other() -> None:
    """Each way is there once, and it was typed where it went up, whatever is read first."""
    for exchanges in (
        [said("peer", up=True), said("host", up=False)],
        [said("host", up=False), said("peer", up=True)],
    ):
        (item,) = planted(exchanges)
        assert set(item.directions) == {"peer->guest", "guest->host"}
        assert item.at == "peer"


def test_what_is_said_first_at_one_host_was_typed_there() -> None:
    """A text that somebody else sends as well keeps where it came from."""
    first, second = said("peer", up=True), said("guest", up=True)
    (item,) = planted([first, second])
    assert item.at == "peer"


def test_where_a_text_can_be_read_follows_from_its_way_and_the_system() -> None:
    """No wire without a wire, no store without a server that could read it."""
    keeps = cast("System", Stores(frozenset({"message"})))
    forgets = cast("System", Stores(frozenset()))
    everywhere: frozenset[Place] = frozenset({"wire", "server", "ends"})
    (crossed,), (stayed,) = planted([said("peer", up=True)]), planted([said("guest", up=True)])
    assert readable(crossed, everywhere, keeps).readable == ("ends", "server", "store", "wire")
    assert readable(crossed, everywhere, forgets).readable == ("ends", "server", "wire")
    assert readable(stayed, everywhere, keeps).readable == ("ends", "server", "store")
    assert readable(crossed, frozenset({"ends"}), keeps).readable == ("ends",)
