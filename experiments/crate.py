"""The run folder as a research object: ro-crate-metadata.json.

RO-Crate 1.1 (https://w3id.org/ro/crate/1.1) with the profile Process Run Crate 0.5
(https://w3id.org/ro/wfrun/process/0.5): who ran what with which software, from what, into what.
Everything is taken from the sealed manifest and from what was derived, so that the same folder
gives the same bytes.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from rocrate.model import ContextEntity, Person, SoftwareApplication
from rocrate.rocrate import ROCrate

from experiments.evidence import DERIVED_LIST, MANIFEST, canonical
from experiments.sums import SUMS

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION: Final = "1.1"
PROFILE: Final = "https://w3id.org/ro/wfrun/process/0.5"
CONTEXT: Final = "https://w3id.org/ro/terms/workflow-run/context"
NO_LICENCE: Final = "No licence was given. Ask the authors before you pass this on or publish it."
_SPDX: Final = "https://spdx.org/licenses/"
_URL: Final = re.compile(r"https?://\S+")
_FORMATS: Final = {
    "pcapng": "application/x-pcapng",
    "json": "application/json",
    "yaml": "application/yaml",
    "html": "text/html",
}
_TOLD: Final = {
    "spec.yaml": "the lab as its author described it",
    "plan.json": "the lab as it was decided: names, addresses, order; passwords are ***",
    "experiment.yaml": "what was done, and what was claimed",
    "images.json": "recipes of the base images and the versions of all their packages",
    "results.json": "what was done and measured",
    "manifest.json": "times, seed, software, machine, durations, and the hash of every file",
    "analysis.json": "what was read in the captures",
    "verdicts.json": "the verdict on each claim, with its evidence",
    "report.json": "the report for programs",
    "report.html": "the report",
    "logs/packages.json": "packages of each image, as a host of it told during the run",
    DERIVED_LIST: "hashes of what was derived, and what derived it",
    SUMS: "SHA-256 of every other file; `sha256sum -c SHA256SUMS` checks them",
}
_ASKED: Final = ("spec.yaml", "plan.json", "experiment.yaml", "images.json")


def metadata(
    manifest: Mapping[str, Any],
    derived: Mapping[str, bytes],
    images: Mapping[str, Any] | None = None,
) -> bytes:
    """Return the content of ro-crate-metadata.json.

    derived -- what was derived, by name; images -- images.json, where the run has it.
    """
    crate = ROCrate(version=VERSION)
    crate.metadata.extra_contexts.append(CONTEXT)
    crate.add(
        ContextEntity(
            crate,
            PROFILE,
            {"@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"},
        )
    )
    files = {name: (row["sha256"], row["bytes"]) for name, row in manifest["files"].items()}
    files |= {name: (hashlib.sha256(text).hexdigest(), len(text)) for name, text in derived.items()}
    entities = {
        name: crate.add_file(dest_path=name, properties=_file(name, digest, size))
        for name, (digest, size) in sorted(files.items())
    }
    # Their hashes would be of files that list this one.
    for name in (MANIFEST, DERIVED_LIST, SUMS):
        if name not in entities:
            entities[name] = crate.add_file(dest_path=name, properties=_file(name))
    _root(crate, manifest)
    _action(crate, manifest, entities, images or {})
    return canonical(crate.metadata.generate())


def _file(name: str, digest: str = "", size: int | None = None) -> dict[str, Any]:
    ending = name.rpartition(".")[2]
    properties: dict[str, Any] = {
        "name": name.rpartition("/")[2],
        "encodingFormat": _FORMATS.get(ending, "text/plain"),
    }
    if name.startswith("captures/") and ending == "pcapng":
        properties["description"] = "what an observer captured at this adapter, with drop counts"
    if name in _TOLD:
        properties["description"] = _TOLD[name]
    if digest:
        properties |= {"sha256": digest, "contentSize": str(size)}
    return properties


def _root(crate: ROCrate, manifest: Mapping[str, Any]) -> None:
    experiment, root = manifest["experiment"], crate.root_dataset
    title = experiment.get("title") or experiment.get("name") or manifest["name"]
    root["name"] = f"{title} ({manifest['run']})"
    root["description"] = (
        f"One run of the experiment '{manifest['name']}' on the lab '{manifest['plan'].get('lab')}'"
        " of imlab: what was asked for, what was captured and measured, and the verdicts."
    )
    root["datePublished"] = manifest["finished"]
    root["dateCreated"] = manifest["started"]
    root["identifier"] = manifest["run"]
    root["conformsTo"] = {"@id": PROFILE}
    root["license"] = _licence(crate, experiment.get("licence"))
    if authors := [_author(crate, row) for row in experiment.get("authors", ())]:
        root["author"] = _one_or_more(authors)


def _licence(crate: ROCrate, given: str | None) -> ContextEntity:
    told, place, name = given or NO_LICENCE, "#licence", given or "none"
    if _URL.fullmatch(told):
        place = told
    elif " " not in told:
        place = f"{_SPDX}{told}"
    properties = {"@type": "CreativeWork", "name": name[:80], "description": told}
    return crate.add(ContextEntity(crate, place, properties))


def _one_or_more(entities: list[Any]) -> Any:  # noqa: ANN401 (as RO-Crate wants: one is no list)
    return entities[0] if len(entities) == 1 else entities


def _author(crate: ROCrate, row: Mapping[str, str]) -> Person:
    place = row.get("orcid") or "#" + re.sub(r"[^A-Za-z0-9]+", "-", row["name"])
    properties: dict[str, Any] = {"name": row["name"]}
    if affiliation := row.get("affiliation"):
        properties["affiliation"] = crate.add(
            ContextEntity(
                crate,
                "#" + re.sub(r"[^A-Za-z0-9]+", "-", affiliation),
                {"@type": "Organization", "name": affiliation},
            )
        )
    return crate.add(Person(crate, place, properties))


def _action(
    crate: ROCrate,
    manifest: Mapping[str, Any],
    entities: Mapping[str, Any],
    images: Mapping[str, Any],
) -> None:
    """Tell the run: imlab (instrument) made these results out of what it was asked."""
    asked = [entities[name] for name in _ASKED if name in entities]
    made = [entities[name] for name in entities if name not in _ASKED and name != SUMS]
    action = ContextEntity(
        crate,
        "#run",
        {
            "@type": "CreateAction",
            "name": f"Run of {manifest['name']}",
            "description": "Workloads on the lab's hosts under capture; captures judged afterwards",
            "startTime": _seconds(manifest["started"]),
            "endTime": _seconds(manifest["finished"]),
            "actionStatus": "http://schema.org/CompletedActionStatus",
        },
    )
    crate.add(action)
    action["instrument"] = _software(crate, manifest, images)
    action["object"] = asked
    action["result"] = made
    if authors := crate.root_dataset.get("author"):
        action["agent"] = _one_or_more(authors)
    values: dict[str, tuple[Any, str | None]] = {"seed": (manifest["seed"], None)}
    values |= {f"duration {k}": (v, "SEC") for k, v in sorted(manifest["durations_s"].items())}
    values |= {f"machine {k}": (v, None) for k, v in sorted(manifest["host_facts"].items())}
    action["additionalProperty"] = [
        _value(crate, name, value, unit) for name, (value, unit) in values.items()
    ]
    crate.root_dataset["mentions"] = action


def _seconds(time: str) -> str:
    """Return a time without its fractions and with a numeric zone, which every reader takes."""
    return datetime.fromisoformat(time).isoformat(timespec="seconds")


def _value(crate: ROCrate, name: str, value: Any, unit: str | None) -> ContextEntity:  # noqa: ANN401 (JSON)
    properties = {"@type": "PropertyValue", "name": name, "value": value}
    if value is None:  # not known: no value rather than one that means something
        del properties["value"]
    if unit:
        properties["unitCode"] = unit
    return crate.add(ContextEntity(crate, "#" + name.replace(" ", "-"), properties))


def _software(
    crate: ROCrate, manifest: Mapping[str, Any], images: Mapping[str, Any]
) -> SoftwareApplication:
    """Return imlab as an entity, which requires everything else that was in use."""
    needed = []
    software = dict(manifest["software"])
    version = software.pop("imlab", "unknown")
    for name, value in sorted(software.items()):
        place = "#software-" + re.sub(r"[^A-Za-z0-9._-]+", "-", name)
        properties: dict[str, Any] = {"name": name, "softwareVersion": value}
        if image := images.get(name.removeprefix("image ")):
            properties["name"] = f"image {image['name']}"
            properties["description"] = (
                f"{image['form']} of Debian {image['suite']}, {image['architecture']}, built "
                f"{image['built']}; its recipe and {len(image['packages'])} packages with their "
                "versions stand in images.json"
            )
        needed.append(crate.add(SoftwareApplication(crate, place, properties)))
    properties = {"name": "imlab", "softwareVersion": version}
    imlab = crate.add(SoftwareApplication(crate, "#imlab", properties))
    if needed:
        imlab["softwareRequirements"] = _one_or_more(needed)
    return imlab
