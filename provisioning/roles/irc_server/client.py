"""An IRC client: the library `irc` over a connection that somebody else makes.

IRC confirms no message. What the server refuses is told by the sender's next action, and whether
a message arrived is seen at its recipient.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any, Self

import irc.client

from lab.errors import Fault, LabError
from provisioning import bridging
from provisioning.inbox import Inbox
from provisioning.messaging import Carried, Exchange, Message, recorded
from provisioning.roles.irc_server.desired import LONGEST

if TYPE_CHECKING:
    from lab.plan import Plan, PlannedAccount
    from provisioning.messaging import Action, Connect

REGISTER_DEADLINE = 15.0  # seconds; the server hashes the password meanwhile
QUIT_DEADLINE = 5.0
_NEVER = "\r\n\0\x01"  # ends of lines; \x01 frames the commands of CTCP
# Numeric replies that refuse a sign-in or a message (RFC 2812, 5.2).
_REFUSALS = (
    "nosuchnick", "cannotsendtochan", "norecipient", "notexttosend", "erroneusnickname",
    "nicknameinuse", "notregistered", "passwdmismatch", "yourebannedcreep", "error",
)  # fmt: skip
# Those by which somebody's own mode refuses a message (ngIRCd's +b and +C); no end of the visit.
_BOUNCES = ("486", "493")


class IrcClient:
    """Somebody at one host, on line at one server until `close`."""

    def __init__(self, plan: Plan, at: str, server: str, connect: Connect, port: int) -> None:
        self.exchanges: list[Exchange] = []
        self._at, self._server, self._connect, self._port = at, server, connect, port
        self._address = "127.0.0.1" if at == server else plan.address(server)
        self._account = ""
        self._inbox = Inbox(f"nobody at {at}")
        self._sent: list[Message] = []
        self._welcome = threading.Event()
        self._bounced: list[str] = []
        self._mode = threading.Event()
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        reactor = irc.client.Reactor()
        self._connection = reactor.server()
        # Bytes that are no UTF-8 must not end the thread that reads.
        self._connection.buffer_class = irc.client.buffer.LenientDecodingLineBuffer
        reactor.add_global_handler("welcome", lambda *_: self._welcome.set())
        reactor.add_global_handler("privmsg", self._on_message)
        reactor.add_global_handler("disconnect", self._on_refusal)
        reactor.add_global_handler("umode", lambda *_: self._mode.set())
        for name in _BOUNCES:
            reactor.add_global_handler(name, self._on_bounce)
        for name in _REFUSALS:
            reactor.add_global_handler(name, self._on_refusal)

    def sign_in(self, account: PlannedAccount) -> None:
        """Register with the account's name as nickname and its password (RFC 2812, 3.1)."""
        self._account = account.name
        self._inbox = Inbox(f"{account.name} at {self._at}")
        with self._recorded("sign_in") as exchange:
            # Asked for before the library is: its own errors say less.
            self._socket = bridging.real_socket(self._connect(self._address, self._port))
            exchange.carried += [
                Carried("password", account.password, up=True, sender=account.name),
                Carried("user", account.name, up=True),
            ]
            self._connection.connect(
                self._address,
                self._port,
                account.name,
                password=account.password,
                username=account.name,
                ircname=account.name,
                connect_factory=lambda _: self._socket,
            )
            self._thread = threading.Thread(target=self._read, daemon=True)
            self._thread.start()
            if not self._welcome.wait(REGISTER_DEADLINE):
                self._inbox.check()
                raise self._error(f"no welcome after {REGISTER_DEADLINE:g} s")
            self._inbox.check()
            exchange.carried.append(Carried("user", account.name, up=False))

    def send(self, text: str, to: str | None = None) -> None:
        """Send a private message; it is on its way when this returns."""
        with self._recorded("post") as exchange:
            self._inbox.check()
            if to is None:
                raise self._error("a message on IRC needs a recipient", Fault.USER)
            if not text or len(text.encode()) > LONGEST or any(c in text for c in _NEVER):
                raise self._error(
                    f"{text!r} is no message: 1 to {LONGEST} bytes in one line", Fault.USER
                )
            exchange.carried += [
                Carried("message", text, up=True, sender=self._account, recipient=to),
                Carried("user", to, up=True),
            ]
            try:
                self._connection.privmsg(to, text)
            except irc.client.IRCError as error:
                raise self._error(str(error)) from error
            self._sent.append(Message(self._account, text))

    def receive(self, message: Message, times: int, deadline: float) -> float:
        """Wait until the message has come `times` times; return when."""
        return self._inbox.wait(message, times, deadline)

    def incoming(self) -> tuple[Message, ...]:
        """Return what has come so far; asks the server nothing."""
        return self._inbox.messages()

    def outgoing(self) -> tuple[Message, ...]:
        """Return what was sent; IRC keeps nothing, so this is the client's own memory."""
        return tuple(self._sent)

    def refusals(self) -> tuple[str, ...]:
        """Return for each message that its recipient's mode refused what the server said."""
        return tuple(self._bounced)

    def set_mode(self, flags: str) -> None:
        """Set modes of one's own, as "+C" (RFC 2812, 3.1.5); returns when they are in force."""
        with self._recorded("ask"):
            self._inbox.check()
            self._mode.clear()
            self._connection.mode(self._account, flags)
            if not self._mode.wait(REGISTER_DEADLINE):
                raise self._error(f"mode {flags} is not confirmed")

    def close(self) -> None:
        """Say goodbye and hang up."""
        if self._thread is None or self._socket is None:
            return
        with contextlib.suppress(irc.client.IRCError, OSError):
            self._connection.quit()
        self._thread.join(QUIT_DEADLINE)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(QUIT_DEADLINE)
        self._thread = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> None:
        while self._connection.connected:
            self._connection.process_data()

    def _on_message(self, _: object, event: Any) -> None:  # noqa: ANN401 -- the library has no types
        message = Message(event.source.nick, event.arguments[0])
        with self._recorded("incoming") as exchange:
            exchange.carried += [
                Carried("user", message.sender, up=False),
                Carried("user", self._account, up=False),
                Carried("message", message.text, False, message.sender, self._account),  # noqa: FBT003 -- up, as above
            ]
        self._inbox.add(message)

    def _on_bounce(self, _: object, event: Any) -> None:  # noqa: ANN401 -- as above
        self._bounced.append(" ".join(str(part) for part in event.arguments))

    def _on_refusal(self, _: object, event: Any) -> None:  # noqa: ANN401 -- as above
        said = " ".join(str(part) for part in (event.target, *event.arguments) if part)
        self._inbox.trouble(f"{event.type}: {said}")
        self._welcome.set()

    def _recorded(self, action: Action) -> contextlib.AbstractContextManager[Exchange]:
        return recorded(self.exchanges, self._at, self._server, self._account, action)

    def _error(self, saw: str, fault: Fault = Fault.GUEST) -> LabError:
        return LabError(
            f"using the IRC server of {self._server} from {self._at} as {self._account}",
            saw,
            fault=fault,
            todo=f"see the system log on {self._server}",
        )
