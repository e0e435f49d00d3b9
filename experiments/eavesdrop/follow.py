"""One packet and one stream, opened by number: as lines for a person and as data for a program."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any, Final

from experiments.analysis.decoders import decode
from experiments.analysis.told import told
from experiments.eavesdrop import rows
from experiments.eavesdrop.heard import LINKS
from experiments.eavesdrop.plain import plain, readable
from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from experiments.analysis.capture import Followed, Reading

_NAME: Final = re.compile(r"(tcp|udp):([0-9]{1,10})", re.IGNORECASE)
_WIDTH: Final = 16
FORWARD: Final = "→"
BACK: Final = "←"


def named(word: str) -> tuple[str, int]:
    """Return transport and number of "tcp:4711". Raises LabError when it is not one."""
    match = _NAME.fullmatch(word)
    if not match:
        raise LabError(
            "reading --stream",
            f"{plain(word)!r} names no stream",
            fault=Fault.USER,
            todo="--stream tcp:4711, or udp:0; the summary and --json tell the numbers.",
        )
    return match[1].lower(), int(match[2])


def stream_row(reading: Reading, followed: Followed, keys: bytes) -> dict[str, Any]:
    """Return the stream's row with what was read in it."""
    decoded = decode(rows.as_stream(followed), keys)
    row = rows.stream(followed, decoded, reading.start, hashes=True)
    row["read"] = [
        rows.told(said, followed, reading.start) for said in told(rows.as_stream(followed), decoded)
    ]
    return row


def stream_lines(followed: Followed, row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (mark, line): "" for words about the stream, FORWARD and BACK for what was said.

    What is no text is escaped; line ends are those of the text.
    """
    packets, size = row["packets"], row["bytes"]
    protocol = row["protocol"] or "no bytes"
    yield "", f"{followed.protocol}:{followed.number}  {followed.client} → {followed.server}"
    yield (
        "",
        (
            f"{protocol}; {packets['forward']} packets and {size['forward']} B there, "
            f"{packets['back']} and {size['back']} B back"
        ),
    )
    for name, value in row["facts"].items():
        yield "", f"{plain(name)}: {plain(value)}"
    for note in row["notes"]:
        yield "", plain(note)
    for chunk in followed.walk():
        mark = FORWARD if chunk.forward else BACK
        yield "", f"{mark} frame {chunk.frame}, {chunk.time:.6f} s, {len(chunk.data)} B"
        for line in readable(chunk.data).removesuffix("\n").split("\n"):
            yield mark, line


def stream_chunks(followed: Followed) -> Iterator[dict[str, Any]]:
    """Yield the chunks as JSON rows; `text` is for reading, `base64` has the bytes."""
    for chunk in followed.walk():
        yield {
            "frame": chunk.frame,
            "when": round(chunk.time, 9),
            "direction": "forward" if chunk.forward else "back",
            "bytes": len(chunk.data),
            "text": readable(chunk.data),
            "base64": base64.b64encode(chunk.data).decode(),
        }


def packet_row(reading: Reading, number: int) -> dict[str, Any]:
    """Return all that is known of a packet, and its bytes in hexadecimal."""
    packet, details = reading.packet(number), reading.details(number)
    nanoseconds = details.pop("time_ns")
    link = details.pop("link")
    index = details.pop("interface")
    interface = reading.interfaces[index] if index < len(reading.interfaces) else None
    if "forward" in details:
        details["forward"] = bool(details["forward"])
    comments = [comment.text for comment in reading.comments if comment.frame == number]
    return {
        "frame": number,
        "time": rows.clock(nanoseconds),
        "when": round(packet.time, 9),
        "source": packet.source,
        "destination": packet.destination,
        "protocol": packet.protocol,
        "info": packet.info,
        **details,
        "link": LINKS.get(link, f"link type {link}"),
        "interface": interface.name if interface else "",
        "comments": comments,
        "hex": reading.frame(number).hex(),
    }


def packet_lines(row: dict[str, Any]) -> Iterator[str]:
    """Yield a packet's row as lines, the bytes as Wireshark's packet bytes are laid out."""
    yield f"frame {row['frame']}  {row['time']}  {row['when']:.6f} s after the first"
    yield f"{row['source']} → {row['destination']}  {row['protocol']}  {plain(row['info'])}"
    told = {
        name: value
        for name, value in row.items()
        if name not in {"frame", "time", "when", "source", "destination", "protocol", "info", "hex"}
        and value not in ("", [], None)
    }
    if "transport" in told:
        told["stream"] = f"{told.pop('transport')}:{told['stream']}"
        told["direction"] = "from the client" if told.pop("forward") else "from the server"
    for name, value in told.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        yield f"  {name:<16}{plain(str(shown))}"
    yield ""
    data = bytes.fromhex(row["hex"])
    for start in range(0, len(data), _WIDTH):
        part = data[start : start + _WIDTH]
        text = "".join(chr(byte) if 32 <= byte < 127 else "·" for byte in part)  # noqa: PLR2004 - ASCII
        yield f"{start:04x}  {part.hex(' '):<{3 * _WIDTH - 1}}  {text}"
