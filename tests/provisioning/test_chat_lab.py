"""The chat on real hosts: the role over SSH, the conversation, the database looked into."""

from __future__ import annotations

import re
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, build_opener

import pytest
from chat_on_hosts import HOSTS, Browser, Chat

from lab.errors import LabError
from provisioning import messaging, roles
from provisioning.messaging import Message
from provisioning.roles.chat_server.client import ChatClient
from provisioning.roles.chat_server.pages import read
from provisioning.roles.chat_server.repository import at_rest, repository

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator

    from provisioning.channels import SocketLike

pytestmark = pytest.mark.lab


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
    guest.run(["sh", "-c", wait], deadline=60)
    assert chat.apply("guest") == ("started apache2",)  # within the deadline of a command
