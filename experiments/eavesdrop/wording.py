"""What was heard, in a sentence and in figures, for the screen and the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from experiments.eavesdrop.rows import clock

if TYPE_CHECKING:
    from experiments.eavesdrop.heard import Heard

DAY_S: Final = 86_400
_SHORT_S: Final = 120
_KILO: Final = 1000
_UNITS: Final = ("B", "kB", "MB", "GB", "TB")


def sentence(heard: Heard) -> str:
    """Return what can be read, in one sentence."""
    view = heard.overview
    if not heard.figures.packets:
        return "There is nothing in it to read."
    told = [
        (view.messages_total, False, "message", "messages"),
        (view.passwords.different, view.passwords.full, "password", "passwords"),
        (view.users.different, view.users.full, "user name", "user names"),
        (view.contacts.different, view.contacts.full, "contact or room", "contacts and rooms"),
        (view.names.different, view.names.full, "host name", "host names"),
    ]
    read = [
        ("more than " if full else "") + count(number, one, many)
        for number, full, one, many in told
        if number
    ]
    sealed = sum(entry.streams for entry in view.sealed.values())
    after = f"; {count(sealed, 'stream')} stayed sealed." if sealed else "."
    if not read:
        return f"No message, user or password can be read{after}"
    words = ", ".join(read[:-1]) + (" and " if len(read) > 1 else "") + read[-1]
    return f"An eavesdropper reads {words}{after}"


def count(number: int, one: str, many: str = "") -> str:
    """Return "1 packet", "2 packets"."""
    return f"{grouped(number)} {one if number == 1 else many or one + 's'}"


def grouped(number: int) -> str:
    """Return a number with its digits in groups of three."""
    return f"{number:,}".replace(",", "\u2009")


def size(number: int) -> str:
    """Return bytes in the unit that leaves three digits; 1 kB is 1000 B."""
    value, unit = float(number), 0
    while value >= _KILO - 0.5 and unit < len(_UNITS) - 1:
        value /= _KILO
        unit += 1
    digits = 0 if not unit or value >= 99.95 else 1 if value >= 9.995 else 2  # noqa: PLR2004 - three digits
    return f"{value:.{digits}f} {_UNITS[unit]}"


def span(seconds: float) -> str:
    """Return a length of time."""
    if seconds < _SHORT_S:
        return f"{seconds:.3f} s"
    days, rest = divmod(int(seconds), DAY_S)
    hours, rest = divmod(rest, 3600)
    clock_ = f"{hours}:{rest // 60:02d}:{rest % 60:02d} h"
    return f"{days} d {clock_}" if days else clock_


def moment(nanoseconds: int) -> str:
    """Return a time to the second, in UTC."""
    return clock(nanoseconds)[:19].replace("T", " ") + " UTC"
