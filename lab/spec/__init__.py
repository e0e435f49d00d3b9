"""YAML to a frozen, validated LabSpec; every fault at once, each with file:line:column and a fix.

    spec = load_spec("vm_specs/paper.yaml")      # or SpecError, with all faults
    plan = make_plan(spec)                        # lab.planning

A spec can be built in Python as well: LabSpec(...), or `star` for many hosts on one switch.
"""

from __future__ import annotations

from lab.spec.checks import Known, RoleCheck, Row, check, network_of
from lab.spec.errors import SpecError, SpecFault
from lab.spec.loading import check_spec, json_schema, load_spec, parse_spec
from lab.spec.models import (
    AccountSpec,
    AdapterSpec,
    HostSpec,
    LabSpec,
    NetworkSpec,
)
from lab.spec.writing import star, to_yaml

__all__ = [
    "AccountSpec",
    "AdapterSpec",
    "HostSpec",
    "Known",
    "LabSpec",
    "NetworkSpec",
    "RoleCheck",
    "Row",
    "SpecError",
    "SpecFault",
    "check",
    "check_spec",
    "json_schema",
    "load_spec",
    "network_of",
    "parse_spec",
    "star",
    "to_yaml",
]
