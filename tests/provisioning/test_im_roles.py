"""What the IRC and the XMPP server want of a host: pure."""

from __future__ import annotations

import hashlib
import hmac
import re

import pytest

from lab.plan import Plan, PlannedAccount, PlannedAdapter, PlannedHost, PlannedNetwork
from provisioning import roles
from provisioning.authority import Authority
from provisioning.roles import RoleContext
from provisioning.roles.irc_server import desired as irc
from provisioning.roles.xmpp_server import desired as xmpp

ADAPTER = PlannedAdapter("eth0", "02:00:00:00:00:01", "wired", "", "10.0.0.1/24", "lan")
HOST = PlannedHost("my-guest", "debian-im", "linux", 64, 512, 1, 64, None, (ADAPTER,), ())
NAMES = ("ANNE", "Ben_2", "a.b", "9lives", "anne", "EMPTY")
PLAN = Plan(
    "im",
    "",
    (PlannedNetwork("lan", "10.0.0.0/24"),),
    (HOST,),
    tuple(PlannedAccount(name, "" if name == "EMPTY" else f"secret of {name}") for name in NAMES),
    (),
)
BOTH = ("irc_server", "xmpp_server")


def context(*names: str, tls: bool = False, **more: object) -> RoleContext:
    """Return the context of a role with these accounts."""
    certificate = Authority("im").issue(["my-guest"]) if tls else None
    return RoleContext(PLAN, HOST, {"accounts": list(names), **more}, certificate)


@pytest.mark.parametrize(
    ("role", "names", "fault"),
    [
        *((role, ("BOB",), "'BOB' is unknown; the lab's accounts are ANNE") for role in BOTH),
        *((role, ("ANNE", "ANNE"), "'ANNE' is there twice") for role in BOTH),
        *((role, (), "'accounts' must be a list of at least one name") for role in BOTH),
        *((role, ("EMPTY",), "the password of 'EMPTY' must have 1 to 72 bytes") for role in BOTH),
        ("irc_server", ("a.b",), "'a.b' is no nickname"),
        ("irc_server", ("9lives",), "'9lives' is no nickname"),
        ("xmpp_server", ("ANNE", "anne"), "'ANNE' is another one's name"),
    ],
)
def test_wrong_accounts_are_told(role: str, names: tuple[str, ...], fault: str) -> None:
    """Each sentence says what is wrong and what would be right."""
    faults = roles.find(role).check(context(*names))
    assert fault in faults[0]


@pytest.mark.parametrize("role", BOTH)
def test_right_and_unknown_parameters(role: str) -> None:
    """Accounts are all there is."""
    assert roles.find(role).check(context("ANNE", "Ben_2")) == ()
    (fault,) = roles.find(role).check(context("ANNE", colour="red"))
    assert "'colour'" in fault


def test_no_password_rests_on_the_host_and_the_same_plan_wants_the_same() -> None:
    """What is written are hashes, and they are alike each time."""
    hashes = {"ANNE": "$2y$10$made-up"}
    for made, again in (
        (irc.desired(context("ANNE"), hashes), irc.desired(context("ANNE"), hashes)),
        (xmpp.desired(context("ANNE")), xmpp.desired(context("ANNE"))),
    ):
        assert made == again
        assert not any(b"secret of" in file.content for file in made.files)


def test_the_xmpp_accounts_file_proves_the_password() -> None:
    """StoredKey and ServerKey are those of RFC 5802 for the password and the file's own salt."""
    wanted = {file.path: file.content.decode() for file in xmpp.desired(context("Ben_2")).files}
    text = wanted["/var/lib/prosody/my%2dguest/accounts/ben%5f2.dat"]
    row = dict(re.findall(r'\["(\w+)"\] = "?(\w+)"?;', text))
    salted = hashlib.pbkdf2_hmac(
        "sha1", b"secret of Ben_2", row["salt"].encode(), int(row["iteration_count"])
    )
    client = hmac.digest(salted, b"Client Key", "sha1")
    assert row["stored_key"] == hashlib.sha1(client, usedforsecurity=False).hexdigest()
    assert row["server_key"] == hmac.digest(salted, b"Server Key", "sha1").hex()


def test_contacts_are_all_the_others() -> None:
    """Nobody is in his own list."""
    wanted = {f.path: f.content.decode() for f in xmpp.desired(context("ANNE", "Ben_2")).files}
    row = wanted["/var/lib/prosody/my%2dguest/roster/anne.dat"]
    assert "ben_2@my-guest" in row
    assert "anne@my-guest" not in row


def test_with_a_certificate_there_is_no_way_in_without() -> None:
    """IRC has the TLS port alone, XMPP wants STARTTLS, and only root and the server read keys."""
    plain, secured = context("ANNE"), context("ANNE", tls=True)
    settings = {f.path: f for f in irc.desired(secured, {"ANNE": "x"}).files}
    assert b"\nPorts = \n" in settings[irc.SETTINGS].content
    assert b"Ports = 6697" in settings[irc.SETTINGS].content
    assert b"[SSL]" not in irc.desired(plain, {"ANNE": "x"}).files[0].content
    assert settings[irc.KEY].mode == 0o640
    wanted = {f.path: f for f in xmpp.desired(secured).files}
    assert b"c2s_require_encryption = true" in wanted[xmpp.SETTINGS].content
    assert b'"tls"' in wanted[xmpp.SETTINGS].content
    assert wanted[xmpp.KEY].mode == 0o640
    assert xmpp.KEY not in {f.path for f in xmpp.desired(plain).files}
