"""A classification problem split as the defence needs it: private data, honest queries, a test set and strange data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]
"""[N, channels, height, width], values in 0..1."""

Labels = NDArray[np.int64]
"""[N] or, for probabilities, see the place where they stand."""


@dataclass(frozen=True)
class Split:
    """Labelled images; rows with one `original` are augmentations of one image and never straddle a boundary."""

    x: Images
    y: Labels
    original: NDArray[np.int64]  # [N]


@dataclass(frozen=True)
class Task:
    """The data of one seed. A split is made first, images are augmented inside it."""

    name: str
    real: bool  # False: made-up data, and every report says so
    classes: int
    private: Split  # what victim, teachers and neighbours are made from
    calibration: Split  # honest queries that the operator calibrates on
    users: Split  # honest queries, also what in-distribution attackers own
    test: Split
    outside: Callable[[int, np.random.Generator], Images]  # n out-of-distribution images
    outside_source: str  # in words
    # (arm, n, rng): images of one kind, for adaptive Knockoff
    outside_arms: Callable[[int, int, np.random.Generator], Images] | None = None
    arms: int = 0
    teachers: int = 25
    sigma_share: float = 0.04  # sigma = sigma_share * teachers
    delta: float = 1e-5
    neighbours: int = 300
    knn_sigma: float = 12.0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return channels, height and width."""
        channels, height, width = self.private.x.shape[1:]
        return channels, height, width
