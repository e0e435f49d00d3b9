"""Print the JSON Schema of a spec: python -m lab.spec > vm_specs/schema.json."""

from __future__ import annotations

import json
import sys

from lab.spec.loading import json_schema

json.dump(json_schema(), sys.stdout, indent=2)
sys.stdout.write("\n")
