"""The tables, links and fields of an HTML page, in one go over its bytes. Compiled.

The page is in UTF-8 or another charset in which all bytes below 128 are ASCII. Most of its tags
make no difference and are passed over: what is looked at are tags that shape tables, fields, what
is no markup, and links to elsewhere. A "<" that begins no tag is a sign like any other.

No page takes more than linear time. A tag ends at ">" and not at "<", except in quotes after "=";
so two tags that never end can pass the same bytes only in quotes. Where such a tag entered quotes
is marked, and the next one that comes to enter them has no end either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from experiments.analysis.compiled.jit import i64, kernel, u8, u64
from experiments.analysis.scanning.layout import (
    AT,
    BREAK,
    CELL,
    DEPTH,
    DONE,
    FOUND,
    MARKED,
    NEED_ROOM,
    NEED_TABLES,
    NOWHERE,
    PIECE,
    POINTED,
    SIMPLE,
    TABLE,
    TABLES,
    TAGS,
    TEXT,
    WIDTH,
    WRITTEN,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What one tag can add: a piece, a cell or a break, and itself.
_MOST: Final = 3

_LONGEST: Final = 65536  # bytes in quotes
_BLOCK: Final = 64
_LESS, _GREATER, _EQUALS, _SLASH, _DASH = 0x3C, 0x3E, 0x3D, 0x2F, 0x2D
_DOUBLE, _SINGLE, _BANG, _ASKS, _AND, _HASH = 0x22, 0x27, 0x21, 0x3F, 0x26, 0x23
_A, _H, _I, _N, _T = 0x61, 0x68, 0x69, 0x6E, 0x74
_LOWER: Final = 0x20

# Names as the number that their bytes make.
_TABLE: Final = 0x7461626C65
_TR: Final = 0x7472
_TD: Final = 0x7464
_TH: Final = 0x7468
_BR: Final = 0x6272
_INPUT: Final = 0x696E707574
_SCRIPT: Final = 0x736372697074
_STYLE: Final = 0x7374796C65
_HREF: Final = 0x68726566
_ACTION: Final = 0x616374696F6E
_HTTP: Final = 0x68747470
_LONGEST_NAME: Final = 6


@kernel
def _white(byte: int) -> bool:
    """Whether a byte is white space, as Python has it for ASCII."""
    return byte == 32 or 9 <= byte <= 13 or 28 <= byte <= 31


@kernel
def _letter(byte: int) -> bool:
    lower = byte | _LOWER
    return 0x61 <= lower <= 0x7A


@kernel
def _word(page: NDArray[Any], at: int, end: int) -> int:
    """Return the bytes from at to end, not more than _LONGEST_NAME, as a number in small letters.

    What is no letter may look like another sign that is none.
    """
    number = 0
    for index in range(at, end):
        number = (number << 8) | i64(page[u64(index)]) | _LOWER
    return number


@kernel
def _sought(page: NDArray[Any], byte: int, at: int, end: int) -> int:
    """Return where a byte is next, or the end."""
    # A block without a way out, and of bytes, is what the compiler makes vector instructions of.
    wanted = u8(byte)
    while at + _BLOCK <= end:
        hit = u8(0)
        for index in range(_BLOCK):
            hit = u8(hit | u8(page[u64(at + index)] == wanted))
        if hit:
            break
        at += _BLOCK
    while at < end and page[u64(at)] != byte:
        at += 1
    return at


@kernel
def _quoted(page: NDArray[Any], at: int, end: int) -> int:
    """Return where quotes end that follow the "=" at `at`; `at` where there are none."""
    quote = at + 1
    while quote < end and _white(page[u64(quote)]):
        quote += 1
    if quote >= end or (page[u64(quote)] != _DOUBLE and page[u64(quote)] != _SINGLE):
        return at
    last = min(end, quote + 2 + _LONGEST)
    closed = quote + 1
    while closed < last and page[u64(closed)] != page[u64(quote)]:
        closed += 1
    return closed + 1 if closed < last else at


@kernel
def _rest(page: NDArray[Any], at: int, end: int, marks: NDArray[Any]) -> int:
    """Return where a tag ends whose name, or a part of it, ended before `at`; NOWHERE: not."""
    start, quotes = at, 0
    while at < end:
        byte = page[u64(at)]
        if byte == _GREATER:
            return at + 1
        if byte == _LESS:
            break
        if byte == _EQUALS:
            after = _quoted(page, at, end)
            if after > at:
                if marks[u64(at >> 3)] & (1 << (at & 7)):
                    break
                quotes += 1
                at = after
                continue
        at += 1
    # No tag. Few have quotes at all.
    at = start
    while quotes > 0:
        if page[u64(at)] == _EQUALS:
            after = _quoted(page, at, end)
            if after > at:
                marks[u64(at >> 3)] |= 1 << (at & 7)
                quotes -= 1
                at = after
                continue
        at += 1
    return NOWHERE


@kernel
def _elsewhere(page: NDArray[Any], start: int, end: int) -> bool:
    """Whether a tag may lead elsewhere: href or action, "=", and http or an entity."""
    at = start
    while at < end:
        byte = page[u64(at)]
        if byte in (_LESS, _GREATER):
            return False
        if byte == _EQUALS and _leads(page, start, at) and _far(page, at + 1, end):
            return True
        at += 1
    return False


@kernel
def _leads(page: NDArray[Any], start: int, at: int) -> bool:
    """Whether what stands before the "=" at `at` ends in href or action."""
    while at > start and _white(page[u64(at - 1)]):
        at -= 1
    if at - 4 >= start and _word(page, at - 4, at) == _HREF:
        return True
    return at - 6 >= start and _word(page, at - 6, at) == _ACTION


@kernel
def _far(page: NDArray[Any], at: int, end: int) -> bool:
    """Whether a value begins with http or an entity."""
    while at < end and _white(page[u64(at)]):
        at += 1
    if at < end and (page[u64(at)] == _DOUBLE or page[u64(at)] == _SINGLE):
        at += 1
    while at < end and _white(page[u64(at)]):
        at += 1
    if at < end and page[u64(at)] == _AND:
        return True
    return at + 4 <= end and _word(page, at, at + 4) == _HTTP


@kernel
def _pointing(page: NDArray[Any], start: int, end: int) -> bool:
    """Whether href or action is somewhere in a tag."""
    for at in range(start + 4, end + 1):
        if _word(page, at - 4, at) == _HREF:
            return True
        if at - 6 >= start and _word(page, at - 6, at) == _ACTION:
            return True
    return False


@kernel
def _name(page: NDArray[Any], start: int, end: int) -> int:
    """Return the name that begins at `start` as a number; 0, where it is none that shapes."""
    at = start
    while at < end and _letter(page[u64(at)]):
        at += 1
        if at - start > _LONGEST_NAME:
            return 0
    if at >= end:
        return 0
    after = page[u64(at)]
    if not _white(after) and after not in (_SLASH, _GREATER):
        return 0
    word = _word(page, start, at)
    if word in (_TABLE, _TR, _TD, _TH, _BR, _INPUT, _SCRIPT, _STYLE):
        return word
    return 0


@kernel
def _name_end(page: NDArray[Any], at: int, end: int) -> int:
    """Return where a name ends, whatever signs it is made of."""
    while at < end:
        byte = page[u64(at)]
        if _white(byte) or byte in (_SLASH, _LESS, _GREATER):
            break
        at += 1
    return at


@kernel
def _comment(page: NDArray[Any], start: int, end: int) -> int:
    """Return the end of a comment, declaration or the like; NOWHERE: it has none."""
    at = start + 2
    dashes = at + 2 <= end and page[u64(at)] == _DASH and page[u64(at + 1)] == _DASH
    dashes = dashes and page[u64(start + 1)] == _BANG
    if dashes:
        at += 2
    first = at
    while True:
        at = _sought(page, _GREATER, at, end)
        if at >= end:
            return NOWHERE
        if not dashes or (
            at - 2 >= first and page[u64(at - 1)] == _DASH and page[u64(at - 2)] == _DASH
        ):
            return at + 1
        at += 1


@kernel
def _raw_end(page: NDArray[Any], word: int, at: int, end: int) -> int:
    """Return where the end tag of a script or style begins; NOWHERE: it has none."""
    size = 6 if word == _SCRIPT else 5
    while True:
        at = _sought(page, _LESS, at, end)
        if at + 2 + size >= end:
            return NOWHERE
        if page[u64(at + 1)] == _SLASH and _name(page, at + 2, end) == word:
            return at
        at += 1


@kernel
def _plain(page: NDArray[Any], start: int, end: int) -> bool:
    """Whether a text has neither entities nor anything but ASCII."""
    seen, entity = i64(0), False
    for at in range(start, end):
        byte = page[u64(at)]
        seen |= i64(byte)
        entity |= byte == _AND
    return seen < 128 and not entity


@kernel
def _put(
    found: NDArray[Any], state: NDArray[Any], kind: int, first: int, second: int,
    start: int, end: int,
) -> None:  # fmt: skip
    at = state[FOUND] * WIDTH
    found[at] = kind
    found[at + 1] = first
    found[at + 2] = second
    found[at + 3] = start
    found[at + 4] = end
    state[FOUND] += 1


@kernel
def _take(found: NDArray[Any], state: NDArray[Any], start: int, end: int) -> None:
    """Take the text before a tag or comment into the open cell."""
    if state[CELL] != NOWHERE:
        if start > state[PIECE]:
            _put(found, state, TEXT, 0, 0, state[PIECE], start)
        state[TAGS] = 1
        state[PIECE] = end


@kernel
def _end_cell(
    page: NDArray[Any], found: NDArray[Any], tables: NDArray[Any], state: NDArray[Any], end: int
) -> None:
    cell = state[CELL]
    if cell == NOWHERE:
        return
    state[CELL] = NOWHERE
    table = state[TABLE]
    row = table * DEPTH + 1
    tables[row] = max(tables[row], 1)
    kind = MARKED
    if not state[TAGS]:
        kind = SIMPLE if _plain(page, cell, end) else WRITTEN
    elif end > state[PIECE]:
        _put(found, state, TEXT, 0, 0, state[PIECE], end)
    _put(found, state, kind, table, tables[row] - 1, cell, end)


@kernel
def _shape(
    found: NDArray[Any], tables: NDArray[Any], state: NDArray[Any], word: int, start: int, end: int
) -> None:
    """Open what a start tag opens; a cell before it has ended."""
    if word == _TABLE:
        at = state[TABLES] * DEPTH
        tables[at] = state[TABLE]
        tables[at + 1] = 0
        state[TABLE] = state[TABLES]
        state[TABLES] += 1
    elif word == _BR:
        if state[CELL] != NOWHERE:
            _put(found, state, BREAK, 0, 0, start, end)
    elif state[TABLE] != NOWHERE:
        if word == _TR:
            tables[state[TABLE] * DEPTH + 1] += 1
        elif word in (_TD, _TH):
            state[CELL] = state[PIECE] = end
            state[TAGS] = 0


@kernel
def read(
    page: NDArray[Any], marks: NDArray[Any], found: NDArray[Any], tables: NDArray[Any],
    state: NDArray[Any],
) -> int:  # fmt: skip
    """Read a page from state[AT] on. A cell that is still open at its end is not told.

    marks has a bit for each byte of the page.
    """
    end = len(page)
    at = state[AT]
    while True:
        at = _sought(page, _LESS, at, end)
        if at >= end:
            break
        state[AT] = start = at
        if (state[FOUND] + _MOST) * WIDTH > len(found):
            return NEED_ROOM
        if (state[TABLES] + 1) * DEPTH > len(tables):
            return NEED_TABLES
        at += 1
        if at >= end:
            break
        byte = page[u64(at)]
        closing = byte == _SLASH
        if closing:
            at += 1
        if at >= end or not _letter(page[u64(at)]):
            if closing or byte in (_BANG, _ASKS):
                at = _comment(page, start, end)
                if at == NOWHERE:
                    break
                _take(found, state, start, at)
            continue  # or no tag: a sign like any other
        word = _name(page, at, end)
        if not word:
            after = _rest(page, at + 1, end, marks)
            if after != NOWHERE and not _elsewhere(page, start + 1, after):
                _take(found, state, start, after)
                at = after
                continue
        named = _name_end(page, at, end)
        after = _rest(page, named, end, marks)
        if after == NOWHERE:
            at = start + 1
            continue
        at = after
        shapes = word in (_TABLE, _TR, _TD, _TH)
        if shapes and state[CELL] != NOWHERE:
            _end_cell(page, found, tables, state, start)
        else:
            _take(found, state, start, at)
        if closing:
            if word == _TABLE and state[TABLE] != NOWHERE:
                state[TABLE] = tables[state[TABLE] * DEPTH]
            continue
        if shapes or word == _BR:
            _shape(found, tables, state, word, start, at)
        if word == _INPUT or _pointing(page, named, at - 1):
            _put(found, state, POINTED, i64(word == _INPUT), named, start, at)
        if word in (_SCRIPT, _STYLE):
            at = _raw_end(page, word, at, end)
            if at == NOWHERE:
                break
            state[PIECE] = at
    return DONE


@kernel
def _tells(page: NDArray[Any], at: int, end: int) -> bool:
    """Whether a word begins here that is in every page that tells anything."""
    byte = page[u64(at)]
    if byte == 0:
        return True
    if byte == _LESS:
        if at + 6 > end:
            return False
        word = _word(page, at + 1, at + 6)
        return word in (_TABLE, _INPUT)
    if byte == _AND:
        return at + 2 <= end and page[u64(at + 1)] == _HASH
    return at + 4 <= end and _word(page, at, at + 4) == _HTTP


@kernel
def tells(page: NDArray[Any]) -> int:
    """Return 1 where a page has <table, <input, http or &# in it, or a zero; 0 where not."""
    end = len(page)
    at = 0
    # As in _sought; what the words begin with is rare enough.
    while at + _BLOCK + 2 <= end:
        hit = u8(0)
        for index in range(_BLOCK):
            byte = page[u64(at + index)]
            small = u8(byte | u8(_LOWER))
            second = u8(page[u64(at + index + 1)] | u8(_LOWER))
            third = u8(page[u64(at + index + 2)] | u8(_LOWER))
            table = u8(second == u8(_T)) & u8(third == u8(_A))
            field = u8(second == u8(_I)) & u8(third == u8(_N))
            link = u8(small == u8(_H)) & u8(second == u8(_T)) & u8(third == u8(_T))
            sign = u8(byte == u8(_AND)) & u8(second == u8(_HASH))
            tag = u8(byte == u8(_LESS)) & (table | field)
            hit = u8(hit | tag | link | sign | u8(byte == u8(0)))
        if hit:
            for index in range(_BLOCK):
                if _tells(page, at + index, end):
                    return 1
        at += _BLOCK
    while at < end:
        if _tells(page, at, end):
            return 1
        at += 1
    return 0
