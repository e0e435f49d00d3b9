"""How each VirtualBox wants to be called: 6.1 to 7.2, by what the API says of itself.

7.2 runs here (tests/virtualbox/test_life_cycle.py makes every call for real); 6.1 is checked
against the library that was generated from its interface definition, 7.0 and 7.1 against what
their SDK references list. What is recorded is *our* table's doing, not VirtualBox's.
"""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import pytest
import virtualbox.library as library_of_6_1
from virtualbox.library_base import pythonic_name

from lab.providers.virtualbox import api, machines
from lab.providers.virtualbox.signatures import SIGNATURES, UnknownVersion, signature

pytestmark = pytest.mark.virtualbox

CREATE_MACHINE = {
    "6_1": ["settings", "name", ["group"], "os", "flags"],
    "7_0": ["settings", "name", ["group"], "os", "flags", "", "", ""],
    "7_1": ["settings", "name", 1, ["group"], "os", "flags", "", "", ""],
    "7_2": ["settings", "name", 1, ["group"], "os", "flags", "", "", ""],
}
OLD = {"firmwareType", "BIOSSettings.IOAPICEnabled", "RTCUseUTC", "setCPUProperty"}
NEW = {
    "firmwareSettings.firmwareType",
    "firmwareSettings.IOAPICEnabled",
    "platform.RTCUseUTC",
    "platform.x86.setCPUProperty",
}
#: What of a machine differs, and is touched when one is made.
TOUCHED = {
    "6_1": OLD | {"audioAdapter.enabled"},
    "7_0": OLD | {"audioSettings.adapter.enabled"},
    "7_1": NEW | {"audioSettings.adapter.enabled"},
    "7_2": NEW | {"audioSettings.adapter.enabled"},
}


class Recorded:
    """Stands where the binding's object would: every path and call is noted."""

    def __init__(self, log: list[tuple[str, Any]], path: str = "") -> None:
        self.log, self.path = log, path

    def _at(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def _get_attr(self, name: str) -> Any:  # noqa: ANN401 - as the binding
        if name == "APIVersion":
            return self.log[0][1]
        return Recorded(self.log, self._at(name))

    def _set_attr(self, name: str, value: object) -> None:
        self.log.append((self._at(name), value))

    def _call(self, name: str, in_p: list[object]) -> Any:  # noqa: ANN401 - as the binding
        self.log.append((self._at(name), in_p))
        return Recorded(self.log, f"{name}()")

    @property
    def _i(self) -> Recorded:
        return self


def an_api(version: str) -> tuple[api.Api, list[tuple[str, Any]]]:
    """Return our adapter on a recording that says it is of that version, and what it notes."""

    class Constants:
        def __getattr__(self, name: str) -> int:
            return 1

    log: list[tuple[str, Any]] = [("APIVersion", version)]
    manager = SimpleNamespace(constants=Constants())
    return api.Api(manager, lambda raw: raw, Recorded(log)), log


@pytest.mark.parametrize("version", list(CREATE_MACHINE))
def test_machines_are_created_with_the_parameters_of_the_version(version: str) -> None:
    """They became more from 7.0 on, and the platform came between from 7.1 on."""
    box, log = an_api(version)
    box.create_machine(settings="settings", name="name", groups=["group"], os="os", flags="flags")
    assert dict(log)["createMachine"] == CREATE_MACHINE[version]


@pytest.mark.parametrize("version", list(TOUCHED))
def test_settings_are_where_the_version_has_them(version: str) -> None:
    """What moved is set at its place, and nowhere else."""
    box, log = an_api(version)
    order = {
        "memory": 64, "cpus": 1, "firmware": "bios", "os": "Windows7", "console": "log",
        "source": {"kind": "disk"},
        "nics": [{"slot": 0, "mac": "0a:00:00:00:00:01", "attach": {"nat": {"closed": True}}}],
    }  # fmt: skip
    machines._configure(box, api.Thing(box, Recorded(log)), order)
    paths = {path for path, _ in log}
    every = set().union(*TOUCHED.values())
    assert paths & every == TOUCHED[version]
    assert dict(log)[next(p for p in paths if p.endswith("RTCUseUTC"))] is False  # Windows
    engine = "getNetworkAdapter().NATEngine.localhostReachable"
    assert (engine in paths) == (version != "6_1")


def test_6_1_is_as_its_own_library_has_it() -> None:
    """The parameters and attributes that our table has for 6.1 are those of the generated code."""
    names = list(inspect.signature(library_of_6_1.IVirtualBox.create_machine).parameters)[1:]
    assert [name.removesuffix("_p") for name in names] == [
        "settings_file", "name", "groups", "os_type_id", "flags",
    ]  # fmt: skip
    assert len(names) == len(SIGNATURES[6, 1].create_machine)
    for path in (OLD | {"audioAdapter"}) - {"BIOSSettings.IOAPICEnabled"}:
        assert hasattr(library_of_6_1.IMachine, pythonic_name(path)), path
    assert hasattr(library_of_6_1.IBIOSSettings, pythonic_name("IOAPICEnabled"))
    for name in SIGNATURES[6, 1].passwords:
        assert hasattr(library_of_6_1.IUnattended, pythonic_name(name))
    assert not hasattr(library_of_6_1.INATEngine, "localhost_reachable")


@pytest.mark.parametrize(
    ("said", "taken"),
    [
        *(("6_1", "6.1"), ("7_0", "7.0"), ("7_1", "7.1"), ("7_2", "7.2")),
        *(("7_3", "7.2"), ("8_0", "7.2")),
    ],
)
def test_a_version_is_called_like_the_latest_that_is_known(said: str, taken: str) -> None:
    """What is newer than the table is called like its newest."""
    assert signature(said).version == taken


@pytest.mark.parametrize("said", ["6_0", "5_2", "4_3", "", "seven"])
def test_an_older_version_is_refused(said: str) -> None:
    """It would fail half-way."""
    with pytest.raises(UnknownVersion):
        signature(said)


def test_errors_of_all_bindings_read_alike() -> None:
    """XPCOM, COM and pyvbox each have an exception of their own."""
    xpcom = type("Exception_", (Exception,), {"errno": -2135228415, "msg": "not there"})()
    assert str(api.refusal("findMachine", xpcom)) == (
        "findMachine: not there (VBOX_E_OBJECT_NOT_FOUND)"
    )
    com = type("com_error", (Exception,), {"hresult": -2147024809,
               "excepinfo": (0, "VirtualBox", "bad argument", None, 0, 0)})()  # fmt: skip
    assert str(api.refusal("put", com)) == "put: bad argument (E_INVALIDARG)"
    assert api.refusal("get", AttributeError("no such attribute")).code == "AttributeError"
