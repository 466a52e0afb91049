"""Synthetic: a mixture of Gaussians around ten random patterns; for tests and for runs of any size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from powsim.lab.task import Images, Split, Task
from powsim.lab.tasks.augment import resized, stretched

SIDE, CLASSES, STRANGERS = 8, 10, 12
NOISE = 0.2
TEACHERS = 25
SOURCE = "a Gaussian around each of 12 other random patterns"


def gaussian(seed: int, *, private: int = 900, pool: int = 2000, test: int = 1000) -> Task:
    """Return the task: 8x8 images, a smooth random pattern per class plus independent noise, cut to 0..1.

    Out-of-distribution images come from 12 other patterns, an arm each.
    """
    rng = np.random.default_rng([seed, 8])
    coarse = rng.uniform(size=(CLASSES + STRANGERS, 1, 4, 4)).astype(np.float32)
    patterns = stretched(resized(coarse, (SIDE, SIDE)))
    first = 0

    def around(rows: NDArray[np.int64], rng: np.random.Generator) -> Images:
        noise = rng.standard_normal((len(rows), 1, SIDE, SIDE), np.float32)
        out: Images = np.clip(patterns[rows] + np.float32(NOISE) * noise, 0.0, 1.0)
        return out

    def made(count: int) -> Split:
        nonlocal first
        rows = rng.integers(CLASSES, size=count)
        originals = np.arange(first, first + count)
        first += count
        return Split(around(rows, rng), rows, originals)

    def of_arm(arm: int, n: int, rng: np.random.Generator) -> Images:
        if not 0 <= arm < STRANGERS:
            raise ValueError(f"arm={arm} must lie in 0..{STRANGERS - 1}")
        return around(np.full(n, CLASSES + arm), rng)

    def outside(n: int, rng: np.random.Generator) -> Images:
        return around(CLASSES + rng.integers(STRANGERS, size=n), rng)

    k = max(1, private // 12)
    return Task(
        "gaussian",
        real=False,
        classes=CLASSES,
        private=made(private),
        calibration=made(pool // 2),
        users=made(pool // 2),
        test=made(test),
        outside=outside,
        outside_source=SOURCE,
        outside_arms=of_arm,
        arms=STRANGERS,
        teachers=TEACHERS,
        neighbours=k,
        knn_sigma=0.04 * k,
    )
