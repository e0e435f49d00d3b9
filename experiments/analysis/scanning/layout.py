"""What the functions that scan tell, in numbers. Apart from them: see compiled/jit.py."""

from __future__ import annotations

from typing import Final

# What is found, WIDTH numbers each.
WIDTH: Final = 5
TEXT: Final = 0  # 0, 0, start, end: a piece of the text of the next MARKED cell
BREAK: Final = 1  # 0, 0, start, end: a line break in it
SIMPLE: Final = 2  # table, row, start, end: a cell whose text is its bytes
WRITTEN: Final = 3  # as above: a cell whose text has to be decoded, but has no tags
MARKED: Final = 4  # as above: a cell whose text is the pieces before it
POINTED: Final = 5  # whether it is an <input>, where its name ends, start, end: a tag

# Of a table, DEPTH numbers: the table around it (NOWHERE: none), and its number of rows.
DEPTH: Final = 2
NOWHERE: Final = -1

# Where the reader is, for when it is called again with more room.
AT: Final = 0
CELL: Final = 1  # where the open cell begins
PIECE: Final = 2  # where its text goes on after the last tag
TAGS: Final = 3  # whether it has tags
TABLE: Final = 4  # the innermost open table
TABLES: Final = 5  # how many there are
FOUND: Final = 6  # how many things were found
SIZE: Final = 7

DONE: Final = 0
NEED_ROOM: Final = 1  # for what is found
NEED_TABLES: Final = 2
