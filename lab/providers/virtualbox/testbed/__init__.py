"""A VirtualBox for tests, on a machine that need not have one: no kernel driver, no display.

`build()` makes, once, a Debian root with VirtualBox 7.2 in the cache, and beside it `vbox-python`:
the root's Python, which has VirtualBox's API (vboxapi over XPCOM, and the package `virtualbox`).
It runs in a mount namespace of its own in which /usr and /etc are the testbed's, read-only, and
all else is the machine's: every path outside of these two means the same inside and outside.

    IMLAB_VBOX_PYTHON  what `vbox-python` is for: the interpreter that the provider's agent runs in
    IMLAB_VBOX_HOME    the folder of one VirtualBox: settings, logs, and what tells its processes
                       from those of any other; ${IMLAB_STATE:-/var/lib/imlab}/virtualbox if unset

VBoxSVC starts with the first client and ends some seconds after the last, as ever. Clients that
have the same IMLAB_VBOX_HOME share it; instances run side by side.

Machines are started as anywhere, as frontend 'headless': here VBoxHeadless is a script that gives
VirtualBoxVM, which alone can do without the driver (--driverless --execute-all-in-iem), a display
that nobody sees. What else that takes is global extra data, in the VirtualBox.xml that an instance
begins with. Such machines are interpreted, at 8 to 10 million instructions a second, and have NAT
and generic (UDPTunnel) networks only. Frontends other than 'headless' do not start.

Files: recipe.py what the root is made of, building.py makes it, instance.py one VirtualBox of it;
files/ goes into it as it is.
"""

from __future__ import annotations

from lab.providers.virtualbox.testbed.building import Testbed, build, find
from lab.providers.virtualbox.testbed.instance import Instance

__all__ = ["Instance", "Testbed", "build", "find"]
