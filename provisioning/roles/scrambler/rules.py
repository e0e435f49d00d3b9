"""The nftables rules of an end device: the named ports lead through the scrambler, or nowhere.

Nothing depends on the scrambler running. If it does not, the redirected connection finds nobody
at its port and is reset; what is not redirected (a connection older than the rules, IPv6) is
reset as well. Resets themselves pass, since they carry nothing: whoever comes plainly is told so
at once. A connection that stays on the host is nobody else's business and is left alone.
Only what is redirected needs the kernel's tracking of connections: the sealed ones do without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from provisioning.roles.scrambler.ends.shim import AWAY, WIRE

if TYPE_CHECKING:
    from collections.abc import Iterable

TABLE = "imlab_scrambler"


def rules(ports: Iterable[int]) -> str:
    """Return what `nft -f` loads in place of the table that is there, if one is: pure."""
    named = "{ " + ", ".join(str(port) for port in sorted(set(ports))) + " }"
    return f"""\
table inet {TABLE} {{}}
delete table inet {TABLE}
table inet {TABLE} {{
  chain wire_out {{
    type filter hook output priority -300; policy accept;
    tcp dport {WIRE} notrack
    tcp sport {WIRE} notrack
  }}
  chain wire_in {{
    type filter hook prerouting priority -300; policy accept;
    tcp dport {WIRE} notrack
    tcp sport {WIRE} notrack
  }}
  chain away {{
    type nat hook output priority -100; policy accept;
    fib daddr type local accept
    meta nfproto ipv4 tcp dport {named} counter redirect to :{AWAY}
  }}
  chain leaving {{
    type filter hook output priority 0; policy accept;
    oifname "lo" accept
    tcp flags & rst == rst accept
    tcp dport {named} counter reject with tcp reset
    tcp sport {named} counter reject with tcp reset
  }}
  chain arriving {{
    type filter hook input priority 0; policy accept;
    iifname "lo" accept
    tcp dport {named} counter reject with tcp reset
  }}
}}
"""
