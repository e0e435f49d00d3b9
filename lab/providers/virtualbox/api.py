"""The one adapter over pyvbox and vboxapi: objects, errors, constants, progress, and a count.

pyvbox (2.1.1, kept by nobody any more) has classes generated for 6.1: they number enums as 6.1 did,
check arguments against its parameters, and so fail on later versions in ways that look like
success (a running machine shows as paused). Its manager and its base class `Interface`, which hide
XPCOM from COM, are right for all versions, and this builds on those alone. Constants come from
vboxapi, which knows those of the VirtualBox that runs.

Standard library, pyvbox and vboxapi only: this runs in the Python that has the binding.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from lab.providers.virtualbox.signatures import signature

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: The SDK reference, "VirtualBox COM result codes", and those of COM that turn up.
CODES = {
    0x80BB0001: "VBOX_E_OBJECT_NOT_FOUND",
    0x80BB0002: "VBOX_E_INVALID_VM_STATE",
    0x80BB0003: "VBOX_E_VM_ERROR",
    0x80BB0004: "VBOX_E_FILE_ERROR",
    0x80BB0005: "VBOX_E_IPRT_ERROR",
    0x80BB0006: "VBOX_E_PDM_ERROR",
    0x80BB0007: "VBOX_E_INVALID_OBJECT_STATE",
    0x80BB0008: "VBOX_E_HOST_ERROR",
    0x80BB0009: "VBOX_E_NOT_SUPPORTED",
    0x80BB000A: "VBOX_E_XML_ERROR",
    0x80BB000B: "VBOX_E_INVALID_SESSION_STATE",
    0x80BB000C: "VBOX_E_OBJECT_IN_USE",
    0x80004001: "E_NOTIMPL",
    0x80004005: "E_FAIL",
    0x80070005: "E_ACCESSDENIED",
    0x80070057: "E_INVALIDARG",
    0x800706BA: "RPC_S_SERVER_UNAVAILABLE",
    0x800706BE: "NS_ERROR_CALL_FAILED",
}
GONE = frozenset({"RPC_S_SERVER_UNAVAILABLE", "NS_ERROR_CALL_FAILED"})
PLAIN = (str, bytes, int, float, bool, type(None))
SLICE = 200  # milliseconds that one wait for a progress takes; the deadline is seen in between


class Refused(Exception):  # noqa: N818 - VirtualBox's answer
    """VirtualBox said no: which call, its code by name, its words."""

    def __init__(self, call: str, code: str, text: str) -> None:
        self.call, self.code, self.text = call, code, text
        super().__init__(call, code, text)

    def __str__(self) -> str:
        return f"{self.call}: {self.text} ({self.code})"


class Late(Exception):  # noqa: N818 - what it is
    """A progress did not complete in time."""


class Thing:
    """An object of VirtualBox: its attributes and methods by the names of the SDK."""

    __slots__ = ("_api", "_raw")

    def __init__(self, api: Api, raw: Any) -> None:  # noqa: ANN401 - whatever the binding has
        self._api, self._raw = api, raw

    def get(self, *path: str) -> Any:  # noqa: ANN401 - the attribute's own type
        """Return an attribute; with several names, that of the attribute."""
        found = self
        for name in path:
            found = self._api.done(name, partial(found._raw._get_attr, name))  # noqa: SLF001 - pyvbox's own way in
        return found

    def put(self, *path_and_value: Any) -> None:  # noqa: ANN401 - as above
        """Set an attribute, the last argument its value: ("audioAdapter", "enabled", False)."""
        *path, name, value = path_and_value
        owner = self.get(*path)
        if isinstance(value, list):  # a list would be taken for the binding's own arguments
            array = partial(self._api.manager.setArray, owner.raw, name, bare(value))
            self._api.done(name, array)
            return
        self._api.done(name, partial(owner._raw._set_attr, name, bare(value)))  # noqa: SLF001 - as above

    def do(self, method: str, *arguments: Any) -> Any:  # noqa: ANN401 - as above
        """Call a method."""
        given = [bare(argument) for argument in arguments]
        return self._api.done(method, partial(self._raw._call, method, in_p=given))  # noqa: SLF001 - as above

    @property
    def raw(self) -> Any:  # noqa: ANN401 - as above
        """The binding's own object."""
        return self._raw._i  # noqa: SLF001 - as above


def bare(value: Any) -> Any:  # noqa: ANN401 - as above
    """Return what the binding wants for a Thing, or a list of them."""
    if isinstance(value, Thing):
        return value.raw
    return [bare(item) for item in value] if isinstance(value, (list, tuple)) else value


class Api:
    """VirtualBox as it runs on this machine.

    manager -- vboxapi's VirtualBoxManager; wrap -- makes pyvbox's Interface of a raw object.
    calls   -- how many calls, gets and puts went to VirtualBox so far.
    before  -- is called before each, with its name: it may end this process.
    """

    def __init__(self, manager: Any, wrap: Callable[[Any], Any], box: Any) -> None:  # noqa: ANN401 - as above
        self.manager, self._wrap, self.calls = manager, wrap, 0
        self.before: Callable[[str], None] = lambda _: None
        self.box = Thing(self, wrap(box))
        self.signature = signature(self.box.get("APIVersion"))

    def done(self, name: str, call: Callable[[], Any]) -> Any:  # noqa: ANN401 - as above
        """Count, call, and make Things or Refused of what comes back."""
        self.calls += 1
        self.before(name)
        try:
            return self._things(call())
        except Refused:
            raise
        except Exception as error:  # pyvbox's, xpcom's or pywintypes' own
            raise refusal(name, error) from error

    def _things(self, value: Any) -> Any:  # noqa: ANN401 - as above
        if isinstance(value, PLAIN):
            return value
        if isinstance(value, (list, tuple)):
            return [self._things(item) for item in value]
        return Thing(self, self._wrap(value))

    def constant(self, enum: str, name: str) -> int:
        """Return the number that this version gives to an enum's value."""
        return int(getattr(self.manager.constants, f"{enum}_{name}"))

    def name_of(self, enum: str, value: int) -> str:
        """Return the name that this version has for an enum's number.

        The last is taken where two have one number: pseudo-states (FirstOnline) come last, so
        they are left out.
        """
        values = self.manager.constants.all_values(enum)
        named = {int(n): k for k, n in values.items() if not k.startswith(("First", "Last"))}
        return str(named.get(int(value), value))

    def session(self) -> Thing:
        """Return a new session object."""
        maker = getattr(self.manager, "mgr", self.manager)
        return Thing(self, self._wrap(maker.getSessionObject(None)))

    def create_machine(self, **given: Any) -> Thing:  # noqa: ANN401 - as above
        """Create a machine, unregistered; what the version has besides `given` is empty."""
        values = {"cipher": "", "password_id": "", "password": "", **given}
        if "platform" in self.signature.create_machine:
            values["platform"] = self.constant("PlatformArchitecture", "x86")
        machine: Thing = self.box.do(
            "createMachine", *(values[name] for name in self.signature.create_machine)
        )
        return machine

    def finish(self, progress: Thing, call: str, deadline: float) -> None:
        """Wait until a progress has completed, at most until `deadline` (time.monotonic).

        Raises Late, and Refused when it completed without success: what fails here arrives as
        a result, not as an exception.
        """
        while not progress.get("completed"):
            if time.monotonic() > deadline:
                raise Late(f"{call}: not done in time")
            progress.do("waitForCompletion", SLICE)
        if int(progress.get("resultCode")) != 0:
            raise outcome(progress, call)


def outcome(progress: Thing, call: str) -> Refused:
    """Return the error of a progress that completed without success."""
    code = int(progress.get("resultCode")) & 0xFFFFFFFF
    info = progress.get("errorInfo")
    words: list[str] = []
    while info is not None and len(words) < 5:  # noqa: PLR2004 - errors nest; these say enough
        words.append(str(info.get("text")).strip())
        info = info.get("next")
    return Refused(call, CODES.get(code, hex(code)), "\n".join(words) or "it failed")


def refusal(call: str, error: Exception) -> Refused:
    """Make a Refused of pyvbox's VBoxError, xpcom's exception or COM's com_error."""
    inner = getattr(error, "exc", error)
    number = next(
        (n for n in (getattr(inner, a, None) for a in ("errno", "hresult")) if n is not None), None
    )
    text = next(
        (str(t) for t in (getattr(inner, a, None) for a in ("msg", "message")) if t), str(inner)
    )
    excepinfo = getattr(inner, "excepinfo", None)  # pywintypes.com_error
    if excepinfo and len(excepinfo) > 2 and excepinfo[2]:  # noqa: PLR2004 - (wcode, source, text, …)
        text = str(excepinfo[2])
    if number is None:
        return Refused(call, type(inner).__name__, text)
    code = int(number) & 0xFFFFFFFF
    return Refused(call, CODES.get(code, hex(code)), text)


def walk(media: list[Thing]) -> Iterator[Thing]:
    """Yield media and all that were made on them, children before their parents."""
    for medium in media:
        yield from walk(medium.get("children"))
        yield medium


def connect() -> Api:
    """Reach the VirtualBox of this user. Raises ImportError, Refused, UnknownVersion."""
    import virtualbox  # noqa: PLC0415 - a tenth of a second, and only there in the agent
    from virtualbox.library_base import Interface  # noqa: PLC0415 - as above

    try:
        manager = virtualbox.Manager().manager
        box = manager.getVirtualBox()
    except ImportError:
        raise
    except Exception as error:
        raise refusal("reaching VBoxSVC", error) from error
    return Api(manager, Interface, box)
