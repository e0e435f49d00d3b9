"""The places in the array `state` of int64 that the compiled pass keeps between its calls."""

from __future__ import annotations

from typing import Final

# What `decode` returns.
DONE: Final = 0
NEED_FLOWS: Final = 1  # the flow table, or its index, is full
NEED_EXTENTS: Final = 2  # the extents have to be taken away first
PIECE: Final = 3  # a fragment: R_… tell which; call again with the datagram, or RESUME = SKIP
NEED_PENDING: Final = 4  # the table of waiting segments is full

NEXT: Final = 0  # the record to go on with
ROWS: Final = 1  # packet rows of earlier batches
FLOWS: Final = 2  # flows there are
TCP_STREAMS: Final = 3  # the number of the next one
UDP_STREAMS: Final = 4
EXTENTS: Final = 5  # extents taken away in earlier batches
USED: Final = 6  # extents in the table now
WAITING: Final = 7  # segments that wait, of all flows
FREE: Final = 8  # first free row of the pending table, or -1
FRESH: Final = 9  # rows of the pending table never used
ARRIVALS: Final = 10  # segments that ever had to wait
SEED: Final = 11  # of the flow index
SIDE_FROM: Final = 12  # where the datagrams put together begin in the window
SIDE_BASE: Final = 13  # address of that place

# A fragment, or the datagram that is to be gone on with.
RESUME: Final = 16
FRESH_START: Final = 0
DATAGRAM: Final = 1
SKIP: Final = 2  # it completed nothing
R_AT: Final = 17  # payload
R_END: Final = 18  # its captured end
R_WIRE: Final = 19  # its end as told
R_FROM: Final = 20  # position of the source address
R_TO: Final = 21
R_VERSION: Final = 22
R_NEXT: Final = 23  # protocol
R_ID: Final = 24
R_OFFSET: Final = 25
R_MORE: Final = 26
R_VLAN: Final = 27
R_OUTER: Final = 28
R_STATUS: Final = 29
R_LAYER: Final = 30
R_DEPTH: Final = 31
R_QUOTED: Final = 32
SIZE: Final = 40

# Segments of one direction that may wait, and of all; beyond it the hole before them is given up.
MOST_WAITING: Final = 1 << 14
ALL_WAITING: Final = 1 << 19
