"""What the engine knows of a capture, laid out as it lies in memory and in its temporary files.

Three tables of fixed rows, so that compiled code fills them and row n is found by counting:

- PACKET, one row a frame, in file order: row n is frame n + 1;
- FLOW, one row a conversation: two ends and a transport, numbered as Wireshark numbers them;
- EXTENT, one row a piece of a stream, in the order in which it became readable. It says where the
  bytes lie and holds none of them.

An *address* says where bytes lie: the source's number in the upper 16 bits, the offset in the lower
48. Sources 0, 1, … are the files in the order given (what was compressed or came from standard
input is numbered all the same: the address is in the unpacked copy); PATCHES holds datagrams that
were put together from fragments and so lie in no file.

Packets and extents are chained backwards through `prev`, so that one stream is opened without
reading the others. Sequence numbers in PACKET are relative ones, but those of a segment that is
quoted, cut or a fragment are as they stand in it.
"""

from __future__ import annotations

from typing import Final

import numpy as np

NONE: Final = 0xFFFFFFFF
PATCHES: Final = 0x7FFF
SOURCE_SHIFT: Final = 48
OFFSET_MASK: Final = (1 << SOURCE_SHIFT) - 1

TCP: Final = 6
UDP: Final = 17

# TCP flags (RFC 9293, 3.1) as they stand in the segment.
FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
PSH: Final = 0x08
ACK: Final = 0x10
URG: Final = 0x20

# `status` of a packet: what Wireshark calls "TCP analysis flags", and what became of the frame.
RETRANSMISSION: Final = 1 << 0
FAST_RETRANSMISSION: Final = 1 << 1
SPURIOUS_RETRANSMISSION: Final = 1 << 2
OUT_OF_ORDER: Final = 1 << 3
LOST_BEFORE: Final = 1 << 4  # Wireshark: previous segment not captured
ACKED_UNSEEN: Final = 1 << 5  # Wireshark: ACKed unseen segment
KEEP_ALIVE: Final = 1 << 6
KEEP_ALIVE_ACK: Final = 1 << 7
DUPLICATE_ACK: Final = 1 << 8
ZERO_WINDOW: Final = 1 << 9
ZERO_WINDOW_PROBE: Final = 1 << 10
ZERO_WINDOW_PROBE_ACK: Final = 1 << 11
WINDOW_FULL: Final = 1 << 12
WINDOW_UPDATE: Final = 1 << 13
PORTS_REUSED: Final = 1 << 14
CUT: Final = 1 << 16  # fewer bytes were captured than were on the wire
FRAGMENT: Final = 1 << 17  # an IP fragment that completed no datagram
REASSEMBLED: Final = 1 << 18  # the fragment that completed one: the rest of the row is about it
MALFORMED: Final = 1 << 19  # a header contradicts itself or ends too early
QUOTED: Final = 1 << 20  # the flow is the one that an ICMP error quotes
UNKNOWN_LINK: Final = 1 << 21  # a link type that the engine does not read
NOTED: Final = 1 << 22  # the pcapng block has options: a comment, perhaps
TUNNELLED: Final = 1 << 23  # the flow was found inside a tunnel; `outer` is that of the tunnel

STATUS_WORDS: Final = {
    RETRANSMISSION: "retransmission",
    FAST_RETRANSMISSION: "fast retransmission",
    SPURIOUS_RETRANSMISSION: "spurious retransmission",
    OUT_OF_ORDER: "out of order",
    LOST_BEFORE: "previous segment not captured",
    ACKED_UNSEEN: "acknowledges an unseen segment",
    KEEP_ALIVE: "keep-alive",
    KEEP_ALIVE_ACK: "keep-alive answered",
    DUPLICATE_ACK: "duplicate ACK",
    ZERO_WINDOW: "zero window",
    ZERO_WINDOW_PROBE: "zero window probe",
    ZERO_WINDOW_PROBE_ACK: "zero window probe answered",
    WINDOW_FULL: "window full",
    WINDOW_UPDATE: "window update",
    PORTS_REUSED: "port numbers reused",
    CUT: "cut short",
    FRAGMENT: "fragment",
    REASSEMBLED: "reassembled",
    MALFORMED: "malformed",
    QUOTED: "quoted in an error",
    UNKNOWN_LINK: "unknown link type",
    NOTED: "has a note",
    TUNNELLED: "in a tunnel",
}

# Everything is packed by size, so that numpy's and the compiler's alignment agree.
PACKET: Final = np.dtype(
    [
        ("time", "<i8"),  # ns since 1970
        ("address", "<u8"),  # of the frame's first byte
        ("payload", "<u8"),  # address of what the transport carries; valid if payload_captured
        ("captured", "<u4"),  # bytes of the frame that are in the file
        ("length", "<u4"),  # bytes of the frame on the wire
        ("flow", "<u4"),  # row in the flow table, or NONE
        ("outer", "<u4"),  # the flow of the tunnel that it came through, or NONE
        ("prev", "<u4"),  # the packet before it in the same flow (row number), or NONE
        ("seq", "<u4"),  # relative to the connection's first, as Wireshark shows it; see below
        ("ack", "<u4"),
        ("payload_captured", "<u4"),
        ("payload_length", "<u4"),  # as the headers tell it; TCP: the segment's length
        ("status", "<u4"),
        ("net", "<u2"),  # the innermost EtherType: 0x0800, 0x86dd, 0x0806, …
        ("tcp_flags", "<u2"),
        ("window", "<u2"),  # as in the segment, unscaled
        ("link", "<u2"),  # link type of the interface
        ("interface", "<u2"),  # counted over all files
        ("protocol", "u1"),  # the innermost IP protocol number; 255 when there is none
        (
            "direction",
            "u1",
        ),  # 0: sent by the end that sent the flow's first packet; 1: by the other
        ("layer", "<u2"),  # where the innermost network header begins in the frame
        ("spare", "<u2"),
    ]
)
EXTENT: Final = np.dtype(
    [
        ("address", "<u8"),
        ("offset", "<u8"),  # in its direction of the stream
        ("length", "<u4"),  # bytes; of a gap: bytes that are missing (they take no room in offset)
        ("frame", "<u4"),  # counted from 1
        ("flow", "<u4"),
        ("prev", "<u4"),  # the extent before it in the same flow (row number), or NONE
        ("direction", "u1"),
        ("kind", "u1"),  # DATA or GAP
        ("spare", "<u2"),
        ("spare2", "<u4"),
    ]
)
DATA: Final = 0
GAP: Final = 1

# Of one direction of a TCP flow: how far it is, and what its last segments were like.
_SIDE: Final = [
    ("packets", "<u4"),
    ("bytes", "<u8"),  # payload on the wire, repeated bytes included
    ("frames", "<u8"),  # bytes of its frames on the wire, headers included
    ("stream", "<u8"),  # bytes that came into the stream
    ("missing", "<u8"),  # bytes known to be missing from it
    ("isn", "<u4"),  # the number before the first byte: what relative numbers count from
    ("expected", "<u4"),  # the next byte of the stream
    ("next_seq", "<u4"),  # the highest end of a segment so far, contiguous or not
    ("next_frame", "<u4"),
    ("next_time", "<i8"),
    ("to_ack", "<u4"),  # the end of what was seen without a hole
    ("last_ack", "<u4"),
    ("ack_time", "<i8"),
    ("duplicates", "<i4"),
    ("window", "<u4"),
    ("mss", "<i4"),  # of its SYN; -1 when not told
    ("shift", "<i2"),  # window scale of its SYN (RFC 7323); -1 when not told
    ("scale", "<i2"),  # window scale in force; UNKNOWN_SCALE, NO_SCALE
    ("flags", "<u2"),  # SIDE_…
    ("spare", "<u2"),
    ("status", "<u4"),  # of its last segment
    ("pending", "<i4"),  # first of the segments that wait for earlier ones, or -1
    ("last_pending", "<i4"),
    ("waiting", "<u4"),  # how many wait
    ("again", "<u4"),  # with SIDE_AGAIN: where the stream goes on if a segment lies there
]
UNKNOWN_SCALE: Final = -1
NO_SCALE: Final = -2
SIDE_ISN: Final = 1  # isn is known
SIDE_SACK: Final = 2  # its SYN permitted SACK
SIDE_STARTED: Final = 4  # expected is known
SIDE_UNSCALED: Final = 8  # it sent a SYN and no ACK since: its window is not scaled yet
SIDE_FIN: Final = 16
SIDE_RST: Final = 32
SIDE_SYN: Final = 64
SIDE_AGAIN: Final = 128
FLOW: Final = np.dtype(
    [
        ("address", "u1", (2, 16)),  # [0] sent the first packet; IPv4 in the first four bytes
        ("port", "<u2", (2,)),
        ("version", "u1"),  # 4 or 6
        ("protocol", "u1"),  # TCP or UDP
        ("flipped", "u1"),  # 1: end [1] is the client (the capture began with its SYN's answer)
        ("spare", "u1"),
        ("number", "<u4"),  # tcp.stream or udp.stream
        ("last_packet", "<u4"),  # row number, or NONE
        ("last_extent", "<u4"),  # row number, or NONE
        ("first_frame", "<u4"),
        ("last_frame", "<u4"),
        ("first_time", "<i8"),
        ("last_time", "<i8"),
        ("syn_time", "<i8"),  # of the latest SYN; 0: none
        ("round_trip", "<i8"),  # from SYN to the handshake's ACK, ns; 0: not known
        ("syn_frame", "<u4"),  # the handshake's three frames, 0 when not seen
        ("answer_frame", "<u4"),
        ("ack_frame", "<u4"),
        ("gaps", "<u4"),  # frames at which a segment is known to be missing
        ("side", np.dtype(_SIDE), (2,)),
    ]
)

# --- between the parts of the engine ----------------------------------------------------------

# A frame as the file reader found it; position is that in the window that is being read.
RECORD: Final = np.dtype(
    [
        ("time", "<i8"),
        ("address", "<u8"),
        ("position", "<u4"),
        ("captured", "<u4"),
        ("length", "<u4"),
        ("status", "<u4"),
        ("link", "<u2"),
        ("interface", "<u2"),
        ("spare", "<u4"),
    ]
)
# A segment that waits for earlier ones.
PENDING: Final = np.dtype(
    [
        ("address", "<u8"),
        ("arrival", "<i8"),
        ("seq", "<u4"),
        ("captured", "<u4"),
        ("frame", "<u4"),
        ("next", "<i4"),
    ]
)
# An interface of a pcapng section: how its time stamps become ns.
INTERFACE: Final = np.dtype(
    [
        ("factor", "<i8"),  # multiply, or divide, by it; or shift by it
        ("offset", "<i8"),  # ns
        ("how", "<u4"),  # MULTIPLY, DIVIDE or SHIFT
        ("snap", "<u4"),
        ("link", "<u2"),
        ("number", "<u2"),
        ("spare", "<u4"),
    ]
)
MULTIPLY: Final = 0
DIVIDE: Final = 1
SHIFT: Final = 2
# A stretch of one stream's bytes among those laid side by side for the search.
RUN: Final = np.dtype(
    [
        ("start", "<i8"),  # where it begins, with what was seen before
        ("body", "<i8"),  # where the new bytes begin
        ("end", "<i8"),
        ("offset", "<i8"),  # in the stream, of its first byte
        ("key", "<i8"),  # twice the flow, plus the direction
    ]
)
