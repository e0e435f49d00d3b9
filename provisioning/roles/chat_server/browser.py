"""The chat's client as a person has it: a real Chromium on the host, driven over WebDriver.

chromedriver runs on the host and is reached through SSH; what Chromium sends, the host sends.
The way is the paper's: the user's own Home.php (Figure 8), a link to the other machine's server,
the form of Figure 9, and so on. WebDriver: https://www.w3.org/TR/webdriver2/.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from lab.errors import Fault, LabError
from provisioning.messaging import Carried, Exchange, Message, poll, recorded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.plan import Plan, PlannedAccount
    from provisioning.messaging import Action
    from provisioning.transport import Session

DRIVER_PORT = 9515
HOME = "http://localhost/client/Home.php"
PAGE_DEADLINE = 20.0  # seconds for an element of a page to be there
START_DEADLINE = 30.0  # seconds for chromedriver to listen and Chromium to start
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # root of a lab host is nobody outside; the lab is the sandbox
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
)


@contextlib.contextmanager
def running_driver(session: Session) -> Iterator[int]:
    """Run chromedriver on a host for as long as the block lasts; yield the local port to it."""
    script = 'chromedriver --port="$1" --silent & p=$!; read -r _; kill $p; wait $p'
    stream = session.stream(["/bin/sh", "-c", script, "sh", str(DRIVER_PORT)])
    try:
        with session.forward(DRIVER_PORT) as port:
            yield port
    finally:
        stream.close_stdin()
        with contextlib.suppress(LabError):  # it has gone with its host
            stream.wait(10.0)


@dataclass(slots=True)
class _Page:
    """One Chromium, and the errors that it may raise told as ours."""

    driver: Any  # selenium's Remote; its types are not exported
    at: str

    def find(self, kind: str, value: str) -> Any:  # noqa: ANN401 - a selenium WebElement
        """Return an element as soon as it can be used. Raises LabError."""
        from selenium.common.exceptions import WebDriverException  # noqa: PLC0415 - loaded late
        from selenium.webdriver.support.expected_conditions import (  # noqa: PLC0415 - as above
            element_to_be_clickable,
        )
        from selenium.webdriver.support.ui import WebDriverWait  # noqa: PLC0415 - as above

        try:
            return WebDriverWait(self.driver, PAGE_DEADLINE, 0.02).until(
                element_to_be_clickable((kind, value))
            )
        except WebDriverException as error:
            raise LabError(
                f"looking for {value!r} on the page {self.driver.current_url} at {self.at}",
                self.alert() or str(error.msg or type(error).__name__),
                fault=Fault.GUEST,
                todo="see what the page shows: ./inv lab-forward HOST:80",
            ) from error

    def alert(self) -> str:
        """Return what the page complains about, or ""."""
        shown = self.driver.find_elements("css selector", "[role=alert]")
        return " ".join(element.text for element in shown)

    def rows(self) -> list[tuple[str, str]]:
        """Return the table of chats, without its heading."""
        script = (
            "return [...document.querySelectorAll('table tr')].slice(1)"
            ".map(row => [...row.cells].map(cell => cell.textContent))"
        )
        return [(row[0], row[1]) for row in self.driver.execute_script(script)]


class BrowserClient:
    """Somebody with a Chromium at one host; the same protocol as the HTTP client's."""

    def __init__(self, plan: Plan, at: str, server: str, session: Session) -> None:
        """Start Chromium on the host. Raises LabError when it has none, or it does not start."""
        self.exchanges: list[Exchange] = []
        self._at, self._server = at, server
        self._account = ""
        own = at == server
        self._base = f"http://{'localhost' if own else plan.address(server)}/server/"
        self._resources = contextlib.ExitStack()
        try:
            port = self._resources.enter_context(running_driver(session))
            self._page = _Page(_start(port, session), at)
            self._resources.callback(self._page.driver.quit)
        except BaseException:
            self._resources.close()
            raise

    def sign_in(self, account: PlannedAccount) -> None:
        """Go from Home.php to the authentication page and sign in."""
        self._account = account.name
        with self._recorded("sign_in") as exchange:
            self._page.driver.get(HOME)
            self._page.find("css selector", f'a[href="{self._link("PostHome.php")}"]').click()
            self._page.find("id", "user").send_keys(account.name)
            self._page.find("id", "password").send_keys(account.password)
            exchange.carried += [
                Carried("user", account.name, up=True),
                Carried("password", account.password, up=True, sender=account.name),
            ]
            self._page.find("css selector", "form button").click()
            self._page.find("id", "content")
            exchange.carried.append(Carried("user", account.name, up=False))

    def send(self, text: str, to: str | None = None) -> None:
        """Type a chat, post it, and see it confirmed."""
        with self._recorded("post") as exchange:
            self._page.driver.get(f"{self._base}Post.php")
            self._page.find("id", "content").send_keys(text)
            self._page.find("css selector", "form button").click()
            confirmed = self._page.find("id", "posted").get_property("textContent")
            if confirmed != text:
                raise LabError(
                    f"posting a chat on {self._server} from {self._at}",
                    f"the server confirmed another text: {confirmed!r}",
                    fault=Fault.GUEST,
                    todo=f"see /var/log/apache2/error.log on {self._server}",
                )
            exchange.carried += [
                Carried("user", self._account, up=False),
                Carried("message", text, up=True, sender=self._account, recipient=to),
                Carried("message", text, up=False, sender=self._account, recipient=to),
            ]

    def incoming(self) -> tuple[Message, ...]:
        """Return what the others posted, as the page shows it."""
        with self._recorded("incoming") as exchange:
            return self._table("Incoming.php", exchange)

    def receive(self, message: Message, times: int, deadline: float) -> float:
        """Look at the incoming chats until that one is there; return when it was seen."""
        return poll(self, message, times, deadline)

    def outgoing(self) -> tuple[Message, ...]:
        """Return what the account posted, as the page shows it."""
        with self._recorded("outgoing") as exchange:
            return self._table("Outgoing.php", exchange)

    def close(self) -> None:
        """Close Chromium and its driver."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _link(self, page: str) -> str:
        return f"/server/{page}" if self._at == self._server else f"{self._base}{page}"

    def _recorded(self, action: Action) -> contextlib.AbstractContextManager[Exchange]:
        return recorded(self.exchanges, self._at, self._server, self._account, action)

    def _table(self, page: str, exchange: Exchange) -> tuple[Message, ...]:
        self._page.driver.get(self._base + page)
        self._page.find("css selector", "table")
        messages = tuple(Message(sender, text) for sender, text in self._page.rows())
        exchange.carried.append(Carried("user", self._account, up=False))
        for message in messages:
            exchange.carried += [
                Carried("user", message.sender, up=False),
                Carried("message", message.text, up=False, sender=message.sender),
            ]
        return messages


def _start(port: int, session: Session) -> Any:  # noqa: ANN401 - selenium's Remote
    """Start a Chromium by a driver that may still be starting. Raises LabError."""
    import time  # noqa: PLC0415 - beside the libraries that are loaded late

    from selenium import webdriver  # noqa: PLC0415 - half a second that only --browser waits for
    from selenium.common.exceptions import WebDriverException  # noqa: PLC0415 - as above
    from urllib3.exceptions import HTTPError  # noqa: PLC0415 - as above

    options = webdriver.ChromeOptions()
    for argument in ARGUMENTS:
        options.add_argument(argument)
    end = time.monotonic() + START_DEADLINE
    while True:
        try:
            return webdriver.Remote(f"http://127.0.0.1:{port}", options=options)
        except (OSError, HTTPError, WebDriverException) as error:
            if time.monotonic() > end:
                raise LabError(
                    f"starting Chromium on {session.host.name}",
                    str(error),
                    fault=Fault.GUEST,
                    todo="its image must have it: take the lab down, and run with --browser again",
                ) from error
        time.sleep(0.05)
