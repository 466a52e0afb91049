"""Vote histograms for tests."""

from __future__ import annotations

import numpy as np


def mixed(rows: int, teachers: int, classes: int, seed: int = 1) -> np.ndarray:
    """Return histograms of which two in three are nearly unanimous, in no order."""
    rng = np.random.default_rng(seed)
    votes = rng.multinomial(teachers, rng.dirichlet(np.full(classes, 0.1), size=rows))
    sure = np.arange(rows) % 3 > 0
    votes[sure] = 0
    lead = rng.integers(int(0.9 * teachers), teachers + 1, sure.sum())
    votes[sure, rng.integers(0, classes, sure.sum())] += lead
    votes[sure, rng.integers(0, classes, sure.sum())] += teachers - lead
    return votes
