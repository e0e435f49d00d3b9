"""What is asked of a lab: workloads, capture, evidence, analysis, claims, report."""
