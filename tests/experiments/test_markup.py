"""Tables, links and fields out of pages, by compiled code that goes over their bytes."""

from __future__ import annotations

import encodings
import os
import pkgutil
import subprocess
import sys
from html import escape
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.analysis import markup
from experiments.analysis.compiled import jit, native
from experiments.analysis.scanning import layout

UNTIMED = settings(deadline=None)  # the first example loads what it needs

FRAGMENTS = [
    *("<table>", "<TABLE border=1>", "</table>", "<tr>", "</TR>", "<td>", "</td>", "<th\n>"),
    *("<td class='x'>", "<br>", "<BR/>", "</br>", "<td/>", "<tdx>", "<td", "<table ", "<h1>"),
    *("<b>", "</b>", "<a href='/x'>", '<a href="y>z">', '<i title="a<b">', "<x='>'>", "</a >"),
    *("<a href=http://x/>", '<A HREF = "HTTPS://y?a&amp;b">', "<form action='http://z'>"),
    *("<a href=&#104;ttp://q>", "<td href=z>", "<href=http://i>", "</a href=http://x>"),
    *("<input name=u value=v>", "<INPUT NAME='p' value=\"s&lt;\">", "<input>", "<input value>"),
    *("<script>", "</script>", "<style>", "</style >", "</SCRIPT\n>", "</scriptx>", "<style"),
    *("<!--", "-->", "<!>", "<!DOCTYPE html>", "<![CDATA[", "]]>", "<?php ?>", "</>", "</", "<!"),
    *("<", ">", '"', "'", "=", '= "', "='", "/", " ", "\n", "\x1c", "a", "text", "&", "&amp;"),
    *("&#60", "&am", "p;", "http", "href", "action = ", "é", "ß€", "𝄞", "\0", "x" * 70),
]
SOUP = st.lists(
    st.one_of(
        st.sampled_from(FRAGMENTS).map(str.encode), st.binary(max_size=3), st.just(b"<table><td>")
    ),
    max_size=40,
).map(b"".join)


def texts(page: markup.Page) -> list[list[list[str]]]:
    """Return the texts of all cells by table and row."""
    return [[[cell.text for cell in row] for row in table.rows] for table in page.tables]


@pytest.mark.parametrize(
    ("page", "cells"),
    [
        # Tags in a cell are no text, line breaks are; white space around it goes.
        ("<table><tr><td> a<b>b</b><br>c </td>", [[["ab\nc"]]]),
        # A comment, a script and a style are none either, whatever they hold.
        ("<table><td>a<!-- <td> --!> -->b<script>'</td>'</script>c", [[]]),
        ("<table><td>a<!-- <td> -->b<script>'</td>'</script>c</td>", [[["abc"]]]),
        ("<table><td>a<style/></td></styles></style>b</td>", [[["ab"]]]),
        # A table in a cell ends the cell; after it the outer one goes on.
        (
            "<table><td>a<table><tr><td>b<td>c</table>d<tr><td>e</table>",
            [[["a"], ["e"]], [["b", "c"]]],
        ),
        # Cells before any row are in one; rows may be empty; outside of a table is no cell.
        ("<td>x</td><table><td>a<tr><tr><td>b</table><td>y</td>", [[["a"], [], ["b"]]]),
        # A cell that is still open where the page ends was cut.
        ("<table><tr><td>a<td>b", [[["a"]]]),
        # ">" in quotes ends no tag, and "<" elsewhere in a tag makes it none.
        ("<table><td class='>'>a<i title=\"<td>\">b</td>", [[["ab"]]]),
        ("<table><td>1 < 2 <b <i>3</td>", [[["1 < 2 <b 3"]]]),
        # Names are whole words; an entity ends where a tag begins.
        ("<table><td>a<tdx>b<td-x>c</tds>d</td>", [[["abcd"]]]),
        ("<table><td>&lt;&#x62;&gt&l<b>t;</td>", [[["<b>&lt;"]]]),
        # White space is that of ASCII.
        ("<table><td\u00a0>a</td><td\t>b</td>", [[["b"]]]),
    ],
)
def test_what_is_a_cell(page: str, cells: list[list[list[str]]]) -> None:
    """As browsers have it, but for what was cut."""
    assert texts(markup.read(page.encode())) == cells


def test_links_that_may_lead_elsewhere_and_fields_that_are_filled_in() -> None:
    """In every spelling; a link within the site is nothing, a tag that shapes is looked at."""
    page = (
        b"<a href='/near'><A HREF = \"HTTP://far?a&amp;b\"><form action=http://to>"
        b"<a href=&#104;ttp://q><a data-href=http://no></a href=http://end>"
        b"<input name=a value='x>y' type=Hidden><input name=b><input value=c>"
    )
    read = markup.read(page)
    assert [link.target for link in read.links] == ["HTTP://far?a&b", "http://to", "http://q"]
    assert [(one.name, one.kind, one.value) for one in read.fields] == [("a", "hidden", "x>y")]
    (field,) = read.fields
    assert page[field.start : field.end] == b"<input name=a value='x>y' type=Hidden>"


WORDS = st.text(st.characters(exclude_categories=["Cc", "Cs", "Cn"]), max_size=20)
CHARSETS = ["utf-8", "latin-1", "windows-1252", "koi8-r", "utf-16-le", "gb18030", "utf-32-be"]


@UNTIMED
@given(st.lists(st.lists(WORDS, max_size=4), max_size=5), st.sampled_from(CHARSETS))
def test_what_was_written_is_read(rows: list[list[str]], charset: str) -> None:
    """In any charset, with the place of every cell."""
    page, places = "<table>é".encode(charset, "xmlcharrefreplace"), []
    for row in rows:
        page += "<tr>".encode(charset)
        for text in row:
            page += "<td>".encode(charset)
            start = len(page)
            page += escape(text).encode(charset, "xmlcharrefreplace")
            places.append((start, len(page)))
            page += "</td>".encode(charset)
    read = markup.read(page, charset)
    assert texts(read) == [[[text.strip() for text in row] for row in rows]]
    cells = [cell for row in read.tables[0].rows for cell in row]
    assert [(cell.start, cell.end) for cell in cells] == places


@UNTIMED
@given(st.lists(WORDS, min_size=1, max_size=9), st.integers(0, 400))
def test_a_page_that_was_cut_has_the_cells_before_the_cut(words: list[str], cut: int) -> None:
    """All of these, and nothing that nobody wrote."""
    page = b"<table>" + b"".join(f"<td>{escape(word)}<b></b></td>".encode() for word in words)
    (whole,) = markup.read(page).tables[0].rows
    tables = markup.read(page[:cut]).tables
    cells = tables[0].rows[0] if tables and tables[0].rows else []
    assert cells == [cell for cell in whole if cell.end + len("</td>") <= cut]


def test_places_in_a_long_page_with_a_mark_of_the_byte_order() -> None:
    """The mark is counted once, where it is."""
    text = "<p>ä</p>" * 2000 + "<table><td>grün</td></table>"
    for page in (text.encode("utf-16"), text.encode("utf-16")[2:], text.encode("utf-8-sig")):
        charset = "utf-8-sig" if page.startswith(b"\xef") else "utf-16"
        (cell,) = markup.read(page, charset).tables[0].rows[0]
        assert page[cell.start : cell.end].decode(charset) == "grün"


def test_every_charset_is_survived() -> None:
    """Also those that no browser knows: an answer's header can name any."""
    known = [module.name for module in pkgutil.iter_modules(encodings.__path__)]
    for charset in (*known, "no-such", "undefined", ""):
        for page in (b"", b"<table><td>\\ud800 +2AA- x\xff\x80</td>", b"\xff\xfe\0\xd8<\0"):
            markup.read(page, charset)


HOSTILE = {
    "no end, in quotes": (b"<a =", b"'<a '="),
    "no end, in a cell": (b"<table><td><a =", b"'<a '="),
    "quotes within quotes": (b"<a =", b"'<a \"='<b \"="),
    "no end": (b"<table><td>", b"<a b"),
    "equals signs": (b"<a href", b"= "),
    "white space": (b"<a href", b" \t"),
    "pointers": (b"<a ", b"href= "),
    "comments": (b"<table><td>", b"<!-- "),
    "scripts": (b"<table><td>", b"<script></scrip"),
    "a long name": (b"<", b"aaaa="),
    "tables": (b"", b"<table><td>"),
    "pieces": (b"<table><td>", b"a<b>"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_no_page_takes_for_ever(kind: str) -> None:
    """A megabyte of the worst is read like any other: each would take hours if read anew."""
    begins, goes_on = HOSTILE[kind]
    markup.read(begins + goes_on * (2**20 // len(goes_on)))
    markup.read(begins + goes_on * (2**20 // len(goes_on)) + b"</td>")


def test_quotes_have_a_limit() -> None:
    """What is in quotes for more than 64 KiB is not in quotes."""
    for size, text in ((65536, "ab"), (65537, "a" + "z" * 65536 + '">b')):
        page = b'<table><td>a<i x=">' + b"z" * (size - 1) + b'">b</td>'
        assert texts(markup.read(page)) == [[[text]]]


def test_a_page_tells_wherever_its_words_are() -> None:
    """At any distance from where a block of bytes begins or the page ends."""
    for word in (b"<tAble", b"<INput", b"hTtp", b"&#", b"\0"):
        for at in range(140):
            for after in (b"", b"x", b"htt<tabl<inpu&ht<t<i" * 9):
                assert markup.telling(b"x" * at + word + after)
                assert not markup.telling(b"<" * at + word[:-1] + after)


def numbers(call: native.Compiled | native.Interpreted, page: bytes, room: int) -> list[list[int]]:
    """Return all that the compiled functions say of a page; room -- for how many finds."""
    marks = np.zeros(len(page) // 8 + 1, np.uint8)
    found = np.zeros(room * layout.WIDTH, np.int64)
    tables = np.zeros(room * layout.DEPTH, np.int64)
    state = np.zeros(layout.SIZE, np.int64)
    state[layout.CELL] = state[layout.TABLE] = layout.NOWHERE
    said = [call("tells", page)]
    while need := call("page", page, marks, found, tables, state):
        said.append(need)
        if need == layout.NEED_ROOM:
            found = np.concatenate((found, np.zeros_like(found)))
        else:
            tables = np.concatenate((tables, np.zeros_like(tables)))
    used = [int(state[layout.FOUND]) * layout.WIDTH, int(state[layout.TABLES]) * layout.DEPTH]
    parts = [found[: used[0]], tables[: used[1]], state, marks]
    return [said, *(part.tolist() for part in parts)]


@UNTIMED
@given(SOUP, st.integers(3, 9))
def test_plain_and_compiled_code_agree_on_any_page(page: bytes, room: int) -> None:
    """As Python and as machine code, with as little room as there may be."""
    plain = native.Interpreted(jit.PLAIN)
    assert numbers(plain, page, room) == numbers(native.engine(), page, room)


@UNTIMED
@given(SOUP)
def test_room_makes_no_difference(page: bytes) -> None:
    """What had to be called again goes on where it was."""
    few, many = (numbers(native.engine(), page, room) for room in (3, 999))
    assert few[1:] == many[1:]


@pytest.mark.slow
def test_no_index_is_out_of_bounds() -> None:
    """With every index checked, pages of any bytes are read."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from hypothesis import given, settings\n"
        "import test_markup as t\n"
        "t.native.engine()\n"
        "assert all(hasattr(one, 'signatures') for one in t.native.functions().values())\n"
        "@settings(deadline=None, max_examples=3000)\n"
        "@given(t.SOUP)\n"
        "def read(page):\n"
        "    t.numbers(t.native.engine(), page, 3)\n"
        "    t.numbers(t.native.engine(), page[:-1], 3)\n"
        "read()\n"
    )
    here = Path(__file__)
    subprocess.run(
        [sys.executable, "-c", program, str(here.parent)],
        env={**os.environ, "IMLAB_ENGINE": "checked"},
        cwd=here.parents[2],
        check=True,
    )
