"""Captures of any size for the benchmarks, made quickly: HTTP conversations as a server sees them.

One block of conversations is made with care (requests, pages plain, chunked and gzip-packed, files,
some segments late, some twice, some acknowledgements alone) and written again and again with other
addresses, ports and times, which numpy puts in place. No two blocks share a connection.
"""

from __future__ import annotations

import gzip
import struct
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from benchmarks.texts import secrets

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

CONNECTIONS: Final = 150  # in a block
SEGMENT: Final = 1460
_WORDS: Final = (
    "the", "of", "and", "a", "to", "in", "is", "you", "that", "it",
    "he", "was", "for", "on", "are", "as", "with", "his", "they", "at",
    "be", "this", "from", "have", "or", "by", "one", "had", "not", "but",
    "what", "all", "were", "when", "we", "there", "can", "an", "your", "which",
    "their", "said", "if", "do", "will", "each", "about", "how", "up", "out",
    "them", "then", "she", "many", "some", "so", "these", "would", "other", "into",
    "has", "more", "her", "two", "like", "him", "time", "see", "no", "could",
    "make", "than", "first", "been", "its", "who", "now", "people", "my", "made",
    "over", "did", "down", "only", "way", "find",
)  # fmt: skip
_START: Final = 1_700_000_000
_FIN, _SYN, _PSH, _ACK = 1, 2, 8, 16
_SERVER: Final = bytes([192, 0, 2, 80])


@dataclass(frozen=True)
class Block:
    """One block's bytes, and the places in it that are written anew each time."""

    data: NDArray[np.uint8]
    seconds: NDArray[np.int64]  # places of the time stamps' seconds
    address: NDArray[np.int64]  # of the clients' addresses
    packets: int


def _packet(  # noqa: PLR0913 - each by its name
    client: int, *, to_server: bool, seq: int, ack: int, flags: int, data: bytes
) -> bytes:
    address = bytes([10, 0, 0, 0])
    port = struct.pack(">H", 1024 + client)
    source, target = (address, _SERVER) if to_server else (_SERVER, address)
    ports = port + b"\0\x50" if to_server else b"\0\x50" + port
    total = 40 + len(data)
    return (
        b"\x02\0\0\0\0\x01\x02\0\0\0\0\x02\x08\0"
        + struct.pack(">BBHHHBBH", 0x45, 0, total, client, 0x4000, 64, 6, 0)
        + source
        + target
        + ports
        + struct.pack(">IIHHHH", seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, 5 << 12 | flags, 501, 0, 0)
        + data
    )


def _page(random: Random, size: int, texts: list[str]) -> bytes:
    """Return a page: mostly prose, a few links, and on one in five a table of chat messages."""
    parts = [
        '<!DOCTYPE html><html><head><link rel="stylesheet" href="/s.css"><title>A page</title>',
        '</head><body><nav><a href="/home.html">home</a> <a href="/news.html">news</a></nav>',
    ]
    if random.random() < 0.2:  # noqa: PLR2004 - one page in five
        rows = [
            f"<tr><td>user{random.randrange(99)}</td><td>{_prose(random, 6)}</td></tr>"
            for _ in range(random.randrange(1, 15))
        ]
        rows.append(f"<tr><td>somebody</td><td>{random.choice(texts)}</td></tr>")
        parts.append(f"<table><tr><th>user</th><th>message</th></tr>{''.join(rows)}</table>")
    length = sum(map(len, parts))
    while length < size:
        parts.append(
            f'<p>{_prose(random, 90)} <a href="/p{random.randrange(999)}.html">more</a></p>'
        )
        length += len(parts[-1])
    return ("".join(parts) + "</body></html>").encode()


def _prose(random: Random, count: int) -> str:
    return " ".join(random.choices(_WORDS, k=count))


def _response(random: Random, texts: list[str]) -> bytes:
    kind = random.random()
    if kind < 0.3:  # noqa: PLR2004 - a page as it is
        body, head = _page(random, random.randrange(500, 12000), texts), "text/html"
        more = f"Content-Length: {len(body)}\r\n"
    elif kind < 0.55:  # noqa: PLR2004 - packed
        body = gzip.compress(_page(random, random.randrange(3000, 60000), texts), 6)
        head, more = "text/html", f"Content-Encoding: gzip\r\nContent-Length: {len(body)}\r\n"
    elif kind < 0.75:  # noqa: PLR2004 - in chunks
        page = _page(random, random.randrange(500, 9000), texts)
        parts = [page[at : at + 2000] for at in range(0, len(page), 2000)]
        body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        head, more = "text/html", "Transfer-Encoding: chunked\r\n"
    else:
        body, head = random.randbytes(random.randrange(5000, 120000)), "image/png"
        more = f"Content-Length: {len(body)}\r\n"
    return f"HTTP/1.1 200 OK\r\nContent-Type: {head}\r\n{more}\r\n".encode() + body


def _request(random: Random, texts: list[str]) -> bytes:
    if random.random() < 0.3:  # noqa: PLR2004 - three in ten write
        text = random.choice(texts).replace(" ", "+").replace("!", "%21")
        user, password = f"user{random.randrange(99)}", f"pw{random.randrange(9999)}"
        body = f"username={user}&password={password}&content={text}"
        return (
            "POST /chat/Post.php HTTP/1.1\r\nHost: 192.0.2.80\r\nUser-Agent: Mozilla/5.0\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        ).encode()
    return (
        f"GET /page{random.randrange(999)}.html HTTP/1.1\r\nHost: 192.0.2.80\r\n"
        f"User-Agent: Mozilla/5.0 (bench)\r\nCookie: session={random.randbytes(12).hex()}\r\n\r\n"
    ).encode()


def _connection(random: Random, client: int, texts: list[str]) -> list[bytes]:
    """Return the frames of one connection with a few requests."""
    out: list[bytes] = []
    at = {True: random.randrange(1 << 32), False: random.randrange(1 << 32)}

    def send(flags: int, data: bytes = b"", *, to_server: bool) -> None:
        ack = at[not to_server] if flags & _ACK else 0
        out.append(
            _packet(client, to_server=to_server, seq=at[to_server], ack=ack, flags=flags, data=data)
        )
        at[to_server] += len(data) + bool(flags & (_SYN | _FIN))

    send(_SYN, to_server=True)
    send(_SYN | _ACK, to_server=False)
    send(_ACK, to_server=True)
    for _ in range(random.randrange(1, 5)):
        send(_ACK | _PSH, _request(random, texts), to_server=True)
        answer = _response(random, texts)
        for start in range(0, len(answer), SEGMENT):
            send(_ACK | _PSH, answer[start : start + SEGMENT], to_server=False)
            if start // SEGMENT % 2:
                send(_ACK, to_server=True)
        send(_ACK, to_server=True)
    send(_FIN | _ACK, to_server=True)
    send(_FIN | _ACK, to_server=False)
    send(_ACK, to_server=True)
    for index in range(3, len(out) - 3):
        if random.random() < 0.01:  # noqa: PLR2004 - late by one
            out[index], out[index + 1] = out[index + 1], out[index]
    for _ in range(len(out) // 100):
        again = random.randrange(3, len(out) - 3)
        out.insert(again + 1, out[again])
    return out


def make_block() -> Block:
    """Make the block: conversations side by side, about 20 at a time."""
    random = Random(42)  # noqa: S311 - the same each time
    texts = [text for _, text in secrets()[:10]]
    waiting = [_connection(random, client, texts)[::-1] for client in range(CONNECTIONS)]
    active = [waiting.pop() for _ in range(20)]
    parts: list[bytes] = []
    seconds, address, at, count = [], [], 0, 0
    while active:
        queue = random.choice(active)
        frame = queue.pop()
        parts.append(struct.pack("<IIII", _START, min(count * 80, 999_999), len(frame), len(frame)))
        parts.append(frame)
        seconds.append(at)
        # The client's address is the source, unless port 80 is.
        address.append(at + 16 + 14 + (16 if frame[34:36] == b"\0\x50" else 12))
        at += 16 + len(frame)
        count += 1
        if not queue:
            active.remove(queue)
            if waiting:
                active.append(waiting.pop())
    data = np.frombuffer(b"".join(parts), np.uint8).copy()
    return Block(data, np.array(seconds), np.array(address), count)


def write(path: Path, size: int, block: Block | None = None) -> int:
    """Write a pcap of about `size` bytes; return the number of its packets."""
    made = block or make_block()
    data: NDArray[Any] = made.data
    times = max(round(size / len(data)), 1)
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1))
        for turn in range(times):
            stamp = np.frombuffer(struct.pack("<I", _START + turn), np.uint8)
            number = np.frombuffer(struct.pack(">I", 0x0A000001 + turn), np.uint8)
            for byte in range(4):
                data[made.seconds + byte] = stamp[byte]
                data[made.address + byte] = number[byte]
            file.write(data.data)
    return times * made.packets
