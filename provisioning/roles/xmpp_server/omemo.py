"""OMEMO (XEP-0384) for the XMPP client: keys in memory, and trust in nobody but who is known.

People tell each other their identity keys beforehand (`ring`), as two who compare fingerprints
face to face. A key of a server's, or of somebody between, is never trusted: nothing is sent to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from omemo.session_manager import SessionManagerException
from omemo.storage import Just, Maybe, Nothing, Storage
from omemo.types import OMEMOException
from slixmpp.plugins import register_plugin
from slixmpp_omemo import XEP_0384, TrustLevel

from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from omemo.types import DeviceInformation, JSONType

PLUGIN = "xep_0384"


class _Memory(Storage):
    """Keys and sessions of one client, gone with it."""

    def __init__(self) -> None:
        super().__init__(disable_cache=True)
        self._kept: dict[str, JSONType] = {}

    async def _load(self, key: str) -> Maybe[JSONType]:
        return Just(self._kept[key]) if key in self._kept else Nothing()

    async def _store(self, key: str, value: JSONType) -> None:
        self._kept[key] = value

    async def _delete(self, key: str) -> None:
        self._kept.pop(key, None)


class _Omemo(XEP_0384):
    """The plugin; `ring` is set before it is used."""

    default_config = XEP_0384.default_config | {"ring": None}

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 -- slixmpp's own
        super().__init__(*args, **kwargs)
        self._memory = _Memory()

    @property
    def storage(self) -> Storage:
        """Where keys are kept."""
        return self._memory

    @property
    def _btbv_enabled(self) -> bool:
        return False

    async def _prompt_manual_trust(
        self, manually_trusted: frozenset[DeviceInformation], identifier: str | None
    ) -> None:
        del identifier
        manager = await self.get_session_manager()
        told = {account.lower(): key for account, key in self.ring.items()}
        for device in manually_trusted:
            known = told.get(device.bare_jid.partition("@")[0]) == device.identity_key
            level = TrustLevel.TRUSTED if known else TrustLevel.DISTRUSTED
            await manager.set_trust(device.bare_jid, device.identity_key, level.value)


register_plugin(_Omemo)


class Sealer:
    """OMEMO for one client; `stream` is slixmpp's client, `message` its stanza."""

    def __init__(self, ring: dict[str, bytes]) -> None:
        """Take what people have told each other: account -> identity key."""
        self._ring = ring
        self._asked: set[str] = set()

    def load(self, stream: Any) -> None:  # noqa: ANN401 -- the libraries are typed in parts
        """Give the client its plugin, before it connects."""
        stream.register_plugin(PLUGIN, {"ring": self._ring}, module=_Omemo)

    async def publish(self, stream: Any, account: str) -> None:  # noqa: ANN401 -- as above
        """Wait until the client's keys are on the server, and tell the others its identity."""
        try:
            manager = await stream.plugin[PLUGIN].get_session_manager()
            own, _ = await manager.get_own_device_information()
        except (OMEMOException, SessionManagerException) as error:
            raise _failed(f"publishing the keys of {account}", error) from error
        self._ring[account] = own.identity_key

    async def seal(self, stream: Any, message: Any) -> Any:  # noqa: ANN401 -- as above
        """Return the message with its body encrypted for those who are trusted, and nobody else."""
        to = message["to"]
        try:
            if to.bare not in self._asked:
                # What the server pushes of a contact's keys may still be on its way.
                await stream.plugin[PLUGIN].refresh_device_lists({to}, force_download=True)
                self._asked.add(to.bare)
            sealed, problems = await stream.plugin[PLUGIN].encrypt_message(message, to)
        except (OMEMOException, SessionManagerException) as error:
            raise _failed(f"sealing a message for {to}", error) from error
        if sealed is None:
            raise _failed(f"sealing a message for {to}", *problems)
        sealed["to"], sealed["type"] = to, message["type"]
        return sealed

    async def opened(self, stream: Any, message: Any, sender: str) -> Any:  # noqa: ANN401 -- as above
        """Return the message with its body decrypted, None for one without a body of its own.

        Raises LabError when it was not sealed, or not by a key that its sender has told.
        """
        doing = f"opening a message of {sender}"
        if not stream.plugin[PLUGIN].is_encrypted(message):
            if message["body"] and message["type"] in {"chat", "normal"}:
                raise _failed(doing, "it came in plain text; it is not shown")
            return None
        try:
            plain, device = await stream.plugin[PLUGIN].decrypt_message(message)
        except (OMEMOException, SessionManagerException, ValueError) as error:
            raise _failed(doing, error) from error
        if device.identity_key != self._ring.get(sender):
            raise _failed(doing, f"it is sealed with a key that {sender} has not told")
        return plain


def _failed(doing: str, *why: object) -> LabError:
    return LabError(
        doing,
        f"{doing}: " + "; ".join(str(reason) or type(reason).__name__ for reason in why),
        fault=Fault.GUEST,
        todo="see who has which keys: a message is sealed for known ones only",
    )
