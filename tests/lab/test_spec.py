"""From a file to a LabSpec, or to every fault of it."""

from __future__ import annotations

import copy
import json
import os
import pickle
import re
import subprocess
import sys
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from spec_strategies import JSON_DATA, SPECS, lab_data

from lab.errors import Fault, LabError
from lab.spec import (
    LabSpec,
    SpecError,
    SpecFault,
    check,
    check_spec,
    json_schema,
    load_spec,
    network_of,
    parse_spec,
    star,
    to_yaml,
)
from lab.spec.writing import flow
from lab.spec.yaml_positions import MAX_BYTES, read_yaml

if TYPE_CHECKING:
    from random import Random

ROOT = Path(__file__).resolve().parents[2]
VM_SPECS = ROOT / "vm_specs"


def faults_of(text: str) -> list[str]:
    """Return "line:column message" for each fault of a text."""
    with pytest.raises(SpecError) as caught:
        parse_spec(text)
    return [f"{f.line}:{f.column} {f.message}" for f in caught.value.faults]


def judged(text: str) -> tuple[LabSpec | None, tuple[SpecFault, ...]]:
    """Return the spec or its faults; any other way to fail is a bug."""
    try:
        return parse_spec(text), ()
    except SpecError as error:
        return None, error.faults


# -- what a sound spec becomes --------------------------------------------------------------


def test_the_papers_lab_is_what_the_paper_says() -> None:
    """Figures 4 to 7: three machines in 192.168.1.0/24, the guest bridged through its host."""
    spec = load_spec(VM_SPECS / "paper.yaml")
    addresses = {n: str(h.adapters["eth0"].address) for n, h in spec.hosts.items()}
    assert addresses == {
        "host": "192.168.1.30",
        "guest": "192.168.1.10",
        "peer": "192.168.1.20",
    }
    assert {n: h.ttl for n, h in spec.hosts.items()} == {"host": 128, "guest": 128, "peer": 64}
    assert (spec.hosts["guest"].on, spec.hosts["guest"].adapters["eth0"].bridged) == (
        "host",
        "eth0",
    )
    assert network_of(spec, "guest", "eth0") == "lan"
    assert network_of(spec, "host", "wlan0") is None


@pytest.mark.parametrize("path", sorted(VM_SPECS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_lab_of_the_project_is_sound(path: Path) -> None:
    """Each file of vm_specs/ has no fault, and names the schema for editors."""
    assert check_spec(path) == ()
    assert path.read_text().startswith("# yaml-language-server: $schema=schema.json\n")


def test_words_stay_what_was_typed() -> None:
    """The key `on`, a name `no`, a date and a number with a leading zero are texts."""
    text = "{on: no, yes: 2016-11-10, 1: 0755, 2: 12:30, 3: ~, 4: 'true', 5: 1e3, 6: .inf}"
    assert read_yaml(text, "x").data == {
        "on": "no",
        "yes": "2016-11-10",
        "1": "0755",
        "2": "12:30",
        "3": None,
        "4": "true",
        "5": 1000.0,
        "6": ".inf",
    }


@pytest.mark.parametrize("loader", ["CSafeLoader", "SafeLoader"])
def test_positions_are_the_same_with_and_without_libyaml(
    loader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines and columns count from 1, in characters, and an alias stands where it is used."""
    import yaml

    monkeypatch.setattr("lab.spec.yaml_positions._LOADER", getattr(yaml, loader))
    document = read_yaml("é: &x [1, {b: 2}]\n'🙂': *x\n", "x")
    assert document.data == {"é": [1, {"b": 2}], "🙂": [1, {"b": 2}]}
    assert document.keys[("é",)] == (1, 1)
    assert document.values["é", 0] == (1, 8)
    assert document.keys["é", 1, "b"] == (1, 12)
    assert document.values["é", 1, "b"] == (1, 15)
    assert document.values["🙂", 1, "b"] == (2, 6)


def test_a_byte_order_mark_and_windows_line_ends_mean_nothing() -> None:
    """A file saved by a Windows editor is the same spec."""
    text = (VM_SPECS / "two-peers.yaml").read_text()
    assert parse_spec("\ufeff" + text.replace("\n", "\r\n")) == parse_spec(text)


@given(spec=SPECS)
def test_what_is_written_is_read_back(spec: LabSpec) -> None:
    """to_yaml and parse_spec are inverse, for every sound spec."""
    assert parse_spec(to_yaml(spec)) == spec


@given(data=lab_data())
def test_a_sound_spec_has_no_fault(data: dict[str, Any]) -> None:
    """What is built to be sound is found to be; JSON is YAML, so it can be a file."""
    expected = LabSpec.model_validate(data)
    assert check(expected) == []
    assert parse_spec(flow(data)) == expected


def test_star_joins_hosts_by_one_switch() -> None:
    """A lab of any size can be made in Python, and is planned like a file's."""
    spec = star(100, memory=64, image="debian-lamp")
    assert check(spec) == []
    assert spec.hosts["h100"].adapters["eth0"].address == IPv4Address("10.77.0.100")
    assert {h.memory for h in spec.hosts.values()} == {64}
    with pytest.raises(ValueError, match="300 hosts do not fit"):
        star(300, subnet="10.0.0.0/24")


def test_a_spec_does_not_change() -> None:
    """LabSpec and its parts are frozen."""
    spec = star(1)
    with pytest.raises(ValidationError):
        spec.name = "other"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        spec.hosts["h1"].ttl = 1  # type: ignore[misc]


# -- what a bad one becomes -----------------------------------------------------------------


@given(text=st.text())
def test_any_text_is_a_spec_or_a_spec_error(text: str) -> None:
    """No text makes the reader fail in another way."""
    spec, faults = judged(text)
    assert (spec is None) == bool(faults)


@given(text=st.text("{}[]:,-&*!|>'\"%@`#?~<\n\t ab01", max_size=40))
def test_any_yaml_punctuation_is_a_spec_error(text: str) -> None:
    """Nor do the characters that mean something to YAML, however they are mixed."""
    with pytest.raises(SpecError):
        parse_spec(text)


@given(data=lab_data(), junk=JSON_DATA, choice=st.randoms(use_true_random=False))
def test_any_value_in_any_place_is_a_spec_or_a_spec_error(
    data: dict[str, Any], junk: object, choice: Random
) -> None:
    """A sound spec with one value replaced by any other is judged, whatever it is."""
    node: Any = data
    while True:
        key = choice.choice(range(len(node)) if isinstance(node, list) else sorted(node))
        if not (isinstance(node[key], dict | list) and node[key]) or choice.random() < 0.3:
            break
        node = node[key]
    node[key] = junk
    spec, faults = judged(flow(data))
    assert (spec is None) == bool(faults)
    assert all(fault.message and fault.fix for fault in faults)


@given(data=lab_data(), name=st.sampled_from(["networks", "hosts", "accounts"]))
def test_a_missing_section_is_told_by_who_needed_it(data: dict[str, Any], name: str) -> None:
    """Taking a section away gives a sound spec or faults that name what is missing."""
    del data[name]
    _, faults = judged(flow(data))
    assert all(name.removesuffix("s") in fault.message for fault in faults)
    assert faults or name != "hosts"


def test_a_file_larger_than_the_limit_is_not_read(tmp_path: Path) -> None:
    """A size bomb is refused by its size, as a file and as a text."""
    path = tmp_path / "big.yaml"
    path.write_text("#" * (MAX_BYTES + 1))
    assert [fault.message for fault in check_spec(path)] == ["more than 256 KiB"]
    assert faults_of("é" * (MAX_BYTES // 2 + 1)) == ["0:0 more than 256 KiB"]
    assert faults_of("#" * MAX_BYTES) == ["0:0 the file says nothing"]


def test_an_endless_or_waiting_file_is_refused_at_once(tmp_path: Path) -> None:
    """A device and a named pipe are no specs; neither is waited for."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero")):
        (fault,) = check_spec(path)
        assert fault.message == "cannot be read: it is no regular file"


def test_a_path_that_leads_nowhere_is_the_users_fault(tmp_path: Path) -> None:
    """A missing file, a folder and an impossible name are told, with the specs there are."""
    (tmp_path / "paper.yaml").write_text("imlab: 1\n")
    with pytest.raises(LabError) as caught:
        load_spec(tmp_path / "papr.yaml")
    assert caught.value.fault is Fault.USER
    assert str(caught.value).splitlines()[:2] == [
        f"{tmp_path}/papr.yaml: there is no such file",
        "    did you mean 'paper.yaml'?",
    ]
    (fault,) = check_spec(tmp_path)
    assert (fault.message, fault.line) == ("is a folder", 0)
    assert "cannot be read" in check_spec("a\0b")[0].message
    assert "\x1b" not in str(check_spec(tmp_path / "\x1b[31m.yaml")[0])


def test_a_switch_takes_1023_adapters() -> None:
    """The 1024th port of a Linux bridge does not exist; the guests' bridge has one port less."""
    assert check(star(1023)) == []
    (row,) = check(star(1024))
    assert (row.path, row.message) == (
        ("hosts", "h1024", "adapters", "eth0"),
        "more than 1023 adapters on lan: a Linux bridge has 1023 ports",
    )
    crowded = to_yaml(star(1024)).replace("h1024:\n", "h1024:\n    on: h1\n")
    crowded = crowded.replace('network: "lan"', 'bridged: "eth0"').replace(
        'bridged: "eth0"', 'network: "lan"', 1
    )
    crowded = re.sub(r"(  h(?!1:)\d+:\n)(?!    on)", r"\1    on: h1\n", crowded)
    assert "1022 adapters on h1/eth0" in " ".join(faults_of(crowded))


def test_all_faults_are_kept_and_fifty_are_shown() -> None:
    """The error holds every row, in the order of the file, and says how many it does not show."""
    with pytest.raises(SpecError) as caught:
        parse_spec("imlab: 1\n" + "".join(f"key{n}: 1\n" for n in range(100)))
    lines = [fault.line for fault in caught.value.faults]
    assert lines == sorted(lines)
    assert len(lines) == 102  # and neither name nor hosts
    assert str(caught.value).count("\n    ") == 50
    assert "… and 52 more" in str(caught.value)


def test_a_great_many_faults_are_told_soon() -> None:
    """Thousands of names that lead nowhere end with a word that there are more."""
    captures = ", ".join(f"x{n}/eth0" for n in range(9000))
    faults = faults_of(to_yaml(star(1000)) + f"captures: [{captures}]\n")
    assert len(faults) == 501
    assert any("nothing after them was looked at" in fault for fault in faults)


def test_roles_can_be_a_plain_list_of_names() -> None:
    """What a role takes is the role's matter: names alone are checked then."""
    text = to_yaml(star(1, roles={"echo": {"port": 7}}))
    assert parse_spec(text, roles=["echo"]).hosts["h1"].roles == {"echo": {"port": 7}}
    with pytest.raises(SpecError, match="there is no role 'echo'"):
        parse_spec(text, roles=["chat_server"])


def test_a_spec_error_survives_pickling() -> None:
    """It can cross a process boundary, and be copied, without losing a row."""
    with pytest.raises(SpecError) as caught:
        parse_spec("a: 1\n", "x.yaml")
    for twin in (pickle.loads(pickle.dumps(caught.value)), copy.copy(caught.value)):  # noqa: S301 - our own bytes
        assert twin.faults == caught.value.faults
        assert str(twin) == str(caught.value)


# -- secrets --------------------------------------------------------------------------------


def test_passwords_are_hidden_wherever_a_spec_is_shown() -> None:
    """Neither a spec nor the error of building one from Python shows a password."""
    spec = load_spec(VM_SPECS / "paper.yaml")
    assert "Kisumu" not in f"{spec!r} {spec} {spec.model_dump_json()}"
    assert spec.accounts["CLIENT"].password.get_secret_value() == "Kisumu-2016"
    with pytest.raises(ValidationError) as caught:
        LabSpec.model_validate({"accounts": {"CLIENT": {"pasword": "Kisumu-2016"}}})
    assert "Kisumu" not in str(caught.value)


@given(secret=st.text("abcXYZ123!@#$%&*{}[]:,'\"|>-?`\\ \t", min_size=6, max_size=20))
def test_no_password_is_told_however_it_is_typed(secret: str) -> None:
    """Unquoted, it may be anything to YAML: a tag, an alias, a key. No message repeats it."""
    text = f"imlab: 1\nname: x\nhosts: {{h: {{}}}}\naccounts:\n  A: {{password: {secret}}}\n"
    _, faults = judged(text)
    words = re.findall(r"[abcXYZ123]{4,}", secret)
    assert [word for fault in faults for word in words if word in str(fault)] == []


# -- editors, documents, cost ---------------------------------------------------------------


def test_the_schema_for_editors_is_up_to_date() -> None:
    """vm_specs/schema.json is what the models say: python -m lab.spec > vm_specs/schema.json."""
    assert json.loads((VM_SPECS / "schema.json").read_text()) == json_schema()


@pytest.mark.parametrize("name", ["paper", "two-peers"])
def test_the_schema_accepts_the_projects_labs(name: str) -> None:
    """An editor underlines nothing in them, and does underline a misspelt key."""
    jsonschema = pytest.importorskip("jsonschema")
    data = read_yaml((VM_SPECS / f"{name}.yaml").read_text(), name).data
    validator = jsonschema.Draft202012Validator(json_schema())
    assert list(validator.iter_errors(data)) == []
    data["hosts"]["Peer"] = {"tttl": 64}
    assert len(list(validator.iter_errors(data))) > 0


def test_the_documentation_tells_every_key() -> None:
    """docs/spec.md has a row for each key of each mapping, with its default."""
    page = (ROOT / "docs" / "spec.md").read_text()
    schema = json_schema()
    for model in (schema, *schema["$defs"].values()):
        for key, about in model["properties"].items():
            row = re.search(rf"^\| `{key}` .*$", page, re.MULTILINE)
            assert row, key
            if about.get("default") not in (None, "", {}, []):
                assert f"`{about['default']}`" in page


def test_the_documentation_shows_a_sound_spec() -> None:
    """The example of docs/spec.md has no fault."""
    (example,) = re.findall(
        r"```yaml\n(.*?)```", (ROOT / "docs" / "spec.md").read_text(), re.DOTALL
    )
    assert network_of(parse_spec(example), "guest", "eth0") == "lan"


def test_a_lab_that_runs_needs_neither_pydantic_nor_yaml() -> None:
    """The plan's types, which the process that keeps a lab alive imports, load none of them."""
    code = "import sys, lab.plan; print([m for m in ('pydantic', 'yaml') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
