"""Where this machine gets its Debian packages from, for building images from the same place.

Debian's unstable suite comes from the mirror of the machine's own suite. Other suites than the
machine's do not: their updates and security may be elsewhere.

Pure functions over the texts of sources.list(5), in both its formats, and one that reads them.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

APT = Path("/etc/apt")
OS_RELEASE = Path("/etc/os-release")

_ONE_LINE = re.compile(
    r"^deb\s+(?P<options>\[[^\]]*\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<parts>.+)"
)
UNSTABLE = ("sid", "unstable")
_FIELD = re.compile(r"^(?P<name>[A-Za-z0-9-]+):[ \t]*(?P<value>.*(?:\n[ \t].*)*)", re.MULTILINE)

# How a mirror is reached and trusted. Everything else of the machine's apt is its own affair.
_SETTING = re.compile(
    r'^Acquire::(?:https?::(?!User-Agent)[^ ]*|Check-Valid-Until|Check-Date|Retries) "[^"]+";$'
)


def debian_suite(os_release: str) -> str | None:
    """Return the suite that os-release(5) text names, or None when it is not Debian itself."""
    pairs = (line.partition("=") for line in os_release.splitlines())
    fields = {name: value.strip("\"'") for name, _, value in pairs}
    return fields.get("VERSION_CODENAME") if fields.get("ID") == "debian" else None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of a machine's sources is wanted.

    suite      -- the machine's own, e.g. "bookworm".
    instead    -- "sid", to be had where that one comes from; "" for the machine's own.
    components -- sections of the archive.
    """

    suite: str
    instead: str = ""
    components: tuple[str, ...] = ("main",)

    def suites(self, listed: list[str]) -> list[str]:
        """Return what is wanted of the suites that an entry of the machine lists."""
        if self.instead:
            return [self.instead] if self.suite in listed else []
        own = {self.suite, f"{self.suite}-updates", f"{self.suite}-security"}
        return [suite for suite in listed if suite in own]


def one_line_entries(text: str, wanted: Wanted) -> str:
    """Return the lines of a sources.list that serve what is wanted, updates and security too."""
    kept = []
    for line in text.splitlines():
        match = _ONE_LINE.match(line.strip())
        if match and "main" in match["parts"].split() and not match["uri"].startswith("cdrom:"):
            source = f"deb {match['options'] or ''}{match['uri']}"
            kept += [
                f"{source} {suite} {' '.join(wanted.components)}"
                for suite in wanted.suites([match["suite"]])
            ]
    return "".join(f"{line}\n" for line in kept)


def deb822_entries(text: str, wanted: Wanted) -> str:
    """Return the stanzas of a .sources file that serve what is wanted, narrowed to it."""
    uncommented = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    kept = []
    for stanza in re.split(r"\n[ \t]*\n", uncommented):
        fields = {m["name"].lower(): m["value"].strip() for m in _FIELD.finditer(stanza)}
        suites = wanted.suites(fields.get("suites", "").split())
        if "main" not in fields.get("components", "").split():  # Debian has it; others may not
            continue
        if not suites or fields.get("enabled", "yes").lower() in {"no", "false", "0"}:
            continue
        if "deb" not in fields.get("types", "").split() or "cdrom:" in fields.get("uris", ""):
            continue
        lines = ["Types: deb", f"URIs: {fields['uris']}", f"Suites: {' '.join(suites)}"]
        lines.append(f"Components: {' '.join(wanted.components)}")
        # What is trusted stays exactly as it is, an inline key included.
        lines += [
            f"{name}: {fields[name.lower()]}"
            for name in ("Signed-By", "Check-Valid-Until", "Trusted")
            if name.lower() in fields
        ]
        kept.append("\n".join(lines))
    return "".join(f"{stanza}\n\n" for stanza in kept)


def machine_sources(
    suite: str,
    components: tuple[str, ...] = ("main",),
    apt: Path = APT,
    os_release: Path = OS_RELEASE,
) -> dict[str, str]:
    """Return {file name: content} of this machine's sources, made to serve `suite`.

    Empty when the machine is not Debian of that suite (of any, for sid) or names no mirror: then
    mmdebstrap's own default is right.
    """
    try:
        own = debian_suite(os_release.read_text(encoding="utf-8"))
    except OSError:
        return {}
    if own is None or (suite != own and suite not in UNSTABLE):
        return {}
    wanted = Wanted(own, "" if suite == own else suite, components)
    found = {}
    folder = apt / "sources.list.d"
    for path in (apt / "sources.list", *sorted(folder.glob("*.list"))):
        if path.is_file():
            found[path.stem + ".list"] = one_line_entries(_read(path), wanted)
    for path in sorted(folder.glob("*.sources")):
        found[path.name] = deb822_entries(_read(path), wanted)
    return {name: text for name, text in found.items() if text}


def reaching_settings(dump: str) -> list[str]:
    """Return the lines of `apt-config dump` that say how mirrors are reached (proxies etc.)."""
    return [line for line in dump.splitlines() if _SETTING.match(line)]


def machine_settings() -> list[str]:
    """Return this machine's `reaching_settings`; none where apt-config is missing."""
    try:
        done = subprocess.run(
            ["apt-config", "dump"], capture_output=True, text=True, check=False, timeout=20
        )
    except FileNotFoundError:
        return []
    return reaching_settings(done.stdout)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except PermissionError:
        return ""
