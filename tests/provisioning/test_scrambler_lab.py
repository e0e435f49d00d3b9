"""The paper's chat through the scrambler, on real hosts, with an observer on the wire."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import dpkt
import pytest
from chat_on_hosts import HOSTS, Chat

from experiments.capture import Captures
from lab.errors import LabError
from lab.plan import PlannedAccount
from provisioning import messaging, roles
from provisioning.roles import RoleContext, scrambler
from provisioning.roles.scrambler import desired
from provisioning.roles.scrambler.ends import refusal, shim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from real_labs import OpenLab

    from provisioning.transport import Session

pytestmark = pytest.mark.lab
KEY, OTHER = "Jaramogi Oginga Odinga, 2016", "Bondo"
SAID = "HarvestBlackout"
WEB = 80
READABLE = (SAID, "Kisumu-2016", "CLIENT", "PostHome", "HTTP/1.1", KEY)
CLIENT_SCRIPT = """
import socket, sys
sock = socket.create_connection(("192.168.1.10", 80), 10)
sock.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
print(len(sock.recv(1)), flush=True)
sys.stdin.read(1)
try:
    while sock.recv(65536):
        pass
    print("end")
except ConnectionResetError:
    print("reset")
"""
LOOK = """
cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null
find /run /etc /var/log /usr/local /tmp /root -xdev -type f -exec cat {} +
"""
TYPE_SCRIPT = """
import os, pty, sys
child, terminal = pty.fork()
if not child:
    os.execv(sys.argv[1], sys.argv[1:])
shown = b""
while b": " not in shown:
    shown += os.read(terminal, 1000)
os.write(terminal, sys.stdin.buffer.read())
try:
    while piece := os.read(terminal, 1000):
        shown += piece
except OSError:
    pass
sys.stdout.buffer.write(shown)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
REPLAY_SCRIPT = """
import socket, sys
sock = socket.create_connection(("192.168.1.10", 61080), 10)
try:
    sock.sendall(sys.stdin.buffer.read())
    got = b""
    while piece := sock.recv(65536):
        got += piece
except ConnectionResetError:
    print("reset", len(got))
"""
INTEROPERATE_SCRIPT = """
import sys
sys.path.insert(0, "/usr/local/lib/imlab-scrambler")
from ends.aead import KeptCipher, PlainCipher
key = bytes(range(32))
plain = PlainCipher(key)
seal, open_ = KeptCipher(key, 65536, sealing=True), KeptCipher(key, 65536, sealing=False)
for number, size in enumerate([0, 1, 15, 16, 17, 1500, 65536, 0, 3]):
    data, header = bytes(n % 251 for n in range(size)), 1 << 24 | size
    one = plain.seal(number, header, memoryview(data))
    assert one == bytes(seal.seal(number, header, memoryview(data))), size
    view = memoryview(one)
    for cipher in (plain, open_):
        assert bytes(cipher.open(number, header, view[4:])) == data
    for place in (3, 4 + size, len(one) - 1, size // 2 + 4):
        bad = bytearray(one)
        bad[place] ^= 1
        for cipher in (plain, open_):
            try:
                cipher.open(number, int.from_bytes(bad[:4], "big"), memoryview(bad)[4:])
            except Exception as error:
                assert type(error).__name__ == "InvalidTag"
            else:
                raise AssertionError("opened")
print("same")
"""


class Scrambled:
    """The paper's lab with both ends scrambled, and ways to look at the wire."""

    def __init__(self, lab: OpenLab, folder: Path) -> None:
        self.chat = Chat(lab)  # type: ignore[arg-type] # tests are not typed as packages
        self.lab, self.folder = lab, folder
        self.sessions = self.chat.sessions
        self.count = 0
        self.reset()

    def reset(self) -> None:
        """Set both ends up with the same key."""
        for host in HOSTS:
            scrambler.set_up(self.sessions[host], [WEB], KEY)

    def wire(self, work: Callable[[], object]) -> bytes:
        """Return all that the wire carried while something was done, as pcapng."""
        self.count += 1
        path = self.folder / f"{self.count}.pcapng"

        def place(name: str) -> Path:
            del name
            return path

        sessions: Any = self.lab.sessions
        with Captures(sessions, [("host", "eth0")], place) as captures:
            work()
        assert captures.rows[0]["dropped"] == 0
        return path.read_bytes()

    def speak(self) -> None:
        """Let CLIENT at the peer say something on the guest's server and read it back."""
        client = self.chat.client("peer", "guest", "CLIENT")
        client.send(SAID)
        assert client.outgoing()[-1].text == SAID
        client.close()

    def fails(self) -> str:
        """Let CLIENT try the same in vain; return why it was in vain."""
        with pytest.raises(LabError) as caught:
            self.speak()
        return caught.value.saw

    def refused(self, host: str) -> dict[str, int]:
        """Return what the scrambler of a host has refused, by reason."""
        told: dict[str, int] = scrambler.status(self.sessions[host])["refused"]
        return told

    def log(self, host: str) -> str:
        """Return the log of a host's scrambler."""
        return self.sessions[host].get(desired.LOG).decode()


@pytest.fixture(scope="module")
def ends(paper_lab: OpenLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scrambled]:
    """Give the scrambled lab, and leave the lab as it was."""
    made = Scrambled(paper_lab, tmp_path_factory.mktemp("wire"))
    yield made
    for host in HOSTS:
        scrambler.remove(made.sessions[host])


@pytest.fixture
def scrambled(ends: Scrambled) -> Scrambled:
    """Give it in order, whatever the test before has done to it."""
    ends.reset()
    return ends


def readable(capture: bytes) -> list[str]:
    """Return which words can be read in a capture."""
    return [word for word in READABLE if word.encode() in capture]


def payloads(path: Path, port: int) -> bytes:
    """Return what TCP segments to a port carried, in order."""
    carried = b""
    with path.open("rb") as file:
        for _, frame in dpkt.pcapng.Reader(file):
            packet = dpkt.ethernet.Ethernet(frame).data
            if isinstance(packet, dpkt.ip.IP) and isinstance(packet.data, dpkt.tcp.TCP):
                segment = packet.data
                carried += segment.data if segment.dport == port else b""
    return carried


def test_the_chat_works_and_nothing_of_it_can_be_read(scrambled: Scrambled) -> None:
    """The same conversation is readable on the wire without the scrambler, and not with it."""
    capture = scrambled.wire(scrambled.speak)
    assert readable(capture) == []
    assert b"imsc" in capture
    for host in HOSTS:
        scrambler.remove(scrambled.sessions[host])
    plain = scrambled.wire(scrambled.speak)
    assert readable(plain) == [*READABLE[:-1]]
    assert b"imsc" not in plain


def test_both_ends_are_both(scrambled: Scrambled) -> None:
    """What the guest asks of the peer's server is scrambled by the same two ends."""

    def visit() -> None:
        scrambled.chat.client("guest", "peer", "SERVER").close()

    capture = scrambled.wire(visit)
    assert b"imsc" in capture
    assert b"PostHome" not in capture


def test_applying_twice_changes_nothing(scrambled: Scrambled) -> None:
    """What is as wanted is left alone; the rules, the process and the key are put right."""
    guest = scrambled.sessions["guest"]
    assert scrambler.set_up(guest, [WEB], KEY) == ()
    guest.run(["nft", "flush", "chain", "inet", "imlab_scrambler", "leaving"])
    assert scrambler.set_up(guest, [WEB], KEY) == ("rules: port 80 through the scrambler only",)
    guest.run(["/bin/sh", "-c", f"kill -9 $(cat {shim.PID})"])
    words = scrambler.set_up(guest, [WEB], KEY)
    assert words == ("started imlab-scrambler", "the scrambler's key")
    guest.run([desired.COMMAND, "--forget"])
    assert scrambler.set_up(guest, [WEB], KEY) == ("the scrambler's key",)
    assert "restarted imlab-scrambler" in scrambler.set_up(guest, [WEB, 81], KEY)
    assert scrambler.status(guest)["ports"] == [80, 81]


def test_the_role_by_its_parameters(scrambled: Scrambled) -> None:
    """With an account the role enters its password; without, it leaves the ports shut."""
    plan = replace(scrambled.chat.plan, accounts=(PlannedAccount("KEY", OTHER),))
    role = roles.find("scrambler")
    for host in HOSTS:
        session = scrambled.sessions[host]
        context = RoleContext(plan, plan.host(host), {"ports": [WEB], "account": "KEY"})
        assert "the scrambler's key" in role.apply(session, context)
        role.probe(session, context, 30.0)
        assert role.apply(session, context) == ()
    scrambled.speak()
    scrambler.remove(session)
    shut = RoleContext(plan, plan.host(host), {"ports": [WEB]})
    assert "started imlab-scrambler" in role.apply(session, shut)
    role.probe(session, shut, 30.0)
    assert scrambler.status(session)["state"] == "locked"
    scrambled.fails()
    with pytest.raises(LabError, match="it is locked"):
        role.probe(session, context, 0.0)


def test_another_key_at_one_end(scrambled: Scrambled) -> None:
    """With two keys nothing works, nothing can be read, and it is said why."""
    scrambler.set_up(scrambled.sessions["peer"], [WEB], OTHER)
    before = scrambled.refused("peer").get(refusal.WRONG_KEY, 0)
    assert readable(scrambled.wire(scrambled.fails)) == []
    assert scrambled.refused("peer")[refusal.WRONG_KEY] > before
    assert "to 192.168.1.10:80 refused, wrong key: the other end has another key" in scrambled.log(
        "peer"
    )


def test_no_key_at_one_end(scrambled: Scrambled) -> None:
    """Where nobody has entered a key the ports are shut; the other end gets no word."""
    for host, other in (HOSTS, HOSTS[::-1]):
        scrambled.reset()
        scrambled.sessions[host].run([desired.COMMAND, "--forget"])
        assert scrambled.sessions[host].run([desired.COMMAND, "--status"], check=False).exit_code
        assert readable(scrambled.wire(scrambled.fails)) == []
        assert scrambled.refused(host)[refusal.NO_KEY] >= 1
        assert scrambler.status(scrambled.sessions[other])["state"] == "ready"


@pytest.mark.parametrize("host", HOSTS)
def test_a_scrambler_that_was_killed(scrambled: Scrambled, host: str) -> None:
    """Without its process an end device sends and takes in nothing on the named ports."""
    session = scrambled.sessions[host]
    session.run(["/bin/sh", "-c", f"kill -9 $(cat {shim.PID})"])
    assert readable(scrambled.wire(scrambled.fails)) == []
    assert session.run([desired.COMMAND, "--status"], check=False).exit_code == 1
    assert scrambler.status(session) == {}


@pytest.mark.parametrize("host", HOSTS)
def test_one_end_without_the_scrambler(scrambled: Scrambled, host: str) -> None:
    """Whichever end lacks it, no connection comes about and not a byte of the user's is sent."""
    scrambler.remove(scrambled.sessions[host])
    capture = scrambled.wire(scrambled.fails)
    assert readable(capture) == []
    path = scrambled.folder / f"{scrambled.count}.pcapng"
    assert payloads(path, WEB) == payloads(path, shim.WIRE) == b""


def run_python(session: Session, script: str, stdin: bytes = b"") -> str:
    """Run a script with a host's own Python; return what it printed."""
    result = session.run(["/usr/bin/python3", "-c", script], stdin=stdin, deadline=60.0)
    return result.stdout.decode().strip()


def test_a_replayed_connection(scrambled: Scrambled) -> None:
    """Everything that a client's end sent, sent again by somebody else, is refused as it is."""
    scrambled.wire(scrambled.speak)
    recorded = payloads(scrambled.folder / f"{scrambled.count}.pcapng", shim.WIRE)
    assert recorded.startswith(b"imsc")
    before = scrambled.refused("guest").get(refusal.WRONG_KEY, 0)
    # 85 bytes are the answer to the hello, which anybody gets.
    assert run_python(scrambled.sessions["peer"], REPLAY_SCRIPT, recorded) in {
        "reset 85",
        "reset 0",
    }
    assert scrambled.refused("guest")[refusal.WRONG_KEY] == before + 1


def test_plain_bytes_at_the_scramblers_port(scrambled: Scrambled) -> None:
    """Who speaks plainly to the scrambler's own port is refused, and served nothing."""
    before = scrambled.refused("guest").get(refusal.NO_SCRAMBLER, 0)
    request = b"GET /server/PostHome.php HTTP/1.1\r\nHost: guest\r\n\r\n"
    assert run_python(scrambled.sessions["peer"], REPLAY_SCRIPT, request) == "reset 0"
    assert scrambled.refused("guest")[refusal.NO_SCRAMBLER] == before + 1


@pytest.mark.parametrize("end", ["killed", "key changed", "end without"])
def test_an_open_connection_is_reset(scrambled: Scrambled, end: str) -> None:
    """A scrambler that is killed or given another key leaves its users a reset, no quiet end."""
    peer = scrambled.sessions["peer"]
    command = {
        "killed": ["/bin/sh", "-c", f"kill -9 $(cat {shim.PID})"],
        "key changed": [desired.COMMAND, "--forget"],
        "end without": ["/bin/sh", "-s"],
    }[end]
    stream = peer.stream(["/usr/bin/python3", "-c", CLIENT_SCRIPT])
    try:
        assert stream.stdout.read(2) == b"1\n"
        peer.run(command, stdin=desired.REMOVE.encode() if end == "end without" else b"")
        stream.close_stdin()
        assert stream.stdout.read(6) == b"reset\n", stream.stderr.read1(4096)
    finally:
        stream.close()


def test_a_plain_connection_does_not_outlive_the_rules(scrambled: Scrambled) -> None:
    """A connection that was open before the rules came is reset, not carried on in the clear."""
    for host in HOSTS:
        scrambler.remove(scrambled.sessions[host])
    with scrambled.sessions["peer"].connect("192.168.1.10", WEB) as sock:
        scrambled.reset()

        def say() -> None:
            sock.sendall(f"GET /{SAID} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert sock.recv(1) == b""

        assert SAID.encode() not in scrambled.wire(say)


def test_a_user_enters_the_key(scrambled: Scrambled) -> None:
    """scrambler-key asks at a terminal, shows nothing of what is typed, and opens the ports."""
    peer = scrambled.sessions["peer"]
    peer.run([desired.COMMAND, "--forget"])
    scrambled.fails()
    typed = peer.run(
        ["/usr/bin/python3", "-c", TYPE_SCRIPT, desired.COMMAND],
        stdin=f"{KEY}\n".encode(),
        deadline=60.0,
    )
    assert b"Key of this lab's scrambler:" in typed.stdout
    assert KEY.encode() not in typed.stdout
    scrambled.speak()


def test_the_key_lies_nowhere(scrambled: Scrambled) -> None:
    """The passphrase is in no file of the host, no argument list and no environment."""
    for host in HOSTS:
        looked = scrambled.sessions[host].run(
            ["/bin/sh", "-c", LOOK],
        )
        assert KEY.encode() not in looked.stdout
        assert b"imlab-scrambler" in looked.stdout
        text = json.dumps(scrambler.status(scrambled.sessions[host])) + scrambled.log(host)
        assert KEY not in text


def test_the_process_has_no_rights(scrambled: Scrambled) -> None:
    """It runs as an account of its own, without capabilities."""
    status = scrambled.sessions["peer"].run(
        ["/bin/sh", "-c", f"cat /proc/$(cat {shim.PID})/status"]
    )
    lines = dict(line.split(":", 1) for line in status.stdout.decode().splitlines())
    assert set(lines["Uid"].split()) == set(lines["Gid"].split()) == {str(shim.ACCOUNT)}
    assert int(lines["CapEff"], 16) == int(lines["CapPrm"], 16) == 0
    assert lines["Groups"].strip() == ""


def test_both_forms_of_the_cipher_are_one(scrambled: Scrambled) -> None:
    """On a host, the kept context and the public interface make and refuse the same records."""
    assert run_python(scrambled.sessions["peer"], INTEROPERATE_SCRIPT) == "same"


def test_other_ports_are_left_alone(scrambled: Scrambled) -> None:
    """A port that is not named is as plain as before."""
    client = messaging.find("chat_server").client(
        scrambled.chat.plan, "guest", "guest", scrambled.sessions["guest"].connect
    )
    client.sign_in(scrambled.chat.account("SERVER"))  # on its own machine: no wire, no scrambler
    client.close()
    before = scrambler.status(scrambled.sessions["guest"])["carried"]
    with scrambled.sessions["peer"].connect("192.168.1.10", shim.WIRE):
        pass
    assert scrambler.status(scrambled.sessions["guest"])["carried"] == before
