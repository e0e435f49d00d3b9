"""YAML text to plain data, with the line and column of every key and value.

Built on PyYAML's events alone: no node is ever constructed by tag, so there is nothing that a
file could make the reader run. Values are read as JSON reads them (true, false, null, numbers);
everything else is text, so that the key `on`, the name `no` and a date stay what was typed,
which is also how YAML 1.2 editors see them.

A file is bounded before it is believed: MAX_BYTES of text, MAX_DEPTH levels, MAX_NODES values
after aliases were expanded.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import yaml

from lab.spec.errors import SpecFault, quote

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BYTES = 256 * 1024
MAX_DEPTH = 12
MAX_NODES = 65_536
NUMBER_LENGTH = 64  # a longer one is read as text: converting it could take for ever

Path: TypeAlias = tuple[str | int, ...]
Position: TypeAlias = tuple[int, int]

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_QUOTED = re.compile(r"'(?!(?:<[^']*>|\\t|[\]:,}?-])')[^']*'?'")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")  # RFC 8259, 6
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_SYNTAX_FIXES = (  # part of PyYAML's problem -> what to do about it
    ("'\\t'", "indent with spaces; YAML allows no tab there"),
    ("tab", "indent with spaces; YAML allows no tab there"),
    ("mapping values are not allowed", "put quotes around a value with ': ' in it; check indents"),
    ("cannot start any token", "put quotes around a value that begins with %, @ or `"),
    ("could not find expected ':'", "write `key: value`, with a space after the colon"),
    ("expected <block end>", "indent the keys of one mapping alike; put quotes around the value"),
    ("expected ',' or", "close the bracket, or put a comma between the entries"),
    ("unexpected end of stream", "close the quote that was opened"),
    ("escape character", "use single quotes, in which a backslash is a backslash"),
)


@dataclass
class Document:
    """What was read. `data` is None and `faults` is not empty where nothing usable was."""

    data: Any = None
    keys: dict[Path, Position] = field(default_factory=dict)
    values: dict[Path, Position] = field(default_factory=dict)
    faults: list[SpecFault] = field(default_factory=list)


class _Stop(Exception):  # noqa: N818 - it ends the reading, it is no error of ours
    """No use in reading on."""


@dataclass(slots=True)
class _Node:
    """One value of the text, before aliases are expanded."""

    kind: str  # "scalar", "list", "mapping" or "alias"
    at: Position
    value: Any = None  # plain data | [node] | [(key, position, node)] | the node aliased
    open: bool = False  # still being read: an alias to it would be inside itself


class _Reader:
    """Events in, one tree of nodes out; then the tree expanded into data and positions."""

    def __init__(self, text: str, name: str) -> None:
        self.text, self.name = text, name
        self.document = Document()
        self.anchors: dict[str, _Node] = {}
        self.nodes = 0

    def read(self) -> Document:
        try:
            root = self._documents(self._events())
            if root is not None:
                self.document.data = self._expand(root, ())
        except _Stop:
            self.document.data = None
        return self.document

    def fault(self, at: Position, message: str, fix: str) -> None:
        self.document.faults.append(SpecFault(self.name, *at, message, fix))

    def stop(self, at: Position, message: str, fix: str) -> _Stop:
        self.fault(at, message, fix)
        return _Stop()

    # -- text to nodes ----------------------------------------------------------------------

    def _events(self) -> Iterator[Any]:
        try:
            yield from yaml.parse(self.text, Loader=_LOADER)
        except yaml.YAMLError as error:
            problem = self._plain_problem() or error
            raise self._syntax(problem) from None

    def _plain_problem(self) -> yaml.YAMLError | None:
        """Return what PyYAML's own parser says: libyaml says it in other words elsewhere."""
        try:
            for _ in yaml.parse(self.text, Loader=yaml.SafeLoader):
                pass
        except yaml.YAMLError as error:
            return error
        return None

    def _syntax(self, error: yaml.YAMLError) -> _Stop:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        problem = str(getattr(error, "problem", None) or "not readable")
        fix = next((fix for part, fix in _SYNTAX_FIXES if part in problem), "see this line")
        problem = _QUOTED.sub("'…'", problem)  # what is quoted may be part of a password
        at = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        return self.stop(at, f"no valid YAML: {problem}", fix)

    def _documents(self, events: Iterator[Any]) -> _Node | None:
        root: _Node | None = None
        for event in events:
            if not isinstance(event, yaml.NodeEvent):
                continue
            if root is not None:
                raise self.stop(
                    _at(event), "a second document begins here", "remove the line '---' before it"
                )
            root = self._node(event, events, 0)
        return root

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> _Node:  # noqa: ANN401 - PyYAML's events are untyped
        at = _at(event)
        if depth > MAX_DEPTH:
            raise self.stop(
                at, f"nested more than {MAX_DEPTH} levels deep", "no key of a spec is as deep"
            )
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, at)
        if event.tag is not None:
            self.fault(at, "a tag (a word after '!') has no meaning here", "remove it")
        if isinstance(event, yaml.ScalarEvent):
            plain = not event.style and event.tag is None
            node = _Node("scalar", at, _scalar(event.value) if plain else event.value)
            self._name(event, node)
            return node
        node = _Node("list", at, [], open=True)
        self._name(event, node)
        if isinstance(event, yaml.SequenceStartEvent):
            while not isinstance(event := next(events), yaml.SequenceEndEvent):
                node.value.append(self._node(event, events, depth + 1))
        else:
            node.kind = "mapping"
            self._mapping(node, events, depth)
        node.open = False
        return node

    def _alias(self, event: Any, at: Position) -> _Node:  # noqa: ANN401 - as above
        # The name is not repeated: `password: *mine` is a password that lacks its quotes.
        target = self.anchors.get(event.anchor)
        if target is None:
            self.fault(
                at,
                "a value that begins with * repeats one marked with &, and none is marked so",
                "put quotes around a text that begins with *",
            )
            return _Node("scalar", at)
        if target.open:
            self.fault(at, "a value that repeats itself", "an alias cannot be inside its anchor")
            return _Node("scalar", at)
        return _Node("alias", at, target)

    def _name(self, event: Any, node: _Node) -> None:  # noqa: ANN401 - as above
        if event.anchor is not None:
            self.anchors[event.anchor] = node

    def _mapping(self, node: _Node, events: Iterator[Any], depth: int) -> None:
        first: dict[str, Position] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            at = _at(event)
            key = event.value if isinstance(event, yaml.ScalarEvent) else None
            if key is None:
                self._node(event, events, depth + 1)
                self.fault(at, "a key must be a single word", "write `key: value`")
            elif key == "<<" and not event.style:
                self.fault(at, "'<<' is no part of YAML 1.2", "write the keys out, or use *alias")
            else:
                self._name(event, _Node("scalar", at, key))
            value = self._node(next(events), events, depth + 1)
            if key is None or key == "<<":
                continue
            if key in first:
                line, column = first[key]
                self.fault(
                    at,
                    f"the key {shown_key(key)} is here for a second time",
                    f"the first is at {line}:{column}; remove one, or rename it",
                )
                continue
            first[key] = at
            node.value.append((key, at, value))

    # -- nodes to data ----------------------------------------------------------------------

    def _expand(self, node: _Node, path: Path, at: Position | None = None) -> Any:  # noqa: ANN401 - YAML holds any data
        """Return plain data; everything under an alias stands where the alias stands."""
        self.nodes += 1
        here = at or node.at
        if self.nodes > MAX_NODES:
            raise self.stop(
                here, f"aliases expand to more than {MAX_NODES} values", "use fewer aliases"
            )
        if len(path) > MAX_DEPTH:
            raise self.stop(
                here, f"nested more than {MAX_DEPTH} levels deep", "no key of a spec is as deep"
            )
        self.document.values[path] = here
        if node.kind == "alias":
            return self._expand(node.value, path, here)
        if node.kind == "list":
            return [self._expand(item, (*path, i), at) for i, item in enumerate(node.value)]
        if node.kind == "mapping":
            data = {}
            for key, key_at, value in node.value:
                self.document.keys[(*path, key)] = at or key_at
                data[key] = self._expand(value, (*path, key), at)
            return data
        return node.value


def _at(event: Any) -> Position:  # noqa: ANN401 - PyYAML's events are untyped
    return event.start_mark.line + 1, event.start_mark.column + 1


def _scalar(text: str) -> Any:  # noqa: ANN401 - true, false, null, a number or a text
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > NUMBER_LENGTH or (number := _NUMBER.fullmatch(text)) is None:
        return text
    if number[2] is None and number[3] is None:
        return int(text)
    value = float(text)
    return value if math.isfinite(value) else text


def shown_key(key: str) -> str:
    """Return a key as a message may show it.

    Only the part before a colon: `{password:secret}` without the space is one long key.
    """
    head, colon, _ = key.partition(":")
    return quote(head) + (" (with a colon in it)" if colon else "")


def read_yaml(text: str, name: str) -> Document:
    """Return the data of a YAML text and where each key and value stands. Never raises."""
    text = text.removeprefix("\ufeff")  # some editors mark UTF-8 with it; it means nothing
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        fault = SpecFault(
            name,
            0,
            0,
            f"more than {MAX_BYTES // 1024} KiB",
            "a lab's description is a few KiB; is it the right file?",
        )
        return Document(faults=[fault])
    if (bad := _UNPRINTABLE.search(text)) is not None:
        before = text[: bad.start()]
        line, column = before.count("\n") + 1, bad.start() - before.rfind("\n")
        message = f"the character U+{ord(bad.group()):04X} is not allowed in YAML"
        return Document(faults=[SpecFault(name, line, column, message, "remove it")])
    document = _Reader(text, name).read()
    if document.data is None and not document.faults:
        fault = SpecFault(name, 0, 0, "the file says nothing", "start from vm_specs/two-peers.yaml")
        return Document(faults=[fault])
    return document
