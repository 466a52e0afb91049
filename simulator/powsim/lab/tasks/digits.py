"""scikit-learn's handwritten digits: 1,797 real images, split by original, then augmented inside each split."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from powsim.lab.task import Images, Split, Task
from powsim.lab.tasks import shipped
from powsim.lab.tasks.augment import Distortion, augmented, distorted
from powsim.lab.tasks.photos import Crops

PRIVATE, POOL = 900, 600  # originals; the other 297 test
# The users' half is what attackers rank: of 3,000 images they would use up a third, and their choice would mean little.
COPIES_PRIVATE, COPIES_CALIBRATION, COPIES_USERS = 4, 10, 20
LIGHT = Distortion(degrees=12.0, shift=0.05, scale=0.1, noise=0.03)


@cache
def _digits() -> tuple[Images, NDArray[np.int64]]:
    images, labels = shipped.digits()
    return (images[:, None] / 16).astype(np.float32), labels


def digits16(seed: int) -> Task:
    """Return the default task: 16x16 images, 3,600 private, 9,000 honest queries, 297 to test on as they are."""
    x, y = _digits()
    rng = np.random.default_rng([seed, 16])

    def made(rows: NDArray[np.int64], copies: int) -> Split:
        return augmented(x[rows], y[rows], rows, copies, (16, 16), LIGHT, rng)

    private, calibration, users, test = _parts(rng)
    return _task(
        "digits16",
        made(private, COPIES_PRIVATE),
        made(calibration, COPIES_CALIBRATION),
        made(users, COPIES_USERS),
        Split(distorted(x[test], (16, 16), Distortion(), rng), y[test], test),
    )


def digits8(seed: int) -> Task:
    """Return the fast task: 8x8 images as they are, 900 private, 600 honest queries, 297 to test on."""
    x, y = _digits()
    return _task("digits8", *(Split(x[rows], y[rows], rows) for rows in _parts(np.random.default_rng([seed, 8]))))


def _parts(rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Return the originals of private, calibration, users and test."""
    return np.split(rng.permutation(len(_digits()[0])), [PRIVATE, PRIVATE + POOL // 2, PRIVATE + POOL])


def _task(name: str, private: Split, calibration: Split, users: Split, test: Split) -> Task:
    crops = Crops((1, *private.x.shape[2:]), photos=shipped.photographs())
    k = len(private.x) // 12
    return Task(
        name,
        real=True,
        classes=10,
        private=private,
        calibration=calibration,
        users=users,
        test=test,
        outside=crops.draw,
        outside_source=crops.source,
        outside_arms=crops.of_arm,
        arms=crops.arms,
        teachers=PRIVATE // 36,
        neighbours=k,
        knn_sigma=0.04 * k,
    )
