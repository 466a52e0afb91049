"""From work in hashes to a puzzle: how likely one hash is to solve it, and how many sub-puzzles it is cut into."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from powsim_kernels.geometric.contract import MAX_BITS

FAMILIES = ("sha256-hashcash",)


@dataclass(frozen=True)
class Puzzles:
    """Puzzles of one family. Each is `sub_puzzles` independent ones that must all be solved."""

    family: str
    sub_puzzles: int
    probability: NDArray[np.float64]  # [A, P] chance of one hash to solve a sub-puzzle; 0 where there is no puzzle


def puzzles_for(work: NDArray[np.float64], family: str, sub_puzzles: int) -> Puzzles:
    """Return puzzles whose expected number of hashes is `work` [A, P], through the 64-bit target that is mined.

    A sub-puzzle of w = work / sub_puzzles hashes accepts T = round(2^64 / w) of the 2^64 values of the digest's
    first eight bytes, so the chance is T / 2^64. Work of up to one hash per sub-puzzle is solved by any hash.
    Raises ValueError for work that is negative, not finite, or too hard to be sampled.
    """
    if not np.all(np.isfinite(work) & (work >= 0)):
        bad = float(work[~(np.isfinite(work) & (work >= 0))][0])
        raise ValueError(f"the policy returned work {bad}: a finite number of hashes, 0 or more, is needed")
    hardest = float(work.max(initial=0.0))
    if hardest > 2.0**MAX_BITS:
        raise ValueError(
            f"difficulty {np.log2(hardest):.1f} bits exceeds {MAX_BITS}: lower the policy's price or cap it"
        )
    each = np.maximum(work * (1.0 / sub_puzzles), 1.0)  # as `simulate_ledgers` rounds it
    return Puzzles(family, sub_puzzles, np.where(work > 0, np.rint(2.0**64 / each) * 2.0**-64, 0.0))
