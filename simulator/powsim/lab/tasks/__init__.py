"""The problems of the lab: `load_task` finds one by its name, or makes one of the user's files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from powsim.devices import closest
from powsim.lab.task import Task

TASKS = {
    "digits16": "scikit-learn's handwritten digits (1,797 real images) drawn up to 16x16 and distorted: the default",
    "digits8": "the same digits as they are, 8x8: fast",
    "glyphs": "synthetic: digits in 20 typefaces of Matplotlib, 20x20",
    "gaussian": "synthetic: a mixture of Gaussians, 8x8",
}


def load_task(
    name_or_path: str | Path,
    seed: int,
    *,
    data: str | Path | None = None,
    limit: int | None = None,
    outside: str | Path | None = None,
) -> Task:
    """Return a task, its data split and augmented by the seed: one of `TASKS`, or the user's own files.

    A path: an .npz file (x, y, optional original, x_test, y_test), or a folder with MNIST, Fashion-MNIST, CIFAR-10,
    CIFAR-100 or SVHN files under their published names. data: that path, where `name_or_path` is only to name it.
    limit: how many images to draw from files; outside: other files as out-of-distribution images (`files.file_task`).
    Nothing is downloaded. Raises ValueError saying what is wrong, ModuleNotFoundError where a library is missing.
    """
    if isinstance(seed, bool) or seed < 0:
        raise ValueError(f"seed={seed} must be an integer of at least 0")
    name = str(name_or_path)
    if data is None:
        check_name(name)
    if data is None and name in TASKS:
        for option, value in (("limit", limit), ("outside", outside)):
            if value is not None:
                raise ValueError(f"{option}={value} is for tasks from files, not for {name!r}: leave it out")
        return _maker(name)(seed)
    from powsim.lab.files import file_task

    label = None if data is None else name
    return file_task(Path(name if data is None else data), seed, name=label, limit=limit, outside=outside)


def check_name(name: str) -> None:
    """Return if a task has this name or a file this path, else raise ValueError; nothing heavy is loaded for that."""
    if name not in TASKS and not Path(name).exists():
        near = closest(name, TASKS)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ValueError(
            f"unknown task {name!r}{hint}: choose one of {', '.join(TASKS)}, or give the path of data files"
        )


def _maker(name: str) -> Callable[[int], Task]:
    if name == "glyphs":
        from powsim.lab.tasks.glyphs import glyphs

        return glyphs
    if name == "gaussian":
        from powsim.lab.tasks.gaussian import gaussian

        return gaussian
    from powsim.lab.tasks import digits

    return digits.digits16 if name == "digits16" else digits.digits8
