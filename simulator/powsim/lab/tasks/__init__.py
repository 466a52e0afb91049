"""The problems of the lab: `load_task` finds one by its name."""

from __future__ import annotations

from powsim.lab.task import Task

TASKS = {
    "digits16": "handwritten digits, 1,797 real images drawn up to 16x16 (the default)",
}


def load_task(name: str, seed: int) -> Task:
    """Return a task, its data split and augmented by the seed."""
    from powsim.lab.tasks.digits import digits16

    if name == "digits16":
        return digits16(seed)
    raise ValueError(f"unknown task {name!r}: choose one of {', '.join(TASKS)}")
