"""Having happen in a student's lab what the exercise is about: an act of its experiment."""

from __future__ import annotations

import copy
import getpass
from typing import TYPE_CHECKING, Any, Final

from experiments import workloads
from lab import lifecycle
from lab.errors import Fault, LabError
from teaching import exercise as exercises
from teaching import staging

if TYPE_CHECKING:
    from collections.abc import Callable

    from commands.classes import Class
    from lab.lifecycle import Lab
    from teaching.roster import Student

PATIENCE: Final = 30.0  # seconds to wait for another act in the same lab


def play(taught: Class, student: Student, lab: Lab, act: str, say: Callable[[str], None]) -> None:
    """Play an act in a student's lab. Raises LabError."""
    from provisioning.sessions import Sessions  # noqa: PLC0415 - loads paramiko

    acts = taught.exercise.acts
    if act not in acts:
        raise LabError(
            f"playing {act[:40]!r}",
            f"in this exercise there are: {', '.join(acts) or 'none; it is you who does all'}",
            fault=Fault.USER,
            todo="name one of these",
        )
    work = exercises.assign(taught.exercise, student, taught.course)
    steps = staging.experiment(work).steps
    keys = {host: getpass.getpass(f"key at {host}: ") for host in acts[act].get("ask_key", ())}
    with lifecycle.working(lab, patience=PATIENCE, note=say), Sessions(lab) as sessions:
        stage = workloads.Stage(lab.plan, sessions, seed=0)
        for number in acts[act]["steps"]:
            step = steps[number]
            parameters = _with_keys(step.parameters, keys)
            if faults := workloads.get(step.workload).check(parameters, lab.plan):
                raise LabError(
                    "taking your key", "; ".join(faults), fault=Fault.USER, todo="try again"
                )
            say(f"{act}: it begins")
            try:
                workloads.get(step.workload).run(stage, parameters)
            except LabError as error:
                if len(set(keys.values())) > 1:
                    raise LabError(
                        error.doing,
                        f"the conversation was refused: the ends have different keys\n{error.saw}",
                        fault=Fault.USER,
                        todo="enter the same key at both ends",
                    ) from error
                raise
    say(f"{act}: done")


def _with_keys(parameters: dict[str, Any], keys: dict[str, str]) -> dict[str, Any]:
    """Return a conversation's parameters with what was entered at each end."""
    if not keys:
        return parameters
    return {
        **copy.deepcopy(parameters),
        "countermeasure": {"port-scrambler": {"passphrases": keys}},
    }
