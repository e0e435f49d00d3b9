"""The chat on real hosts: the role applied over SSH, the pages used, the database looked into."""

from __future__ import annotations

import http.client
import re
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, build_opener

import pytest

from lab.errors import LabError
from lab.plan import PlannedAccount
from provisioning import messaging, roles
from provisioning.messaging import Message
from provisioning.roles import RoleContext
from provisioning.roles.chat_server.client import ChatClient, encode
from provisioning.roles.chat_server.pages import Page, read
from provisioning.roles.chat_server.repository import at_rest, repository

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator
    from typing import Protocol

    from lab.plan import Plan
    from provisioning.channels import SocketLike
    from provisioning.transport import Session

    class PaperLab(Protocol):
        """The lab of vm_specs/paper.yaml, up."""

        plan: Plan

        def session(self, name: str) -> Session:
            """Log in to a host."""


pytestmark = pytest.mark.lab
HOSTS = ("guest", "peer")


class Chat:
    """Guest and peer with the role applied."""

    def __init__(self, lab: PaperLab) -> None:
        self.plan = lab.plan
        self.sessions = {name: lab.session(name) for name in HOSTS}
        for name in HOSTS:
            self.apply(name)

    def context(self, name: str) -> RoleContext:
        """Return the role's context on a host."""
        host = self.plan.host(name)
        (role,) = [role for role in host.roles if role.name == "chat_server"]
        return RoleContext(self.plan, host, role.parameters)

    def apply(self, name: str) -> tuple[str, ...]:
        """Apply the role and wait until it answers."""
        role = roles.find("chat_server")
        changed = role.apply(self.sessions[name], self.context(name))
        role.probe(self.sessions[name], self.context(name), 10.0)
        return changed

    def account(self, name: str) -> PlannedAccount:
        """Return an account of the plan."""
        (account,) = [account for account in self.plan.accounts if account.name == name]
        return account

    def client(self, at: str, server: str, account: str) -> ChatClient:
        """Return a client that has signed in."""
        session = self.sessions[at]
        client = messaging.find("chat_server").client(self.plan, at, server, session.connect)
        client.sign_in(self.account(account))
        assert isinstance(client, ChatClient)
        return client


@pytest.fixture(scope="module")
def chat(paper_lab: PaperLab) -> Iterator[Chat]:
    """Provide the chat on guest and peer."""
    made = Chat(paper_lab)
    yield made
    for session in made.sessions.values():
        session.close()


class Browser:
    """Raw requests to a chat server from its own host, with a cookie; for what a client hides."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.cookie = ""

    def request(
        self, method: str, path: str, form: dict[str, str] | bytes | None = None
    ) -> tuple[int, http.client.HTTPMessage, str]:
        """Return status, headers and text."""
        body = urlencode(form).encode() if isinstance(form, dict) else form
        headers = {"Cookie": self.cookie, "Connection": "close"}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection = http.client.HTTPConnection("127.0.0.1", 80)
        with self._session.connect("127.0.0.1", 80) as sock:
            connection.sock = sock
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            text = response.read().decode()
        if given := response.getheader("Set-Cookie"):
            self.cookie = given.split(";")[0]
        return response.status, response.headers, text

    def page(self, path: str) -> Page:
        """Return a page that must be there."""
        status, _, text = self.request("GET", path)
        assert status == 200, text
        return read(text)

    def sign_in(self, account: PlannedAccount) -> None:
        """Sign in."""
        fields = self.page("/server/PostHome.php").forms["PostHome.php"]
        fields |= {"user": account.name, "password": account.password}
        status, headers, _ = self.request("POST", "/server/PostHome.php", fields)
        assert (status, headers["Location"]) == (303, "Post.php")


@pytest.fixture
def browser(chat: Chat) -> Browser:
    """Provide a browser on the guest that CLIENT has signed in with."""
    made = Browser(chat.sessions["guest"])
    made.sign_in(chat.account("CLIENT"))
    return made


def test_applying_twice_changes_nothing(chat: Chat) -> None:
    """The second time there is nothing to do."""
    assert [chat.apply(name) for name in HOSTS] == [(), ()]


def test_a_changed_file_is_put_right(chat: Chat) -> None:
    """What somebody changed on the host is changed back, and only that."""
    guest = chat.sessions["guest"]
    guest.put(b"<?php", "/srv/imlab-chat/www/client/Home.php")
    guest.run(["chmod", "777", "/etc/imlab-chat/php.ini"])
    assert chat.apply("guest") == (
        "file /etc/imlab-chat/php.ini",
        "file /srv/imlab-chat/www/client/Home.php",
        "restarted apache2",
    )


def test_the_papers_conversation_both_ways(chat: Chat) -> None:
    """CLIENT on the peer and SERVER on the guest exchange chats through the guest's server."""
    server = chat.client("guest", "guest", "SERVER")
    client = chat.client("peer", "guest", "CLIENT")
    said = ["HI SIR, BLACKOUT!", "MSC. IT SECURITY & AUDIT IS FUN.."]
    answered = ["Hi, Good Evening", "émoji 🚌 <b>&amp;</b> 'x'\n\"y\"~*  ", "HI"]
    for text in said:
        server.send(text)
    for text in answered:
        client.send(text)
    assert client.incoming()[-2:] == tuple(Message("SERVER", text) for text in said)
    assert client.outgoing()[-3:] == tuple(Message("CLIENT", text) for text in answered)
    assert server.incoming() == client.outgoing()
    assert all(exchange.ok for exchange in (*client.exchanges, *server.exchanges))
    items = {item.text: item for item in messaging.planted(client.exchanges + server.exchanges)}
    assert items["HI"].directions == ("peer->guest", "guest->peer")
    assert items[said[0]].directions == ("guest->peer",)
    assert not items[chat.account("SERVER").password].wire


def test_messages_rest_in_plain_text(chat: Chat) -> None:
    """What was posted is in the database, and readable in its file without it."""
    client = chat.client("peer", "guest", "CLIENT")
    text = f"at rest {time.time_ns()} 🚌"
    client.send(text)
    assert (repository(chat.sessions["guest"])[-1].content) == text
    found = at_rest(chat.sessions["guest"], [text, "never posted 4711"])
    assert (found.found, found.missing) == ((text,), ("never posted 4711",))


class Recorder:
    """A connection that keeps what is sent."""

    def __init__(self, sock: SocketLike) -> None:
        self._sock = sock
        self.sent = b""

    def sendall(self, data: bytes) -> None:
        """Keep and send."""
        self.sent += data
        self._sock.sendall(data)

    def makefile(self, mode: str = "rb", buffering: int = -1) -> io.BufferedIOBase:
        """Return the other one's file."""
        return self._sock.makefile(mode, buffering)

    def recv(self, size: int) -> bytes:
        """Receive."""
        return self._sock.recv(size)

    def settimeout(self, seconds: float | None) -> None:
        """Pass it on."""
        self._sock.settimeout(seconds)

    def close(self) -> None:
        """Close."""
        self._sock.close()


def test_first_request_on_the_wire_is_figure_19s(chat: Chat) -> None:
    """The visit's first request is 386 bytes; all of a visit goes over one connection."""
    made: list[Recorder] = []

    def connect(address: str, port: int) -> SocketLike:
        made.append(Recorder(chat.sessions["peer"].connect(address, port)))
        return made[-1]

    client = ChatClient(chat.plan, "peer", "guest", connect)
    client.sign_in(chat.account("CLIENT"))
    client.send("HI")
    client.outgoing()
    (one,) = made
    first = one.sent[: one.sent.index(b"\r\n\r\n") + 4]
    assert len(first) == 386
    assert first.startswith(b"GET /server/PostHome.php HTTP/1.1\r\nHost: 192.168.1.10\r\n")
    assert one.sent.count(b" HTTP/1.1\r\n") == 6


def test_connection_closed_by_the_server_is_made_anew(chat: Chat) -> None:
    """A kept connection that the server has closed costs the user nothing."""
    client = chat.client("peer", "guest", "CLIENT")
    chat.sessions["guest"].run(["/usr/sbin/apache2", "-k", "graceful"])
    client.send("after a restart")
    assert client.outgoing()[-1].text == "after a restart"


def test_wrong_password_is_refused(chat: Chat) -> None:
    """A wrong password, and an unknown user, are refused alike, and the record says so."""
    session = chat.sessions["peer"]
    said = []
    for name in ("CLIENT", "NOBODY", "client", "' OR 1=1 -- "):
        client = messaging.find("chat_server").client(chat.plan, "peer", "guest", session.connect)
        with pytest.raises(LabError) as error:
            client.sign_in(PlannedAccount(name, "guess"))
        assert "guess" not in str(error.value)
        said.append(client.exchanges[-1].error)
    assert set(said) == {"HTTP status 401: The user name or the password is wrong."}


def test_who_has_not_signed_in_sees_nothing(chat: Chat) -> None:
    """Every page but the authentication leads to the authentication."""
    stranger = Browser(chat.sessions["guest"])
    for page in ("Post.php", "Incoming.php", "Outgoing.php", "Posted.php?id=1"):
        status, headers, text = stranger.request("GET", f"/server/{page}")
        assert (status, text) == (303, "")
        assert headers["Location"].startswith("PostHome.php?next=")
    status, headers, _ = stranger.request("POST", "/server/Post.php", {"content": "x"})
    assert status == 303


@pytest.mark.parametrize(
    ("content", "status", "alert"),
    [
        ("", 422, "There is nothing to post: the chat is empty."),
        (" \n\t ", 422, "There is nothing to post: the chat is empty."),
        ("x" * 2001, 422, "The chat is too long: 2001 characters. A chat has at most 2000"),
        ("🚌" * 2001, 422, "The chat is too long: 2001 characters."),
        ("bell \a", 422, "The chat has control characters in it."),
    ],
)
def test_what_cannot_be_posted_is_told(
    chat: Chat, browser: Browser, content: str, status: int, alert: str
) -> None:
    """A chat that is empty, too long or no text is refused with the reason; none is stored."""
    before = len(repository(chat.sessions["guest"]))
    fields = browser.page("/server/Post.php").forms["Post.php"]
    answered, _, text = browser.request("POST", "/server/Post.php", {**fields, "content": content})
    assert answered == status
    assert read(text).alert.startswith(alert)
    assert len(repository(chat.sessions["guest"])) == before


def test_bytes_that_are_no_utf8_are_refused(chat: Chat, browser: Browser) -> None:
    """Bytes that are not UTF-8 are refused and not mended."""
    fields = browser.page("/server/Post.php").forms["Post.php"]
    body = encode(fields) + b"&content=%FF%FE"
    status, _, text = browser.request("POST", "/server/Post.php", body)
    assert (status, read(text).alert) == (422, "That is not text in UTF-8.")
    assert len([r for r in repository(chat.sessions["guest"]) if "\ufffd" in r.content]) == 0


def test_far_too_much_is_refused(browser: Browser) -> None:
    """More than PHP takes at all is told as too much, not as an empty form."""
    fields = browser.page("/server/Post.php").forms["Post.php"]
    form = {**fields, "content": "x" * 100_000}
    status, _, text = browser.request("POST", "/server/Post.php", form)
    assert status == 413
    assert "too much" in read(text).alert


def test_longest_message_is_stored_whole(chat: Chat) -> None:
    """2000 characters outside the basic plane are stored and shown as they are."""
    client = chat.client("guest", "guest", "CLIENT")
    client.send("🚌" * 2000)
    assert client.outgoing()[-1].text == "🚌" * 2000


def test_form_of_another_site_is_refused(chat: Chat, browser: Browser) -> None:
    """A post without the session's token is refused and stores nothing."""
    before = len(repository(chat.sessions["guest"]))
    fields = browser.page("/server/Post.php").forms["Post.php"]
    for token in ("", "0" * 32):
        form = {**fields, "token": token, "content": "forged"}
        assert browser.request("POST", "/server/Post.php", form)[0] == 403
    assert len(repository(chat.sessions["guest"])) == before


def test_form_sent_twice_is_one_message(chat: Chat, browser: Browser) -> None:
    """A form that is sent again leads to the same message."""
    before = len(repository(chat.sessions["guest"]))
    fields = browser.page("/server/Post.php").forms["Post.php"]
    places = [
        browser.request("POST", "/server/Post.php", {**fields, "content": "once"})[1]["Location"]
        for _ in range(2)
    ]
    assert places[0] == places[1]
    assert len(repository(chat.sessions["guest"])) == before + 1
    status, _, _ = browser.request("POST", "/server/Post.php", {**fields, "content": "other"})
    assert status == 409


def test_text_is_never_markup(chat: Chat, browser: Browser) -> None:
    """A chat full of markup and SQL is shown as the text that it is."""
    evil = "<script>alert(1)</script>'); DROP TABLE messages; -- &lt;"
    client = chat.client("guest", "guest", "CLIENT")
    client.send(evil)
    assert client.outgoing()[-1].text == evil
    _, headers, text = browser.request("GET", "/server/Outgoing.php")
    assert "<script" not in text
    assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_signing_in_gives_a_new_session(chat: Chat) -> None:
    """A cookie from before signing in is worth nothing afterwards."""
    browser = Browser(chat.sessions["guest"])
    browser.page("/server/PostHome.php")
    before = browser.cookie
    browser.sign_in(chat.account("CLIENT"))
    assert browser.cookie != before
    browser.cookie = before
    assert browser.request("GET", "/server/Post.php")[0] == 303


def test_signing_out(browser: Browser) -> None:
    """Who signs out is signed out, by a form with the token only."""
    token = browser.page("/server/Post.php").forms["SignOut.php"]
    assert browser.request("POST", "/server/SignOut.php", {"token": "x"})[0] == 403
    assert browser.request("POST", "/server/SignOut.php", token)[0] == 303
    assert browser.request("GET", "/server/Post.php")[0] == 303


def test_old_messages_stay_reachable(chat: Chat) -> None:
    """With more messages than a page shows, the older ones are one link away; none is lost."""
    client = chat.client("peer", "peer", "CLIENT")
    known = len(client.outgoing())
    for number in range(205):
        client.send(f"message {number}")
    texts = [message.text for message in client.outgoing()]
    assert len(texts) == known + 205
    assert texts[known:] == [f"message {number}" for number in range(205)]


@contextmanager
def database_down(chat: Chat) -> Iterator[None]:
    """Stop MariaDB on the guest; applying the role starts it again."""
    stop = "kill $(cat /run/mysqld/mysqld.pid); while [ -S /run/mysqld/mysqld.sock ]; do :; done"
    chat.sessions["guest"].run(["sh", "-c", stop])
    try:
        yield
    finally:
        assert "started mariadb" in chat.apply("guest")


def test_without_the_database_nothing_is_said_to_be_stored(chat: Chat, browser: Browser) -> None:
    """With MariaDB down each page says so with 503; the text is kept, and posted once later."""
    fields = browser.page("/server/Post.php").forms["Post.php"]
    form = {**fields, "content": "keep <me>"}
    with database_down(chat):
        for page in ("Incoming.php", "Outgoing.php", "Posted.php?id=1", "health.php"):
            status, _, text = browser.request("GET", f"/server/{page}")
            assert (status, "does not answer" in read(text).alert) == (503, True)
        status, _, text = browser.request("POST", "/server/Post.php", form)
        assert status == 503
        assert "keep &lt;me&gt;</textarea>" in text
        kept = read(text).forms["Post.php"]
        assert kept["nonce"] == fields["nonce"]
        assert "PDO" not in text
        role = roles.find("chat_server")
        with pytest.raises(LabError, match="HTTP status 503: The chat repository does not"):
            role.probe(chat.sessions["guest"], chat.context("guest"), 0.05)
    assert browser.request("POST", "/server/Post.php", {**kept, "content": "keep <me>"})[0] == 303
    assert repository(chat.sessions["guest"])[-1].content == "keep <me>"


def test_addresses_of_the_paper(chat: Chat) -> None:
    """Home.php answers by both spellings and its three links lead to the other machine."""
    browser = Browser(chat.sessions["guest"])
    _, _, home = browser.request("GET", "/client/Home.php")
    links = re.findall(r'href="(http://[^"]+)">([^<]+)', home)
    assert links == [
        ("http://192.168.1.20/server/PostHome.php", "Post Chat"),
        ("http://192.168.1.20/server/Incoming.php", "View Incoming Chat"),
        ("http://192.168.1.20/server/Outgoing.php", "View Outgoing Chat"),
    ]
    assert browser.request("GET", "/client/home.php")[2] == home
    assert browser.request("GET", "/")[1]["Location"].endswith("/client/Home.php")


def test_pages_travel_readable_and_lead_home(chat: Chat) -> None:
    """Pages are not compressed, carry the banners of Figure 19 and the asker's own address."""
    connection = http.client.HTTPConnection("192.168.1.10", 80)
    asked = {"Accept-Encoding": "gzip, deflate", "Connection": "keep-alive"}
    with chat.sessions["peer"].connect("192.168.1.10", 80) as sock:
        connection.sock = sock
        connection.request("GET", "/server/PostHome.php", headers=asked)
        response = connection.getresponse()
        text = response.read().decode()
    assert response.getheader("Content-Encoding") is None
    assert response.getheader("Content-Length") == str(len(text.encode()))
    assert (response.getheader("Server") or "").startswith("Apache/2.4")
    assert (response.getheader("X-Powered-By") or "").startswith("PHP/8")
    assert response.getheader("Keep-Alive") == "timeout=5, max=100"
    assert "http://192.168.1.20/client/home.php" in text
    assert read(text).title == "WELCOME TO THE CLIENT-SERVER CHAT ROOM"


def test_only_the_pages_are_served(chat: Chat) -> None:
    """The application's insides and phpMyAdmin's are not to be had."""
    browser = Browser(chat.sessions["guest"])
    for path in ("/lib/chat.php", "/settings.php", "/../settings.php", "/server/", "/assets/"):
        assert browser.request("GET", path)[0] in {400, 403, 404}
    for path in ("/phpmyadmin/libraries/", "/phpmyadmin/setup/index.php", "/phpmyadmin/vendor/"):
        assert browser.request("GET", path)[0] == 403


def test_old_sessions_can_be_cleared_away(chat: Chat) -> None:
    """PHP may list its folders of sessions, so that clearing them never ends in an error."""
    script = "for d in sessions phpmyadmin; do stat -c '%a %U' /var/lib/imlab-chat/$d; done"
    told = chat.sessions["guest"].run(["sh", "-c", script]).stdout.decode()
    assert told == "700 www-data\n" * 2


def test_repository_through_phpmyadmin(chat: Chat) -> None:
    """The login that the host keeps for root opens phpMyAdmin, which shows the messages."""
    text = f"seen through phpMyAdmin {time.time_ns()}"
    chat.client("peer", "guest", "CLIENT").send(text)
    guest = chat.sessions["guest"]
    assert guest.run(["stat", "-c", "%a %U", "/root/phpmyadmin-login"]).stdout == b"600 root\n"
    lines = guest.get("/root/phpmyadmin-login").decode().splitlines()
    login = dict(line.split(": ") for line in lines)
    with guest.forward(80) as port:
        opener = build_opener(HTTPCookieProcessor())
        base = f"http://127.0.0.1:{port}/phpmyadmin/"
        first = opener.open(base).read().decode()
        hidden = dict(re.findall(r'name="(token|set_session)" value="([^"]+)"', first))
        form = {"pma_username": login["user"], "pma_password": login["password"], "server": "1"}
        opener.open(base + "index.php?route=/", urlencode({**form, **hidden}).encode())
        place = "index.php?route=/sql&db=imlab_chat&table=messages&pos=0&session_max_rows=500"
        table = opener.open(base + place).read().decode()
    assert text in table


def test_the_repository_login_may_only_read(chat: Chat) -> None:
    """The login for phpMyAdmin reads the chat's tables and writes none."""
    guest = chat.sessions["guest"]
    script = (
        "p=$(sed -n 's/^password: //p' /root/phpmyadmin-login); export MYSQL_PWD=$p;"
        " mariadb -u repository -e 'DELETE FROM imlab_chat.messages'"
    )
    with pytest.raises(LabError, match="DELETE command denied"):
        guest.run(["sh", "-c", script])


def test_nothing_listens_for_mariadb(chat: Chat) -> None:
    """The database is not to be reached from another machine."""
    with pytest.raises((LabError, socket.error)):
        chat.sessions["peer"].connect("192.168.1.10", 3306)


def test_passwords_are_nowhere_on_the_host(chat: Chat) -> None:
    """After provisioning, no file of the role and no process shows an account's password."""
    guest = chat.sessions["guest"]
    passwords = "\n".join(account.password for account in chat.plan.accounts)
    places = ["/etc", "/srv", "/root", "/run", "/var/lib/mysql", "/var/log", "/var/www"]
    found = guest.run(
        ["grep", "-rlaF", "-f", "-", "--", *places], stdin=passwords.encode(), check=False
    )
    assert found.stdout == b""


def test_a_daemon_of_the_role_does_not_hold_the_session(chat: Chat) -> None:
    """Starting services returns at once, although they go on running."""
    guest = chat.sessions["guest"]
    guest.run(["sh", "-c", "kill $(cat /run/apache2/apache2.pid)"])
    wait = "while [ -e /run/apache2/apache2.pid ]; do sleep 0.01; done"
    guest.run(["sh", "-c", wait], deadline=10)
    before = time.monotonic()
    assert chat.apply("guest") == ("started apache2",)
    assert time.monotonic() - before < 5
