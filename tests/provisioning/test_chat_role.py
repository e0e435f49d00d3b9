"""The role chat_server without a host: its parameters, and the state it decides on."""

from __future__ import annotations

import bcrypt
import pytest

from lab.errors import LabError
from lab.plan import Plan, PlannedAccount, PlannedAdapter, PlannedHost, PlannedNetwork
from provisioning import roles
from provisioning.accounts import password_hash
from provisioning.roles import RoleContext
from provisioning.roles.chat_server import desired

PASSWORDS = ("Kisumu-2016", "Bondo's \\ 2016")


def host(name: str, address: str | None) -> PlannedHost:
    """Return a host with one adapter."""
    adapter = PlannedAdapter("eth0", "02:00:00:00:00:01", "wired", "x", address, "lan")
    return PlannedHost(name, "i", "o", 64, 512, 1, 1024, None, (adapter,), ())


PLAN = Plan(
    lab="paper",
    description="",
    networks=(PlannedNetwork("lan", "192.168.1.0/24"),),
    hosts=(host("guest", "192.168.1.10/24"), host("peer", "192.168.1.20/24"), host("mute", None)),
    accounts=(
        PlannedAccount("CLIENT", PASSWORDS[0]),
        PlannedAccount("SERVER", PASSWORDS[1]),
        PlannedAccount("LONG", "x" * 73),
        PlannedAccount("EMPTY", ""),
        PlannedAccount("two\nlines", "good"),
    ),
    captures=(),
)
GOOD = {"other": "peer", "accounts": ["CLIENT", "SERVER"]}


def context(**parameters: object) -> RoleContext:
    """Return the context of the role on the guest."""
    return RoleContext(PLAN, PLAN.host("guest"), {**GOOD, **parameters})


def test_the_papers_parameters_are_right() -> None:
    """The parameters of the paper's lab have no fault."""
    assert roles.find("chat_server").check(context()) == ()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"othr": "peer"}, "unknown key 'othr': chat_server takes other and accounts"),
        (
            {"other": None},
            "missing 'other': the host whose chat server the links of Home.php lead to",
        ),
        ({"other": "moon"}, "other: 'moon' is no host; hosts are guest, peer, mute"),
        ({"other": ["peer"]}, "other: ['peer'] is no host; hosts are guest, peer, mute"),
        ({"other": "guest"}, "other: 'guest' is this host itself; name the other one"),
        ({"other": "mute"}, "other: 'mute' has no address"),
        ({"accounts": []}, "'accounts' must be a list of at least one name"),
        ({"accounts": "CLIENT"}, "'accounts' must be a list of at least one name"),
        ({"accounts": ["BOB"]}, "accounts: 'BOB' is unknown; the lab's accounts are CLIENT, SER"),
        ({"accounts": [{}]}, "accounts: {} is unknown"),
        ({"accounts": ["CLIENT", "CLIENT"]}, "accounts: 'CLIENT' is there twice"),
        ({"accounts": ["LONG"]}, "the password of 'LONG' must have 1 to 72 bytes"),
        ({"accounts": ["EMPTY"]}, "the password of 'EMPTY' must have 1 to 72 bytes"),
        ({"accounts": ["two\nlines"]}, "'two\\nlines' must have 1 to 64 printable characters"),
    ],
)
def test_wrong_parameters_are_told(parameters: dict[str, object], message: str) -> None:
    """Each wrong parameter gets one sentence that says what would be right."""
    (fault,) = roles.find("chat_server").check(context(**parameters))
    assert fault.startswith(message) or message in fault
    assert "x" * 73 not in fault


def test_all_faults_at_once() -> None:
    """Several faults are told together."""
    wrong = RoleContext(PLAN, PLAN.host("guest"), {"a": 1, "b": 2})
    assert len(desired.faults(wrong)) == 4


def test_unknown_role_lists_those_that_are() -> None:
    """A role that does not exist is an error that lists the roles."""
    with pytest.raises(LabError, match="chat_server"):
        roles.find("chat_sever")


def hashes() -> dict[str, str]:
    """Return the hashes of the paper's accounts."""
    return {name: future.result() for name, future in desired.begin(context()).items()}


def test_hashes_are_what_php_verifies() -> None:
    """Passwords are hashed with bcrypt of cost 10, by the name that PHP has for it."""
    made = hashes()
    assert list(made) == ["CLIENT", "SERVER"]
    for hashed, password in zip(made.values(), PASSWORDS, strict=True):
        assert hashed.startswith("$2y$10$")
        assert len(hashed) == 60
        assert bcrypt.checkpw(password.encode(), hashed.replace("$2y$", "$2b$", 1).encode())
    assert len({hashed[:29] for hashed in made.values()}) == 2, "one salt for two accounts"


def test_the_same_plan_wants_the_same_state() -> None:
    """Deciding twice gives equal states; else the second time would change something."""
    account = PLAN.accounts[0]
    assert password_hash("paper", account) == hashes()["CLIENT"]
    assert desired.desired(context(), hashes()) == desired.desired(context(), hashes())
    assert password_hash("other", account) != hashes()["CLIENT"]


def test_facts_do_not_depend_on_hashes() -> None:
    """What is asked of a host is the same before the hashes are known."""
    early, late = desired.desired(context(), {}), desired.desired(context(), hashes())
    assert [(data.name, data.fact) for data in early.data] == [
        (data.name, data.fact) for data in late.data
    ]


def test_no_password_is_in_a_state() -> None:
    """A password is in no file, command or text of the state: only its hash is."""
    state = desired.desired(context(), hashes())
    everything = repr(state).encode() + b"".join(d.content for d in state.data)
    for password in PASSWORDS:
        assert password.encode() not in everything


def test_home_leads_to_the_other_host() -> None:
    """The settings of a host name the other's address, out of the plan."""
    state = desired.desired(context(), {})
    (settings,) = [file for file in state.files if file.path.endswith("settings.php")]
    assert b'"other": "192.168.1.20"' in settings.content


def test_every_page_of_the_figures_is_there() -> None:
    """The pages stand at the paper's addresses."""
    paths = {file.path for file in desired.desired(context(), {}).files}
    for page in ("client/Home", "server/PostHome", "server/Incoming", "server/Outgoing"):
        assert f"/srv/imlab-chat/www/{page}.php" in paths
