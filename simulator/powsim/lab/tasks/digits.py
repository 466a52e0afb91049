"""scikit-learn's handwritten digits: 1,797 real images, split by original, then augmented inside each split."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from powsim.lab.task import Images, Split, Task
from powsim.lab.tasks.augment import Distortion, augmented, resized
from powsim.lab.tasks.photos import SOURCE, Crops

PRIVATE, POOL = 900, 600  # originals; the other 297 test
COPIES_PRIVATE, COPIES_POOL = 4, 10
LIGHT = Distortion(degrees=10.0, shift=0.04, scale=0.08, noise=0.03)


@cache
def _digits() -> tuple[Images, NDArray[np.int64]]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return (bunch.images[:, None] / 16).astype(np.float32), bunch.target.astype(np.int64)


def digits16(seed: int) -> Task:
    """Return the default task: 16x16 images, 3,600 private, 6,000 honest queries, 297 to test on."""
    x, y = _digits()
    rng = np.random.default_rng([seed, 16])
    order = rng.permutation(len(x))
    private, calibration, users, test = np.split(order, [PRIVATE, PRIVATE + POOL // 2, PRIVATE + POOL])

    def made(rows: NDArray[np.int64], copies: int) -> Split:
        return augmented(x[rows], y[rows], rows, copies, 16, LIGHT, rng)

    crops = Crops((1, 16, 16))
    return Task(
        "digits16",
        real=True,
        classes=10,
        private=made(private, COPIES_PRIVATE),
        calibration=made(calibration, COPIES_POOL),
        users=made(users, COPIES_POOL),
        test=Split(resized(x[test], 16), y[test], test),
        outside=crops.draw,
        outside_source=SOURCE,
        outside_arms=crops.of_arm,
        arms=crops.arms,
    )
