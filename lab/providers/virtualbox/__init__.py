"""Labs made of VirtualBox machines, 6.1 to 7.2, over its own API.

provider.py is what `up` runs; it decides (jobs.py, adapters.py) and asks. agent.py is a process of
its own that speaks with VirtualBox: the binding belongs to one Python, which need not be ours, and
a call that never returns must not take lab-up with it. There, api.py is the one adapter over pyvbox
and vboxapi, signatures.py says what differs between versions, and machines.py, media.py, owned.py,
removal.py, snapshots.py and host.py do the work, on the standard library alone. testbed/ is a
VirtualBox for tests.
"""

from __future__ import annotations


def __getattr__(name: str) -> object:
    """Load the provider when it is asked for: the agent, too, imports this package."""
    if name == "PROVIDER":
        from lab.providers.virtualbox.provider import PROVIDER  # noqa: PLC0415 - see above

        return PROVIDER
    raise AttributeError(name)
