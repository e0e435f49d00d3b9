"""Reading what ping said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from real_labs import small_plan

from experiments.workloads import ping

ANSWERED = """\
PING 192.168.1.20 (192.168.1.20) 32(60) bytes of data.
40 bytes from 192.168.1.20: icmp_seq=1 ttl=64 time=0.061 ms
40 bytes from 192.168.1.20: icmp_seq=2 ttl=64 time=0.041 ms
40 bytes from 192.168.1.20: icmp_seq=2 ttl=64 time=9.99 ms (DUP!)
40 bytes from 192.168.1.20: icmp_seq=4 ttl=64 time=1.20 ms

--- 192.168.1.20 ping statistics ---
4 packets transmitted, 3 received, +1 duplicates, 25% packet loss, time 151ms
rtt min/avg/max/mdev = 0.041/0.434/1.200/0.5 ms
"""
SILENCE = """\
PING 192.168.1.99 (192.168.1.99) 32(60) bytes of data.
From 192.168.1.20 icmp_seq=1 Destination Host Unreachable

--- 192.168.1.99 ping statistics ---
4 packets transmitted, 0 received, +1 errors, 100% packet loss, time 3049ms
"""
BUSYBOX = """\
PING 192.168.1.20 (192.168.1.20): 32 data bytes
40 bytes from 192.168.1.20: seq=0 ttl=64 time=0.160 ms
40 bytes from 192.168.1.20: seq=1 ttl=64 time=0.054 ms
40 bytes from 192.168.1.20: seq=1 ttl=64 time=7.310 ms (DUP!)

--- 192.168.1.20 ping statistics ---
3 packets transmitted, 2 packets received, 1 duplicates, 33% packet loss
round-trip min/avg/max = 0.052/0.088/0.160 ms
"""


def test_the_ping_of_a_small_system_is_read_as_well() -> None:
    """Busybox's, on an image of one's own: other words, the same row."""
    row = ping.parse(BUSYBOX)
    assert (row["sent"], row["received"], row["loss_percent"], row["ttl"]) == (3, 2, 33.3, 64)
    assert row["replies"][0] == {"seq": 0, "ttl": 64, "time_ms": 0.16, "bytes": 32}


def test_replies_are_counted_once_and_timed() -> None:
    """A duplicate is no reply, and the loss is of what was sent."""
    row = ping.parse(ANSWERED)
    assert (row["sent"], row["received"], row["loss_percent"], row["ttl"]) == (4, 3, 25.0, 64)
    assert (row["min_ms"], row["avg_ms"], row["max_ms"]) == (0.041, 0.434, 1.2)
    assert row["replies"][0] == {"seq": 1, "ttl": 64, "time_ms": 0.061, "bytes": 32}


def test_no_reply_is_no_number() -> None:
    """Where nothing came back, nothing was measured but the loss."""
    row = ping.parse(SILENCE)
    assert (row["sent"], row["received"], row["loss_percent"]) == (4, 0, 100.0)
    assert (row["ttl"], row["min_ms"], row["avg_ms"], row["max_ms"]) == (None, None, None, None)


def test_nothing_sent_is_no_loss() -> None:
    """A ping that could not start has lost nothing and measured nothing."""
    row = ping.parse("", "ping: connect: Network is unreachable")
    assert (row["sent"], row["loss_percent"]) == (0, None)
    assert row["problem"] == "ping: connect: Network is unreachable"


def test_ttls_that_differ_are_not_one_ttl() -> None:
    """Two paths with different TTLs give no TTL."""
    assert ping.parse(ANSWERED.replace("ttl=64 time=1.20", "ttl=63 time=1.20"))["ttl"] is None


@given(st.text())
def test_any_output_is_read_without_a_fault(said: str) -> None:
    """Whatever a host prints, the row is whole."""
    row = ping.parse(said)
    assert row["received"] == len(row["replies"])


@pytest.mark.parametrize(
    "parameters", [{"count": 0}, {"count": "4"}, {"bytes": 65508}, {"interval_s": 0}, {"ttl": 3}]
)
def test_bad_parameters_are_named(parameters: dict[str, object]) -> None:
    """Each fault names the parameter."""
    (fault,) = ping.check(parameters, small_plan())
    assert next(iter(parameters)) in fault
