"""The peer: start and stop as many hosts with Mininet, and print the times as JSON.

Run by the system's python3 (Mininet is Debian's package) under `unshare --net --mount`, with a
/run/netns of its own, so that nothing of it reaches the machine. A Linux bridge as the switch and
no controller: Mininet's own lightest way (it starts no sshd). Usage: mininet_start.py HOSTS.
"""

import json
import os
import subprocess
import sys
import time

subprocess.check_call(["mount", "--make-rprivate", "/"])
os.makedirs("/run/netns", exist_ok=True)
subprocess.check_call(["mount", "-t", "tmpfs", "tmpfs", "/run/netns"])
subprocess.check_call(["ip", "link", "set", "lo", "up"])

from mininet.net import Mininet
from mininet.nodelib import LinuxBridge


def pss_kib(pids):
    total = 0
    for pid in pids:
        with open("/proc/%d/smaps_rollup" % pid) as rollup:
            total += sum(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
    return total


hosts = int(sys.argv[1])
since = time.monotonic()
net = Mininet(switch=LinuxBridge, controller=None)
switch = net.addSwitch("s1")
for number in range(hosts):
    net.addLink(net.addHost("h%d" % number), switch)
net.start()
started = time.monotonic() - since
memory = pss_kib([host.pid for host in net.hosts]) / hosts
since = time.monotonic()
net.stop()
stopped = time.monotonic() - since
print(json.dumps({"start_s": started, "stop_s": stopped, "pss_kib_per_host": memory}))
