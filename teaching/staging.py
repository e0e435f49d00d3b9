"""What happens in a student's lab: the exercise's experiment, whole or an act of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from experiments import definition
from experiments.definition import Experiment, Step
from teaching.exercise import fill

if TYPE_CHECKING:
    from teaching.exercise import Assignment


def experiment(assignment: Assignment) -> Experiment:
    """Return the experiment with the student's values. Raises LabError."""
    exercise = assignment.exercise
    text = fill(exercise.text("experiment.yaml.j2"), assignment.context, exercise.name)
    data = yaml.safe_load(text)
    steps = tuple(Step(*next(iter(step.items()))) for step in data["steps"])
    name, title, seed = data["name"], data.get("title", ""), data.get("seed", 0)
    made = Experiment(name, title, data["spec"], seed, steps, data, text)
    definition.check(made, assignment.plan)
    return made
