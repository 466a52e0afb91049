"""Philox4x32-10 in plain Python integers: the specification (Salmon et al. 2011, section 3.3 and table 2)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MASK = 0xFFFFFFFF
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)  # golden ratio and sqrt(3) - 1, the per-round key increments
ROUNDS = 10


def block(counter: tuple[int, int, int, int], key: int) -> tuple[int, int, int, int]:
    """Return the four words of one counter."""
    x0, x1, x2, x3 = counter
    k0, k1 = key & MASK, key >> 32
    for _ in range(ROUNDS):
        first, second = MULTIPLIERS[0] * x0, MULTIPLIERS[1] * x2
        x0, x1, x2, x3 = (second >> 32) ^ x1 ^ k0, second & MASK, (first >> 32) ^ x3 ^ k1, first & MASK
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return x0, x1, x2, x3


def philox(counters: NDArray[np.uint32], key: int, threads: int | None) -> NDArray[np.uint32]:
    """Return `block` of every row; `threads` is not used."""
    out = np.empty_like(counters)
    for row, counter in enumerate(counters.tolist()):
        out[row] = block(tuple(counter), key)
    return out
