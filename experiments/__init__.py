"""What is asked of a lab: workloads, capture, evidence, analysis, claims, report."""

import os

# numpy's linear algebra is not used here; its threads, one a core, would take a tenth of a second
# of CPU at every start, as much as a small capture.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
