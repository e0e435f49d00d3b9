"""Conversations over every system under every countermeasure, and what is on the wire meanwhile."""

from __future__ import annotations

import base64
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dpkt
import pytest

from experiments import workloads
from experiments.capture import Captures
from experiments.workloads import Stage, conversation
from lab.errors import LabError
from lab.plan import PlannedRole
from provisioning import countermeasures, messaging, provision, roles
from provisioning.authority import Authority, trust
from provisioning.countermeasures import Participant, Setting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from real_labs import OpenLab

SYSTEMS = ("chat_server", "irc_server", "xmpp_server")
PEOPLE = [
    {"at": "peer", "server": "guest", "account": "WANJIKU"},
    {"at": "guest", "server": "guest", "account": "OTIENO"},
]
ODD = 'Say "naïve" & <b>\\ 100 % 🍵'
PLAIN = re.compile(r"[A-Za-z0-9@-]+")


def lines(tag: str, *, odd: bool = True) -> list[dict[str, str]]:
    """Return something to say both ways, in words that are nowhere else."""
    said = [
        {"from": "WANJIKU", "to": "OTIENO", "text": f"Harvest-{tag}-one"},
        {"from": "OTIENO", "text": f"Blackout-{tag}-two"},
        {"from": "WANJIKU", "text": f"Harvest-{tag}-one"},
    ]
    return [*said, {"from": "OTIENO", "text": f"{tag}: {ODD}"}] if odd else said


class Held:
    """A conversation that was held under capture."""

    def __init__(self, lab: OpenLab, folder: Path, parameters: dict[str, Any]) -> None:
        assert conversation.check(parameters, lab.plan) == []
        self.folder, self.plan = folder, lab.plan
        sessions: Any = lab.sessions
        stage = Stage(lab.plan, sessions, 1, reserve=self.place)
        points = [("peer", "eth0"), ("host", "eth0")]
        with Captures(sessions, points, self.place) as captures:
            results = workloads.get("conversation").run(stage, parameters)
        assert [row["dropped"] for row in captures.rows] == [0, 0]
        self.chat, self.repository = results["chat"], results["repository"]
        self.planted: list[dict[str, Any]] = self.chat["planted"]

    def place(self, name: str) -> Path:
        """Return the path of a new file."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert not path.exists()
        path.touch()
        return path

    def capture(self, host: str) -> Path:
        """Return the file of a capture."""
        return self.folder / f"captures/{host}-eth0.pcapng"

    def ways(self, host: str) -> dict[str, bytes]:
        """Return all that a capture's TCP connections carried, by "from->to"."""
        names = {self.plan.address(h.name): h.name for h in self.plan.hosts}
        sides: dict[tuple[str, ...], bytearray] = {}
        with self.capture(host).open("rb") as file:
            for _, frame in dpkt.pcapng.Reader(file):
                packet = dpkt.ethernet.Ethernet(frame).data
                if isinstance(packet, dpkt.ip.IP) and isinstance(packet.data, dpkt.tcp.TCP):
                    ends = [names[".".join(map(str, end))] for end in (packet.src, packet.dst)]
                    ports = (str(packet.data.sport), str(packet.data.dport))
                    sides.setdefault((*ends, *ports), bytearray()).extend(packet.data.data)
        found: dict[str, bytes] = {}
        for (source, target, *_), side in sides.items():
            way = f"{source}->{target}"
            found[way] = found.get(way, b"") + b"\0" + bytes(side)
        return found

    def read_on(self, host: str, text: str) -> set[str]:
        """Return the ways on which a text can be read, as it is or in base64, as SASL has it."""
        ways = self.ways(host)
        return {way for way, side in ways.items() if any(form in side for form in forms(text))}

    def row(self, text: str, kind: str = "message") -> dict[str, Any]:
        """Return what is known of a text that was sent."""
        (row,) = [row for row in self.planted if (row["kind"], row["text"]) == (kind, text)]
        return row


def forms(text: str) -> list[bytes]:
    """Return a text in the forms in which a reader of bytes would know it again."""
    raw = text.encode()
    coded = []
    for shift in range(3):  # base64 of a longer text: three ways to fall on its groups of bits
        whole = base64.b64encode(b"\0" * shift + raw)
        coded.append(whole[-(-8 * shift // 6) : (8 * (shift + len(raw))) // 6])
    return [raw, *coded, text.encode("utf-16-le")]


def hold(
    lab: OpenLab, folder: Path, system: str, countermeasure: str, **more: object
) -> tuple[Held, list[str]]:
    """Hold a conversation; return it and the texts that were said."""
    said = lines(f"{system.split('_', maxsplit=1)[0]}-{countermeasure}")
    parameters = {
        "system": system,
        "countermeasure": countermeasure,
        "people": PEOPLE,
        "lines": said,
        **more,
    }
    return Held(lab, folder, parameters), [line["text"] for line in said]


@pytest.mark.lab
@pytest.mark.slow
@pytest.mark.parametrize("countermeasure", ["none", "port-scrambler", "tls", "end-to-end"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_what_is_on_the_wire_and_on_disk_is_what_the_truth_says(
    system: str, countermeasure: str, im_lab: OpenLab, tmp_path: Path
) -> None:
    """Each text is read where it can be expected, on those ways exactly, and nowhere else."""
    held, texts = hold(im_lab, tmp_path, system, countermeasure)
    assert [row["from"] for row in held.chat["lines"]] == ["WANJIKU", "OTIENO"] * 2
    assert all(row["latency_s"] > 0 for row in held.chat["lines"])
    sealed = [row for row in held.planted if row["kind"] == "sealed"]
    assert bool(sealed) == (countermeasure == "end-to-end" and system != "xmpp_server")
    contacts = {row["text"] for row in held.planted if row["kind"] == "contact"}
    assert contacts == ({"wanjiku@guest", "otieno@guest"} if system == "xmpp_server" else set())
    for row in held.planted:
        if not PLAIN.fullmatch(row["text"]):
            continue
        expected = set(row["directions"]) if "wire" in row["readable"] else set()
        for observer in ("peer", "host"):
            assert held.read_on(observer, row["text"]) == expected, (observer, row)
        if not expected:
            assert row["text"].encode() not in held.capture("peer").read_bytes()
    for text in texts:
        row = held.row(text)
        assert row["wire"]
        assert ("wire" in row["readable"]) == (countermeasure == "none")
        assert ("server" in row["readable"]) == (countermeasure != "end-to-end")
        (rest,) = held.repository
        stored = "found" if "store" in row["readable"] else "missing"
        assert row["id"] in rest[stored], (row, rest)


@pytest.mark.lab
@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS)
def test_with_another_key_at_one_end_nobody_speaks(
    system: str, im_lab: OpenLab, tmp_path: Path
) -> None:
    """Where two keys were entered the conversation fails, and nothing of it is on the wire."""
    place = replace(
        setting(im_lab, system),
        parameters={"passphrase": "Bondo", "passphrases": {"peer": "Kisumu"}},
    )
    sessions: Any = im_lab.sessions
    with (
        countermeasures.find("port-scrambler").applied(place) as protection,
        Captures(sessions, [("peer", "eth0")], lambda name: tmp_path / Path(name).name),
    ):
        client = protection.client(place.people[0])
        with pytest.raises(LabError):
            client.sign_in(place.people[0].account)
        client.close()
    seen = (tmp_path / "peer-eth0.pcapng").read_bytes()
    for text in ("Kisumu-2016", "WANJIKU", "wanjiku"):
        assert not any(form in seen for form in forms(text))
    client = place.plain_client(place.people[0])  # and afterwards all is as before
    client.sign_in(place.people[0].account)
    client.close()


@pytest.mark.lab
@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS)
def test_kept_keys_open_the_capture_in_wireshark(
    system: str, im_lab: OpenLab, tmp_path: Path
) -> None:
    """With the key log Wireshark's own follow shows what was said; without it, nothing."""
    said = lines(f"{system.split('_', maxsplit=1)[0]}-keys", odd=False)
    parameters = {"system": system, "countermeasure": "tls", "people": PEOPLE, "lines": said}
    held = Held(im_lab, tmp_path, {**parameters, "keep_keys": True})
    keys = tmp_path / "keys" / "tls.log"
    opened, closed = followed(held.capture("peer"), keys), followed(held.capture("peer"), None)
    for line in said:
        assert line["text"].encode() in opened
        assert line["text"].encode() not in closed
    assert b"BEGIN CERTIFICATE" in (tmp_path / "keys" / "authority.pem").read_bytes()
    assert b"PRIVATE" not in b"".join(p.read_bytes() for p in (tmp_path / "keys").iterdir())


def followed(capture: Path, keys: Path | None) -> bytes:
    """Return what Wireshark shows of each TLS stream of a capture."""
    tshark = ["tshark", "-r", str(capture), "-d", "tcp.port==6697,tls"]
    streams = subprocess.run(
        [*tshark, "-T", "fields", "-e", "tcp.stream"], capture_output=True, check=True, text=True
    )
    numbers = sorted({int(number) for number in streams.stdout.split()})
    log = ["-o", f"tls.keylog_file:{keys}"] if keys else []
    taps = [part for number in numbers for part in ("-z", f"follow,tls,raw,{number}")]
    shown = subprocess.run([*tshark, "-q", *log, *taps], capture_output=True, check=True, text=True)
    rows = [line.strip() for line in shown.stdout.splitlines()]
    return b"".join(bytes.fromhex(row) for row in rows if re.fullmatch("([0-9a-f]{2})+", row))


def setting(lab: OpenLab, system: str) -> Setting:
    """Return where a countermeasure is put up for the two people."""
    accounts = {account.name: account for account in lab.plan.accounts}
    people = tuple(
        Participant(row["at"], row["server"], accounts[row["account"]]) for row in PEOPLE
    )
    sessions = {host.name: lab.session(host.name) for host in lab.plan.hosts}
    return Setting(lab.plan, sessions, system, messaging.find(system), people)


@pytest.mark.lab
@pytest.mark.parametrize("system", SYSTEMS)
def test_who_wants_tls_says_nothing_to_a_server_without(
    system: str, im_lab: OpenLab, tmp_path: Path
) -> None:
    """The client gives up before it has told a name or password; nothing falls back."""
    place = setting(im_lab, system)
    found: Any = place.system
    sessions: Any = im_lab.sessions
    context = trust(Authority("im").certificate)
    with Captures(sessions, [("peer", "eth0")], lambda name: tmp_path / Path(name).name):
        client = found.over_tls(
            place.plan, "peer", "guest", place.sessions["peer"].connect, context
        )
        with pytest.raises(LabError):
            client.sign_in(place.people[0].account)
        client.close()
    seen = (tmp_path / "peer-eth0.pcapng").read_bytes()
    for text in ("Kisumu-2016", "WANJIKU", "wanjiku"):
        assert not any(form in seen for form in forms(text))


@pytest.mark.lab
@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_server_with_tls_lets_nobody_in_without(system: str, im_lab: OpenLab) -> None:
    """Plain clients and clients of another authority are refused; afterwards all is as before."""
    place = setting(im_lab, system)
    found: Any = place.system
    somebody = place.people[0]
    connect = place.sessions["peer"].connect
    with countermeasures.find("tls").applied(place) as protection:
        other = trust(Authority("im").certificate)
        for client in (
            place.plain_client(somebody),
            found.over_tls(place.plan, "peer", "guest", connect, other),
        ):
            with pytest.raises(LabError):
                client.sign_in(somebody.account)
            client.close()
        client = protection.client(somebody)
        client.sign_in(somebody.account)
        client.close()
    client = place.plain_client(somebody)
    client.sign_in(somebody.account)
    client.close()
    changes = provision.provision(place.plan, im_lab.sessions)  # type: ignore[arg-type] # Sessions
    assert set(changes.values()) == {()}


@pytest.mark.lab
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_wrong_password_is_told(system: str, im_lab: OpenLab) -> None:
    """Nobody signs in with another password, and the error says so without telling it."""
    place = setting(im_lab, system)
    client = place.plain_client(place.people[0])
    with pytest.raises(LabError) as caught:
        client.sign_in(replace(place.people[0].account, password="wrong-one"))
    client.close()
    assert re.search("(?i)password|not-authorized|authenticat|bad", str(caught.value))
    assert "wrong-one" not in str(caught.value)
    assert not client.exchanges[-1].ok


@pytest.mark.lab
@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS)
def test_plain_text_is_not_shown_to_who_wants_it_sealed(system: str, im_lab: OpenLab) -> None:
    """A message that was not sealed by who it is of is refused, with a reason."""
    place = setting(im_lab, system)
    speaker, listener = place.people
    with countermeasures.find("end-to-end").applied(place) as protection:
        ears, mouth = protection.client(listener), place.plain_client(speaker)
        try:
            ears.sign_in(listener.account)
            mouth.sign_in(speaker.account)
            mouth.send("Trust me", listener.account.name)
            with pytest.raises(LabError, match="arrived"):
                ears.receive(messaging.Message(speaker.account.name, "Trust me"), 1, 0.5)
            assert ears.incoming() == ()
        finally:
            mouth.close()
            ears.close()


@pytest.mark.lab
@pytest.mark.slow
def test_who_knows_the_password_only_reads_no_sealed_message(im_lab: OpenLab) -> None:
    """A second client of the same account, whose key nobody was told, gets nothing readable."""
    place = setting(im_lab, "xmpp_server")
    speaker, listener = place.people
    measure = countermeasures.find("end-to-end")
    with measure.applied(place) as known, measure.applied(place) as unknown:
        mouth, ears, thief = known.client(speaker), known.client(listener), unknown.client(listener)
        try:
            for client, who in ((thief, listener), (mouth, speaker), (ears, listener)):
                client.sign_in(who.account)
            mouth.send("For your eyes", listener.account.name)
            message = messaging.Message(speaker.account.name, "For your eyes")
            ears.receive(message, 1, 20.0)
            with pytest.raises(LabError, match="opening a message of WANJIKU"):
                thief.receive(message, 1, 1.0)
        finally:
            for client in (mouth, ears, thief):
                client.close()


@pytest.mark.lab
@pytest.mark.slow
def test_a_long_sealed_message_takes_several_lines(im_lab: OpenLab, tmp_path: Path) -> None:
    """IRC carries 512 bytes a line; a sealed text of two thousand arrives whole."""
    text = "".join(f"Long-{number}-" for number in range(250))
    parameters = {
        "system": "irc_server",
        "countermeasure": "end-to-end",
        "people": PEOPLE,
        "lines": [{"from": "OTIENO", "text": text}],
    }
    held = Held(im_lab, tmp_path, parameters)
    sealed = [row["text"] for row in held.planted if row["kind"] == "sealed"]
    assert len(sealed) > 5
    assert held.row(text)["readable"] == ["ends"]
    everything = b"".join(held.ways("peer").values())
    assert all(line.encode() in everything for line in sealed)


@pytest.fixture
def wall() -> Iterator[None]:
    """Add the folder of a further system to those that roles are looked for in."""
    folder = str(Path(__file__).parent / "fixtures" / "systems")
    roles.__path__.append(folder)
    messaging.systems.cache_clear()
    yield
    roles.__path__.remove(folder)
    messaging.systems.cache_clear()


@pytest.mark.lab
@pytest.mark.slow
@pytest.mark.usefixtures("wall")
def test_a_fourth_system_is_one_folder(im_lab: OpenLab, tmp_path: Path) -> None:
    """With nothing else edited it is provisioned, talked over, sealed, and judged like the rest."""
    guest = im_lab.plan.host("guest")
    with_wall = replace(guest, roles=(PlannedRole("wall_server"),))
    hosts = tuple(with_wall if host is guest else host for host in im_lab.plan.hosts)
    lab = type(im_lab)(replace(im_lab.lab, plan=replace(im_lab.plan, hosts=hosts)), im_lab.sessions)
    provision.provision(lab.plan, lab.sessions)  # type: ignore[arg-type] # Sessions
    for countermeasure in ("none", "end-to-end"):
        held, texts = hold(lab, tmp_path / countermeasure, "wall_server", countermeasure)
        for text in texts:
            row = held.row(text)
            open_to_all = countermeasure == "none"
            assert set(row["readable"]) == (
                {"ends", "server", "store", "wire"} if open_to_all else {"ends"}
            )
            if PLAIN.fullmatch(text):
                assert bool(held.read_on("peer", text)) == open_to_all
            (rest,) = held.repository
            assert row["id"] in rest["found" if open_to_all else "missing"]
    parameters = {"system": "wall_server", "people": PEOPLE, "lines": lines("wall")}
    (fault,) = conversation.check({**parameters, "countermeasure": "tls"}, lab.plan)
    assert "no way to speak TLS" in fault
