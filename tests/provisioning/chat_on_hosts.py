"""The chat on the hosts of a real lab, as its tests use it."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlencode

from provisioning import messaging, roles
from provisioning.roles import RoleContext
from provisioning.roles.chat_server.client import ChatClient
from provisioning.roles.chat_server.pages import Page, read

if TYPE_CHECKING:
    from lab.plan import Plan, PlannedAccount
    from provisioning.transport import Session

HOSTS = ("guest", "peer")


class PaperLab(Protocol):
    """The lab of vm_specs/paper.yaml, up."""

    plan: Plan

    def session(self, name: str) -> Session:
        """Return the session of a host, which the lab keeps open for all."""


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
        role.probe(self.sessions[name], self.context(name), 30.0)
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
