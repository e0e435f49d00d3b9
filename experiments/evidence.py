"""The run folder: what doing hands to judging. Written once, hashed, then read-only.

A run folder holds evidence (captures, results, logs, the spec and the plan), sealed by
`manifest.json` with the SHA-256 of every file, and beside it what was derived from the evidence,
which can be made again at any time and is listed in `derived.json`. SHA256SUMS is over all of it
(experiments.verifying). Times are RFC 3339 in UTC.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from experiments import sums
from experiments.sums import SUMS
from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from pathlib import Path

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
DERIVED_LIST: Final = "derived.json"
CRATE: Final = "ro-crate-metadata.json"
DERIVED: Final = frozenset(
    {"analysis.json", "verdicts.json", "report.json", "report.html", CRATE, DERIVED_LIST}
)
_UNLISTABLE: Final = re.compile(r"[\x00-\x1f\x7f\\]")  # what no line of SHA256SUMS can name
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_STAMP: Final = "%Y%m%dT%H%M%SZ"


def rfc3339(when: datetime) -> str:
    """Return a time as RFC 3339 text in UTC with milliseconds."""
    return when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def host_facts() -> dict[str, Any]:
    """Return what the machine is that ran this, and nothing that says whose it is.

    cpus is a count, memory_mib the physical memory in MiB (None where it cannot be read).
    """
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
    except (ValueError, OSError):
        memory = None
    return {
        "cpus": os.cpu_count(),
        "memory_mib": memory,
        "machine": platform.machine(),
        "system": platform.system(),
        "kernel": platform.release(),
    }


def canonical(data: Any) -> bytes:  # noqa: ANN401 (JSON data is any of JSON's types)
    """Return JSON as bytes: the same data is the same bytes."""
    return (json.dumps(data, ensure_ascii=False, indent=1, sort_keys=True) + "\n").encode()


def hash_file(path: Path) -> dict[str, Any]:
    """Return the SHA-256 (hex) and the size (bytes) of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return {"sha256": digest.hexdigest(), "bytes": path.stat().st_size}


def _replace(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of `verify`: a file and what is wrong with it."""

    file: str
    fault: str


class RunFolder:
    """One run on disk. Made by `create` or `open`; `path` is the folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, name: str, root: Path, *, now: datetime | None = None) -> RunFolder:
        """Make <root>/<YYYYMMDDTHHMMSSZ>-<name>, new and empty.

        Two runs in the same second get -2, -3 … at the end. Raises LabError for a name that is
        no file name, or when the folder cannot be made.
        """
        if not _NAME.fullmatch(name):
            raise LabError(
                "making a run folder",
                f"the run's name is {name!r}",
                fault=Fault.USER,
                todo="Use lower-case letters, digits, '.', '_' and '-', 64 at most.",
            )
        stem = f"{(now or datetime.now(UTC)).astimezone(UTC).strftime(_STAMP)}-{name}"
        for number in range(1, 1000):
            path = root / (stem if number == 1 else f"{stem}-{number}")
            try:
                root.mkdir(parents=True, exist_ok=True)
                path.mkdir()
            except FileExistsError:
                continue
            except OSError as error:
                raise LabError(
                    f"making the run folder {path}",
                    str(error),
                    fault=Fault.MACHINE,
                    todo="Give a folder that can be written to and has space.",
                ) from error
            return cls(path)
        raise LabError(
            f"making the run folder {stem}",
            "a thousand of that name exist",
            fault=Fault.USER,
            todo="Choose another name or remove old runs.",
        )

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open a sealed run. Raises LabError when there is none at `path`."""
        folder = cls(path)
        folder.manifest()
        return folder

    @property
    def name(self) -> str:
        """The folder's own name, e.g. "20261123T055340Z-paper"."""
        return self.path.name

    @property
    def sealed(self) -> bool:
        """Whether the manifest is written."""
        return (self.path / MANIFEST).exists()

    def _place(self, relative: str) -> Path:
        path = self.path / relative
        outside = not path.resolve().is_relative_to(self.path.resolve())
        if outside or relative in {MANIFEST, SUMS} or _UNLISTABLE.search(relative):
            raise self._refused(relative, "it is not a name for evidence")
        return path

    def _refused(self, relative: str, saw: str) -> LabError:
        return LabError(
            f"writing {relative} into the run {self.name}",
            saw,
            fault=Fault.US,
            todo="Evidence is written once; start a new run to measure again.",
        )

    def write(self, relative: str, content: bytes | str | dict[str, Any] | list[Any]) -> Path:
        """Write one evidence file (JSON for a dict or list) and return its path.

        Raises LabError when the run is sealed, or the file is there already.
        """
        path = self._place(relative)
        if self.sealed:
            raise self._refused(relative, "the run is sealed")
        if relative in DERIVED:
            raise self._refused(relative, "that name is for what is derived from the evidence")
        if isinstance(content, str):
            content = content.encode()
        elif not isinstance(content, bytes):
            content = canonical(content)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with path.open("xb") as file:
                file.write(content)
        except FileExistsError as error:
            raise self._refused(relative, "the file is there already") from error
        return path

    def add(self, source: Path, relative: str) -> Path:
        """Copy a file into the run as evidence."""
        return self.write(relative, source.read_bytes())

    def reserve(self, relative: str) -> Path:
        """Return the path of a new evidence file for a writer that streams, e.g. a capture."""
        return self.write(relative, b"")

    def seal(  # noqa: PLR0913 (the manifest's fields, each named by the caller)
        self,
        *,
        started: datetime,
        finished: datetime,
        seed: int | None,
        experiment: dict[str, Any],
        spec_text: str,
        plan: dict[str, Any],
        software: dict[str, str],
        durations_s: dict[str, float],
        facts: dict[str, Any] | None = None,
        links: list[dict[str, Any]] | None = None,
    ) -> dict[str, Any]:
        """Hash every file, make them read-only and write the manifest; return it.

        durations_s is seconds by phase; links is what was measured of cables with conditions.
        Raises LabError when the run is sealed already.
        """
        if self.sealed:
            raise self._refused(MANIFEST, "the run is sealed")
        files = {}
        for path in sorted(p for p in self.path.rglob("*") if p.is_file()):
            relative = path.relative_to(self.path).as_posix()
            if relative not in DERIVED:
                path.chmod(0o444)
                files[relative] = hash_file(path)
        manifest = {
            "format": FORMAT,
            "run": self.name,
            "name": experiment.get("name", self.name.partition("-")[2]),
            "started": rfc3339(started),
            "finished": rfc3339(finished),
            "seed": seed,
            "experiment": experiment,
            "spec_text": spec_text,
            "plan": plan,
            "software": software,
            "host_facts": facts if facts is not None else host_facts(),
            "durations_s": durations_s,
            "links": links or [],
            "files": files,
            "sums": SUMS,
        }
        _replace(self.path / MANIFEST, canonical(manifest))
        (self.path / MANIFEST).chmod(0o444)
        hashes = {name: row["sha256"] for name, row in files.items()}
        hashes[MANIFEST] = hash_file(self.path / MANIFEST)["sha256"]
        _replace(self.path / SUMS, sums.render(hashes))
        return manifest

    def manifest(self) -> dict[str, Any]:
        """Return the manifest. Raises LabError when this is no sealed run, or a newer format."""
        path = self.path / MANIFEST
        try:
            data = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise LabError(
                f"opening the run {self.path}",
                str(error),
                fault=Fault.USER,
                todo="Name a folder that holds a manifest.json; `runs` lists the finished ones.",
            ) from error
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise LabError(
                f"opening the run {self.path}",
                f"its manifest is of format {data.get('format') if isinstance(data, dict) else '?'}"
                f", this program reads format {FORMAT}",
                fault=Fault.USER,
                todo="Judge it with the version of imlab that made it.",
            )
        return data

    def verify(self) -> list[Fact]:
        """Compare the evidence with the manifest; return what differs, [] when all is well.

        A file that is missing, changed, or present without being listed is a fact. What was
        derived is not looked at: experiments.verifying looks at every byte.
        """
        listed: dict[str, dict[str, Any]] = self.manifest()["files"]
        facts = []
        for relative, expected in sorted(listed.items()):
            path = self.path / relative
            if not path.resolve().is_relative_to(self.path.resolve()):
                facts.append(Fact(relative, "lies outside the run folder"))
            elif not path.is_file():
                facts.append(Fact(relative, "is missing"))
            elif hash_file(path) != expected:
                facts.append(Fact(relative, "is not what was sealed"))
        present = {p.relative_to(self.path).as_posix() for p in self.path.rglob("*") if p.is_file()}
        extra = sorted(present - set(listed) - DERIVED - {MANIFEST, SUMS})
        return facts + [Fact(relative, "is not in the manifest") for relative in extra]

    def read_json(self, relative: str) -> Any:  # noqa: ANN401 (whatever the file holds)
        """Return a JSON file of the run. Raises LabError when it is missing or no JSON."""
        try:
            return json.loads((self.path / relative).read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise LabError(
                f"reading {relative} of the run {self.name}",
                str(error),
                fault=Fault.USER,
                todo="The run is incomplete; run the experiment again.",
            ) from error

    def derive(self, files: dict[str, bytes], made_by: dict[str, str]) -> None:
        """Write derived files and list them with their hashes in derived.json, atomically each.

        made_by is the software that derived them, by name. Raises LabError for a name that is
        not one of DERIVED.
        """
        for relative, content in files.items():
            if relative not in DERIVED - {DERIVED_LIST}:
                raise self._refused(relative, "that is not a derived file")
            _replace(self.path / relative, content)
        listing = {
            name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            for name, content in files.items()
        }
        listed = canonical({"format": FORMAT, "made_by": made_by, "files": listing})
        _replace(self.path / DERIVED_LIST, listed)
        self._list_anew(
            {name: str(row["sha256"]) for name, row in listing.items()}
            | {DERIVED_LIST: hashlib.sha256(listed).hexdigest()}
        )

    def _list_anew(self, derived: dict[str, str]) -> None:
        """Put derived files into SHA256SUMS. What it says of the evidence stays as sealed."""
        try:
            before = sums.parse((self.path / SUMS).read_bytes())
        except (OSError, sums.BrokenError):
            return  # a run of an earlier version, or a broken seal, which stays one
        evidence = {name: digest for name, digest in before.items() if name not in DERIVED}
        _replace(self.path / SUMS, sums.render(evidence | derived))


def require_writable(root: Path) -> None:
    """See that runs can be written under a folder, making it if need be. Raises LabError."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            pass
    except OSError as error:
        raise LabError(
            f"preparing the folder of runs {root}",
            str(error),
            fault=Fault.USER,
            todo="Give a folder that can be written to, with --out.",
        ) from error


def runs(root: Path) -> list[RunFolder]:
    """Return the sealed runs under a folder, oldest first; [] when there is no such folder."""
    if not root.is_dir():
        return []
    return [RunFolder(p) for p in sorted(root.iterdir()) if (p / MANIFEST).is_file()]
