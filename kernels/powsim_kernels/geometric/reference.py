"""Geometric draws by inversion, one at a time: the specification (Devroye 1986, chapter X.2)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from powsim_kernels.philox.contract import uniform
from powsim_kernels.realmath import reference as real


def tries(p: float, u: float) -> int:
    """Return the number of tries that the uniform `u` in (0, 1] stands for when each succeeds with chance `p`."""
    if p >= 1.0:
        return 1
    return math.floor(real.log(u) / real.log1m(p)) + 1


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
    """Return the sums of `draws` draws per cell; `threads` is not used."""
    out = np.zeros(p.shape, np.uint64)
    for row in range(p.shape[0]):
        for column in range(p.shape[1]):
            if p[row, column] == 0.0:
                continue
            total = 0
            for draw in range(draws):
                index = (first + column) * draws + draw
                u = uniform(
                    [int(identity[row])],
                    key=key,
                    stream=stream,
                    index=index,
                    replica=int(replica[row]),
                    backend="reference",
                )
                total += tries(float(p[row, column]), float(u[0]))
            out[row, column] = total
    return out
