"""The chat's client without a host: its requests byte by byte, and how it reads pages."""

from __future__ import annotations

from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.errors import Fault, LabError
from provisioning import messaging
from provisioning.messaging import Carried, Exchange, planted, recorded
from provisioning.roles.chat_server.client import HOME, encode, headers
from provisioning.roles.chat_server.pages import read

FIGURE_19 = """\
GET /server/PostHome.php HTTP/1.1\r
Host: 192.168.1.10\r
User-Agent: Mozilla/5.0 (Windows NT 6.1; WOW64; rv:49.0) Gecko/20100101 Firefox/49.0\r
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r
Accept-Language: en-US,en;q=0.5\r
Accept-Encoding: gzip, deflate\r
Referer: http://localhost/client/Home.php\r
DNT: 1\r
Connection: keep-alive\r
Upgrade-Insecure-Requests: 1\r
\r
"""


def test_request_is_that_of_figure_19() -> None:
    """The first request is Figure 19's, and as Figure 14 counts it: 386 bytes."""
    lines = "".join(f"{n}: {v}\r\n" for n, v in headers("192.168.1.10", HOME, "", None))
    request = f"GET /server/PostHome.php HTTP/1.1\r\n{lines}\r\n"
    assert request == FIGURE_19
    assert len(request.encode()) == 386


def test_form_adds_cookie_type_and_length() -> None:
    """A form is sent with the cookie and with its length in bytes, at Firefox's places."""
    names = [name for name, _ in headers("h", HOME, "PHPSESSID=1", b"a=b")]
    assert names[5:] == [
        "Referer",
        "Cookie",
        "DNT",
        "Connection",
        "Upgrade-Insecure-Requests",
        "Content-Type",
        "Content-Length",
    ]


def test_form_encoding() -> None:
    """A form is encoded as a browser does it, with CRLF for the ends of lines."""
    assert encode({"a b": "x\ny\r\nz", "~": "*-._é&="}) == (
        b"a+b=x%0D%0Ay%0D%0Az&%7E=*-._%C3%A9%26%3D"
    )


@given(st.text(st.characters(codec="utf-8")))
def test_form_encoding_is_readable_again(text: str) -> None:
    """Any text comes back out of a form."""
    typed = text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n")
    assert parse_qs(encode({"t": text}).decode(), keep_blank_values=True) == {"t": [typed]}


PAGE = """<!DOCTYPE html><html><head><title>A &amp; B</title></head><body>
<p class="error" role="alert">It&#039;s wrong</p>
<form action="Post.php"><input type="hidden" name="token" value="a&quot;b">
<input name="seen" value="1"><textarea name="content">
text</textarea></form>
<form action="SignOut.php"><input type="hidden" name="token" value="c"></form>
<table><caption>For X</caption><tr><th>USERNAME</th><th>CHAT CONTENT</th></tr>
<tr><td>SERVER</td><td title="t">1 &lt; 2 &amp;amp; 🚌
two</td></tr><tr><td>B</td><td></td></tr></table>
<a rel="prev" href="Incoming.php?before=7">Older</a>
<dd id="posted">  kept
as is </dd></body></html>"""


def test_page_is_read_as_a_user_sees_it() -> None:
    """Title, error, forms, table, link and confirmed text are read, entities resolved."""
    page = read(PAGE)
    assert page.title == "A & B"
    assert page.alert == "It's wrong"
    assert page.forms == {"Post.php": {"token": 'a"b'}, "SignOut.php": {"token": "c"}}
    assert page.rows == [
        ["USERNAME", "CHAT CONTENT"],
        ["SERVER", "1 < 2 &amp; 🚌\ntwo"],
        ["B", ""],
    ]
    assert page.older == "Incoming.php?before=7"
    assert page.posted == "  kept\nas is "


@given(st.text())
def test_any_text_is_read_as_some_page(text: str) -> None:
    """What is no page at all is read without an exception."""
    assert read(text).forms.get("Post.php") is None or "Post.php" in text


def exchange(at: str, *carried: Carried) -> Exchange:
    """Return an exchange with the server on guest."""
    return Exchange(at, "guest", "A", "post", 0.0, carried=list(carried))


def test_planted_gathers_the_ways_of_a_text() -> None:
    """A message typed at the server's own machine crosses the wire when the other reads it."""
    typed = exchange("guest", Carried("message", "hi", up=True, sender="S", recipient="C"))
    fetched = exchange("peer", Carried("message", "hi", up=False, sender="S"))
    for order in ([typed, fetched], [fetched, typed]):
        (item,) = planted(order)
        assert (item.at, item.sender, item.recipient) == ("guest", "S", "C")
        assert (item.wire, item.directions) == (True, ("guest->peer",))


def test_planted_on_one_machine_is_not_on_the_wire() -> None:
    """What never left its host is known, and known not to have crossed."""
    (item,) = planted([exchange("guest", Carried("password", "pw", up=True, sender="S"))])
    assert (item.wire, item.directions, item.at) == (False, (), "guest")


def test_planted_keeps_equal_texts_of_two_senders_apart() -> None:
    """The same words by two people are two messages, with ids of their own."""
    items = planted(
        [
            exchange("peer", Carried("message", "hi", up=True, sender="A")),
            exchange("peer", Carried("message", "hi", up=True, sender="B")),
            exchange("peer", Carried("message", "hi", up=False, sender="A")),
        ]
    )
    assert [(item.id, item.sender) for item in items] == [("message-1", "A"), ("message-2", "B")]
    assert items[0].directions == ("peer->guest", "guest->peer")


def test_failures_are_recorded() -> None:
    """An action that fails is recorded with its reason, and still raises."""
    log: list[Exchange] = []
    with pytest.raises(LabError), recorded(log, "peer", "guest", "A", "post"):
        raise LabError("posting", "it is full", fault=Fault.GUEST, todo="empty it")
    assert (log[0].ok, log[0].error) == (False, "it is full")
    assert "carried" not in log[0].to_json()


def test_systems_are_found_by_name() -> None:
    """The chat is a messaging system; an unknown one is told what there is."""
    assert "chat_server" in messaging.systems()
    with pytest.raises(LabError, match="chat_server"):
        messaging.find("icq")
