"""Where this machine gets its Debian packages from, for building images from the same place.

Pure functions over the texts of sources.list(5), in both its formats, and one that reads them.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

APT = Path("/etc/apt")
OS_RELEASE = Path("/etc/os-release")

_ONE_LINE = re.compile(r"^deb\s+(?P<options>\[[^\]]*\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+\S")
_FIELD = re.compile(r"^(?P<name>[A-Za-z0-9-]+):[ \t]*(?P<value>.*(?:\n[ \t].*)*)", re.MULTILINE)

# How a mirror is reached and trusted. Everything else of the machine's apt is its own affair.
_SETTING = re.compile(
    r'^Acquire::(?:https?::(?!User-Agent)[^ ]*|Check-Valid-Until|Check-Date|Retries) "[^"]+";$'
)


def is_suite(os_release: str, suite: str) -> bool:
    """Tell whether os-release(5) text is that of Debian's `suite` itself, no derivative."""
    pairs = (line.partition("=") for line in os_release.splitlines())
    fields = {name: value.strip("\"'") for name, _, value in pairs}
    return fields.get("ID") == "debian" and fields.get("VERSION_CODENAME") == suite


def one_line_entries(text: str, suite: str) -> str:
    """Return the lines of a sources.list that serve `suite` or its updates and security."""
    kept = []
    for line in text.splitlines():
        match = _ONE_LINE.match(line.strip())
        if match and match["suite"] in _suites(suite) and not match["uri"].startswith("cdrom:"):
            kept.append(f"deb {match['options'] or ''}{match['uri']} {match['suite']} main")
    return "".join(f"{line}\n" for line in kept)


def deb822_entries(text: str, suite: str) -> str:
    """Return the stanzas of a .sources file that serve `suite`, narrowed to it and to main."""
    uncommented = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    kept = []
    for stanza in re.split(r"\n[ \t]*\n", uncommented):
        fields = {m["name"].lower(): m["value"].strip() for m in _FIELD.finditer(stanza)}
        suites = [s for s in fields.get("suites", "").split() if s in _suites(suite)]
        if not suites or fields.get("enabled", "yes").lower() in {"no", "false", "0"}:
            continue
        if "deb" not in fields.get("types", "").split() or "cdrom:" in fields.get("uris", ""):
            continue
        lines = ["Types: deb", f"URIs: {fields['uris']}", f"Suites: {' '.join(suites)}"]
        lines.append("Components: main")
        # What is trusted stays exactly as it is, an inline key included.
        lines += [
            f"{name}: {fields[name.lower()]}"
            for name in ("Signed-By", "Check-Valid-Until", "Trusted")
            if name.lower() in fields
        ]
        kept.append("\n".join(lines))
    return "".join(f"{stanza}\n\n" for stanza in kept)


def machine_sources(suite: str, apt: Path = APT, os_release: Path = OS_RELEASE) -> dict[str, str]:
    """Return {file name: content} of this machine's sources for `suite`.

    Empty when the machine is not Debian of that suite or names no mirror of it: then
    mmdebstrap's own default is right.
    """
    try:
        if not is_suite(os_release.read_text(encoding="utf-8"), suite):
            return {}
    except OSError:
        return {}
    found = {}
    folder = apt / "sources.list.d"
    for path in (apt / "sources.list", *sorted(folder.glob("*.list"))):
        if path.is_file():
            found[path.stem + ".list"] = one_line_entries(_read(path), suite)
    for path in sorted(folder.glob("*.sources")):
        found[path.name] = deb822_entries(_read(path), suite)
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


def _suites(suite: str) -> set[str]:
    return {suite, f"{suite}-updates", f"{suite}-security"}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except PermissionError:
        return ""
