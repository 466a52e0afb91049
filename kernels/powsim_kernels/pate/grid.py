"""One Gaussian step with its orders, and the cells into which totals cut the axis of s = sqrt(-ln q).

Both compiled twins use them, and neither Numba nor CuPy is needed here.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from powsim_kernels.pate.bounds import least_mu, log_erfc

TABLE_MOST = 1 << 17  # voters; two tables of float64 take 2 MiB
RUN = 8  # orders after which errors of a run are cut off
DEGREE = 8
NARROW, EVEN, PER_S, PER_SQUARE = 64.0, 8.0, 256.0, 4.0
MOST_SQUARE = 10_000.0  # rows with more -ln q than this are priced one by one: 40,000 cells, 2.5 MiB of moments


class Step(NamedTuple):
    """One Gaussian step with the orders asked of it; a NamedTuple, so that Numba takes it whole."""

    sigma: float
    least: float  # mu from which theorem 6 holds at some order
    far: float  # mu from which every cost is below 1e-300
    k: NDArray[np.float64]  # order - 1
    ceiling: NDArray[np.float64]  # order / sigma^2
    cross: NDArray[np.float64]  # mu from which theorem 6 is the cost
    even: NDArray[np.int64]  # how many orders from this one on, at most 8, are evenly spaced


def step_with(orders: NDArray[np.float64], sigma: float, cross: NDArray[np.float64]) -> Step:
    """Return the step with this noise at these orders, whose crossings are known."""
    most = float(orders.max())
    far = max(1.0 + 27.5 * sigma, most + math.sqrt(750.0 * sigma**2 + most * (most - 1.0)))
    k = orders - 1.0
    even = np.array([_evenly(k[at : at + RUN]) for at in range(k.size)], dtype=np.int64)
    return Step(sigma, least_mu(sigma), far, k, orders / sigma**2, cross, even)


def _evenly(k: NDArray[np.float64]) -> int:
    """Return how many of the first numbers rise by equal steps, to the last digit."""
    if k.size < 2 or k[1] <= k[0]:
        return 1
    off = np.abs(k - (k[0] + (k[1] - k[0]) * np.arange(k.size))) > 2e-16 * k
    return int(np.argmax(off)) if off.any() else k.size


def reach(num_voters: int, sigma: float) -> float:
    """Return what -ln q of a row of counts does not exceed: one more than the deepest tail's."""
    return 1.0 - (math.log(0.5) + log_erfc(num_voters / (2.0 * sigma)))


class Cells(NamedTuple):
    """The cut axis of s, and where to begin looking for a value's cell."""

    edges: NDArray[np.float64]  # [M + 1] ascending, from 0
    middle: NDArray[np.float64]  # [M]
    inverse: NDArray[np.float64]  # [M] one over half the width
    first: NDArray[np.int32]  # cell in which each step of the finder begins
    most: float  # -ln q that the cells reach
    nodes: NDArray[np.float64]  # [8] Chebyshev nodes in -1..1
    basis: NDArray[np.float64]  # [8, 8] coefficients of t^p in the polynomial that is 1 at node i and 0 at the others


def cells_of(step: Step, most: float) -> Cells:
    """Return the cells for -ln q up to `most`, cut at every crossover of the step."""
    most = min(most, MOST_SQUARE)
    even = np.arange(0.0, EVEN + 1.0 / NARROW, 1.0 / NARROW)
    squares = np.sqrt(np.arange(EVEN**2 + 1.0 / PER_SQUARE, most + 2.0 / PER_SQUARE, 1.0 / PER_SQUARE))
    cuts = np.append(step.cross, step.least) / step.sigma
    edges = np.unique(np.concatenate((even, squares, cuts[cuts < math.sqrt(most)])))
    begins = np.concatenate(
        (
            np.arange(EVEN * PER_S) / PER_S,
            np.sqrt(EVEN**2 + np.arange(max(0.0, most - EVEN**2) * PER_SQUARE + 2) / PER_SQUARE),
        )
    )
    first = np.searchsorted(edges, begins * (1.0 - 1e-15), side="right") - 1
    nodes = np.cos(np.pi * (2.0 * np.arange(DEGREE) + 1.0) / (2.0 * DEGREE))
    return Cells(
        edges,
        0.5 * (edges[1:] + edges[:-1]),
        2.0 / np.diff(edges),
        np.minimum(first, len(edges) - 2).astype(np.int32),
        most,
        nodes,
        np.ascontiguousarray(np.linalg.inv(np.vander(nodes, DEGREE, increasing=True)).T),
    )
