"""Geometric draws by Numba.

v1 one Philox block per draw; v2 both halves of a block are used (draw 2k and 2k+1), which halves the Philox work; v3
the logarithms of `realmath`, so that tries are the same on every machine and those of `simulate_ledgers`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from powsim_kernels.jit import jit
from powsim_kernels.philox.cpu import block, uniform_of
from powsim_kernels.realmath.cpu import SMALL, log, log1m, log1m_small
from powsim_kernels.threads import over_ranges

ROWS_PER_TASK_CELLS = 1 << 14


@jit
def _rows(p, key, stream, identity, replica, first, draws, out, begin, end):  # type: ignore[no-untyped-def]
    for row in range(begin, end):
        who, which = np.uint64(identity[row]), np.uint64(replica[row])
        held = np.int64(-1)  # number of the block whose words are in w0..w3
        w0 = w1 = w2 = w3 = np.uint64(0)
        for column in range(p.shape[1]):
            chance = p[row, column]
            if chance == 0.0:
                out[row, column] = np.uint64(0)
                continue
            slope = (
                log1m_small(chance) if chance <= SMALL else log1m(chance)
            )  # -inf at chance 1, which makes every draw 1 below
            total = np.uint64(0)
            for draw in range(draws):
                index = np.int64((first + column) * draws + draw)
                if index >> 1 != held:
                    held = index >> 1
                    w0, w1, w2, w3 = block(np.uint64(held), stream, who, which, key)
                u = uniform_of(w2, w3) if index & 1 else uniform_of(w0, w1)
                # np.floor stays a float: math.floor would pass through int64, which the longest draws exceed.
                total += np.uint64(np.floor(log(u) / slope)) + np.uint64(1)
            out[row, column] = total


def geometric(
    p: NDArray[np.float64],
    key: int,
    stream: int,
    identity: NDArray[np.uint32],
    replica: NDArray[np.uint32],
    first: int,
    draws: int,
    threads: int | None,
) -> NDArray[np.uint64]:
    """Return the sums of `draws` draws per cell."""
    out = np.empty(p.shape, np.uint64)
    grain = max(1, ROWS_PER_TASK_CELLS // max(1, p.shape[1]))
    over_ranges(
        lambda begin, end: _rows(
            p, np.uint64(key), np.uint64(stream), identity, replica, first, draws, out, begin, end
        ),
        len(p),
        threads=threads,
        grain=grain,
    )
    return out
