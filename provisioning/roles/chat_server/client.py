"""The chat's client: a browser's requests, header by header as in Figure 19 of the paper.

It speaks HTTP/1.1 over a connection that somebody else makes (`connect`), so that the traffic
starts in a lab host, and so that TLS can be put around it.
"""

from __future__ import annotations

import gzip
import http.client
import http.cookies
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import quote_plus, urljoin, urlsplit

from lab.errors import Fault, LabError
from provisioning import bridging
from provisioning.messaging import Carried, Exchange, Message, poll, recorded
from provisioning.probing import http_get, wait_until
from provisioning.roles.chat_server.pages import Page, read
from provisioning.roles.chat_server.repository import at_rest

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable
    from contextlib import AbstractContextManager

    from lab.plan import Plan, PlannedAccount
    from provisioning.messaging import Action, AtRest, Client, Connect, Kind
    from provisioning.roles import RoleContext
    from provisioning.transport import Session

PORTS = {"http": 80, "https": 443}
HOME = "http://localhost/client/Home.php"  # the user's own page, on the user's own machine
USER_AGENT = "Mozilla/5.0 (Windows NT 6.1; WOW64; rv:49.0) Gecko/20100101 Firefox/49.0"
ACCEPT = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
MAX_REDIRECTS = 5
MAX_CHARACTERS = 2000  # of a chat, as chat.php has it
OK, FORBIDDEN = 200, 403
HEALTH = "/server/health.php"


def headers(host: str, referer: str, cookie: str, form: bytes | None) -> list[tuple[str, str]]:
    """Return a request's headers in the order of Figure 19 (Firefox 49): pure.

    Without cookie and form they are the figure's own, byte for byte.
    """
    lines = [
        ("Host", host),
        ("User-Agent", USER_AGENT),
        ("Accept", ACCEPT),
        ("Accept-Language", "en-US,en;q=0.5"),
        ("Accept-Encoding", "gzip, deflate"),
        ("Referer", referer),
    ]
    if cookie:
        lines.append(("Cookie", cookie))
    lines += [("DNT", "1"), ("Connection", "keep-alive"), ("Upgrade-Insecure-Requests", "1")]
    if form is not None:
        lines += [
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("Content-Length", str(len(form))),
        ]
    return lines


def encode(fields: dict[str, str]) -> bytes:
    """Return a form as a browser sends it (URL standard, 5.2): line ends are CRLF."""
    pairs = []
    for name, value in fields.items():
        lines = value.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n")
        pairs.append(f"{_escape(name)}={_escape(lines)}")
    return "&".join(pairs).encode("ascii")


def _escape(text: str) -> str:
    return quote_plus(text, safe="*").replace("~", "%7E")


@dataclass(frozen=True, slots=True)
class ChatSystem:
    """The messaging system of the role chat_server."""

    ports: tuple[int, ...] = (PORTS["http"],)
    longest: int = MAX_CHARACTERS  # a byte is never more than a character
    stores: frozenset[Kind] = frozenset({"message", "user", "sealed"})
    folders: tuple[str, ...] = (
        "/var/lib/mysql",
        "/var/lib/imlab-chat",
        "/var/log/mysql",
        "/var/log/apache2",
    )
    programs: tuple[str, ...] = ("mariadbd", "apache2")
    backup: tuple[str, ...] = ("mariadb-dump", "--skip-extended-insert", "imlab_chat")

    def client(self, plan: Plan, at: str, server: str, connect: Connect) -> ChatClient:
        """Return a client at host `at` of the server on host `server`."""
        return ChatClient(plan, at, server, connect)

    def over_tls(
        self, plan: Plan, at: str, server: str, connect: Connect, context: ssl.SSLContext
    ) -> ChatClient:
        """Return the same over HTTPS."""
        return ChatClient(plan, at, server, bridging.tls(connect, context), scheme="https")

    def browser(self, plan: Plan, at: str, server: str, session: Session) -> Client:
        """Return a Chromium at host `at`."""
        from provisioning.roles.chat_server.browser import (  # noqa: PLC0415 - only for --browser
            BrowserClient,
        )

        return BrowserClient(plan, at, server, session)

    def at_rest(self, session: Session, texts: Iterable[str]) -> AtRest:
        """Search MariaDB's file of the messages."""
        return at_rest(session, texts)


class ChatClient:
    """A browser at one host, visiting the chat server of one host; one connection, kept alive.

    A user of the server's own machine reaches it as localhost, as the paper's do. For TLS,
    `connect` returns a connection that is encrypted, and scheme is "https".
    """

    def __init__(
        self,
        plan: Plan,
        at: str,
        server: str,
        connect: Connect,
        *,
        scheme: str = "http",
    ) -> None:
        self.exchanges: list[Exchange] = []
        self._at, self._server, self._connect, self._port = at, server, connect, PORTS[scheme]
        self._host = "localhost" if at == server else plan.address(server)
        self._address = "127.0.0.1" if at == server else self._host
        self._base = f"{scheme}://{self._host}/server/"
        self._url = HOME  # of the page that is shown
        self._page = Page()
        self._account = ""
        self._cookies: dict[str, str] = {}
        self._connection: http.client.HTTPConnection | None = None

    def sign_in(self, account: PlannedAccount) -> None:
        """Open the authentication page (Figure 9) and sign in."""
        self._account = account.name
        with self._recorded("sign_in") as exchange:
            self._get("PostHome.php")
            fields = self._form("PostHome.php")
            exchange.carried += [
                Carried("user", account.name, up=True),
                Carried("password", account.password, up=True, sender=account.name),
            ]
            self._submit(
                "PostHome.php", {**fields, "user": account.name, "password": account.password}
            )
            exchange.carried.append(Carried("user", account.name, up=False))

    def send(self, text: str, to: str | None = None) -> None:
        """Post a chat (Figure 10) and see it confirmed, as it was typed (Figure 11)."""
        with self._recorded("post") as exchange:
            if "nonce" not in self._page.forms.get("Post.php", {}):
                self._get("Post.php")
                exchange.carried.append(Carried("user", self._account, up=False))
            fields = self._form("Post.php")
            exchange.carried.append(
                Carried("message", text, up=True, sender=self._account, recipient=to)
            )
            self._submit("Post.php", {**fields, "content": text})
            if self._page.posted != text:
                raise self._error(f"the server confirmed another text: {self._page.posted!r}")
            exchange.carried += [
                Carried("message", text, up=False, sender=self._account, recipient=to),
                Carried("user", self._account, up=False),
            ]

    def incoming(self) -> tuple[Message, ...]:
        """Return what the others posted (Figure 12), oldest first."""
        with self._recorded("incoming") as exchange:
            return self._table("Incoming.php", exchange)

    def receive(self, message: Message, times: int, deadline: float) -> float:
        """Look at the incoming chats until that one is there; return when it was seen."""
        return poll(self, message, times, deadline)

    def outgoing(self) -> tuple[Message, ...]:
        """Return what the account posted (Figure 13), oldest first."""
        with self._recorded("outgoing") as exchange:
            return self._table("Outgoing.php", exchange)

    def close(self) -> None:
        """Close the connection; the account stays signed in for the next request."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _recorded(self, action: Action) -> AbstractContextManager[Exchange]:
        return recorded(self.exchanges, self._at, self._server, self._account, action)

    def _table(self, page: str, exchange: Exchange) -> tuple[Message, ...]:
        messages: list[Message] = []
        place: str | None = page
        while place is not None:
            self._get(place)
            heading, *rows = self._page.rows or [[]]
            if heading != ["USERNAME", "CHAT CONTENT"]:
                raise self._error(f"the page {self._page.title!r} has no table of chats")
            messages[:0] = [Message(sender, text) for sender, text in rows]
            place = self._page.older
        exchange.carried.append(Carried("user", self._account, up=False))
        for message in messages:
            exchange.carried += [
                Carried("user", message.sender, up=False),
                Carried("message", message.text, up=False, sender=message.sender),
            ]
        return tuple(messages)

    def _form(self, action: str) -> dict[str, str]:
        try:
            return self._page.forms[action]
        except KeyError:
            raise self._error(f"the page {self._page.title!r} has no form {action}") from None

    def _get(self, place: str) -> None:
        self._visit("GET", urljoin(self._base, place), None)

    def _submit(self, place: str, fields: dict[str, str]) -> None:
        self._visit("POST", urljoin(self._base, place), encode(fields))

    def _visit(self, method: str, url: str, form: bytes | None) -> None:
        """Request a page, follow where it leads, and read it; LabError if it is an error."""
        referer = self._url
        for _ in range(MAX_REDIRECTS):
            status, location, text = self._request(method, url, form, referer)
            if not location:
                break
            url, method, form = urljoin(url, location), "GET", None
            if not url.startswith(self._base):
                raise self._error(f"it leads to {url}, which is another place")
        else:
            raise self._error(f"it leads on and on, at last to {url}")
        self._url, self._page = url, read(text)
        if status != OK:
            raise self._error(f"HTTP status {status}: {self._page.alert or self._page.title}")

    def _request(
        self, method: str, url: str, form: bytes | None, referer: str
    ) -> tuple[int, str, str]:
        """Make one request; return its status, where it leads ("" if nowhere) and its text."""
        parts = urlsplit(url)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        cookie = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        lines = headers(self._host, referer, cookie, form)
        kept = self._connection is not None
        try:
            response = self._exchange(method, target, lines, form)
        except (OSError, EOFError, http.client.HTTPException) as error:
            self.close()
            # A server may close an idle connection at any time; a browser then asks again.
            # A form may be sent twice: the server knows it again by its nonce.
            if not kept:
                raise self._error(str(error) or type(error).__name__) from error
            try:
                response = self._exchange(method, target, lines, form)
            except (OSError, EOFError, http.client.HTTPException) as again:
                self.close()
                raise self._error(str(again) or type(again).__name__) from again
        head, body = response
        for line in head.headers.get_all("Set-Cookie") or []:
            for name, morsel in http.cookies.SimpleCookie(line).items():
                self._cookies[name] = morsel.value
        text = _decoded(body, head.headers.get("Content-Encoding", "")).decode(errors="replace")
        return head.status, head.headers.get("Location", ""), text

    def _exchange(
        self, method: str, target: str, lines: list[tuple[str, str]], form: bytes | None
    ) -> tuple[http.client.HTTPResponse, bytes]:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self._address, self._port)
            # http.client only sends, receives and closes; it never asks for more of a socket.
            self._connection.sock = self._connect(self._address, self._port)
        connection = self._connection
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in lines:
            connection.putheader(name, value)
        connection.endheaders(form)
        response = connection.getresponse()
        body = response.read()
        if response.will_close:
            self.close()
        return response, body

    def _error(self, saw: str) -> LabError:
        return LabError(
            f"using the chat of {self._server} from {self._at} as {self._account}",
            saw,
            fault=Fault.GUEST,
            todo=f"see /var/log/apache2/error.log on {self._server}",
        )


def _decoded(body: bytes, encoding: str) -> bytes:
    """Undo a content coding (RFC 9110, 8.4.1)."""
    if encoding == "gzip":
        return gzip.decompress(body)
    if encoding == "deflate":
        return zlib.decompress(body)
    return body


def wait_until_healthy(session: Session, context: RoleContext, deadline: float) -> None:
    """Ask for the server's health until PHP and SQL answer, for `deadline` seconds at most.

    Apache takes up new settings a moment after it was told to. So it is asked as others on the
    network ask, who are refused plain text if and only if there is TLS.
    """
    address = next((a.address for a in context.host.adapters if a.address), "127.0.0.1")
    address = address.split("/")[0]
    secured = None
    if context.certificate:
        trusted = context.certificate.context()
        secured = bridging.tls(session.connect, trusted, context.host.name)

    def why_not() -> str:
        plain = http_get(session, HEALTH, PORTS["http"], address=address)
        if secured is None:
            return _unhealthy(plain)
        if isinstance(plain, str) or plain[0] != FORBIDDEN:
            return "plain text is still taken"
        return _unhealthy(http_get(session, HEALTH, PORTS["https"], connect=secured))

    todo = f"see the logs in /var/log/apache2 and /var/log/mysql on {session.host.name}"
    wait_until(session, "the chat server", why_not, deadline, todo)


def _unhealthy(answer: tuple[int, str] | str) -> str:
    if isinstance(answer, str):
        return answer
    status, text = answer
    return "" if status == OK else f"HTTP status {status}: {read(text).alert}"
