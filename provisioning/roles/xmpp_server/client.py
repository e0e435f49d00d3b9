"""An XMPP client: slixmpp in a thread of its own, over a connection that somebody else makes.

XMPP confirms no message by itself: whether one arrived is seen at its recipient. With `context`
the stream turns to TLS before anything else; with `sealer` bodies are sealed by OMEMO.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import slixmpp

from lab.errors import Fault, LabError
from provisioning import bridging
from provisioning.inbox import Inbox
from provisioning.messaging import Carried, Exchange, Message, recorded
from provisioning.roles.xmpp_server.desired import LONGEST, PORT

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Coroutine

    from lab.plan import Plan, PlannedAccount
    from provisioning.messaging import Action, Connect
    from provisioning.roles.xmpp_server.omemo import Sealer

SIGN_IN_DEADLINE = 20.0  # seconds; with OMEMO two hundred keys are made meanwhile
SEND_DEADLINE = 20.0
CLOSE_DEADLINE = 3.0
# What XML 1.0 (2.2, 2.11) does not carry, or not as it is.
_NEVER = re.compile("[\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]")
for _name in ("slixmpp", "slixmpp_omemo", "omemo", "oldmemo", "twomemo", "asyncio"):
    # What goes wrong is told by our own errors; nothing is printed beside.
    logging.getLogger(_name).addHandler(logging.NullHandler())


class _Stream(slixmpp.ClientXMPP):
    """slixmpp's client on a socket that is connected already."""

    def __init__(self, address: str, password: str, link: socket.socket) -> None:
        super().__init__(address, password)
        self._link = link
        self.enable_direct_tls = False
        self.end_session_on_disconnect = True

    async def _attempt_connection(self, *_: object) -> bool:
        """Take the socket: slixmpp itself knows addresses only."""
        self.event_when_connected = "connected"
        await self.loop.create_connection(lambda: self, sock=self._link)
        return True


class XmppClient:
    """Somebody at one host, on line at one server until `close`."""

    def __init__(  # noqa: PLR0913 -- System.client's, and two ways to secure it
        self,
        plan: Plan,
        at: str,
        server: str,
        connect: Connect,
        *,
        context: ssl.SSLContext | None = None,
        sealer: Sealer | None = None,
    ) -> None:
        self.exchanges: list[Exchange] = []
        self._at, self._server, self._connect = at, server, connect
        self._context, self._sealer = context, sealer
        self._address = "127.0.0.1" if at == server else plan.address(server)
        self._names = {account.name.lower(): account.name for account in plan.accounts}
        self._account = ""
        self._inbox = Inbox(f"nobody at {at}")
        self._sent: list[Message] = []
        self._contacts: list[str] = []
        self._presences: list[tuple[str, str]] = []
        self._bounced: list[str] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stream: _Stream | None = None

    def sign_in(self, account: PlannedAccount) -> None:
        """Prove to be the account (SASL), then be present: messages come from now on."""
        self._account = account.name
        self._inbox = Inbox(f"{account.name} at {self._at}")
        with self._recorded("sign_in") as exchange:
            link = bridging.real_socket(self._connect(self._address, PORT))
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=_run, args=(self._loop,), daemon=True).start()
            exchange.carried.append(Carried("user", account.name.lower(), up=True))
            self._await(self._open(account, link), SIGN_IN_DEADLINE)
            if self._sealer:  # keys are published at one's own address
                exchange.carried += self._known(account.name.lower(), up=True)
            for name in (account.name.lower(), *self._contacts):
                exchange.carried += self._known(name, up=False)

    def send(self, text: str, to: str | None = None) -> None:
        """Send a chat message to an account of the same server."""
        with self._recorded("post") as exchange:
            self._inbox.check()
            if to is None:
                raise self._error("a message on XMPP needs a recipient", Fault.USER)
            if not text or len(text.encode(errors="replace")) > LONGEST or _NEVER.search(text):
                raise self._error(
                    f"{text[:80]!r} is no message: 1 to {LONGEST} bytes, no control characters",
                    Fault.USER,
                )
            exchange.carried += [
                Carried("message", text, up=True, sender=self._account, recipient=to),
                *self._known(to.lower(), up=True),
            ]
            self._await(self._send(text, f"{to.lower()}@{self._server}"), SEND_DEADLINE)
            self._sent.append(Message(self._account, text))

    def receive(self, message: Message, times: int, deadline: float) -> float:
        """Wait until the message has come `times` times; return when."""
        return self._inbox.wait(message, times, deadline)

    def incoming(self) -> tuple[Message, ...]:
        """Return what has come so far; asks the server nothing."""
        return self._inbox.messages()

    def outgoing(self) -> tuple[Message, ...]:
        """Return what was sent, from the client's own memory."""
        return tuple(self._sent)

    def contacts(self) -> tuple[str, ...]:
        """Return the names in the account's list of contacts, as the server told it."""
        return tuple(self._contacts)

    def presences(self) -> tuple[tuple[str, str], ...]:
        """Return who was told to be "available", "unavailable" …, in order, without oneself."""
        return tuple(self._presences)

    def refusals(self) -> tuple[str, ...]:
        """Return for each message that came back why it did (RFC 6120, 8.3)."""
        return tuple(self._bounced)

    def block(self, name: str) -> None:
        """Let the server take nothing from an account any more (XEP-0191)."""
        with self._recorded("ask") as exchange:
            exchange.carried += self._known(name.lower(), up=True)
            self._await(self._block(f"{name.lower()}@{self._server}"), SEND_DEADLINE)

    def unblock(self, name: str) -> None:
        """Let the server take things from an account again."""
        with self._recorded("ask") as exchange:
            exchange.carried += self._known(name.lower(), up=True)
            self._await(self._block(f"{name.lower()}@{self._server}", again=True), SEND_DEADLINE)

    def probe(self, name: str) -> None:
        """Ask for somebody's presence (RFC 6121, 4.3); returns when the server has dealt with it.

        A server deals with what a client says in order (RFC 6120, 10.1): when it has answered a
        question that was asked afterwards, what it has to say to the first has come.
        """
        with self._recorded("ask") as exchange:
            exchange.carried += self._known(name.lower(), up=True)
            self._await(self._probe(f"{name.lower()}@{self._server}"), SEND_DEADLINE)

    def close(self) -> None:
        """Close the stream and hang up."""
        if self._loop is None:
            return
        with contextlib.suppress(LabError):
            self._await(self._end(), 2 * CLOSE_DEADLINE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._loop = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _open(self, account: PlannedAccount, link: socket.socket) -> None:
        stream = _Stream(f"{account.name.lower()}@{self._server}", account.password, link)
        self._stream = stream
        stream.enable_plaintext = self._context is None
        stream.enable_starttls = self._context is not None
        if self._context:
            stream.ssl_context = self._context
        # Without TLS a proof that does not tell the password, or none (RFC 5802).
        stream.plugin["feature_mechanisms"].unencrypted_scram = self._context is None
        present = self._listen(stream)
        if self._sealer:
            self._sealer.load(stream)
        stream.connect("connected", PORT)
        await present
        if self._sealer:
            await self._sealer.publish(stream, account.name)

    def _listen(self, stream: _Stream) -> asyncio.Future[None]:
        """Take up what the stream tells; return what is done when the account is present."""
        present: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def on_session(_: object) -> None:
            answer = await stream.get_roster()
            if answer is not None:
                self._contacts = [address.user for address in answer["roster"]["items"]]
            stream.send_presence()

        def on_presence(presence: Any) -> None:  # noqa: ANN401 -- a stanza
            if presence["from"] == stream.boundjid and not present.done():
                present.set_result(None)

        stream.add_event_handler("session_start", on_session)
        stream.add_event_handler("presence_available", on_presence)
        stream.add_event_handler("presence", self._on_presence)
        stream.add_event_handler("message", self._on_message)
        stream.add_event_handler("message_error", self._on_refusal)
        self._listen_for_trouble(stream, present)
        return present

    def _listen_for_trouble(self, stream: _Stream, present: asyncio.Future[None]) -> None:
        """Let what goes wrong be an error of who signs in, or of who waits for a message."""

        def refused(what: str, event: object) -> None:
            reason = f"{what} {event or ''}".strip()
            self._inbox.trouble(reason)
            if not present.done():
                present.set_exception(self._error(reason))

        def unless_signed_in(_: object) -> None:
            if not stream.authenticated:
                refused("the server lets nobody in that way: it wants TLS, or offers none", "")

        stream.add_event_handler("stream_negotiated", unless_signed_in)
        for event, what in (
            ("ssl_invalid_chain", "TLS: the server does not prove who it is:"),
            ("failed_all_auth", "the server takes neither name and password nor a safe way"),
            ("stream_error", "stream error:"),
            ("disconnected", "the connection ended"),
        ):
            stream.add_event_handler(event, partial(refused, what))

    async def _block(self, address: str, *, again: bool = False) -> None:
        if self._stream is None:
            raise self._error("it is not signed in", Fault.USER)
        self._stream.register_plugin("xep_0191")
        blocking = self._stream.plugin["xep_0191"]
        await (blocking.unblock if again else blocking.block)(slixmpp.JID(address))

    def _on_refusal(self, stanza: Any) -> None:  # noqa: ANN401 -- a stanza
        self._bounced.append(str(stanza["error"]["condition"]))

    async def _probe(self, address: str) -> None:
        if self._stream is None:
            raise self._error("it is not signed in", Fault.USER)
        self._stream.send_presence(pto=address, ptype="probe")
        await self._stream.get_roster()

    def _on_presence(self, presence: Any) -> None:  # noqa: ANN401 -- a stanza
        if presence["from"].user and presence["from"].user != self._account.lower():
            self._presences.append((presence["from"].user, str(presence["type"])))

    async def _send(self, text: str, address: str) -> None:
        stream = self._stream
        if stream is None:
            raise self._error("it is not signed in", Fault.USER)
        message = stream.make_message(mto=address, mbody=text, mtype="chat")
        if self._sealer:
            message = await self._sealer.seal(stream, message)
        message.send()

    async def _on_message(self, stanza: Any) -> None:  # noqa: ANN401 -- a stanza
        sender = self._names.get(stanza["from"].user, stanza["from"].user)
        if self._sealer:
            try:
                stanza = await self._sealer.opened(self._stream, stanza, sender)
            except LabError as error:
                self._inbox.refuse(error.saw)
                return
        if stanza is None or stanza["type"] not in {"chat", "normal"} or not stanza["body"]:
            return
        message = Message(sender, stanza["body"])
        with self._recorded("incoming") as exchange:
            exchange.carried += [
                *self._known(sender.lower(), up=False),
                *self._known(self._account.lower(), up=False),
                Carried("message", message.text, up=False, sender=sender, recipient=self._account),
            ]
        self._inbox.add(message)

    def _known(self, name: str, *, up: bool) -> tuple[Carried, Carried]:
        """Return what an address tells: the name, and the address itself."""
        address = f"{name}@{self._server}"
        return Carried("user", name, up=up), Carried("contact", address, up=up)

    async def _end(self) -> None:
        """Close the stream; slixmpp says goodbye and waits for the answer."""
        if self._stream is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stream.disconnect(wait=CLOSE_DEADLINE), CLOSE_DEADLINE)
            self._stream.abort()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _await(self, work: Coroutine[Any, Any, None], deadline: float) -> None:
        """Let the thread do something and wait for it. Raises LabError."""
        if self._loop is None:
            work.close()
            raise self._error("it is not signed in", Fault.USER)
        doing = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            doing.result(deadline)
        except TimeoutError as error:
            doing.cancel()
            raise self._error(f"not done after {deadline:g} s") from error

    def _recorded(self, action: Action) -> contextlib.AbstractContextManager[Exchange]:
        return recorded(self.exchanges, self._at, self._server, self._account, action)

    def _error(self, saw: str, fault: Fault = Fault.GUEST) -> LabError:
        return LabError(
            f"using the XMPP server of {self._server} from {self._at} as {self._account}",
            saw,
            fault=fault,
            todo=f"see /var/log/prosody/prosody.log on {self._server}",
        )


def _run(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()
