"""The provider is found by its folder: no other code of the project names it."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import pytest
from real_labs import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.virtualbox

OWN = PROJECT / "lab" / "providers" / "virtualbox"
ROOMS = ("lab", "provisioning", "experiments", "commands")


def code() -> Iterator[Path]:
    """Yield every module of the rooms but the provider's own."""
    yield PROJECT / "tasks.py"
    for room in ROOMS:
        yield from (path for path in (PROJECT / room).rglob("*.py") if OWN not in path.parents)


def said(tree: ast.AST) -> Iterator[str]:
    """Yield what code says: names, and texts that are no descriptions of it."""
    described = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            described.add(node.value)
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.name for alias in node.names)
            yield getattr(node, "module", None) or ""
        elif isinstance(node, ast.Constant) and node not in described:
            yield str(node.value)


def naming(text: str) -> list[str]:
    """Return what a module says of it, as it is called in code: in small letters, or short."""
    found = re.compile(r"virtualbox|vbox|VBox")
    return [words for words in said(ast.parse(text)) if found.search(words)]


def test_no_other_code_names_it() -> None:
    """Another provider is another folder, and nothing has to be taught about it."""
    named = {path: naming(path.read_text()) for path in code()}
    assert len(named) > 100
    assert {path: words for path, words in named.items() if words} == {}


def test_it_would_be_found() -> None:
    """In an import, a comparison, a call; a docstring may speak of it."""
    assert naming('"""As virtualbox does."""\nx = 1\n') == []
    assert naming("from lab.providers import virtualbox\n")
    assert naming("if provider == 'virtualbox':\n    pass\n")
    assert naming("run(['VBoxManage'])\n")
