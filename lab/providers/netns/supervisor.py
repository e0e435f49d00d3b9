"""The first process of a lab: makes hosts and wires, then answers on the lab's control socket.

It is PID 1 of the lab's pid namespace and root of the lab's user namespace, so that its end, for
whatever reason, is the end of every process, mount, namespace and link of the lab: the kernel
does the cleaning. One thread, because setns(2) is per thread and nothing here may be half-way
into a host when something else runs.

Control protocol: SOCK_SEQPACKET, one JSON object a packet: {"op": "status"} ->
{"dead": {name: "why it died"}}; {"op": "dial", "host": name} -> {} with a TCP socket of that
host's network namespace (SCM_RIGHTS); {"op": "links"} -> {"links": [what each does]}, after
seconds; {"op": "down", "id": the lab's} -> the end.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import selectors
import signal
import socket
import struct
from array import array
from typing import TYPE_CHECKING, Any

from lab.providers.netns import gauge, relay, rootfs, shaper, usage
from lab.providers.netns import syscalls as sys_
from lab.providers.netns.netlink import End, Netlink
from lab.providers.netns.wires import SWITCHES, Cable, Wiring

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_PACKET = 200_000
#: What a network namespace takes over from the machine's own settings (`devconf_inherit_init_net`
#: of <Documentation/admin-guide/sysctl/net.rst>), set to the kernel's defaults: a machine that
#: forwards, as one with containers does, must not make routers of a lab's hosts.
PLAIN = {"net.ipv4.ip_forward": "0"} | {
    f"net.ipv4.conf.{scope}.{name}": "0"
    for scope in ("all", "default")
    for name in (
        "accept_local", "arp_announce", "arp_filter", "arp_ignore", "proxy_arp", "route_localnet",
        "rp_filter",
    )
}  # fmt: skip
SIOCETHTOOL = 0x8946
MAP = b"map"
#: Ids of the lab that make hosts' user namespaces, one each: nothing else runs as them.
FIRST_OWNER = 60_000
#: ETHTOOL_STXCSUM, _STSO, _SGSO, _SGRO of <linux/ethtool.h>: what makes a capture show frames of
#: 64 KiB and checksums that were never computed. Off, the wire shows what a wire would show.
OFFLOADS = (0x17, 0x1F, 0x24, 0x2C)
_HOST_NAMESPACES = (
    sys_.CLONE_NEWNET | sys_.CLONE_NEWNS | sys_.CLONE_NEWPID | sys_.CLONE_NEWUTS | sys_.CLONE_NEWIPC
)


class Supervisor:
    """All hosts of one lab. `run` never returns."""

    def __init__(
        self,
        wiring: Wiring,
        hosts: list[rootfs.HostRequest],
        listener: socket.socket,
        lab_id: str,
        tunnels: list[socket.socket],
    ) -> None:
        self._tunnels = tunnels
        self._wiring = wiring
        self._lab_id = lab_id
        self._requests = hosts
        self._listener = listener
        self._own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._networks: list[int] = []
        self._ready: list[socket.socket] = []
        self._pids: dict[int, str] = {}
        self._carriers: set[int] = set()
        self._dead: dict[str, str] = {}
        self._wakeup = self._watch_children()
        # A host costs three descriptors while it is made: 1024 would be 330 hosts.
        self._files = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (self._files[1], self._files[1]))

    def run(self, keeper: socket.socket) -> None:
        """Make the lab, tell the keeper ("ready", or what failed), then serve until "down"."""
        try:
            self._make()
        except SettingRefusedError as error:
            keeper.send(json.dumps({"failed": str(error), "kind": "spec"}).encode())
            os._exit(1)
        keeper.send(json.dumps({"ready": True}).encode())
        self._serve(keeper)

    # -- making -------------------------------------------------------------------------------

    def _make(self) -> None:
        _disable_ipv6()
        for request in self._requests:
            self._spawn(request)
        self._wire()
        self._set()
        self._relay()
        for request, channel in zip(self._requests, self._ready, strict=True):
            complaint = channel.recv(4096)  # empty: closed by a successful exec
            channel.close()
            if complaint:
                raise OSError(0, f"host {request.name}: {complaint.decode()}")
        if any(request.processes for request in self._requests):
            _bound_namespaces()

    def _spawn(self, request: rootfs.HostRequest) -> None:
        """Fork a host's first process and take a descriptor of its network namespace.

        A middle process makes the namespaces and goes; its child, the host's PID 1, then belongs
        to us. The network namespace is handed over before the host moves into its own root.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        middle = os.fork()
        if middle == 0:
            _become_host(request, theirs, self._files)
        theirs.close()
        answer, descriptors, _, _ = socket.recv_fds(ours, 4096, 1)
        if answer == MAP:
            _map_ids(middle)
            ours.send(MAP)
            answer, descriptors, _, _ = socket.recv_fds(ours, 4096, 1)
        os.waitpid(middle, 0)
        if not descriptors:
            raise OSError(0, f"host {request.name}: {answer.decode() or 'ended at once'}")
        self._networks.append(descriptors[0])
        self._ready.append(ours)
        self._pids[int(answer)] = request.name

    def _wire(self) -> None:
        wiring = self._wiring
        sockets: dict[int, Netlink] = {}
        for where in (SWITCHES, *range(len(self._networks))):
            self._enter(where)
            sockets[where] = Netlink()
        self._enter(SWITCHES)
        for bridge in wiring.bridges:
            sockets[bridge.where].add_bridge(bridge.name, bridge.ifindex, bridge.mac)
        for cable in wiring.cables:
            self._plug(cable, sockets)
        for where, names in _adapters(wiring.cables).items():
            self._enter(where)
            for name in names:
                _offloads_off(name)
        self._enter(SWITCHES)
        for address in wiring.addresses:
            sockets[address.where].add_address(address.ifindex, address.address)
        for netlink in sockets.values():
            netlink.close()

    def _plug(self, cable: Cable, sockets: dict[int, Netlink]) -> None:
        near, far = cable.near, cable.far
        sockets[near.where].add_cable(
            End(near.name, near.ifindex, near.mac, near.alias, near.master),
            End(far.name, far.ifindex, far.mac, far.alias, netns=self._namespace(far.where)),
            up=cable.up,
        )
        if cable.up:
            sockets[far.where].set_up(far.ifindex, master=far.master)

    def _set(self) -> None:
        """Write every host's kernel settings: those of an adapter are there only now."""
        for where, request in enumerate(self._requests):
            self._enter(where)
            for name, value in request.sysctls.items():
                try:
                    _write_setting(name, value)
                except OSError as error:
                    saw = f"host {request.name}: the kernel does not take {name} = {value}"
                    raise SettingRefusedError(f"{saw} ({error.strerror})") from error
        self._enter(SWITCHES)

    def _namespace(self, where: int) -> int:
        return self._own if where == SWITCHES else self._networks[where]

    def _enter(self, where: int) -> None:
        sys_.setns(self._namespace(where), sys_.CLONE_NEWNET)

    def _relay(self) -> None:
        """Have processes of their own carry frames: one those of the patches, one of the links."""
        if self._tunnels:
            plugs = [relay.plug(name) for name in self._wiring.patches]
            patches = list(zip(plugs, self._tunnels, strict=True))
            self._carry((*plugs, *self._tunnels), lambda: relay.carry(patches))
        if self._wiring.links:
            links = [(link, shaper.open_ends(link)) for link in self._wiring.links]
            ends = tuple(end for _, pair in links for end in pair)
            self._carry(ends, lambda: shaper.carry(links))

    def _carry(self, ends: tuple[socket.socket, ...], carry: Callable[[], None]) -> None:
        """Do it in a process that has these sockets; the lab ends when that does."""
        carrier = os.fork()
        if carrier == 0:
            sys_.die_with_parent()
            signal.set_wakeup_fd(-1)
            sys_.close_descriptors({end.fileno() for end in ends})
            carry()
        self._carriers.add(carrier)
        for end in ends:
            end.close()

    # -- serving ------------------------------------------------------------------------------

    def _watch_children(self) -> socket.socket:
        wakeup, alarm = socket.socketpair()
        for end in (alarm, wakeup):
            end.settimeout(0)
        self._alarm = alarm
        signal.set_wakeup_fd(alarm.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        return wakeup

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wakeup.recv(4096)
        with contextlib.suppress(ChildProcessError):
            while (child := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = child
                if pid in self._carriers:
                    os._exit(1)
                name = self._pids.pop(pid, None)
                if name:
                    self._dead[name] = _how_it_ended(os.waitstatus_to_exitcode(status))

    def _serve(self, keeper: socket.socket) -> None:
        selector = selectors.DefaultSelector()
        selector.register(self._listener, selectors.EVENT_READ)
        selector.register(self._wakeup, selectors.EVENT_READ)
        selector.register(keeper, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is self._wakeup:
                    self._reap()
                elif key.fileobj is keeper:
                    os._exit(0)  # the keeper has gone or wants us gone
                elif key.fileobj is self._listener:
                    with contextlib.suppress(OSError):  # it has gone already
                        client, _ = self._listener.accept()
                        client.settimeout(0)  # who does not read must not hold up the others
                        selector.register(client, selectors.EVENT_READ)
                elif isinstance(key.fileobj, socket.socket) and not self._answer(key.fileobj):
                    selector.unregister(key.fileobj)
                    key.fileobj.close()

    def _answer(self, client: socket.socket) -> bool:
        """Answer one request; False when the client has gone."""
        try:
            packet = client.recv(MAX_PACKET)
            if not packet:
                return False
            request: dict[str, Any] = json.loads(packet)
            if request["op"] == "down":
                if request["id"] == self._lab_id:  # meant for this lab, not one before it
                    os._exit(0)
            elif request["op"] == "links":
                self._measure(client)
            elif request["op"] == "status":
                self._reap()
                client.send(json.dumps({"dead": self._dead}).encode())
            elif request["op"] == "usage":
                client.send(json.dumps({"hosts": usage.of_hosts(self._pids)}).encode())
            else:
                self._dial(client, str(request["host"]))
        except (OSError, ValueError, KeyError, TypeError):
            return False  # a client that speaks nonsense or left: its own affair
        return True

    def _measure(self, client: socket.socket) -> None:
        """Have a process measure every link, one after the other, and answer; it takes seconds."""
        if os.fork():
            return
        try:
            sys_.die_with_parent()
            signal.set_wakeup_fd(-1)
            rows = []
            for link in self._wiring.links:
                where, name = link.port
                with self._probe(link.place, link.adapter) as end, self._probe(where, name) as port:
                    rows.append(gauge.measure(link, end, port))
            client.setblocking(True)  # noqa: FBT003 - the socket module's own way
            client.send(json.dumps({"links": rows}).encode())
        except Exception as error:  # noqa: BLE001 - a forked child must end here, whatever happened
            client.send(json.dumps({"error": str(error) or repr(error)}).encode())
        finally:
            os._exit(0)

    def _probe(self, where: int, interface: str) -> socket.socket:
        self._enter(where)
        try:
            return gauge.probe(interface)
        finally:
            self._enter(SWITCHES)

    def _dial(self, client: socket.socket, name: str) -> None:
        names = [request.name for request in self._requests]
        if name not in names:
            client.send(json.dumps({"error": f"no host {name!r}"}).encode())
            return
        if name in self._dead:
            client.send(json.dumps({"error": self._dead[name]}).encode())
            return
        self._enter(names.index(name))
        try:
            made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        finally:
            self._enter(SWITCHES)
        with made:
            socket.send_fds(client, [b"{}"], [made.fileno()])


class SettingRefusedError(Exception):
    """The kernel does not take a setting of the spec."""


def _become_host(
    request: rootfs.HostRequest, channel: socket.socket, files: tuple[int, int]
) -> None:
    """In the middle process: make the namespaces, fork the host's PID 1, hand over, go."""
    try:
        if request.processes:
            _nest(request, channel)
        sys_.unshare(_HOST_NAMESPACES)
        _disable_ipv6()
        for name, value in PLAIN.items():
            _write_setting(name, value)
        network = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        child = os.fork()
        if child == 0:
            _first_process(request, channel, files)
        socket.send_fds(channel, [str(child).encode()], [network])
    except Exception as error:  # noqa: BLE001 - a forked child must end here, whatever happened
        channel.send((str(error) or repr(error)).encode())
    os._exit(0)


def _nest(request: rootfs.HostRequest, channel: socket.socket) -> None:
    """Enter a user namespace of the host's own, in which so many processes can be.

    Its limit holds for all of it together because it is made by a user who makes no other: the
    kernel counts a namespace's processes as its maker's (Linux 5.14, ucounts).
    """
    resource.setrlimit(resource.RLIMIT_NPROC, (request.processes, request.processes))
    owner = FIRST_OWNER + request.number
    os.setgroups([])
    os.setresgid(owner, owner, owner)
    os.setresuid(owner, owner, owner)
    sys_.unshare(sys_.CLONE_NEWUSER)
    sys_.belong_to_own_user()
    channel.send(MAP)
    if channel.recv(16) != MAP:
        os._exit(1)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _map_ids(pid: int) -> None:
    """Map all ids of the lab to the same ids of the user namespace that a process has just made."""
    for name in ("gid_map", "uid_map"):
        descriptor = os.open(f"/proc/{pid}/{name}", os.O_WRONLY)
        try:
            os.write(descriptor, b"0 0 65536")
        finally:
            os.close(descriptor)


def _bound_namespaces() -> None:
    """Let the lab's hosts make few namespaces: each costs kernel memory (namespaces(7))."""
    for kind in ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"):
        with contextlib.suppress(OSError):  # a kernel without that kind
            descriptor = os.open(f"/proc/sys/user/max_{kind}_namespaces", os.O_WRONLY)
            os.write(descriptor, b"64")
            os.close(descriptor)


def _first_process(
    request: rootfs.HostRequest, channel: socket.socket, files: tuple[int, int]
) -> None:
    """In the host's PID 1: build the root and become init. What goes wrong is told and final."""
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        sys_.close_descriptors({channel.fileno()})
        resource.setrlimit(resource.RLIMIT_NOFILE, files)
        _loopback_up()
        rootfs.enter(request)
        rootfs.run_init()
    except Exception as error:  # noqa: BLE001 - as above
        channel.send((str(error) or repr(error)).encode())
    os._exit(1)


def _disable_ipv6() -> None:
    """Keep IPv6's own chatter off the wires; a kernel without IPv6 has nothing to switch off."""
    for scope in ("all", "default"):
        path = f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6"
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_WRONLY)
            os.write(descriptor, b"1")
            os.close(descriptor)


def _write_setting(name: str, value: str) -> None:
    """Write a kernel setting of the network namespace that the caller is in (sysctl(8))."""
    descriptor = os.open("/proc/sys/" + name.replace(".", "/"), os.O_WRONLY)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)


def _loopback_up() -> None:
    netlink = Netlink()
    netlink.set_up(1)
    netlink.close()


def _adapters(cables: tuple[Cable, ...]) -> dict[int, list[str]]:
    """Return the adapter names of each namespace, both ends of every cable."""
    found: dict[int, list[str]] = {}
    for cable in cables:
        for port in (cable.near, cable.far):
            found.setdefault(port.where, []).append(port.name)
    return found


def _offloads_off(name: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for command in OFFLOADS:
            value = array("I", (command, 0))
            request = struct.pack("16sP", name.encode(), value.buffer_info()[0])
            fcntl.ioctl(control, SIOCETHTOOL, request)


def _how_it_ended(code: int) -> str:
    if code < 0:
        return f"ended by signal {-code} ({signal.strsignal(-code)})"
    return f"its first process ended with code {code}"
