"""The chat's pages on a real host: what they take, refuse and show."""

from __future__ import annotations

import http.client
import re

import pytest
from chat_on_hosts import Browser, Chat

from lab.errors import LabError
from lab.plan import PlannedAccount
from provisioning import messaging
from provisioning.roles.chat_server.client import encode
from provisioning.roles.chat_server.pages import read
from provisioning.roles.chat_server.repository import repository

pytestmark = pytest.mark.lab


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
