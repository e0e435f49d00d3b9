"""What the file walkers (walk.py) and their caller (reader.py) say to each other."""

from __future__ import annotations

from typing import Final

MORE: Final = 0
FULL: Final = 1
BLOCK: Final = 2
DAMAGED: Final = 3

# Places in the array `walk` of int64.
AT: Final = 0  # position in the window
END: Final = 1  # end of what is in the window
COUNT: Final = 2  # rows filled
BASE: Final = 3  # address of the window's first byte
BIG: Final = 4  # 1: big-endian
NANO: Final = 5  # pcap: 1: time stamps in ns
EXTRA: Final = 6  # pcap: bytes of a record's header beyond 16
LINK: Final = 7  # pcap: link type
INTERFACES: Final = 8  # pcapng: interfaces in this section; pcap: the interface's number
TIME: Final = 9  # time of the frame before, for blocks that have none
WHY: Final = 10  # what is wrong, see WORDS
ROOM: Final = 11  # rows that there are
WALK: Final = 16  # size of the array

# A frame larger than this is none: Wireshark's bound for all link types of networks.
LARGEST: Final = 262144
LEAST_BLOCK: Final = 12
LARGEST_BLOCK: Final = 16 << 20
WORDS: Final = {
    1: "a packet of more than 262144 bytes",
    2: "a block whose length cannot be",
    3: "a block whose two lengths differ",
    4: "a packet that is larger than its block",
    5: "a packet of an interface that was not described",
}
