"""Honest users made of a pool: whose originals they have, and of which classes.

A user first draws its own originals, with replacement, from those of a half; then every query draws a class from the
user's mix, one of the user's originals of that class, and one of its rows. So two users differ as two samples of
originals do; drawing rows alike for all would make tails that are too thin. They stay samples of few originals:
tails beyond those are unknown.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from powsim.bank.records import Pool


class Half:
    """The originals of one half of a pool, by class."""

    def __init__(self, pool: Pool, user: bool) -> None:
        """Take the users' half, or the calibrating one."""
        rows = np.flatnonzero(pool.user == user)
        self.rows = rows[np.argsort(pool.original[rows], kind="stable")]
        _, self.begin, self.copies = np.unique(pool.original[self.rows], return_index=True, return_counts=True)
        kind = pool.classes[self.rows[self.begin]]
        by_class = np.argsort(kind, kind="stable")
        self.begin, self.copies = self.begin[by_class], self.copies[by_class]
        self.classes, self.first, self.originals = np.unique(kind[by_class], return_index=True, return_counts=True)

    def mixes(self, users: int, rng: np.random.Generator, concentration: float = 1.0) -> NDArray[np.float64]:
        """Return class mixes [users, K] of the K classes that are there, Dirichlet with equal parameters."""
        return rng.dirichlet(np.full(len(self.classes), concentration), users)

    def only(self, users: int, *of: int) -> NDArray[np.float64]:
        """Return mixes [users, K] of users with some of the K classes alone, in equal parts."""
        mix = np.zeros((users, len(self.classes)))
        mix[:, list(of)] = 1 / len(of)
        return mix

    def draw(self, mix: NDArray[np.float64], queries: int, rng: np.random.Generator) -> NDArray[np.intp]:
        """Return rows of the pool [users, queries] for class mixes [users, K]."""
        users, everyone = len(mix), np.arange(len(mix))[:, None]
        total = len(self.begin)
        within = np.repeat(self.originals, self.originals)
        own = np.repeat(self.first, self.originals) + (rng.random((users, total)) * within).astype(np.intp)
        edges = np.cumsum(mix, axis=1)
        edges[:, -1] = 1.0
        drawn = rng.random((users, queries))
        # Each user's edges stand in their own unit interval, so that one search serves all.
        kind = np.searchsorted((edges + everyone).ravel(), (drawn + everyone).ravel(), side="right")
        kind = np.minimum(kind.reshape(users, queries) - everyone * edges.shape[1], edges.shape[1] - 1)
        place = rng.random((users, queries)) * self.originals[kind]
        slot = place.astype(np.intp)  # what is left of the place says which copy
        original = own[everyone, self.first[kind] + slot]
        copy = ((place - slot) * self.copies[original]).astype(np.intp)
        return np.asarray(self.rows[self.begin[original] + copy])
